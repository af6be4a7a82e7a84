"""`lapor topics`: what topics there are, and their creation."""

import typer
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from rich.table import Table

from deploy.commands.running import console, run, settings
from shared import topics

app = typer.Typer(no_args_is_help=True, help="The topics of this installation.")


@app.command("list")
def show() -> None:
    """Each topic with its partitions, how many records were ever written to it, and how it is kept."""
    table = Table(box=None)
    for heading in ("topic", "partitions", "records", "kept"):
        table.add_column(heading, no_wrap=True, justify="right" if heading in ("partitions", "records") else "left")
    ends = run(_ends())
    for spec in topics.specs(settings()):
        known = ends.get(spec.name)
        days = int(spec.config.get("retention.ms", "0")) // 86_400_000
        kept = "compacted" if spec.config["cleanup.policy"] == "compact" else f"{days} days"
        table.add_row(spec.name, str(known[0]) if known else "missing", str(known[1]) if known else "", kept)
    console.print(table)


@app.command()
def create() -> None:
    """Create the topics that are missing; those that exist are left as they are."""
    made = run(topics.create(settings()))
    console.print("\n".join(f"created {name}" for name in made) or "All topics exist.")


async def _ends() -> dict[str, tuple[int, int]]:
    """Partitions and the sum of end offsets, by topic."""
    bootstrap = settings().kafka_bootstrap
    admin, consumer = AIOKafkaAdminClient(bootstrap_servers=bootstrap), AIOKafkaConsumer(bootstrap_servers=bootstrap)
    try:
        await admin.start()
        await consumer.start()
        existing = set(await admin.list_topics()) & {spec.name for spec in topics.specs(settings())}
        found = {}
        for described in await admin.describe_topics(sorted(existing)):
            parts = [TopicPartition(described["topic"], part["partition"]) for part in described["partitions"]]
            found[described["topic"]] = (len(parts), sum((await consumer.end_offsets(parts)).values()))
        return found
    finally:
        await consumer.stop()
        await admin.close()
