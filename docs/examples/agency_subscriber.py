"""An agency's own system: takes the complaints assigned to its agency from the topic, with nothing but aiokafka.

Run it against `make run`:  python docs/examples/agency_subscriber.py 127.0.0.1:19092 DPUPR
"""

import asyncio
import json
import sys

from aiokafka import AIOKafkaConsumer


async def main(bootstrap: str, agency: str) -> None:
    consumer = AIOKafkaConsumer(
        "lapor.complaint.assigned",
        bootstrap_servers=bootstrap,
        group_id=f"agency-{agency.lower()}",  # your own group: the offsets are yours
        auto_offset_reset="earliest",
        enable_auto_commit=False,
    )
    async with consumer:
        async for record in consumer:
            headers = {name: value.decode() for name, value in record.headers}
            event = json.loads(record.value)
            if event["agency"]["code"] == agency:
                # At least once: store by headers["ce_id"], which is the same for a repeated event, then commit.
                report = event["report"]
                print(f"{headers['ce_id']} {event['number']} due {event['due_at']}: {report['title']}", flush=True)  # noqa: T201
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:3]))
