"""`lapor topics`: what topics there are, and their creation."""

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.table import Table

from deploy.commands.running import console, run, settings
from services.routing.agencies import list_agencies
from shared import topics
from shared.connections import kafka_options

app = typer.Typer(no_args_is_help=True, help="The topics of this installation.")


@app.command("list")
def show() -> None:
    """Each topic with its partitions, how many records were ever written to it, and how it is kept."""
    table = Table(box=None)
    for heading in ("topic", "partitions", "records", "kept"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("partitions", "records") else "left")
    ends = run(_ends())
    codes = filter(None, (topics.agency_of(settings(), name) for name in sorted(ends)))
    for spec in [*topics.specs(settings()), *(topics.agency_spec(settings(), code) for code in codes)]:
        known = ends.get(spec.name)
        days = int(spec.config.get("retention.ms", "0")) // 86_400_000
        kept = "compacted" if spec.config["cleanup.policy"] == "compact" else f"{days} days"
        table.add_row(spec.name, str(known[0]) if known else "missing", str(known[1]) if known else "", kept)
    console.print(table)


@app.command()
def create() -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    made = run(_create())
    console.print("\n".join(f"created {name}" for name in made) or "All topics exist.")


async def _create() -> list[str]:
    return await topics.create(settings(), [agency["_id"] for agency in await list_agencies(settings())])


async def _ends() -> dict[str, tuple[int, int]]:
    """Partitions and the sum of end offsets, by topic."""
    server = {"bootstrap_servers": settings().kafka_bootstrap, **kafka_options(settings())}
    admin, consumer = AIOKafkaAdminClient(**server), AIOKafkaConsumer(**server)
    try:
        await admin.start()
        await consumer.start()
        ours = {spec.name for spec in topics.specs(settings())}
        existing = {name for name in await admin.list_topics() if name in ours or topics.agency_of(settings(), name)}
        found = {}
        for described in await admin.describe_topics(sorted(existing)):
            parts = [TopicPartition(described["topic"], part["partition"]) for part in described["partitions"]]
            found[described["topic"]] = (len(parts), sum((await consumer.end_offsets(parts)).values()))
        return found
    finally:
        await consumer.stop()
        await admin.close()
