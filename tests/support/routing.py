"""The routing service at work on real servers, and the operators who use it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from deploy.local.servers import Servers
from services.routing.agencies import import_agencies
from services.routing.app import build
from services.routing.projection import CONSUMES, ISSUES
from services.routing.settings import Settings
from services.routing.store import CaseStore
from shared import topics
from shared.sop import Role
from shared.storage import Database
from tests.conftest import fresh_namespace
from tests.support import tokens
from tests.support.audit import audit_key
from tests.support.events import Chain
from tests.support.profile import profiled
from tests.support.running import UNHURRIED, publish, running, until

Json = dict[str, Any]
ASSIGNMENT = {"agency": "DPUPR", "considerations": "Jalan kota, kewenangan OPD ini."}
BODIES: dict[str, Json] = {
    "forward": {"analysis": "Lengkap dan jelas; kewenangan kota."},
    "return": {"reason": "incomplete", "explanation": "Mohon sebutkan nama jalan."},
    "assign": ASSIGNMENT,
    "rework": {"reason": "Foto tidak menunjukkan lokasi yang dilaporkan."},
    "document": {"note": "Bukti sesuai dengan laporan."},
}


@dataclass
class Routing:
    """A running routing service and its database."""

    settings: Settings
    client: httpx.AsyncClient
    database: Database

    async def get(self, role: Role, path: str, **query: Any) -> httpx.Response:
        """GET as an account of a role."""
        return await self.client.get(path, params=query, headers=tokens.bearer(role, f"{role}-1"))

    async def post(self, role: Role, path: str, body: Any, key: str | None = None) -> httpx.Response:
        """POST, with an Idempotency-Key if one is given."""
        headers = tokens.bearer(role, f"{role}-1") | ({"Idempotency-Key": key} if key else {})
        return await self.client.post(path, json=body, headers=headers)

    async def move(self, role: Role, chain: Chain, action: str, key: str | None = None, **body: Any) -> httpx.Response:
        """Ask for a move, with a plain body but for ``body``."""
        return await self.post(role, f"/v1/cases/{chain.complaint_id}/{action}", BODIES[action] | body, key)

    async def case(self, chain: Chain, role: Role = Role.COORDINATOR) -> Json:
        """The case file."""
        answer = await self.get(role, f"/v1/cases/{chain.complaint_id}")
        assert answer.status_code == 200, answer.text
        content: Json = answer.json()
        return content

    async def has(self, chain: Chain) -> Chain:
        """Publish a complaint's events and wait until the service knows them all. Those that it issues itself it does
        not consume: they go into its cases as from its own journal."""
        await publish(self.settings, [event for event in chain.events if event.topic in CONSUMES])
        own = [event for event in chain.events if event.topic in ISSUES]
        await CaseStore(self.database, self.settings.deadlines).projection.apply(own)

        async def taken() -> bool:
            document = await self.database["cases"].find_one({"_id": chain.complaint_id}, {"history.id": 1})
            known = {entry["id"] for entry in document["history"]} if document else set()
            return known >= {event.id for event in chain.events}

        await until(taken)
        return chain

    async def listed(self, role: Role, **query: Any) -> list[str]:
        """The ids of all cases on all pages."""
        found: list[str] = []
        cursor: Json = {}
        while True:
            answer = await self.get(role, "/v1/cases", **query, **cursor)
            assert answer.status_code == 200, answer.text
            found += [row["complaint_id"] for row in answer.json()["items"]]
            if answer.json()["next"] is None:
                assert len(found) == len(set(found))
                return found
            cursor = {"cursor": answer.json()["next"]}


@asynccontextmanager
async def routing_at_work(servers: Servers, **changes: Any) -> AsyncIterator[Routing]:
    """The service, ready, in a name space of its own, with the starting set of agencies; ``changes`` are settings."""
    async with fresh_namespace(servers) as namespace:
        settings = Settings(
            namespace=namespace,
            kafka_bootstrap=servers.kafka_bootstrap,
            mongo_url=servers.mongo_url,
            topic_partitions=2,
            limits=UNHURRIED,
            audit_key_file=audit_key(),
            **changes,
        )
        await topics.create(settings)
        await import_agencies(settings)
        async with profiled(settings, "routing") as database, running(build(settings)) as client:
            yield Routing(settings, client, database)
