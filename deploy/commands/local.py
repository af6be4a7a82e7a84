"""`lapor up` and `lapor demo`: the whole system on this machine, until Ctrl-C or until the demo has been played."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from deploy.access.secrets_folder import ADMIN
from deploy.local import launcher
from deploy.local.errors import CannotRun
from deploy.local.launcher import System
from deploy.local.logs import LogView
from deploy.local.settings import LocalSettings

console = Console(highlight=False, soft_wrap=True)
if not console.is_terminal:
    console.width = 140  # into a file or a pipe: wide enough for the tables
DataDir = Annotated[Path, typer.Option(envvar="LAPOR_DATA_DIR", help="Where data is kept between runs.")]
Replicas = Annotated[
    int,
    typer.Option(envvar="LAPOR_REPLICAS", help="Kafka brokers and mongods: 1, or 3, of which any one may die."),
]

Secure = Annotated[
    bool,
    typer.Option("--secure", envvar="LAPOR_SECURE", help="Lock Kafka and MongoDB: sign-in and rights for everybody."),
]


def up(
    data_dir: DataDir = Path("data"),
    fresh: Annotated[bool, typer.Option(help="Delete the kept data first.")] = False,
    replicas: Replicas = 1,
    secure: Secure = False,
) -> None:
    """Run the whole system on this machine until Ctrl-C."""
    began = time.monotonic()
    settings = LocalSettings().model_copy(update={"replicas": replicas, "secure": secure})
    with (
        _said_plainly(),
        launcher.running_system(data_dir, settings=settings, fresh=fresh, say=console.print) as system,
    ):
        view = LogView(system.children, console)
        view.begin()
        console.print(_addresses(system))
        console.print(_sign_ins(system))
        console.print(
            f"Ready after {time.monotonic() - began:.1f} s. Logs: {system.children.log_dir}. Stop with Ctrl-C.\n"
        )
        launcher.wait_for_trouble(system, view.print_new)


def demo(
    data_dir: Annotated[Path, typer.Option(help="Where the demo's data and logs lie; emptied first.")] = Path(
        "data/demo"
    ),
    replicas: Replicas = 1,
    secure: Secure = False,
) -> None:
    """Carry five complaints through the whole procedure on a system of their own, then stop it."""
    from deploy.demo.play import play
    from deploy.demo.stories import SHORTENED
    from deploy.demo.target import SignIn, Target

    settings = LocalSettings().model_copy(update={"replicas": replicas, "secure": secure}).on_free_ports()
    with (
        _said_plainly(),
        launcher.running_system(data_dir, SHORTENED, settings=settings, fresh=True, say=console.print) as system,
    ):
        console.print(_addresses(system))
        servers = system.servers
        if servers.mail_dir is None:
            raise CannotRun("The demo reads the mail that was sent: unset LAPOR_SMTP_HOST, so that it starts a server.")
        target = Target(
            system.urls,
            servers.kafka_bootstrap,
            servers.mongo_url,
            servers.mail_dir,
            tuple(SignIn(a.login, a.password, a.role, a.name, a.agency) for a in system.credentials.staff),
            settings.namespace,
            system.witness,
        )
        outcome = asyncio.run(play(target, console))
        console.print(_memory(system))
        if outcome:
            console.print(f"The logs of all parts are in {system.children.log_dir}.")
    raise typer.Exit(outcome)


@contextmanager
def _said_plainly() -> Iterator[None]:
    """Signals end the system in order, and what cannot run is said without a traceback."""
    try:
        with launcher.ending_on_signals():
            yield
    except KeyboardInterrupt:
        console.print("Stopped.")
        raise typer.Exit(0) from None
    except CannotRun as trouble:
        console.print(f"\n{trouble}", style="red", markup=False)
        raise typer.Exit(1) from None


def _memory(system: System) -> str:
    held = ", ".join(f"{name} {size >> 20} MiB" for name, size in system.memory().items())
    return f"Memory (resident, with children): {held}."


def _addresses(system: System) -> Table:
    table = Table(title="LAPOR! Pontianak", title_justify="left", box=None)
    for heading in ("part", "address", "API documents", "events", "metrics", "memory"):
        table.add_column(heading, no_wrap=True)
    memory = {name: f"{held >> 20} MiB" for name, held in system.memory().items()}
    for name, url in system.urls.items():
        table.add_row(name, url, "/docs", "/asyncapi.json", "/metrics", memory.get(name, ""))
    servers = system.servers
    table.add_row("kafka", servers.kafka_bootstrap, "", "", "", memory.get("kafka", ""))
    table.add_row("mongodb", servers.mongo_url, "", "", "", memory.get("mongod", ""))
    for name in servers.names.values() if servers.replicas > 1 else ():
        table.add_row(name, "", "", "", "", memory.get(name, ""))
    table.add_row("smtp", f"{servers.smtp_host}:{servers.smtp_port}", "", "", "", memory.get("smtp", ""))
    notes = [f"Mail that was sent is kept in {servers.mail_dir}"] if servers.mail_dir else []
    if servers.locks:
        secrets = servers.locks.key_file.parent
        notes.append(f"Locked: for `lapor` commands set LAPOR_SECRETS_DIR={secrets / ADMIN}")
    table.caption = "\n".join(notes) or None
    return table


def _sign_ins(system: System) -> Table:
    table = Table(title="Demo sign-ins", title_justify="left", box=None)
    for heading in ("role", "login", "password", "agency"):
        table.add_column(heading, no_wrap=True)
    for account in system.credentials.staff:
        table.add_row(account.role, account.login, account.password, account.agency or "")
    return table
