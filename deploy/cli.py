"""`lapor`: the command line of those who run the system."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    from deploy.local.launcher import System

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False, help=__doc__)
console = Console(highlight=False)


@app.callback()
def lapor() -> None:
    """LAPOR! Pontianak: run it, look into it, mend it."""


@app.command()
def up(
    data_dir: Annotated[Path, typer.Option(envvar="LAPOR_DATA_DIR", help="Where data is kept between runs.")] = Path(
        "data"
    ),
    fresh: Annotated[bool, typer.Option(help="Delete the kept data first.")] = False,
) -> None:
    """Run the whole system on this machine until Ctrl-C."""
    from deploy.local import launcher  # here: the other commands need none of the local servers' packages
    from deploy.local.errors import CannotRun
    from deploy.local.logs import LogView

    began = time.monotonic()
    try:
        with (
            launcher.ending_on_signals(),
            launcher.running_system(data_dir, fresh=fresh, say=console.print) as system,
        ):
            view = LogView(system.children, console)
            view.begin()
            console.print(_addresses(system))
            console.print(_sign_ins(system))
            console.print(
                f"Ready after {time.monotonic() - began:.1f} s. Logs: {system.children.log_dir}. Stop with Ctrl-C.\n"
            )
            launcher.wait_for_trouble(system, view.print_new)
    except KeyboardInterrupt:
        console.print("Stopped.")
    except CannotRun as trouble:
        console.print(f"\n{trouble}", style="red", markup=False)
        raise typer.Exit(1) from None


def _addresses(system: "System") -> Table:
    table = Table(title="LAPOR! Pontianak", title_justify="left", box=None)
    for heading in ("part", "address", "API documents", "events", "metrics", "memory"):
        table.add_column(heading, no_wrap=True)
    memory = {name: f"{held >> 20} MiB" for name, held in system.memory().items()}
    for name, url in system.urls.items():
        table.add_row(name, url, "/docs", "/asyncapi.json", "/metrics", memory.get(name, ""))
    servers = system.servers
    table.add_row("kafka", servers.kafka_bootstrap, "", "", "", memory.get("kafka", ""))
    table.add_row("mongodb", servers.mongo_url, "", "", "", memory.get("mongod", ""))
    table.add_row("smtp", f"{servers.smtp_host}:{servers.smtp_port}", "", "", "", memory.get("smtp", ""))
    if servers.mail_dir:
        table.caption = f"Mail that was sent is kept in {servers.mail_dir}"
    return table


def _sign_ins(system: "System") -> Table:
    table = Table(title="Demo sign-ins", title_justify="left", box=None)
    for heading in ("role", "login", "password", "agency"):
        table.add_column(heading, no_wrap=True)
    for account in system.credentials.staff:
        table.add_row(account.role, account.login, account.password, account.agency or "")
    return table


if __name__ == "__main__":
    app()
