"""`lapor principals`: who may sign in to Kafka and MongoDB, and what for."""

from pathlib import Path
from typing import Annotated

import typer
from pymongo.errors import PyMongoError
from rich.table import Table

from deploy.access.install import install
from deploy.access.kafka import KafkaRefused
from deploy.access.rights import of_installation
from deploy.access.secrets_folder import SecretsFolder
from deploy.commands.running import console, fail, settings

app = typer.Typer(no_args_is_help=True, help="Who may sign in to Kafka and MongoDB, and what for.")


@app.command()
def make(
    folder: Annotated[Path, typer.Argument(help="Where their secrets are kept: a folder each, for LAPOR_SECRETS_DIR.")],
) -> None:
    """Make each service's principal, with its rights and no others; sign in as the administrator (LAPOR_KAFKA_USERNAME,
    LAPOR_MONGO_USERNAME and their passwords)."""
    try:
        made = install(settings(), SecretsFolder(folder))
    except (KafkaRefused, PyMongoError, OSError) as error:
        fail(f"The principals could not be made: {error}\nSign in as an administrator of both, and make them again.")
    console.print("\n".join(f"{name}: {secret.username}" for name, secret in made.items()))


@app.command("list")
def show() -> None:
    """The table of rights, as it follows from what the services declare."""
    table = Table(box=None)
    for heading in ("principal", "on", "may", "name"):
        table.add_column(heading, no_wrap=True)
    for principal in of_installation(settings()).values():
        for right in sorted(principal.kafka, key=lambda one: (one.resource, one.operation, one.name)):
            name = f"{right.name}*" if right.prefixed else right.name
            table.add_row(principal.name, right.resource, right.operation, name)
        for role in principal.mongo:
            table.add_row(principal.name, "database", role.name, role.database)
    console.print(table)
