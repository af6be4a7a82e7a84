"""The floor: what a handler costs that checks the body's shape, stores it and sends it on, and does nothing else.

The same libraries, the same durability (insert acknowledged by a majority's journal, then an acknowledgement of all
in-sync replicas) and the same server options as a service, without sign-in, rules, projection, idempotency or relay.
"""

import argparse
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import datetime
from typing import Any, Literal

import uuid_utils
import uvicorn
from aiokafka import AIOKafkaProducer
from fastapi import FastAPI
from motor.motor_asyncio import AsyncIOMotorClient
from pydantic import AwareDatetime, BaseModel, Field

TOPIC = "floor"


class Place(BaseModel):
    longitude: float | None = Field(None, ge=-180, le=180)
    latitude: float | None = Field(None, ge=-90, le=90)
    address: str | None = Field(None, max_length=300)
    district: str | None = Field(None, max_length=50)


class Report(BaseModel):
    """The same shape as what intake takes."""

    title: str = Field(min_length=10, max_length=150)
    description: str = Field(min_length=20, max_length=5000)
    category: str = Field(max_length=40)
    place: Place
    seen_at: AwareDatetime
    photos: list[str] = Field(min_length=1, max_length=5)
    visibility: Literal["public", "anonim", "rahasia"] = "public"


class Stored(BaseModel):
    id: str
    stored_at: datetime


def build(mongo_url: str, kafka_bootstrap: str, database: str, topic: str) -> FastAPI:
    """The application."""

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(
            mongo_url, tz_aware=True, w="majority", journal=True, maxPoolSize=50
        )
        producer = AIOKafkaProducer(bootstrap_servers=kafka_bootstrap, acks="all")
        await producer.start()
        app.state.reports, app.state.producer = client[database]["reports"], producer
        yield
        await producer.stop()
        client.close()

    app = FastAPI(lifespan=lifespan)

    @app.post("/v1/complaints", status_code=201)
    async def submit(body: Report) -> Stored:
        stored = Stored(id=str(uuid_utils.uuid7()), stored_at=datetime.now(tz=body.seen_at.tzinfo))
        await app.state.reports.insert_one({"_id": stored.id, **body.model_dump()})
        await app.state.producer.send_and_wait(topic, body.model_dump_json().encode(), stored.id.encode())
        return stored

    return app


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.load.floor_app", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--topic", required=True)
    parser.add_argument("--database", required=True)
    given = parser.parse_args()
    uvicorn.run(
        build(os.environ["LAPOR_MONGO_URL"], os.environ["LAPOR_KAFKA_BOOTSTRAP"], given.database, given.topic),
        host="127.0.0.1",
        port=given.port,
        loop="uvloop",
        log_config=None,
        access_log=False,
    )
