"""What the notify desk decides, and what a set of events leaves in the inboxes, whatever their order."""

from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.notify import desk
from services.notify.desk import Finish, Patience, Send, Wait
from services.notify.notices import NOTICES, REPORTED, CitizenNotice, agency_audience, audience_of, notices_of
from services.notify.projection import CONSUMES, ISSUES, project
from shared.auth import Principal
from shared.calendar import Deadlines
from shared.events import CHAIN, CHAIN_TOPICS, Answered, CitizenContact, ComplaintEvent, Event, NotificationDelivered
from shared.pieces import pieces
from shared.sop import MOVES, Clock, Role, Transition
from tests.support.events import BEGAN_AT, STRAIGHT, Chain

PATIENCE = Patience(timedelta(seconds=5), timedelta(seconds=60), timedelta(hours=1))
CONTACT: dict[str, Any] = {"_id": "c", "name": "Siti", "email": "siti@warga.example", "language": "id"}
AT = BEGAN_AT + timedelta(minutes=5)


def documents(*events: Event) -> Any:
    return project(events, AT, Deadlines(), timedelta(minutes=1))


def delivery(*moves: Transition, **changes: Any) -> dict[str, Any]:
    made: dict[str, Any] = documents(Chain().through(*moves).last).deliveries[0]
    return made | {"attempts": 1} | changes


def reply(**changes: Any) -> dict[str, Any]:
    return delivery(*STRAIGHT[1:-1], **changes)


def test_the_citizen_hears_every_move_and_staff_what_the_procedure_says() -> None:
    for transition, model in CHAIN.items():
        rows = [notice for notice in NOTICES if notice.event is model]
        assert sum(notice.name in set(CitizenNotice) for notice in rows) == 1, transition
        staff = {"coordinator": Role.COORDINATOR, "agency:DPUPR": Role.AGENCY_OPERATOR}
        chain = Chain()
        told = {
            staff[audience]
            for notice in rows
            for audience in notice.to(chain.then(transition).last)
            if audience != "citizen"
        }
        assert told == MOVES[transition].informs, transition
    assert len({notice.name for notice in NOTICES}) == len(NOTICES)


def test_every_move_is_taken_from_its_topic_or_made_here() -> None:
    assert set(CHAIN_TOPICS) == {t for t in (*CONSUMES, *ISSUES) if t in CHAIN_TOPICS}
    assert set(ISSUES) == {Answered.topic, NotificationDelivered.topic}
    assert not set(ISSUES) & set(CONSUMES)


@pytest.mark.parametrize(
    ("principal", "audience"),
    [
        (Principal("a", Role.CITIZEN), "citizen:a"),
        (Principal("a", Role.AGENCY_OPERATOR, "DPUPR"), agency_audience("DPUPR")),
        (Principal("a", Role.AGENCY_OPERATOR), None),
        (Principal("a", Role.COORDINATOR), "coordinator"),
        (Principal("a", Role.REGIONAL_OPERATOR), "regional_operator"),
        (Principal("a", Role.CENTRAL_OPERATOR), "central_operator"),
        (Principal("a", Role.ADMIN), "admin"),
        (Principal("a", Role.SYSTEM), None),
    ],
)
def test_whose_inbox_an_account_reads(principal: Principal, audience: str | None) -> None:
    assert audience_of(principal) == audience


def contact(version: int) -> CitizenContact:
    return CitizenContact(
        id=f"c:{version}",
        occurred_at=BEGAN_AT,
        citizen_id="c",
        version=version,
        name=f"v{version}",
        email=None,
        phone=None,
        language="id",
    )


STORY: list[Event] = [
    *Chain(complaint_id="one").through(*STRAIGHT[1:4]).noted().noted().through(*STRAIGHT[4:]).events,
    *Chain(complaint_id="two").through(Transition.FORWARDED, Transition.RETURNED, Transition.CLOSED).events,
    *(contact(version) for version in (1, 2, 3)),
]


def by_id(made: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {document["_id"]: document for document in made}


@given(st.permutations(STORY), st.lists(st.sampled_from(STORY)), st.integers(1, 5))
def test_any_order_and_repetition_leave_the_same(order: list[Event], again: list[Event], batch: int) -> None:
    whole = documents(*STORY)
    events = [*order, *again]
    inbox: dict[str, Any] = {}
    deliveries: dict[str, Any] = {}
    highest = 0
    for piece in pieces(events, batch):
        part = documents(*piece)
        inbox = by_id(part.inbox) | inbox  # what is there stays, as in the store
        deliveries = by_id(part.deliveries) | deliveries
        highest = max([highest, *(c.version for c in part.contacts.values())])
    assert inbox == by_id(whole.inbox)
    assert deliveries == by_id(whole.deliveries)
    assert highest == whole.contacts["c"].version == 3
    assert len(whole.inbox) == len(by_id(whole.inbox))


def test_a_returned_report_says_until_when() -> None:
    event = Chain().through(Transition.FORWARDED, Transition.RETURNED).last
    (entry,) = documents(event).inbox
    assert entry["facts"]["until"] == Deadlines().due_at(Clock.CORRECT, event.occurred_at)


def test_no_report_of_a_citizen_is_kept_here() -> None:
    """What the notices do not need is not copied: neither the report's text nor its place."""
    story = [e for e in STORY if isinstance(e, ComplaintEvent)]
    kept = str(documents(*story).inbox) + str(documents(*story).deliveries)
    assert "Jalan berlubang" not in kept
    assert "109.34" not in kept
    assert all(notices_of(e) for e in story)


@pytest.mark.parametrize(
    ("changes", "known", "choices", "after", "expected"),
    [
        ({}, CONTACT, {}, 0, Send()),
        ({}, CONTACT, {"receipt": False}, 0, Finish("skipped", "switched-off")),
        ({}, None, {"receipt": False}, 0, Finish("skipped", "switched-off")),
        ({"notice": "completed"}, CONTACT, {}, 0, Finish("skipped", "switched-off")),
        ({"notice": "completed"}, CONTACT, {"completed": True}, 0, Send()),
        ({}, CONTACT | {"email": None}, {}, 0, Finish("skipped", "no-address")),
        ({}, CONTACT | {"email": None}, {}, 7200, Finish("skipped", "no-address")),
        ({}, None, {}, 0, Wait(AT + timedelta(seconds=5), "contact-unknown")),
        ({"attempts": 3}, None, {}, 0, Wait(AT + timedelta(seconds=20), "contact-unknown")),
        ({"reason": "smtp-451"}, CONTACT, {}, 3599, Send()),
        ({"reason": "smtp-451"}, CONTACT, {}, 3600, Finish("failed", "smtp-451")),
        ({}, None, {}, 3600, Finish("failed", "given-up")),
    ],
)
def test_whether_an_e_mail_goes_out(
    changes: dict[str, Any], known: dict[str, Any] | None, choices: dict[str, bool], after: int, expected: Any
) -> None:
    at = AT + timedelta(seconds=after)
    assert desk.triage(delivery(**changes), known, choices, at, PATIENCE) == expected


def test_pauses_double_up_to_the_longest() -> None:
    assert [PATIENCE.pause(n).total_seconds() for n in (0, 1, 2, 3, 4, 5, 6, 1000)] == [5, 5, 10, 20, 40, 60, 60, 60]


def test_a_failure_is_final_or_waits() -> None:
    final = desk.after_failure(delivery(), permanent=True, reason="smtp-550", at=AT, patience=PATIENCE)
    later = desk.after_failure(delivery(attempts=2), permanent=False, reason="smtp-451", at=AT, patience=PATIENCE)
    assert final == Finish("failed", "smtp-550")
    assert later == Wait(AT + timedelta(seconds=10), "smtp-451")


def test_photos_are_waited_for_and_no_longer() -> None:
    two = timedelta(minutes=2)
    assert desk.photos_may_come(reply(), AT + timedelta(seconds=119), two)
    assert not desk.photos_may_come(reply(), AT + two, two)


@pytest.mark.parametrize(
    ("state", "channels"), [("sent", ("inbox", "email")), ("failed", ("inbox",)), ("skipped", ("inbox",))]
)
def test_the_reply_is_answered_when_every_channel_is_done(state: str, channels: tuple[str, ...]) -> None:
    done = reply(state=state, open=False, done_at=AT + timedelta(minutes=1))
    answered = desk.report(done)
    assert isinstance(answered, Answered)
    assert answered.id == f"{answered.complaint_id}:7"
    assert (answered.seq, answered.channels, answered.actor.role) == (7, channels, Role.SYSTEM)
    assert answered.occurred_at == AT + timedelta(minutes=1)


def test_an_open_reply_is_not_answered() -> None:
    assert desk.report(reply(state="pending")) is None


def test_the_receipt_reached_the_citizen_when_it_was_in_the_inbox() -> None:
    late = delivery(state="sent", open=False, done_at=AT + timedelta(hours=3))
    delivered = desk.report(late)
    assert isinstance(delivered, NotificationDelivered)
    assert (delivered.about, delivered.notice, delivered.seq) == (f"{delivered.complaint_id}:1", "receipt", 1)
    assert delivered.occurred_at == AT
    ahead = delivery(occurred_at=AT + timedelta(seconds=3))  # the clock of the desk that issued it runs ahead
    told = desk.report(ahead)
    assert told is not None
    assert told.occurred_at == AT + timedelta(seconds=3)


def test_of_the_receipt_and_the_reply_others_hear_what_became_and_of_no_other_notice() -> None:
    chain = Chain().noted().through(*STRAIGHT[1:])
    made = [d | {"state": "sent", "open": False, "done_at": AT} for d in documents(*chain.events).deliveries]
    told = {d["notice"]: desk.report(d) for d in made}
    assert len(told) > len(REPORTED)
    assert {notice for notice, event in told.items() if event} == REPORTED == {"receipt", "reply"}
    assert {d["notice"] for d in made if not d["reported"]} == REPORTED, "who has nothing to tell waits for nothing"
