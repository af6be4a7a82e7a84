"""One service as a process that dies at a named point, or that lacks one of the safety measures.

``python -m tests.chaos.process intake --crash after-insert:7`` kills itself (SIGKILL) when the journal has inserted for
the seventh time; ``--mutant relay-off`` runs without the relay. The public methods of the shared library are replaced
in this process only: the services' code carries no switches.
"""

import argparse
import importlib
import os
import signal
from collections.abc import Awaitable, Callable, Collection, Sequence
from contextlib import suppress
from typing import Any

from aiokafka import AIOKafkaConsumer, ConsumerRecord

from services.notify.arrivals import Arrivals
from services.notify.smtp import MailConnection
from services.notify.store import InboxStore
from shared.events import ChainEvent, new_id, now
from shared.journal import Entry, Journal, Taken
from shared.publisher import Publisher
from shared.receiver import Receiver
from shared.service import serve
from shared.storage import Database, MongoDocuments, MongoJournal

Method = Callable[..., Awaitable[Any]]

BEFORE, AFTER = "before", "after"
POINTS: dict[str, tuple[tuple[type, str, str], ...]] = {
    "after-insert": ((MongoJournal, "insert", AFTER),),
    "before-apply": ((Receiver, "take", BEFORE),),
    "after-projection": ((MongoDocuments, "save", AFTER), (Arrivals, "apply", AFTER)),
    "after-send": ((Publisher, "publish", AFTER),),
    "before-mark": ((MongoJournal, "mark", BEFORE),),
    "before-commit": ((AIOKafkaConsumer, "commit", BEFORE),),
    "after-commit": ((AIOKafkaConsumer, "commit", AFTER),),
    "after-mail": ((MailConnection, "send", AFTER),),
}
"""Where a process can be made to die: class, method, and on which side of it."""

MUTANTS = ("relay-off", "at-most-once", "unique-key-off", "deduplication-off")


def strike_at(point: str, passing: int, victim: int) -> None:
    """Kill a process, this one or a server, at the so-manieth passing of a point; nobody, if it has ended by then."""
    passed = 0
    try:
        held = os.pidfd_open(victim)  # a number alone would be another process's once this one has ended
    except ProcessLookupError:
        return

    def pass_by(*args: Any) -> None:
        nonlocal passed
        passed += _counts(point, *args)
        if passed == passing:
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(held, signal.SIGKILL)

    for owner, name, side in POINTS[point]:
        setattr(owner, name, _passing(getattr(owner, name), side, pass_by))


def _counts(point: str, *args: Any) -> bool:
    """Whether a passing counts: where there is a move in what is stored or taken. Of much else, such as how far the
    audit log goes, nobody would see that it was lost."""
    if point == "after-insert":
        entries: Sequence[Entry] = args[1]
        return any(isinstance(entry.event, ChainEvent) for entry in entries)
    if point == "before-apply":
        records: Sequence[ConsumerRecord] = args[1]
        return any(".complaint." in record.topic for record in records)
    return True


def _passing(method: Method, side: str, pass_by: Callable[..., None]) -> Method:
    async def wrapped(*args: Any, **kwargs: Any) -> Any:
        if side == BEFORE:
            pass_by(*args)
        result = await method(*args, **kwargs)
        if side == AFTER:
            pass_by(*args)
        return result

    return wrapped


def mutate(mutant: str) -> None:
    """Take one safety measure away."""
    {
        "relay-off": _relay_off,
        "at-most-once": _at_most_once,
        "unique-key-off": _unique_key_off,
        "deduplication-off": _deduplication_off,
    }[mutant]()


def _relay_off() -> None:
    async def nothing(_: Journal) -> int:
        return 0

    Journal.relay_once = nothing  # type: ignore[method-assign,assignment]


def _at_most_once() -> None:
    """What was fetched is committed before it is applied, as FastStream does unless it is told otherwise."""
    fetch = AIOKafkaConsumer.getmany

    async def getmany(self: AIOKafkaConsumer, *args: Any, **kwargs: Any) -> Any:
        batch = await fetch(self, *args, **kwargs)
        if batch:
            await AIOKafkaConsumer.commit(self)
        return batch

    AIOKafkaConsumer.getmany = getmany


def _unique_key_off() -> None:
    """An event whose id is taken is stored all the same, beside the other."""
    begin, insert = MongoJournal.__init__, MongoJournal.insert
    databases: dict[int, Database] = {}

    def init(self: MongoJournal, database: Database, *args: Any, **kwargs: Any) -> None:
        begin(self, database, *args, **kwargs)
        databases[id(self)] = database

    async def careless(self: MongoJournal, entries: Sequence[Entry]) -> list[Exception | None]:
        outcome = await insert(self, entries)
        for position, (entry, failure) in enumerate(zip(entries, outcome, strict=True)):
            if isinstance(failure, Taken):
                document: dict[str, Any] = {"_id": f"{entry.event.id}~{new_id()}", "topic": entry.event.topic}
                document |= {"event": entry.event.model_dump(), "recorded_at": now(), "published": False}
                await databases[id(self)]["journal"].insert_one(document)
                outcome[position] = None
        return outcome

    MongoJournal.__init__ = init  # type: ignore[method-assign]
    MongoJournal.insert = careless  # type: ignore[method-assign]


def _deduplication_off() -> None:
    """Each arrival of an event makes an entry of its own."""
    add = InboxStore.add

    async def again(self: InboxStore, entries: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
        return await add(self, [{**entry, "_id": f"{entry['_id']}~{new_id()}"} for entry in entries])

    InboxStore.add = again  # type: ignore[method-assign]


def main(arguments: Collection[str] | None = None) -> None:
    """Serve until told to end, or until the point is reached."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.process", description=__doc__)
    parser.add_argument("service", choices=["intake", "routing", "opd", "notify", "sla"])
    parser.add_argument("--crash", metavar="POINT:PASSING", help=f"one of {', '.join(POINTS)}, and the how-manieth")
    parser.add_argument("--victim", type=int, metavar="PID", help="who is killed there instead of this process")
    parser.add_argument("--mutant", choices=MUTANTS)
    given = parser.parse_args(list(arguments) if arguments is not None else None)
    if given.crash:
        point, _, passing = given.crash.partition(":")
        strike_at(point, int(passing or 1), given.victim or os.getpid())
    if given.mutant:
        mutate(given.mutant)
    settings = importlib.import_module(f"services.{given.service}.settings").Settings()
    build = importlib.import_module(f"services.{given.service}.app").build
    serve(build(settings), given.service, settings)


if __name__ == "__main__":
    main()
