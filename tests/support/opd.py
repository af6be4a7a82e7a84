"""The opd service at work on real servers, and the agencies that use it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx

from deploy.local.servers import Servers
from services.opd.app import build
from services.opd.projection import CONSUMES, ISSUES
from services.opd.settings import Settings
from services.opd.store import WorkStore
from shared import topics
from shared.sop import Role
from shared.storage import Database
from tests.conftest import fresh_namespace
from tests.images import jpeg
from tests.support import tokens
from tests.support.events import Chain
from tests.support.profile import profiled
from tests.support.running import UNHURRIED, publish, running, until

Json = dict[str, Any]
BODIES: dict[str, Json] = {
    "start": {"unit": "Sekretariat, Subbagian Umum"},
    "decline": {"reason": "Ruas jalan ini kewenangan provinsi.", "suggested_agency": "DPRKP"},
    "complete": {"note": "Lubang ditambal aspal panas sepanjang 3 m."},
    "notes": {"note": "Tim sudah di lokasi."},
}


@dataclass
class Opd:
    """A running opd service and its database."""

    settings: Settings
    client: httpx.AsyncClient
    database: Database
    pictures: list[int] = field(default_factory=lambda: [0])

    def bearer(self, agency: str) -> dict[str, str]:
        """The header of an agency's operator."""
        return tokens.bearer(Role.AGENCY_OPERATOR, f"operator-{agency}", agency)

    async def get(self, path: str, agency: str = "DPUPR", **query: Any) -> httpx.Response:
        """GET as an agency's operator."""
        return await self.client.get(path, params=query, headers=self.bearer(agency))

    async def act(
        self, chain: Chain, action: str, agency: str = "DPUPR", key: str | None = None, **body: Any
    ) -> httpx.Response:
        """Ask for a move or a note, with a plain body but for ``body``."""
        headers = self.bearer(agency) | ({"Idempotency-Key": key} if key else {})
        path = f"/v1/work/{chain.complaint_id}/{action}"
        return await self.client.post(path, json=BODIES[action] | body, headers=headers)

    async def photo(self, agency: str = "DPUPR") -> str:
        """Upload a photo that nobody has uploaded before; its id."""
        self.pictures[0] += 1
        picture = jpeg(64, 48, seed=self.pictures[0])
        answer = await self.client.post("/v1/photos", content=picture, headers=self.bearer(agency))
        assert answer.status_code == 201, answer.text
        photo_id: str = answer.json()["id"]
        return photo_id

    async def work(self, chain: Chain, agency: str = "DPUPR") -> Json:
        """The complaint as its agency sees it."""
        answer = await self.get(f"/v1/work/{chain.complaint_id}", agency)
        assert answer.status_code == 200, answer.text
        content: Json = answer.json()
        return content

    async def has(self, chain: Chain) -> Chain:
        """Publish a complaint's events and wait until the service knows those it takes. Those that it issues itself it
        does not consume: they go into its work as from its own journal."""
        await publish(self.settings, [event for event in chain.events if event.topic in CONSUMES])
        own = [event for event in chain.events if event.topic in ISSUES]
        await WorkStore(self.database).projection.apply(own)
        wanted = {event.id for event in chain.events if event.topic in (*CONSUMES, *ISSUES)}

        async def taken() -> bool:
            document = await self.database["work"].find_one({"_id": chain.complaint_id}, {"history.id": 1})
            return wanted <= {entry["id"] for entry in document["history"]} if document else not wanted

        await until(taken)
        return chain

    async def listed(self, agency: str = "DPUPR", **query: Any) -> list[str]:
        """The ids on all pages of an agency's queue."""
        found: list[str] = []
        cursor: Json = {}
        while True:
            answer = await self.get("/v1/work", agency, **query, **cursor)
            assert answer.status_code == 200, answer.text
            found += [row["complaint_id"] for row in answer.json()["items"]]
            if answer.json()["next"] is None:
                assert len(found) == len(set(found))
                return found
            cursor = {"cursor": answer.json()["next"]}


@asynccontextmanager
async def opd_at_work(servers: Servers) -> AsyncIterator[Opd]:
    """The service, ready, in a name space of its own."""
    async with fresh_namespace(servers) as namespace:
        settings = Settings(
            namespace=namespace,
            kafka_bootstrap=servers.kafka_bootstrap,
            mongo_url=servers.mongo_url,
            topic_partitions=2,
            limits=UNHURRIED,
        )
        await topics.create(settings)
        async with profiled(settings, "opd") as database, running(build(settings)) as client:
            yield Opd(settings, client, database)
