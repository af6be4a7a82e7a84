"""Intake's collections on a real MongoDB: what must be unique is, and of several writers one wins."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence

import pytest

from deploy.local.servers import Servers
from services.intake.account_store import AccountStore, LoginTaken
from services.intake.identity import NewAccount
from services.intake.store import AccessStore, ComplaintStore
from shared.calendar import Deadlines
from shared.events import Event, new_id, now
from shared.journal import NO_TRACES, Journal, Taken
from shared.projection import Document
from shared.sop import Role, Transition
from shared.storage import Database, MongoJournal, connect
from tests.support.events import STRAIGHT, Chain


class Nowhere:
    """A publisher whose broker is away: nothing is ever acknowledged."""

    async def publish(self, events: Sequence[Event], traces: Mapping[str, str] = NO_TRACES, /) -> list[str]:
        return []


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_intake"]
    client.close()


@pytest.fixture
async def accounts(database: Database) -> AccountStore:
    store = AccountStore(database)
    await store.ensure_indexes()
    await store.ensure_indexes()
    return store


@pytest.fixture
async def complaints(database: Database) -> ComplaintStore:
    store = ComplaintStore(database, Deadlines())
    await MongoJournal(database).ensure_indexes()
    await store.ensure_indexes()
    await store.ensure_indexes()
    return store


@pytest.fixture
async def journal(database: Database, complaints: ComplaintStore) -> AsyncIterator[Journal]:
    journal = Journal(MongoJournal(database), Nowhere(), [complaints.projection])
    await journal.start()
    yield journal
    await journal.stop()


def account(*logins: str) -> Document:
    return NewAccount(logins, Role.CITIZEN, "Siti", "hash", email=logins[0]).document()


async def test_of_twenty_registrations_of_one_address_one_wins(accounts: AccountStore) -> None:
    outcome = await asyncio.gather(
        *(accounts.add(account("siti@warga.example", f"+62812000{i:04}")) for i in range(20)), return_exceptions=True
    )
    assert sum(isinstance(o, LoginTaken) for o in outcome) == 19
    assert sum(isinstance(o, dict) for o in outcome) == 1


async def test_of_twenty_changes_of_one_version_one_wins(accounts: AccountStore) -> None:
    made = await accounts.add(account("siti@warga.example"))
    outcome = await asyncio.gather(*(accounts.change(made["_id"], 1, {"name": f"Siti {i}"}) for i in range(20)))
    assert sum(outcome) == 1
    found = await accounts.find(made["_id"])
    assert found is not None
    assert found["version"] == 2
    await accounts.add(account("taken@warga.example"))
    with pytest.raises(LoginTaken):
        await accounts.change(made["_id"], 2, {"logins": ["taken@warga.example"]})


async def test_a_contact_is_due_until_its_own_version_was_told(accounts: AccountStore) -> None:
    made = await accounts.add(account("siti@warga.example"))
    assert [a["_id"] for a in await accounts.contacts_due()] == [made["_id"]]
    await accounts.change(made["_id"], 1, {"name": "Siti Nurhaliza", "contact_due": True})
    await accounts.contact_told(made["_id"], 1)
    assert [a["version"] for a in await accounts.contacts_due()] == [2]
    await accounts.contact_told(made["_id"], 2)
    assert await accounts.contacts_due() == []


async def test_no_two_complaints_have_one_number_and_the_second_draws_again(journal: Journal) -> None:
    first, second = Chain(), Chain()
    await journal.append(first.events[0], None, {first.complaint_id: None})
    same = second.events[0].model_copy(update={"number": first.number})
    with pytest.raises(Taken):
        await journal.append(same, None, {second.complaint_id: None})
    assert await journal.append(second.events[0], None, {second.complaint_id: None}) == second.events[0]
    # later events of a complaint carry its number again
    await journal.append(first.then(Transition.FORWARDED).last)


async def test_a_rebuild_from_the_journal_gives_the_same_documents(
    journal: Journal, complaints: ComplaintStore, database: Database
) -> None:
    chain = Chain().through(*STRAIGHT[1:])
    for event in chain.events:
        await journal.append(event)
    before = await complaints.find(chain.complaint_id)
    assert before is not None
    assert before["status"] == "answered"
    await database["complaints"].delete_many({})
    await complaints.projection.apply(reversed(chain.events))
    assert await complaints.find(chain.complaint_id) == before
    assert await complaints.find_number(chain.number) == before


async def test_what_lapsed_is_found_earliest_first_and_nothing_else(
    journal: Journal, complaints: ComplaintStore
) -> None:
    returned = [Chain(at=Chain().at.replace(day=day)) for day in (5, 3, 4)]
    for chain in [*returned, Chain()]:
        if chain in returned:
            chain.through(Transition.FORWARDED, Transition.RETURNED)
        for event in chain.events:
            await journal.append(event)
    found = [document["_id"] for document in await complaints.lapsed(now(), 10)]
    assert found == [returned[i].complaint_id for i in (1, 2, 0)]
    assert [d["_id"] for d in await complaints.lapsed(now(), 2)] == found[:2]
    assert await complaints.lapsed(returned[0].at, 10) == []


async def test_accesses_are_paged_newest_first_and_are_ones_own(database: Database) -> None:
    accesses = AccessStore(database)
    await accesses.ensure_indexes()
    siti, budi = new_id(), new_id()
    for n in range(5):
        await accesses.record(siti, "c", "LP", "operator-1", Role.COORDINATOR, f"alasan {n}")
    await accesses.record(budi, "c", "LP", "operator-1", Role.COORDINATOR, "alasan lain")
    first, cursor = await accesses.of_citizen(siti, 3, None)
    rest, end = await accesses.of_citizen(siti, 3, cursor)
    assert [access["reason"] for access in [*first, *rest]] == [f"alasan {n}" for n in (4, 3, 2, 1, 0)]
    assert end is None
