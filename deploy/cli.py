"""`lapor`: the command line of those who run the system."""

import typer

from deploy.commands import (
    agencies,
    audit,
    clients,
    complaint,
    deadletters,
    local,
    principals,
    retention,
    staff,
    topics,
)

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="LAPOR! Pontianak: run it, look into it, mend it.",
)
app.command()(local.up)
app.command()(local.demo)
app.add_typer(topics.app, name="topics")
app.add_typer(complaint.app, name="complaint")
app.add_typer(deadletters.app, name="deadletters")
app.add_typer(staff.app, name="staff")
app.add_typer(clients.app, name="clients")
app.add_typer(agencies.app, name="agencies")
app.add_typer(audit.app, name="audit")
app.add_typer(retention.app, name="retention")
app.add_typer(principals.app, name="principals")


if __name__ == "__main__":
    app()
