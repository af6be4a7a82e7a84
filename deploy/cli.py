"""`lapor`: the command line of those who run the system."""

import typer

from deploy.commands import complaint, local, topics

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


if __name__ == "__main__":
    app()
