"""The intake service at work on real servers, and the citizens and staff who use it."""

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from deploy.local.servers import Servers
from services.intake.app import build
from services.intake.settings import Settings
from shared import topics
from shared.case import Case
from shared.codes import OneTimeCodes
from shared.events import ComplaintEvent, now
from shared.sop import Role, Transition
from shared.storage import Database
from tests.images import jpeg
from tests.support import tokens
from tests.support.audit import audit_key
from tests.support.events import Chain
from tests.support.profile import profiled
from tests.support.running import UNHURRIED, publish, running, until

Json = dict[str, Any]
PASSWORD = "kuda parit lampu senja"


def signing_key(folder: Path, name: str = "signing-key.pem") -> Path:
    """A new ES256 key in a file."""
    pem = ec.generate_private_key(ec.SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / name).write_bytes(pem)
    return folder / name


def intake_settings(servers: Servers, namespace: str, folder: Path) -> Settings:
    """Settings of an intake service with secrets of its own in ``folder``."""
    for name in ("tracking-key", "pseudonym-key", "code-key"):
        (folder / name).write_bytes(secrets.token_bytes(32))
    return Settings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        signing_key_file=signing_key(folder),
        tracking_key_file=folder / "tracking-key",
        pseudonym_key_file=folder / "pseudonym-key",
        code_key_file=folder / "code-key",
        sms_domain="sms.lapor.localhost",
        audit_key_file=audit_key(),
        topic_partitions=2,
        limits=UNHURRIED,
    )


async def register(client: httpx.AsyncClient, settings: Settings, body: Json) -> Json:
    """Register and confirm at the service of these settings; what is answered."""
    asked = await client.post("/v1/citizens", json=body)
    assert asked.status_code == 202, asked.text
    registration = asked.json()["registration_id"]
    given = {"registration_id": registration, "code": OneTimeCodes(settings.code_key_file).code(registration)}
    made = await client.post("/v1/citizens/confirm", json=given)
    assert made.status_code == 201, made.text
    answer: Json = made.json()
    return answer


@dataclass
class Intake:
    """A running intake service. ``database`` is its own, for looking behind it."""

    settings: Settings
    client: httpx.AsyncClient
    database: Database
    seed: list[int] = field(default_factory=lambda: [0])

    async def citizen(self, **data: Any) -> "Citizen":
        """Somebody who has registered and signed in."""
        email = f"warga.{secrets.token_hex(6)}@warga.example"
        body = {"name": "Siti Aminah", "email": email, "password": PASSWORD} | data
        made = await self.registers(body)
        for pending in made["pending"]:
            answer = await self.confirms(pending, {"Authorization": f"Bearer {made['access_token']}"})
            assert answer.status_code == 200, answer.text
        return Citizen(self, made["citizen_id"], email, await self.sign_in(body["email"], body["password"]))

    async def registers(self, body: Json) -> Json:
        """Register and confirm; what is answered."""
        return await register(self.client, self.settings, body)

    async def confirms(self, pending: Json, headers: Json) -> httpx.Response:
        """Give the code of a new address that waits for it."""
        given = {"challenge_id": pending["challenge_id"], "code": self.code(pending["challenge_id"])}
        return await self.client.post("/v1/me/contacts/confirm", json=given, headers=headers)

    async def forget_counts(self) -> None:
        """Whoever was written to lately may be written to again."""
        await self.database["code_counts"].delete_many({"_id": {"$gte": ""}})

    def code(self, challenge_id: str) -> str:
        """The code that notify sends for a challenge."""
        return OneTimeCodes(self.settings.code_key_file).code(challenge_id)

    async def sign_in(self, login: str, password: str) -> Json:
        """The headers of a signed-in account."""
        answer = await self.client.post("/v1/tokens", json={"login": login, "password": password})
        assert answer.status_code == 200, answer.text
        return {"Authorization": f"Bearer {answer.json()['access_token']}"}

    async def as_staff(self, role: Role, path: str, agency: str | None = None) -> httpx.Response:
        """GET as somebody of the staff."""
        return await self.client.get(path, headers=tokens.bearer(role, f"{role}-1", agency))

    async def continues(
        self, filed: Json, reporter_id: str, *moves: Transition, at: datetime | None = None, **last: Any
    ) -> list[ComplaintEvent]:
        """What other desks do with a filed complaint: published, and taken in by intake. ``last``: the last move's
        content."""
        document = await self.database["complaints"].find_one({"_id": filed["complaint_id"]})
        assert document is not None
        chain = Chain(complaint_id=filed["complaint_id"], at=at or now())
        chain.number, chain.reporter_id = filed["number"], reporter_id
        case = Case.of_document(document)
        assert case.report is not None
        chain.seq, chain.report, chain.agency = case.seq, case.report, case.agency
        del chain.events[:]
        chain.through(*moves[:-1]).then(moves[-1], **last)
        await publish(self.settings, chain.events)
        wanted = chain.last.id

        async def taken() -> bool:
            query = {"_id": filed["complaint_id"], "history.id": wanted}
            return await self.database["complaints"].find_one(query, {"_id": 1}) is not None

        await until(taken)
        return chain.events


@dataclass
class Citizen:
    """A signed-in citizen. Requests return the answer as it is."""

    intake: Intake
    id: str
    email: str
    headers: Json

    async def get(self, path: str, **query: Any) -> httpx.Response:
        """GET."""
        return await self.intake.client.get(path, headers=self.headers, params=query)

    async def post(self, path: str, body: Any, key: str | None = None) -> httpx.Response:
        """POST, with an Idempotency-Key if one is given."""
        headers = self.headers | ({"Idempotency-Key": key} if key else {})
        return await self.intake.client.post(path, json=body, headers=headers)

    async def photo(self) -> str:
        """Upload a photo that nobody has uploaded before; its id."""
        self.intake.seed[0] += 1
        picture = jpeg(64, 48, seed=self.intake.seed[0])
        answer = await self.intake.client.post("/v1/photos", content=picture, headers=self.headers)
        assert answer.status_code == 201, answer.text
        photo_id: str = answer.json()["id"]
        return photo_id

    async def report(self, **changes: Any) -> Json:
        """The body of a report that can be filed, but for ``changes``."""
        body: Json = {
            "title": "Jalan berlubang di Gajah Mada",
            "description": "Lubang selebar satu meter, membahayakan pengendara pada malam hari.",
            "category": "roads",
            "place": {"longitude": 109.3425, "latitude": -0.0263},
            "seen_at": (now() - timedelta(hours=3)).isoformat(),
            "visibility": "public",
        }
        if "photos" not in changes:
            body["photos"] = [await self.photo()]
        return body | changes

    async def files(self, **changes: Any) -> Json:
        """A complaint of this citizen; the receipt."""
        answer = await self.post("/v1/complaints", await self.report(**changes))
        assert answer.status_code == 201, answer.text
        receipt: Json = answer.json()
        return receipt


@asynccontextmanager
async def intake_at_work(servers: Servers, namespace: str, folder: Path, **changes: Any) -> AsyncIterator[Intake]:
    """The service, ready, in a name space; ``changes`` are to its settings. Each of its queries is seen to use an
    index."""
    settings = intake_settings(servers, namespace, folder).model_copy(update=changes)
    await topics.create(settings)
    async with profiled(settings, "intake") as database, running(build(settings)) as api:
        yield Intake(settings, api, database)
