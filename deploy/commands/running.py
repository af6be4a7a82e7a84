"""How a command reaches the installation that it looks into: by the same environment as the services."""

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

import typer
from aiokafka.errors import KafkaError
from pymongo.errors import OperationFailure
from rich.console import Console

from shared.keyfile import UnusableKey
from shared.settings import ServiceSettings
from shared.storage import TRANSIENT, refusal

console = Console(highlight=False)
if not console.is_terminal:
    console.width = 140  # into a file or a pipe: wide enough for the tables
T = TypeVar("T")


def settings() -> ServiceSettings:
    """The installation that ``LAPOR_*`` names; without them, the one that `lapor up` runs on this machine."""
    return ServiceSettings()


def fail(message: str) -> NoReturn:
    """End the command with a message that says what to do."""
    console.print(message, style="red", markup=False)
    raise typer.Exit(1)


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run a command's work; a server that is not there, or a key that is missing, is said in one sentence."""
    try:
        return asyncio.run(work)
    except (KafkaError, *TRANSIENT, TimeoutError, OSError) as error:
        chosen = settings()
        fail(
            f"A server cannot be reached: {error!r}\nKafka is looked for at {chosen.kafka_bootstrap} and MongoDB at "
            f"{chosen.mongo_url}: start `lapor up`, or set LAPOR_KAFKA_BOOTSTRAP and LAPOR_MONGO_URL. Where they are "
            f"locked, set LAPOR_SECRETS_DIR to the secrets of who may do this (such as data/principals/admin)."
        )
    except UnusableKey as reason:
        fail(f"Nothing was done: {reason}. Of `lapor up` it is audit-key in the data folder.")
    except OperationFailure as error:
        fail(f"{refusal(error) or error}.\nSet LAPOR_SECRETS_DIR to the secrets of who may do this.")
