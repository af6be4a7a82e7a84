"""The whole system as processes, and what an attacker could have: an account of each role, a stranger's complaints in
each status, and their ids.

The limits on how often one may ask are off here, since these tests ask as often as they can; they are tested by
themselves (``test_limits.py``).
"""

import os
import secrets
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import httpx
import pytest

from deploy.demo.people import Person, citizen, staff
from deploy.demo.pictures import street
from deploy.demo.target import SignIn, Target
from deploy.local.launcher import System, running_system
from deploy.local.servers import Servers
from deploy.local.settings import LocalSettings
from services.intake.keys import SigningKeys
from shared.auth import Principal
from shared.events import now
from shared.sop import Role

FULL = os.environ.get("LAPOR_ATTACK") == "full"
"""Set by ``make attack``: everything, which takes some minutes; without it each attack in a shorter form."""

SEED = int(os.environ.get("LAPOR_ATTACK_SEED", "20261126"))
"""Of everything that is drawn at random here; a failure names what it sent."""

OVERRIDES = {
    "LAPOR_LIMITS__ENABLED": "false",
    "LAPOR_SIGN_IN_FREE_TRIES": "100000",
    "LAPOR_TOKEN_MINUTES": "600",
    "LAPOR_BODY_SECONDS": "4",
    "LAPOR_PHOTOS__SECONDS": "4",
}

_MOVES: tuple[tuple[str, Role, str, str, str, dict[str, Any]], ...] = (
    ("forwarded", Role.CENTRAL_OPERATOR, "routing", "cases", "forward", {"analysis": "Lengkap; kewenangan kota."}),
    (
        "assigned",
        Role.REGIONAL_OPERATOR,
        "routing",
        "cases",
        "assign",
        {"agency": "DPUPR", "considerations": "Jalan kota."},
    ),
    ("started", Role.AGENCY_OPERATOR, "opd", "work", "start", {"unit": "Sekretariat, Subbagian Umum"}),
    ("completed", Role.AGENCY_OPERATOR, "opd", "work", "complete", {"note": "Pekerjaan sudah selesai."}),
    ("documented", Role.REGIONAL_OPERATOR, "routing", "cases", "document", {"note": "Bukti sesuai dengan laporan."}),
)


@dataclass
class World:
    """The running system. ``people`` are signed in; ``cases`` are complaints of the citizen's by the last transition
    that they went through; ``photo`` is one of the citizen's."""

    target: Target
    people: dict[Role, Person]
    cases: dict[str, dict[str, Any]] = field(default_factory=dict)
    photo: str = ""

    def headers(self, role: Role) -> dict[str, str]:
        """The Authorization of the account with this role."""
        return {"Authorization": self.people[role]._client.headers["Authorization"]}

    @property
    def urls(self) -> dict[str, str]:
        return dict(self.target.urls)

    def client(self, service: str, role: Role | None = None) -> httpx.AsyncClient:
        """A client of a service, signed in as ``role`` if one is given."""
        headers = self.headers(role) if role else {}
        return httpx.AsyncClient(base_url=self.urls[service], headers=headers, timeout=30)

    async def files(self, **changes: Any) -> dict[str, Any]:
        """A new complaint of the citizen's: its receipt."""
        person = self.people[Role.CITIZEN]
        self.photo = await person.photo("intake", street(secrets.randbelow(10**6), repaired=False))
        report = {
            "title": "Jalan berlubang di Gajah Mada",
            "description": "Lubang besar di tengah jalan, berbahaya bagi pengendara motor.",
            "category": "roads",
            "place": {"longitude": 109.3425, "latitude": -0.0263},
            "seen_at": now().isoformat(),
            "photos": [self.photo],
        }
        return await person.post("intake", "/v1/complaints", report | changes)

    async def carried(self, to: str, **changes: Any) -> dict[str, Any]:
        """A new complaint, carried through the procedure until it has passed the transition ``to``."""
        receipt = await self.files(**changes)
        if to == "submitted":
            return receipt
        async with self.client("routing", Role.ADMIN) as admin:  # an attack may have closed the agency
            agency = {"name": "Dinas PUPR", "categories": ["roads"], "units": ["Sekretariat"], "active": True}
            assert (await admin.put("/v1/agencies/DPUPR", json=agency)).status_code == 200
        for transition, role, service, what, move, body in _MOVES:
            person, path = self.people[role], f"/v1/{what}/{receipt['complaint_id']}"
            await person.can(service, path, transition)
            proof = {"photos": [await person.photo("opd", street(2, repaired=True))]} if move == "complete" else {}
            await person.post(service, f"{path}/{move}", body | proof)
            if transition == to:
                break
        return receipt


@pytest.fixture(scope="package")
def attacked(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[System, Target]]:
    """Five services in a namespace of their own."""
    settings = LocalSettings(
        namespace=f"a{secrets.token_hex(5)}", kafka_bootstrap=servers.kafka_bootstrap, mongo_url=servers.mongo_url
    ).on_free_ports()
    folder = tmp_path_factory.mktemp("attacked")
    with running_system(folder, OVERRIDES, settings=settings, say=lambda _: None) as system:
        assert system.servers.mail_dir is not None
        people = tuple(SignIn(a.login, a.password, a.role, a.name, a.agency) for a in system.credentials.staff)
        yield (
            system,
            Target(
                system.urls,
                system.servers.kafka_bootstrap,
                system.servers.mongo_url,
                system.servers.mail_dir,
                people,
                settings.namespace,
            ),
        )


@pytest.fixture(scope="package")
async def world(attacked: tuple[System, Target]) -> AsyncIterator[World]:
    """The system with people and complaints in it."""
    system, target = attacked
    people: dict[Role, Person] = {Role.CITIZEN: await citizen(target, "Siti Aminah")}
    for role in (Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR, Role.ADMIN):
        people[role] = staff(target, role)
    people[Role.AGENCY_OPERATOR] = staff(target, Role.AGENCY_OPERATOR, "DPUPR")
    made = World(target, people)
    async with AsyncExitStack() as stack:
        keys = SigningKeys(system.credentials.signing_key, None, timedelta(hours=10))
        for role, person in people.items():
            await stack.enter_async_context(person)
            me = await person.get("intake", "/v1/me")
            token, _ = keys.token(Principal(me["id"], role, me["agency"]))
            person._client.headers["Authorization"] = f"Bearer {token}"  # of no session: attacks sign it out in vain
        for transition in ("submitted", "forwarded", "assigned", "started", "completed", "documented"):
            made.cases[transition] = await made.carried(transition)
        yield made


@pytest.fixture
async def stranger(world: World) -> AsyncIterator[Person]:
    """Another citizen, who has no complaint."""
    async with await citizen(world.target, "Budi Orang Lain") as person:
        yield person
