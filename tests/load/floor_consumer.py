"""The floor of the consumers: aiokafka alone, each record decoded by the contract, one bulk write a batch, a commit."""

import argparse
import asyncio
import os
import signal
from contextlib import suppress

from aiokafka import AIOKafkaConsumer
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import InsertOne
from pymongo.write_concern import WriteConcern

from shared.records import from_record

_RECORDS = 500


async def consume(topics: list[str], prefix: str, group: str, database: str) -> None:
    """Take records until it is cancelled."""
    client: AsyncIOMotorClient[dict[str, object]] = AsyncIOMotorClient(os.environ["LAPOR_MONGO_URL"], tz_aware=True)
    events = client[database].get_collection(group, write_concern=WriteConcern(w=1, j=False))
    consumer = AIOKafkaConsumer(
        *(prefix + topic for topic in topics),
        bootstrap_servers=os.environ["LAPOR_KAFKA_BOOTSTRAP"],
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    await consumer.start()
    try:
        while True:
            batch = await consumer.getmany(timeout_ms=200, max_records=_RECORDS)
            writes = []
            for records in batch.values():
                for record in records:
                    topic = record.topic.removeprefix(prefix)
                    event = from_record(topic, record.key, record.value, record.headers)
                    writes.append(InsertOne({"topic": topic, **event.model_dump()}))
            if writes:
                await events.bulk_write(writes, ordered=False)
                await consumer.commit()
    finally:
        await consumer.stop()
        client.close()


async def main(topics: list[str], prefix: str, group: str, database: str) -> None:
    """Until SIGTERM."""
    task = asyncio.create_task(consume(topics, prefix, group, database))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    with suppress(asyncio.CancelledError):
        await task


if __name__ == "__main__":
    import uvloop

    parser = argparse.ArgumentParser(prog="python -m tests.load.floor_consumer", description=__doc__)
    parser.add_argument("topics", nargs="+")
    parser.add_argument("--prefix", required=True)
    parser.add_argument("--group", required=True)
    parser.add_argument("--database", required=True)
    given = parser.parse_args()
    uvloop.run(main(given.topics, given.prefix, given.group, given.database))
