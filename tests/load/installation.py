"""The system that is measured: started on a folder of its own, with people who have registered and signed in."""

import asyncio
import json
import secrets
import sys
from collections.abc import Coroutine, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import uvloop
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from pymongo import MongoClient

from deploy.local import ports
from deploy.local.launcher import System, running_system
from deploy.local.settings import SERVICES, LocalSettings
from shared.codes import OneTimeCodes
from shared.settings import ServiceSettings
from shared.sop import Role
from tests.images import jpeg
from tests.load.machine import Cpu
from tests.load.row import Say
from tests.load.wire import Pool, pool, request

T = TypeVar("T")
Json = dict[str, Any]

PASSWORD = "kuda parit lampu senja"
_FOR_LOAD = {"LAPOR_TOKEN_MINUTES": "600", "LAPOR_LIMITS__ENABLED": "false", "LAPOR_PHOTOS__PER_OWNER": "1000"}
"""Few accounts of one address send it all: with limits they would be refused as a flood. Tokens last longer than a
measurement takes; for how long costs nothing."""


class Refused(Exception):
    """A request of the preparation was not answered as it should be; the text has the answer."""


@dataclass(frozen=True, slots=True)
class Citizen:
    """Somebody who has signed in and uploaded a photo."""

    id: str
    token: str
    photo: str


@dataclass(frozen=True, slots=True)
class Agency:
    """An agency whose operator has signed in and uploaded a photo of finished work."""

    code: str
    token: str
    photo: str


@dataclass(frozen=True, slots=True)
class People:
    """Everybody who acts in a measurement. ``staff`` are tokens by role."""

    citizens: tuple[Citizen, ...]
    staff: Mapping[Role, str]
    agencies: tuple[Agency, ...]


class Installation:
    """The running system, and a loop to work in. ``cpu`` tells who used the processors."""

    def __init__(self, system: System, settings: LocalSettings, runner: asyncio.Runner, say: Say) -> None:
        self.system = system
        self.settings = settings
        self.say = say
        self.cpu = Cpu(system.children)
        self._runner = runner
        self.services = ServiceSettings(
            namespace=settings.namespace,
            kafka_bootstrap=system.servers.kafka_bootstrap,
            mongo_url=system.servers.mongo_url,
        )

    @property
    def urls(self) -> Mapping[str, str]:
        """Base URLs by service."""
        return self.system.urls

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do this in the generator's loop."""
        return self._runner.run(work)

    def mongo(self) -> MongoClient[Json]:
        """A client for looking behind the services."""
        return MongoClient(self.system.servers.mongo_url, tz_aware=True)

    def start_beside(self, name: str, module: str, *options: str) -> str:
        """Start another HTTP server of ours as a child, on a free port; its base URL once it takes connections."""
        port = ports.free_ports(1)[0]
        environment = {
            "LAPOR_MONGO_URL": self.system.servers.mongo_url,
            "LAPOR_KAFKA_BOOTSTRAP": self.system.servers.kafka_bootstrap,
        }
        command = [sys.executable, "-m", module, "--port", str(port), *options]
        child = self.system.children.start(name, command, environment, stage=1)
        child.wait_until(lambda: ports.accepts(port), 60)
        return f"http://{ports.LOOPBACK}:{port}"

    async def make_topic(self, name: str) -> None:
        """Make a topic with as many partitions as the services' own."""
        admin = AIOKafkaAdminClient(bootstrap_servers=self.services.kafka_bootstrap)
        await admin.start()
        try:
            await admin.create_topics([NewTopic(name, self.services.topic_partitions, 1)])
        finally:
            await admin.close()

    def people(self, citizens: int, *, email: bool = False, agencies: int = 2) -> People:
        """Register so many citizens, who have an e-mail address or else only a phone number, and sign everybody in."""
        self.say(f"Registering {citizens} citizens ({'e-mail' if email else 'phone only'}), signing staff in")
        return self.run(self._people(citizens, email, agencies))

    async def _people(self, citizens: int, email: bool, agencies: int) -> People:
        async with pool(self.urls["intake"], 4) as intake, pool(self.urls["opd"], 2) as opd:
            accounts, codes = self.system.credentials.staff, OneTimeCodes(self.system.credentials.code_key)
            staff = {
                Role(a.role): await sign_in(intake, a.login, a.password)
                for a in accounts
                if Role(a.role) is not Role.AGENCY_OPERATOR
            }
            of_agencies = [a for a in accounts if a.agency][:agencies]
            signed_in = [(str(a.agency), await sign_in(intake, a.login, a.password)) for a in of_agencies]
            return People(
                tuple(await asyncio.gather(*(register(intake, number, email, codes) for number in range(citizens)))),
                staff,
                tuple([Agency(c, token, await upload(opd, token, 9000 + i)) for i, (c, token) in enumerate(signed_in)]),
            )


async def sign_in(intake: Pool, login: str, password: str) -> str:
    """The access token of an account."""
    body = json.dumps({"login": login, "password": password}).encode()
    token: str = checked(await intake.send(request("POST", "/v1/tokens", body)), 200)["access_token"]
    return token


async def register(intake: Pool, number: int, email: bool, codes: OneTimeCodes) -> Citizen:
    """A new citizen, signed in, with a photo."""
    tag = secrets.token_hex(5)
    login = f"warga.{tag}@warga.example" if email else f"08{1 + number % 9}{int(tag, 16) % 10**9:09}"
    contact = {"email": login} if email else {"phone": login}
    body = json.dumps({"name": f"Warga Nomor {number}", "password": PASSWORD, **contact}).encode()
    asked = checked(await intake.send(request("POST", "/v1/citizens", body)), 202)["registration_id"]
    given = json.dumps({"registration_id": asked, "code": codes.code(asked)}).encode()
    made = checked(await intake.send(request("POST", "/v1/citizens/confirm", given)), 201)
    token = made["access_token"]
    return Citizen(made["citizen_id"], token, await upload(intake, token, number))


async def upload(service: Pool, token: str, seed: int) -> str:
    """A small photo of one's own; its id."""
    sent = request("POST", "/v1/photos", jpeg(64, 48, seed), token=token, headers={"Content-Type": "image/jpeg"})
    photo: str = checked(await service.send(sent), 201)["id"]
    return photo


def checked(answer: tuple[int, bytes], status: int) -> Json:
    """The answer's JSON. Raises `Refused` for another status."""
    if answer[0] != status:
        raise Refused(f"{answer[0]} instead of {status}: {answer[1][:500]!r}")
    content: Json = json.loads(answer[1])
    return content


@contextmanager
def installation(
    folder: Path,
    say: Say,
    *,
    fresh: bool = True,
    overrides: Mapping[str, str] | None = None,
    settings: LocalSettings | None = None,
    only: tuple[str, ...] = SERVICES,
) -> Iterator[Installation]:
    """The system on free ports and on servers of its own, its data in ``folder``; of the services, ``only`` these go
    on running."""
    chosen = settings or LocalSettings(kafka_bootstrap=None, mongo_url=None, smtp_host=None).on_free_ports()
    with (
        running_system(folder, {**_FOR_LOAD, **(overrides or {})}, settings=chosen, fresh=fresh, say=say) as system,
        asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner,
    ):
        others = tuple(name for name in SERVICES if name not in only)
        if others:
            system.stop(*others)
        yield Installation(system, chosen, runner, say)
