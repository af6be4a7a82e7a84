"""Tells each step as it is proved: who did what, the event as the witness read it, what the citizen got, which clocks
run."""

import asyncio
import time
from collections import Counter
from datetime import datetime
from email.message import EmailMessage

from rich.console import Console
from rich.table import Table

from deploy.demo.people import PATIENCE, DemoFailed, Json, Person
from deploy.demo.witness import Seen, Witness
from services.notify.notices import NOTICES, TOLD_CITIZENS
from services.opd.projection import TAKES
from shared.calendar import CITY
from shared.events import ProgressNoted, SlaBreached, SlaWarned
from shared.sop import MOVES, Clock, Role, Transition

_SILENT = frozenset({"id", "occurred_at", "complaint_id", "seq", "number", "reporter_id", "actor", "report"})
_TOLD = {notice.event.topic: notice for notice in NOTICES if notice.name in TOLD_CITIZENS}
"""What the citizen is told, by the event's topic."""
_EVERYBODY = ("intake", "routing", "notify", "sla")


class Narrator:
    """Checks and prints; any check that fails raises DemoFailed."""

    def __init__(self, console: Console, witness: Witness, citizen: Person, coordinator: Person) -> None:
        self._out = console
        self._witness = witness
        self._citizen = citizen
        self._coordinator = coordinator
        self._with_agency: set[str] = set()
        self.moves: Counter[Transition] = Counter()

    def title(self, text: str) -> None:
        """The heading of a story."""
        self._out.rule(f"[bold]{text}")

    async def step(self, complaint_id: str, seq: int, move: Transition, who: Person) -> None:
        """One transition that ``who`` has just made."""
        seen = await self._witness.event(f"{complaint_id}:{seq}", move.topic)
        if seen.value["seq"] != seq or seen.value["actor"]["role"] != who.identity.role:
            raise DemoFailed(f"event {seen.id} says seq {seen.value['seq']} by {seen.value['actor']}")
        await self._proved(
            complaint_id, seen, move, f"{who.identity.role.replace('_', ' ')} [cyan]{who.identity.name}[/]"
        )

    async def answered(self, complaint_id: str) -> None:
        """Step 6, which the system makes: the reply has reached the citizen, then comes the event."""
        case = await self._citizen.can("intake", f"/v1/complaints/{complaint_id}", Transition.REOPENED.value)
        seen = await self._witness.event(f"{complaint_id}:{case['seq']}", Transition.ANSWERED.topic)
        await self._proved(complaint_id, seen, Transition.ANSWERED, "the system")
        if "email" not in seen.value["channels"]:
            raise DemoFailed(f"the reply was delivered by {seen.value['channels']} and not by e-mail")
        mail = await self._witness.mail(self._citizen.identity.login, f"{complaint_id}:{case['seq'] - 1}")
        photos = [part for part in mail.walk() if part.get_content_type() == "image/jpeg"]
        if not photos:
            raise DemoFailed("the e-mail with the reply has no photo of the finished work")
        sizes = ", ".join(f"{len(photo.get_payload(decode=True) or b'') // 1024} kB" for photo in photos)
        self._out.print(f"   reply    e-mail with {len(photos)} photo of the finished work ({sizes}), and the note:")
        self._out.print(_quoted(mail), markup=False)

    async def progress(self, event_id: str, who: Person) -> None:
        """An agency's note beside the chain."""
        seen = await self._witness.event(event_id, ProgressNoted.topic)
        self._out.print(f"\n[bold]beside  progress note[/]  by agency operator [cyan]{who.identity.name}[/]")
        self._topic_line(seen)
        await self._witness.stored(seen, ("intake", "routing", "opd", "notify"))
        await self._citizen_lines(seen)

    async def overdue(self, complaint_id: str, clock: Clock) -> None:
        """The clock has warned and was breached, each once, and the coordinator is shown it."""
        for model in (SlaWarned, SlaBreached):
            seen = await self._witness.event_of(complaint_id, model.topic, clock=clock.value)
            self._out.print(f"\n[bold]clock   {model.topic}[/]  step {seen.value['step']}, {seen.value['responsible']}")
            self._topic_line(seen)
            await self._witness.stored(seen, ("routing", "sla", "notify"))
            if self._witness.count(complaint_id, model.topic) != 1:
                raise DemoFailed(f"{model.topic} came more than once for {complaint_id}")
        listed = await self._coordinator.get("sla", "/v1/overdue", limit=100)
        if complaint_id not in {row["complaint_id"] for row in listed["items"]}:
            raise DemoFailed("the coordinator is not shown the overdue complaint")
        told = await self._coordinator.get("notify", "/v1/inbox", limit=100)
        subject = next((m["subject"] for m in told["items"] if m["complaint_id"] == complaint_id), None)
        if subject is None:
            raise DemoFailed("the coordinator's inbox has nothing about the overdue complaint")
        self._out.print(f'   coordinator sees it in sla /v1/overdue, and in the inbox: "{subject}"', markup=False)

    async def timeline(self, complaint_id: str) -> None:
        """The whole life of a complaint, as its citizen can read it."""
        life = await self._citizen.get("intake", f"/v1/complaints/{complaint_id}/timeline")
        table = Table(
            title=f"{life['number']}: {life['status']}, held by {life['holder'] or 'nobody'}",
            title_justify="left",
            box=None,
        )
        for heading in ("at", "by", "what"):
            table.add_column(heading, no_wrap=heading == "at")
        for entry in life["entries"]:
            note = f" — {entry['note']}" if entry["note"] else ""
            table.add_row(_local(entry["at"]), entry["by"].replace("_", " "), entry["text"] + note)
        self._out.print(table)

    async def _proved(self, complaint_id: str, seen: Seen, move: Transition, who: str) -> None:
        self.moves[move] += 1
        step = MOVES[move].step
        self._out.print(f"\n[bold]{f'step {step}' if step else 'beyond'}  {move.value}[/]  by {who}")
        self._topic_line(seen)
        if move is Transition.ASSIGNED:
            self._with_agency.add(complaint_id)
        services = [*_EVERYBODY]
        if complaint_id in self._with_agency and move.topic in TAKES:
            services.append("opd")
        await self._witness.stored(seen, tuple(services))
        self._out.print(f"   stores   {', '.join(services)}")
        await self._citizen_lines(seen)
        if Role.COORDINATOR in MOVES[move].informs:
            told = await self._inbox_entry(self._coordinator, seen.id)
            self._out.print(f'   told     coordinator: "{told["subject"]}"', markup=False)
        if move is Transition.SUBMITTED:
            await self._receipt_line(complaint_id)
        await self._clock_lines(complaint_id, seen)

    def _topic_line(self, seen: Seen) -> None:
        self._out.print(
            f"   topic    [green]{seen.topic}[/], partition {seen.partition}, offset {seen.offset}, id {seen.id}"
        )
        for name, value in seen.value.items():
            if name not in _SILENT and value not in (None, []):
                self._out.print(f"            {name}: {str(value)[:110]}", markup=False)

    async def _citizen_lines(self, seen: Seen) -> None:
        """What the citizen got: the inbox by the API, the e-mail as the SMTP server received it."""
        entry = await self._inbox_entry(self._citizen, seen.id)
        self._out.print(f'   inbox    "{entry["subject"]}"', markup=False)
        if _TOLD[seen.name].email:
            mail = await self._witness.mail(self._citizen.identity.login, seen.id)
            self._out.print(f'   e-mail   "{mail["Subject"]}" to {mail["To"]}', markup=False)

    async def _inbox_entry(self, person: Person, event_id: str) -> Json:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            inbox = await person.get("notify", "/v1/inbox", limit=50)
            for entry in inbox["items"]:
                if entry["about"] == event_id:
                    found: Json = entry
                    return found
            await asyncio.sleep(0.05)
        raise DemoFailed(f"the inbox of {person.identity.name} has nothing about {event_id}")

    async def _receipt_line(self, complaint_id: str) -> None:
        """SOP step 1: the receipt reached the citizen in time, as the SLA service sees it."""
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            receipt = next(c for c in await self._clocks(complaint_id) if c["clock"] == Clock.RECEIPT.value)
            if receipt["stopped_at"]:
                due = _local(receipt["due_at"])
                self._out.print(f"   clock    receipt (step 1) {receipt['state'].replace('_', ' ')}, was due {due}")
                return
            await asyncio.sleep(0.1)
        raise DemoFailed(f"the clock of the receipt still runs for {complaint_id}")

    async def _clocks(self, complaint_id: str) -> list[Json]:
        answer = await self._coordinator.get("sla", f"/v1/complaints/{complaint_id}/clocks")
        clocks: list[Json] = answer["clocks"]
        return clocks

    async def _clock_lines(self, complaint_id: str, seen: Seen) -> None:
        """The clocks that this event stopped, and those that run now."""
        for clock in await self._clocks(complaint_id):
            name = f"{clock['clock']} (step {clock['step']})" if clock["step"] else clock["clock"]
            if clock["stopped_at"] is None:
                self._out.print(f"   clock    {name} runs, due {_local(clock['due_at'])}")
            elif clock["stopped_at"] == seen.value["occurred_at"]:
                self._out.print(
                    f"   clock    {name} {clock['state'].replace('_', ' ')}, was due {_local(clock['due_at'])}"
                )


def _local(moment: str) -> str:
    return f"{datetime.fromisoformat(moment).astimezone(CITY):%d-%m-%Y %H:%M:%S} WIB"


def _quoted(mail: EmailMessage) -> str:
    body = mail.get_body(("plain",))
    text = body.get_content() if body else ""
    return "\n".join(f"            | {line}" for line in text.strip().splitlines())
