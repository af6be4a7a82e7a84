"""The clients: people who carry complaints through the procedure, and do not give up when a service is away.

On a 5xx or no answer at all they send the same again under the same Idempotency-Key; on any other refusal they look how
the case stands. Now and then one sends the same request twice at once, or two people make the same move at once.
"""

import asyncio
import hashlib
import json
import random
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx

from deploy.demo.pictures import street
from shared.codes import OneTimeCodes
from tests.chaos.history import Attempt, History, Json, moment
from tests.chaos.rig import Rig

PATIENCE_SECONDS = 90.0
_ANSWER_SECONDS = 12.0
_FILE, _PHOTO = "submitted", "photo"


class GaveUp(Exception):
    """A client has had no answer for so long that it leaves; whether its request was carried out is not known."""


class Account:
    """One signed-in account."""

    def __init__(self, rig: Rig, history: History, login: str, password: str, role: str) -> None:
        self._rig = rig
        self._history = history
        self._login, self._password, self.role = login, password, role
        self._client = httpx.AsyncClient(timeout=_ANSWER_SECONDS)
        self.patience_seconds = PATIENCE_SECONDS
        self._token = ""
        self._signing_in = asyncio.Lock()
        self.photo = ""
        self.round = ""

    async def close(self) -> None:
        """Close its connections."""
        await self._client.aclose()

    async def sign_in(self) -> None:
        """Get a token, however long intake is away."""
        async with self._signing_in:
            deadline = time.monotonic() + self.patience_seconds
            while time.monotonic() < deadline:
                with suppress(httpx.HTTPError):
                    body = {"login": self._login, "password": self._password}
                    answer = await self._client.post(f"{self._rig.system.urls['intake']}/v1/tokens", json=body)
                    if answer.status_code == 200:
                        self._token = answer.json()["access_token"]
                        return
                    if answer.status_code < 500 and answer.status_code != 429:
                        raise GaveUp(f"{self._login} may not sign in: {answer.text}")
                await asyncio.sleep(0.5)
        raise GaveUp(f"{self._login} could not sign in")

    async def upload(self, service: str) -> None:
        """Send a photo, whose id every request of this account then uses."""
        data = street(len(self._login), repaired=service == "opd", width=320, height=240)
        deadline = time.monotonic() + self.patience_seconds
        while time.monotonic() < deadline:
            with suppress(httpx.HTTPError):
                answer = await self._client.post(
                    f"{self._rig.system.urls[service]}/v1/photos",
                    content=data,
                    headers={"Content-Type": "image/jpeg", **self._bearer()},
                )
                if answer.status_code == 201:
                    self.photo = answer.json()["id"]
                    return
            await asyncio.sleep(0.5)
        raise GaveUp(f"{self._login} could not send a photo")

    async def get(self, service: str, path: str) -> Json | None:
        """What a GET answers; None for no answer or a refusal."""
        with suppress(httpx.HTTPError, ValueError):
            answer = await self._client.get(self._rig.system.urls[service] + path, headers=self._bearer())
            if answer.status_code == 401:
                await self.sign_in()
            elif answer.status_code == 200:
                content: Json = answer.json()
                return content
        return None

    async def post(self, service: str, path: str, move: str, body: Json, op: str, complaint: str | None) -> Attempt:
        """Have something done, repeating it under one key until there is an answer. Raises GaveUp."""
        key = f"key-{op}"
        content = json.dumps(body).encode()
        deadline = time.monotonic() + self.patience_seconds
        number = 0
        while time.monotonic() < deadline:
            number += 1
            attempt = Attempt(
                op, move, self._login, self.role, service, path, key, hashlib.sha256(content).hexdigest(), complaint,
                self.round, number, moment(),
            )  # fmt: skip
            headers = {"Content-Type": "application/json", **self._bearer()}
            if move != _PHOTO:
                headers["Idempotency-Key"] = key
            try:
                answer = await self._client.post(
                    self._rig.system.urls[service] + path, content=content, headers=headers
                )
                attempt.status = answer.status_code
                with suppress(ValueError):
                    attempt.answer = answer.json()
                if not attempt.acknowledged:
                    attempt.problem = (attempt.answer or {}).get("type", "no problem document")
            except httpx.HTTPError as error:
                attempt.problem = type(error).__name__
            attempt.ended_at = moment()
            self._history.add(attempt)
            if attempt.status == 401:
                await self.sign_in()
            elif attempt.status is not None and attempt.status < 500 and attempt.status != 429:
                return attempt
            await asyncio.sleep(min(0.3 * number, 1.5))
        raise GaveUp(f"{move} had no answer for {self.patience_seconds:.0f} s")

    def _bearer(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self._token}"} if self._token else {}


@dataclass(frozen=True, slots=True)
class Step:
    """One move of a path: who makes it, at which service, by which last part of the URL."""

    move: str
    actor: str
    service: str
    action: str


STEPS: dict[str, Step] = {
    step.move: step
    for step in (
        Step("forwarded", "central_operator", "routing", "forward"),
        Step("returned", "regional_operator", "routing", "return"),
        Step("resubmitted", "citizen", "intake", "resubmit"),
        Step("assigned", "regional_operator", "routing", "assign"),
        Step("declined", "agency_operator", "opd", "decline"),
        Step("started", "agency_operator", "opd", "start"),
        Step("completed", "agency_operator", "opd", "complete"),
        Step("rework_requested", "regional_operator", "routing", "rework"),
        Step("documented", "regional_operator", "routing", "document"),
        Step("reopened", "citizen", "intake", "reopen"),
        Step("rated", "citizen", "intake", "rate"),
        Step("withdrawn", "citizen", "intake", "withdraw"),
    )
}
_WORK = ("assigned", "started", "noted", "completed")
_TO_ANSWER = ("forwarded", *_WORK, "documented")
PATHS: tuple[tuple[str, ...], ...] = (
    (*_TO_ANSWER, "rated"),
    _TO_ANSWER,  # the citizen says nothing: it lapses
    ("forwarded", "returned", "resubmitted", *_WORK, "documented", "rated"),
    ("forwarded", "returned", "withdrawn"),
    ("forwarded", "returned"),
    ("forwarded", "assigned", "declined", *_WORK, "documented"),
    ("forwarded", "assigned", "declined", "assigned", "declined", "assigned", "started", "completed", "documented"),
    (*_TO_ANSWER[:-1], "rework_requested", "completed", "documented", "rated"),
    (*_TO_ANSWER, "reopened", *_WORK, "documented", "rated"),
    ("forwarded", *_WORK),
    ("forwarded",),
    (),
)
AGENCIES = ("DPUPR", "DLH")


@dataclass
class Crew:
    """Everybody who is signed in."""

    citizens: list[Account]
    staff: dict[str, Account]
    agencies: dict[str, Account]
    everybody: list[Account] = field(default_factory=list)

    async def close(self) -> None:
        """All go home."""
        for account in self.everybody:
            await account.close()

    def name_round(self, name: str) -> None:
        """What is asked from now on belongs to this round."""
        for account in self.everybody:
            account.round = name


class Clients:
    """People at work on one rig."""

    def __init__(self, rig: Rig, history: History, chance: random.Random) -> None:
        self._rig, self._history, self._chance = rig, history, chance
        self._names = 0
        self.crew = Crew([], {}, {})
        self.gave_up: list[str] = []
        self.impatient, self.racing = 0.12, 0.10
        """The shares of moves that are asked for twice under one key, and by two people at once."""

    async def assemble(self, citizens: int = 3) -> None:
        """Register citizens, sign everybody in, and let those who need photos send one."""
        await self.crew.close()
        staff: dict[str, Account] = {}
        agencies: dict[str, Account] = {}
        for account in self._rig.system.credentials.staff:
            person = Account(self._rig, self._history, account.login, account.password, account.role)
            await person.sign_in()
            if account.agency:
                agencies[account.agency] = person
                await person.upload("opd")
            else:
                staff[account.role] = person
        people = [await self._citizen() for _ in range(citizens)]
        self.crew = Crew(people, staff, agencies, [*people, *staff.values(), *agencies.values()])

    async def _citizen(self) -> Account:
        self._names += 1
        login = f"warga{self._names}-{self._rig.namespace}@warga.example"
        person = Account(self._rig, self._history, login, "sungai kapuas sore hari", "citizen")
        body = {"name": f"Warga {self._names}", "email": login, "password": "sungai kapuas sore hari"}
        asked = await person.post("intake", "/v1/citizens", "asked", body, self.new_op(), None)
        if not asked.acknowledged or asked.answer is None:
            raise GaveUp(f"{login} could not register: {asked.problem}")
        registration = str(asked.answer["registration_id"])
        code = OneTimeCodes(self._rig.system.credentials.code_key).code(registration)
        given = {"registration_id": registration, "code": code}
        await person.post("intake", "/v1/citizens/confirm", "registered", given, self.new_op(), None)
        await person.sign_in()  # whose answer was lost has an account all the same
        await person.upload("intake")
        return person

    def new_op(self) -> str:
        """A name for something to be done, unlike any other."""
        return f"op-{self._chance.getrandbits(64):016x}"

    async def complaint(self, *, path: Sequence[str] | None = None, calm: bool = False) -> str | None:
        """File one complaint and carry it along a path; returns its id. Whoever gets no answer leaves it there."""
        chance = random.Random(self._chance.getrandbits(64))
        wanted = chance.choice(PATHS) if path is None else path
        citizen = chance.choice(self.crew.citizens)
        complaint_id: str | None = None
        try:
            filed = await self._make(citizen, "intake", "/v1/complaints", _FILE, None, chance, calm)
            if filed is None or filed.answer is None:
                return None
            complaint_id = str(filed.answer["complaint_id"])
            await self._carry(complaint_id, citizen, wanted, chance, calm)
        except GaveUp as why:
            self.gave_up.append(f"{complaint_id}: {why}")
        return complaint_id

    async def _carry(
        self, complaint_id: str, citizen: Account, wanted: Sequence[str], chance: random.Random, calm: bool
    ) -> None:
        assignments = 0
        agency = AGENCIES[0]
        for move in wanted:
            if move == "noted":
                await self._note(complaint_id, self.crew.agencies[agency], chance)
                continue
            step = STEPS[move]
            person = self._person(step, citizen, agency)
            if move == "assigned":
                assignments += 1
                agency = AGENCIES[(assignments - 1) % 2]
                if assignments > 2 and wanted.count("declined") > 1:
                    person = self.crew.staff["coordinator"]
            case = {"intake": "complaints", "routing": "cases", "opd": "work"}[step.service]
            path = f"/v1/{case}/{complaint_id}"
            allowed = {"rated": "closed", "withdrawn": "closed"}.get(move, move)
            await self._reached(person, step.service, path, allowed)
            made = await self._make(
                person, step.service, f"{path}/{step.action}", move, complaint_id, chance, calm, agency
            )
            if made is None:
                return  # the citizen's time has passed, or somebody else was first: the case goes on without us

    def _person(self, step: Step, citizen: Account, agency: str) -> Account:
        if step.actor == "citizen":
            return citizen
        return self.crew.agencies[agency] if step.actor == "agency_operator" else self.crew.staff[step.actor]

    async def _note(self, complaint_id: str, person: Account, chance: random.Random) -> None:
        op = self.new_op()
        body = {"note": f"Tim sudah di lokasi. [{op}]"}
        await person.post("opd", f"/v1/work/{complaint_id}/notes", "noted", body, op, complaint_id)

    async def _reached(self, person: Account, service: str, path: str, move: str) -> None:
        """Wait until the case is at the desk and the move can be made, or until it is closed."""
        began = time.monotonic()
        while time.monotonic() - began < person.patience_seconds:
            case = await person.get(service, path)
            if case and (move in case["allowed"] or case["status"] == "closed"):
                self._history.hop(person.round, move, time.monotonic() - began)
                return
            await asyncio.sleep(0.2 if time.monotonic() - began < 3 else 0.6)
        raise GaveUp(f"{move} could not be made within {person.patience_seconds:.0f} s: {case and case['status']}")

    async def _make(
        self, person: Account, service: str, path: str, move: str, complaint_id: str | None, chance: random.Random,
        calm: bool, agency: str = "",
    ) -> Attempt | None:  # fmt: skip
        """Make a move; now and then twice at once. The attempt that was told yes, or None."""
        op = self.new_op()
        requests = [(op, self._body(move, op, person, agency))]
        dice = chance.random()
        if not calm and dice < self.impatient:
            requests *= 2  # an impatient finger: the same request under the same key
        elif not calm and dice < self.impatient + self.racing and move != _FILE:
            other = self.new_op()
            requests.append((other, self._body(move, other, person, agency)))  # two people at the same desk
        attempts = await asyncio.gather(
            *(person.post(service, path, move, body, name, complaint_id) for name, body in requests),
            return_exceptions=True,
        )
        for attempt in attempts:
            if isinstance(attempt, Attempt) and attempt.acknowledged:
                return attempt
        for attempt in attempts:
            if isinstance(attempt, BaseException):
                raise attempt
        return None

    def _body(self, move: str, op: str, person: Account, agency: str) -> Json:
        mark = f"[{op}]"
        bodies: dict[str, Any] = {
            "forwarded": {"analysis": f"Lengkap dan jelas. {mark}"},
            "returned": {"reason": "incomplete", "explanation": f"Sebutkan nama jalan dan patokan. {mark}"},
            "assigned": {"agency": agency, "considerations": f"Jalan kota; mendesak. {mark}"},
            "declined": {"reason": f"Bukan kewenangan dinas kami. {mark}"},
            "started": {"unit": f"Sekretariat {mark}"},
            "completed": {"photos": [person.photo], "note": f"Lubang ditutup aspal panas. {mark}"},
            "rework_requested": {"reason": f"Foto belum menunjukkan pekerjaan selesai. {mark}"},
            "documented": {"note": f"Bukti sesuai dengan laporan. {mark}"},
            "reopened": {"reason": f"Amblas lagi setelah hujan. {mark}"},
            "rated": {"rating": 4, "comment": f"Terima kasih. {mark}"},
            "withdrawn": {"comment": f"Baik, saya mengerti. {mark}"},
        }
        if move not in (_FILE, "resubmitted"):
            body: Json = bodies[move]
            return body
        return {
            "title": f"Jalan berlubang {mark}",
            "description": "Lubang selebar satu meter, berbahaya malam hari.",
            "category": "roads",
            "place": {"longitude": 109.3425, "latitude": -0.0263},
            "seen_at": (datetime.now(UTC) - timedelta(hours=3)).isoformat(),
            "photos": [person.photo],
            "visibility": "public",
        }


class Load:
    """Complaints that begin one after the other until told to stop."""

    def __init__(self, clients: Clients, chance: random.Random, *, per_second: float, most: int) -> None:
        self._clients, self._chance = clients, chance
        self._pause, self._most = 1 / per_second, most
        self._under_way: list[asyncio.Task[str | None]] = []
        self._stopped = asyncio.Event()

    async def run(self) -> None:
        """Begin complaints at random moments."""
        while not self._stopped.is_set() and len(self._under_way) < self._most:
            self._under_way.append(asyncio.create_task(self._clients.complaint()))
            with suppress(TimeoutError):
                async with asyncio.timeout(self._chance.expovariate(1 / self._pause)):
                    await self._stopped.wait()

    async def finish(self) -> int:
        """Begin no more, and wait for those under way; returns how many there were."""
        self._stopped.set()
        await asyncio.gather(*self._under_way)
        return len(self._under_way)
