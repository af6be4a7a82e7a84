"""Nobody is named where nobody is to be named: what citizens say about themselves is planted in every personal field,
complaints go through the whole procedure, failures included, and everything that came out is searched for it."""

import email
import email.policy
import json
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from email.utils import parseaddr
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaConsumer
from pymongo import MongoClient

from deploy.demo.people import Identity, Person, code_sent, register, staff
from deploy.demo.pictures import street
from deploy.demo.target import Target
from deploy.local.launcher import SMS_DOMAIN, System
from shared.events import RESTRICTED, CitizenContact, now
from shared.sop import Role
from tests.chaos.evidence import places
from tests.support.running import until

MOVES: tuple[tuple[str, str, str, dict[str, Any]], ...] = (
    ("routing", "cases", "forward", {"analysis": "Lengkap dan jelas; kewenangan kota."}),
    ("routing", "cases", "assign", {"agency": "DPUPR", "considerations": "Kewenangan dinas; mendesak."}),
    ("opd", "work", "start", {"unit": "Sekretariat, Subbagian Umum"}),
    ("opd", "work", "complete", {"note": "Pekerjaan selesai dan sudah diperiksa di lapangan."}),
    ("routing", "cases", "document", {"note": "Bukti sesuai dengan laporan."}),
)
TRANSITIONS = {
    "forward": "forwarded",
    "assign": "assigned",
    "start": "started",
    "complete": "completed",
    "document": "documented",
}
KEPT = {
    "intake": {
        "accounts": "who the citizens are",
        "journal": "the outbox of citizen.contact",
        "challenges": "who has asked for a code, for minutes",
    },
    "notify": {"contacts": "how they are reached"},
}
"""The only places that may hold personal data, of all databases."""


@dataclass(frozen=True, slots=True)
class Canary:
    """Somebody whose every personal field is like no other text in the world."""

    name: str
    email: str
    phone: str
    password: str
    tag: str

    @classmethod
    def hatched(cls) -> "Canary":
        tag = "".join(secrets.choice("qxzvjkw") for _ in range(10))
        phone = f"0812{secrets.randbelow(10**8):08}"
        return cls(f"Kenari {tag.title()}", f"{tag}@warga.example", phone, f"rahasia-{tag}-sekali", tag)

    def found_in(self, content: bytes) -> bool:
        """Whether one of the fields is in it, in whatever case, and the phone number however it is written."""
        text = content.lower()
        return self.tag.encode() in text or self.phone.lstrip("0").encode() in text


async def registered(target: Target, canary: Canary) -> Person:
    """The canary's account; enter it to sign in."""
    body = {name: getattr(canary, name) for name in ("name", "email", "phone", "password")}
    made = await register(target, body)
    async with httpx.AsyncClient(base_url=target.urls["intake"], timeout=30) as client:
        (pending,) = made["pending"]
        given = {"challenge_id": pending["challenge_id"], "code": await code_sent(target, _gateway(canary.phone))}
        mine = {"Authorization": f"Bearer {made['access_token']}"}
        assert (await client.post("/v1/me/contacts/confirm", json=given, headers=mine)).status_code == 200
        again = await client.post("/v1/citizens", json=body)
        assert again.status_code == 429, "a message was sent to the address a moment ago"
        assert canary.tag not in again.text
        given["code"] = "000000"
        assert (await client.post("/v1/citizens/confirm", json=given)).status_code == 422
        assert (await client.post("/v1/me/contacts/confirm", json=given, headers=mine)).status_code == 422
        assert (await client.post("/v1/codes", json={"login": canary.phone})).status_code in (202, 429)
        assert (await client.post("/v1/citizens", json=body | {"language": "xx"})).status_code == 422
        assert (await client.post("/v1/citizens", content=json.dumps(body)[:-1])).status_code == 422, "no JSON"
        wrong = {"login": canary.email, "password": canary.password + "?"}
        assert (await client.post("/v1/tokens", json=wrong)).status_code == 401
    return Person(target, Identity(canary.name, "citizen", canary.email), canary.password)


def _gateway(phone: str) -> str:
    """Where an SMS to the phone goes."""
    return f"62{phone[1:]}@{SMS_DOMAIN}"


async def filed(person: Person, visibility: str) -> str:
    """A complaint of the person's; its id."""
    report = {
        "title": f"Jalan berlubang ({visibility})",
        "description": "Lubang besar di tengah jalan, berbahaya bagi pengendara motor.",
        "category": "roads",
        "place": {"longitude": 109.3425, "latitude": -0.0263},
        "seen_at": now().isoformat(),
        "photos": [await person.photo("intake", street(1, repaired=False))],
        "visibility": visibility,
    }
    complaint: str = (await person.post("intake", "/v1/complaints", report))["complaint_id"]
    return complaint


async def desks(target: Target, stack: AsyncExitStack) -> dict[str, Person]:
    """Who makes each move of staff, signed in until ``stack`` ends."""
    central = await stack.enter_async_context(staff(target, Role.CENTRAL_OPERATOR))
    regional = await stack.enter_async_context(staff(target, Role.REGIONAL_OPERATOR))
    agency = await stack.enter_async_context(staff(target, Role.AGENCY_OPERATOR, "DPUPR"))
    return {"forward": central, "assign": regional, "document": regional, "start": agency, "complete": agency}


async def carried_through(complaint: str, people: dict[str, Person]) -> list[bytes]:
    """All six steps; what staff are shown on the way."""
    shown = []
    for service, what, move, body in MOVES:
        person, path = people[move], f"/v1/{what}/{complaint}"
        shown.append(json.dumps(await person.can(service, path, TRANSITIONS[move])).encode())
        photos = {"photos": [await person.photo("opd", street(2, repaired=True))]} if move == "complete" else {}
        await person.post(service, f"{path}/{move}", body | photos)
    return shown


async def records(target: Target) -> AsyncIterator[tuple[str, bytes]]:
    """Every record of the installation's topics with key, value and headers, but for the restricted topics'."""
    consumer = AIOKafkaConsumer(bootstrap_servers=target.kafka_bootstrap, group_id=None, enable_auto_commit=False)
    await consumer.start()
    try:
        every = await places(target.kafka_bootstrap, target.namespace)
        shared = [place for place in every if not place.topic.endswith(tuple(RESTRICTED))]
        consumer.assign(shared)
        await consumer.seek_to_beginning(*shared)
        ends = await consumer.end_offsets(shared)
        left = {place for place in shared if ends[place]}
        while left:
            for place, found in (await consumer.getmany(timeout_ms=500)).items():
                for record in found:
                    headers = b" ".join(name.encode() + b"=" + value for name, value in record.headers)
                    yield place.topic, b" ".join((record.key or b"", record.value or b"", headers))
            left = {place for place in left if await consumer.position(place) < ends[place]}
    finally:
        await consumer.stop()


def documents(target: Target) -> Iterator[tuple[str, bytes]]:
    """Every document of every service's database, but for those that may hold personal data."""
    with MongoClient[dict[str, Any]](target.mongo_url) as client:
        for service in target.urls:
            database = client[f"{target.namespace}_{service}"]
            for name in database.list_collection_names():
                query: dict[str, Any] = {}
                if name in KEPT.get(service, {}):
                    if name != "journal":
                        continue
                    query = {"topic": {"$ne": CitizenContact.topic}}
                for document in database[name].find(query):
                    yield f"{service}.{name}", repr(document).encode()


async def metrics(target: Target) -> AsyncIterator[tuple[str, bytes]]:
    """What Prometheus is told."""
    async with httpx.AsyncClient(timeout=30) as client:
        for service, url in target.urls.items():
            yield f"metrics of {service}", (await client.get(f"{url}/metrics")).content


def logs(system: System) -> Iterator[tuple[str, bytes]]:
    """What the services have logged."""
    for path in system.children.log_dir.glob("*.log"):
        yield path.name, path.read_bytes()


def letters(target: Target) -> Iterator[tuple[str, bytes]]:
    """The e-mails that were sent, and to whom."""
    for path in target.mail_dir.glob("**/*.eml"):
        content = path.read_bytes()
        to = email.message_from_bytes(content, policy=email.policy.default)["To"]
        yield parseaddr(str(to))[1], content


@pytest.mark.timeout(240)
async def test_no_canary_is_found_outside_of_its_cage(system: System, target: Target) -> None:
    canaries = {visibility: Canary.hatched() for visibility in ("public", "anonim", "rahasia")}
    out: list[tuple[str, bytes]] = []
    async with AsyncExitStack() as stack:
        people = await desks(target, stack)
        coordinator = await stack.enter_async_context(staff(target, Role.COORDINATOR))
        for visibility, canary in canaries.items():
            person = await stack.enter_async_context(await registered(target, canary))
            complaint = await filed(person, visibility)
            out += [("what staff are shown", shown) for shown in await carried_through(complaint, people)]

            async def answered(person: Person = person, complaint: str = complaint) -> bool:
                status: str = (await person.get("intake", f"/v1/complaints/{complaint}"))["status"]
                return status == "answered"

            await until(answered, within=60)
            inbox = json.dumps(await person.get("notify", "/v1/inbox")).encode()
            assert b"rating_invited" in inbox, "the citizen is told, whoever it is"
        for path in ("/v1/cases", "/v1/informed", "/v1/summary"):
            out.append((path, json.dumps(await coordinator.get("routing", path)).encode()))
        out.append(("deliveries", json.dumps(await coordinator.get("notify", "/v1/deliveries", limit=100)).encode()))
    out += [found async for found in records(target)]
    out += [found async for found in metrics(target)]
    out += documents(target)
    out += logs(system)

    kinds = {where for where, _ in out}
    assert {"intake.log", "notify.log", "metrics of sla", "routing.cases", "notify.inbox"} <= kinds
    assert any(where.endswith("complaint.submitted") for where in kinds)
    leaks = sorted({f"{v} in {where}" for where, content in out for v, c in canaries.items() if c.found_in(content)})
    assert leaks == []

    for canary in canaries.values():
        to = {address for address, content in letters(target) if canary.found_in(content)}
        assert to == {canary.email, _gateway(canary.phone)}, "nobody else's e-mail names them"
        assert canary.found_in(repr(_caged(target, canary)).encode()), "a search that could find nothing proves nothing"


def _caged(target: Target, canary: Canary) -> list[dict[str, Any]]:
    """Where the canary is to be found."""
    with MongoClient[dict[str, Any]](target.mongo_url) as client:
        return list(client[f"{target.namespace}_notify"]["contacts"].find({"email": canary.email}))
