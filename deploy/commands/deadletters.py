"""`lapor deadletters`: what consumers could not use, why, and putting it back."""

import json
from collections.abc import Sequence
from contextlib import suppress
from typing import Annotated

import typer
from rich.table import Table

from deploy.commands.running import console, fail, run, settings
from shared.audit import Action, operator
from shared.audit_store import audit_log
from shared.deadletters import DeadLetter, ReplayFailed, letters, replay
from shared.settings import ServiceSettings
from shared.storage import connect

app = typer.Typer(no_args_is_help=True, help="Records that a service could not use.")
Reason = Annotated[str, typer.Option(help="Only those whose reason contains this.")]
Topic = Annotated[str, typer.Option(help="Only those from topics whose name contains this.")]


@app.command("list")
def show_all(
    reason: Reason = "",
    topic: Topic = "",
    limit: Annotated[int, typer.Option(min=1, help="So many of the newest.")] = 50,
) -> None:
    """The dead letters of all services, newest first."""
    found = run(letters(settings(), reason=reason, topic=topic))
    if not found:
        console.print("There are no dead letters.")
        return
    table = Table(box=None)
    for heading in ("id", "at (UTC)", "from topic", "replayed", "reason"):
        table.add_column(heading, no_wrap=heading != "reason")
    for one in found[:limit]:
        table.add_row(one.id, f"{one.at:%Y-%m-%d %H:%M:%S}", one.topic, "yes" if one.replayed else "no", one.reason)
    console.print(table)
    if len(found) > limit:
        console.print(f"… and {len(found) - limit} older ones; --limit shows more.")


@app.command()
def show(letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """One dead letter whole: where it came from, its headers, its value."""
    one = _one(letter_id)
    console.print(f"{one.topic}, partition {one.partition}, offset {one.offset}\nreason: {one.reason}", markup=False)
    for name, value in one.headers.items():
        console.print(f"  {name}: {value}", markup=False)
    text = (one.value or b"").decode(errors="replace")
    with suppress(ValueError):  # what is not JSON is shown as it is: that may be the reason
        text = json.dumps(json.loads(text), indent=2, ensure_ascii=False)
    console.print(text, markup=False)


@app.command("replay")
def put_back(
    letter_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="One letter; or give --all.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All that were not replayed yet.")] = False,
    reason: Reason = "",
    topic: Topic = "",
) -> None:
    """Send letters back to the topics they came from. Do it when the cause is mended; else they come back. The audit
    log of the service says so first."""
    if (letter_id is None) != every:
        fail("Give the id of one letter, or --all.")
    if letter_id is not None:
        chosen = [_one(letter_id)]
    else:
        chosen = [one for one in run(letters(settings(), reason=reason, topic=topic)) if not one.replayed]
    try:
        console.print(f"{run(replay_recorded(settings(), chosen))} replayed.")
    except ReplayFailed as failure:
        fail(str(failure))


async def replay_recorded(chosen: ServiceSettings, wanted: Sequence[DeadLetter]) -> int:
    """Replay letters, each of which the audit log of its service is told of before; returns how many. Raises
    UnusableKey, ReplayFailed."""
    client = connect(chosen)
    try:
        for letter in wanted:
            service = letter.id.partition(":")[0]
            log = audit_log(client[chosen.database(service)], service, chosen.audit_key_file)
            await log.record(Action.DEAD_LETTER_REPLAYED, operator(), letter.id, topic=letter.topic)
    finally:
        client.close()
    return await replay(chosen, wanted)


def _one(letter_id: str) -> DeadLetter:
    for one in run(letters(settings())):
        if one.id == letter_id:
            return one
    return fail(f"There is no dead letter {letter_id}; `lapor deadletters list` shows them.")
