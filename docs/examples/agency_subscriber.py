"""An agency's own system: takes the complaints assigned to its agency from its topic, with nothing but aiokafka.

Run it against `make run`:  python docs/examples/agency_subscriber.py 127.0.0.1:19092 DPUPR
On brokers with locks on (`make run SECURE=1`), put what `lapor agencies connect DPUPR` says into KAFKA_PASSWORD, and
the file of the brokers' authority, if they encrypt, into KAFKA_CA_FILE.
"""

import asyncio
import json
import os
import ssl
import sys

from aiokafka import AIOKafkaConsumer


async def main(bootstrap: str, agency: str, namespace: str = "lapor") -> None:
    principal, ca_file = f"{namespace}-agency-{agency}", os.environ.get("KAFKA_CA_FILE")
    locks = {}
    if password := os.environ.get("KAFKA_PASSWORD"):
        locks = {
            "security_protocol": "SASL_SSL" if ca_file else "SASL_PLAINTEXT",
            "ssl_context": ssl.create_default_context(cafile=ca_file) if ca_file else None,
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": principal,
            "sasl_plain_password": password,
        }
    consumer = AIOKafkaConsumer(
        f"{namespace}.agency.{agency}.assigned",
        bootstrap_servers=bootstrap,
        group_id=principal,  # your own group: the offsets are yours. A second one: the same, a dot, and a name
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        **locks,
    )
    async with consumer:
        async for record in consumer:
            headers = {name: value.decode() for name, value in record.headers}
            event = json.loads(record.value)
            # At least once: store by headers["ce_id"], which is the same for a repeated event, then commit.
            title = event["report"]["title"]
            print(f"{headers['ce_id']} {event['number']} due {event['due_at']}: {title}", flush=True)  # noqa: T201
            await consumer.commit()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
