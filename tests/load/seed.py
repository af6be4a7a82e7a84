"""Fills the five databases as if very many complaints had been carried out, in minutes.

Some hundred stories are told by the services' own decisions and folds (`tests.load.stories`), each twice. Where the
two tellings differ in their BSON, copies get an identity and a time of day of their own; that the patched copy of one
telling is the other, byte for byte, is checked for every document of every story. Topics hold nothing of it, and the
photos that the documents name are not stored.

    python -m tests.load.seed 100000 --folder build/seed/100000
"""

import argparse
import asyncio
import csv
import random
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import bson
import numpy as np
from bson.codec_options import CodecOptions
from bson.raw_bson import RawBSONDocument
from motor.motor_asyncio import AsyncIOMotorClient
from numpy.typing import NDArray
from pymongo import MongoClient
from pymongo.write_concern import WriteConcern

from deploy.local.servers import embedded_servers
from services.intake.account_store import AccountStore
from services.intake.identity import NewAccount, contact_of
from services.intake.number import new_number
from services.intake.place import City
from services.intake.store import AccessStore, ComplaintStore
from services.notify.delivery_store import DeliveryStore
from services.notify.store import InboxStore
from services.opd.store import WorkStore
from services.routing.agencies import STARTING_SET
from services.routing.store import CaseStore
from services.sla.desk import Rules
from services.sla.store import ClockStore
from shared.calendar import CITY, Deadlines
from shared.events import Agency, Event, from_document, new_id, now
from shared.sop import Role
from shared.storage import MongoJournal
from tests.load.reports import points
from tests.load.row import Say
from tests.load.stories import PLOTS, Documents, Identity, Plot, Setting, Story, age, settings

Bytes = NDArray[np.uint8]

_AWARE = CodecOptions[dict[str, Any]](tz_aware=True)
_DAY_BEGINS = timedelta(hours=7)
_SPREAD = timedelta(hours=9)
"""Copies begin up to so much later in the day than their story: never on another date, which would change what is due
after working days."""
_BATCH = 500
_YEAR = timedelta(days=365)
COMPLAINTS_PER_CITIZEN = 20
_FIELDS = ("complaint_id", "number", "reporter_id", "serial")
_TWO = (
    Identity(
        "0190a1b2-c3d4-7e5f-8a6b-7c8d9e0f1a2b", "LP-QXZW-VKJY-8", "0190b2c3-d4e5-7f60-9b7c-8d9e0f1a2b3c", "918273645"
    ),
    Identity(
        "0191f0e1-d2c3-7b4a-b596-8778695a4b3c", "LP-9T7R-5P3N-M", "0191e1d2-c3b4-7a59-a687-78695a4b3c2d", "564738291"
    ),
)  # fmt: skip
_APART = timedelta(hours=1, minutes=1, milliseconds=1)


class NotAlike(Exception):
    """The two tellings of a story differ in more than identity and time of day, so it cannot be copied."""


@dataclass(frozen=True, slots=True)
class Template:
    """One document of a story, and where in its bytes what is written for each copy."""

    data: Bytes
    texts: tuple[tuple[str, int, int], ...]
    dates: tuple[tuple[int, int], ...]

    @classmethod
    def of(cls, one: dict[str, Any], other: dict[str, Any]) -> "Template":
        """From the two tellings. Raises `NotAlike`."""
        first, second = bson.encode(one), bson.encode(other)
        if len(first) != len(second):
            raise NotAlike(f"of different lengths: {one['_id']}")
        texts = []
        for name, value in _values(_TWO[0]).items():
            at = first.find(value)
            while at >= 0:
                texts.append((name, at, len(value)))
                at = first.find(value, at + 1)
        moved = round(_APART.total_seconds() * 1000)
        dates = []
        for at in _dates(first):
            ours, theirs = (int.from_bytes(data[at : at + 8], "little", signed=True) for data in (first, second))
            if theirs - ours == moved:
                dates.append((at, ours))
            elif theirs != ours:
                raise NotAlike(f"a time that depends on the time of day otherwise: {one['_id']}")
        template = cls(np.frombuffer(first, dtype=np.uint8), tuple(texts), tuple(dates))
        values = {name: np.frombuffer(value, dtype=np.uint8)[None, :] for name, value in _values(_TWO[1]).items()}
        if template.copies(values, np.array([moved], dtype=np.int64))[0].tobytes() != second:
            raise NotAlike(f"in something else: {one['_id']}")
        return template

    def copies(self, values: dict[str, Bytes], later: NDArray[np.int64]) -> Bytes:
        """A copy per row of ``values``, each ``later`` by so many milliseconds."""
        copied = np.tile(self.data, (len(later), 1))
        for name, at, length in self.texts:
            copied[:, at : at + length] = values[name]
        for at, moment in self.dates:
            copied[:, at : at + 8] = (later + moment).astype("<i8").view(np.uint8).reshape(-1, 8)
        return copied


def _values(identity: Identity) -> dict[str, bytes]:
    texts = {name: getattr(identity, name).encode() for name in _FIELDS}
    return {**texts, "hexadecimal": texts["complaint_id"].replace(b"-", b"")}


_SIZES = {1: 8, 7: 12, 8: 1, 9: 8, 10: 0, 16: 4, 17: 8, 18: 8}


def _dates(data: bytes, at: int = 0) -> Iterator[int]:
    """Where the datetimes of a BSON document begin (bsonspec.org, type 9)."""
    position = at + 4
    while kind := data[position]:
        position = data.index(0, position + 1) + 1
        if kind == 9:
            yield position
        if kind in (3, 4):
            yield from _dates(data, position)
        if kind in (3, 4):
            position += int.from_bytes(data[position : position + 4], "little")
        elif kind == 2:
            position += 4 + int.from_bytes(data[position : position + 4], "little")
        else:
            position += _SIZES[kind]


Templates = dict[tuple[str, str], list[Template]]


def templates(plot: Plot, setting: Setting, day: datetime, deadlines: Deadlines) -> tuple[Templates, datetime]:
    """A story's templates, and when it begins: on ``day`` or the next day before on which it can be copied."""
    for _ in range(14):
        began_at = day + _DAY_BEGINS
        tellings: list[Documents] = [
            Story(plot, setting, identity, began_at + later, deadlines).documents
            for identity, later in zip(_TWO, (timedelta(), _APART), strict=True)
        ]
        try:
            made = {
                where: [Template.of(*pair) for pair in zip(documents, tellings[1][where], strict=True)]
                for where, documents in tellings[0].items()
            }
        except NotAlike:
            day -= timedelta(days=1)
            continue
        return made, began_at
    raise NotAlike(f"{plot.name}: no day within two weeks will do")


class Seeder:
    """Fills the databases of one namespace. Nobody else may be writing there."""

    def __init__(
        self, mongo_url: str, namespace: str, *, say: Say, deadlines: Deadlines | None = None, seed: int = 1
    ) -> None:
        self._url = mongo_url
        self._namespace = namespace
        self._say = say
        self._deadlines = deadlines or Deadlines()
        self._chance = random.Random(seed)
        self._bytes = np.random.default_rng(seed)
        self._numbers: set[str] = set()
        self._serial = 0

    def fill(self, count: int, stories: int | None = None) -> dict[str, int]:
        """Store ``count`` complaints and make the services' indexes; documents stored, by `database.collection`."""
        told = self._tell(min(count, stories or max(len(PLOTS), min(800, count // 25))))
        citizens = self._citizens(max(20, count // COMPLAINTS_PER_CITIZEN))
        stored: dict[str, int] = {}
        began = said = time.monotonic()
        done = 0
        with (
            MongoClient[Any](self._url) as client,
            ThreadPoolExecutor(3, "seed") as pool,
        ):
            self._people(client, citizens, stored)
            shares = _shares(count, [weight for *_, weight in told])
            for copies, (made, began_at, _) in zip(shares, told, strict=True):
                for start in range(0, copies, _BATCH):
                    size = min(_BATCH, copies - start)
                    self._store(client, pool, made, began_at, size, citizens, stored)
                    done += size
                    if time.monotonic() - said > 10:
                        said = time.monotonic()
                        rate = done / (said - began)
                        left = (count - done) / rate
                        self._say(f"  {done} of {count} complaints stored, {rate:.0f}/s, {left:.0f} s to go")
        self._say(f"  {done} complaints, {sum(stored.values())} documents in {time.monotonic() - began:.0f} s; indexes")
        asyncio.run(self._indexes())
        self._say(f"  filled in {time.monotonic() - began:.0f} s")
        return stored

    def events(self, count: int, plots: Sequence[Plot]) -> list[Event]:
        """What the topics would hold of ``count`` complaints and their reporters, in the order in which it happened."""
        citizens = self._citizens(max(20, count // COMPLAINTS_PER_CITIZEN))
        found: list[tuple[datetime, Event]] = []
        told = self._tell(len(plots) * 4, plots)
        for copies, (made, began_at, _) in zip(_shares(count, [weight for *_, weight in told]), told, strict=True):
            later = self._bytes.integers(0, int(_SPREAD.total_seconds() * 1000), copies)
            values = self._identities(began_at, later, citizens)
            for (_, collection), of_story in made.items():
                for template in of_story if collection == "journal" else ():
                    for row in template.copies(values, later):
                        entry = bson.decode(row.tobytes(), _AWARE)
                        found.append((entry["recorded_at"], from_document(entry["topic"], entry["event"])))
        return [*map(contact_of, _accounts(citizens)), *(event for _, event in sorted(found, key=lambda pair: pair[0]))]

    def _tell(self, count: int, plots: Sequence[Plot] = PLOTS) -> list[tuple[Templates, datetime, float]]:
        """So many stories with their templates, beginning and weight, over the agencies, districts and months."""
        city = City.load()
        where = [(x, y, city.locate(x, y) or "") for x, y in points(200)]
        with STARTING_SET.open(encoding="utf-8", newline="") as file:
            agencies = [
                (Agency(code=r["code"], name=r["name"]), r["categories"].split("|")) for r in csv.DictReader(file)
            ]
        today = now().astimezone(CITY).replace(hour=0, minute=0, second=0, microsecond=0)
        told: list[tuple[Templates, datetime, float]] = []
        began = time.monotonic()
        shares = [max(1, n) for n in _shares(max(count, len(plots)), [plot.weight**0.5 for plot in plots])]
        for plot, share in zip(plots, shares, strict=True):
            for number, setting in enumerate(settings(share, agencies, where, self._chance)):
                ended = 1 + int(_YEAR.days * (number + self._chance.random()) / share) if plot.closed else 1
                day = today - timedelta(days=ended) - timedelta(days=age(plot).days)
                made, began_at = templates(plot, setting, day, self._deadlines)
                told.append((made, began_at, plot.weight / share))
        self._say(f"  {len(told)} stories told in {time.monotonic() - began:.0f} s")
        return told

    def _store(
        self,
        client: MongoClient[Any],
        pool: ThreadPoolExecutor,
        made: Templates,
        began_at: datetime,
        size: int,
        citizens: Bytes,
        stored: dict[str, int],
    ) -> None:
        later = self._bytes.integers(0, int(_SPREAD.total_seconds() * 1000), size)
        values = self._identities(began_at, later, citizens)
        waits: list[Future[None]] = []
        for (service, collection), of_story in made.items():
            name = f"{self._namespace}_{service}"
            target = client[name].get_collection(collection, write_concern=WriteConcern(w=1, j=False))
            rows = [template.copies(values, later) for template in of_story]
            waits.append(pool.submit(_insert, target, rows))
            stored[f"{name}.{collection}"] = stored.get(f"{name}.{collection}", 0) + size * len(of_story)
        for wait in waits:
            wait.result()

    def _identities(self, began_at: datetime, later: NDArray[np.int64], citizens: Bytes) -> dict[str, Bytes]:
        size = len(later)
        milliseconds = (later + round(began_at.timestamp() * 1000)).astype(">u8").view(np.uint8).reshape(-1, 8)[:, 2:]
        uuid = np.concatenate([milliseconds, self._bytes.integers(0, 256, (size, 10), dtype=np.uint8)], axis=1)
        uuid[:, 6] = 0x70 | uuid[:, 6] & 0x0F  # UUIDv7 (RFC 9562, section 5.7)
        uuid[:, 8] = 0x80 | uuid[:, 8] & 0x3F
        plain = _hexadecimal(uuid)
        dash = np.full((size, 1), ord("-"), dtype=np.uint8)
        parts = (plain[:, :8], plain[:, 8:12], plain[:, 12:16], plain[:, 16:20], plain[:, 20:])
        dashed = np.concatenate([piece for part in parts for piece in (part, dash)][:-1], axis=1)
        serials = [b"%09d" % (self._serial + n) for n in range(1, size + 1)]
        self._serial += size
        return {
            "complaint_id": dashed,
            "hexadecimal": plain,
            "number": _rows([self._number().encode() for _ in range(size)]),
            "reporter_id": citizens[self._bytes.integers(0, len(citizens), size)],
            "serial": _rows(serials),
        }

    def _number(self) -> str:
        while (number := new_number()) in self._numbers:
            pass
        self._numbers.add(number)
        return number

    def _citizens(self, count: int) -> Bytes:
        return _rows([new_id().encode() for _ in range(count)])

    def _people(self, client: MongoClient[Any], citizens: Bytes, stored: dict[str, int]) -> None:
        """The reporters: accounts that nobody can sign in to, and their contacts."""
        accounts, contacts, entries = _accounts(citizens), [], []
        for account in accounts:
            contact = contact_of(account)
            fields = contact.model_dump(include={"version", "name", "email", "phone", "language"})
            contacts.append({"_id": contact.citizen_id, **fields})
            entries.append(
                {
                    "_id": contact.id,
                    "topic": contact.topic,
                    "event": contact.model_dump(),
                    "recorded_at": contact.occurred_at,
                    "published": True,
                }
            )
        for service, collection, documents in (
            ("intake", "accounts", accounts), ("notify", "contacts", contacts), ("intake", "journal", entries),
        ):  # fmt: skip
            client[f"{self._namespace}_{service}"][collection].insert_many(documents, ordered=False)
            name = f"{self._namespace}_{service}.{collection}"
            stored[name] = stored.get(name, 0) + len(documents)

    async def _indexes(self) -> None:
        """Those that the services make when they start, made here where it may take its time."""
        client: AsyncIOMotorClient[dict[str, Any]] = AsyncIOMotorClient(self._url, tz_aware=True)
        intake, routing, opd, notify, sla = (
            client[f"{self._namespace}_{service}"] for service in ("intake", "routing", "opd", "notify", "sla")
        )
        rules = Rules(self._deadlines, timedelta(seconds=2), timedelta(seconds=60))
        stores: list[Any] = [
            *(MongoJournal(database) for database in (intake, routing, opd, notify, sla)),
            ComplaintStore(intake, self._deadlines),
            AccountStore(intake),
            AccessStore(intake),
            CaseStore(routing, self._deadlines),
            WorkStore(opd),
            InboxStore(notify),
            DeliveryStore(notify),
            ClockStore(sla, rules),
        ]
        for store in stores:
            await store.ensure_indexes()
        client.close()


def _accounts(citizens: Bytes) -> list[dict[str, Any]]:
    made = []
    for number, row in enumerate(citizens):
        phone = f"+62899{number:08}"
        account = NewAccount((phone,), Role.CITIZEN, f"Warga {number}", "!", phone=phone).document()
        made.append(account | {"_id": row.tobytes().decode(), "contact_due": False})
    return made


def _insert(target: Any, rows: Sequence[Bytes]) -> None:
    target.insert_many([RawBSONDocument(row.tobytes()) for copies in rows for row in copies], ordered=False)


_DIGITS = np.frombuffer(b"0123456789abcdef", dtype=np.uint8)


def _hexadecimal(data: Bytes) -> Bytes:
    found = np.empty((data.shape[0], data.shape[1] * 2), dtype=np.uint8)
    found[:, 0::2], found[:, 1::2] = _DIGITS[data >> 4], _DIGITS[data & 15]
    return found


def _rows(texts: Sequence[bytes]) -> Bytes:
    return np.frombuffer(b"".join(texts), dtype=np.uint8).reshape(len(texts), -1)


def _shares(count: int, weights: Sequence[float]) -> list[int]:
    """``count`` divided by weight, in whole numbers that add up."""
    total, passed, given = sum(weights), 0.0, 0
    shares = []
    for weight in weights:
        passed += weight
        upto = round(count * passed / total)
        shares.append(upto - given)
        given = upto
    return shares


def seed(mongo_url: str, namespace: str, count: int, *, say: Say = print, seed: int = 1) -> dict[str, int]:
    """Store ``count`` complaints in the databases of ``namespace``, which should be empty; documents stored, by
    `database.collection`. It blocks: from async code, call it in a thread."""
    return Seeder(mongo_url, namespace, say=say, seed=seed).fill(count)


def seeded_folder(folder: Path, count: int, *, say: Say = print, namespace: str = "lapor") -> Path:
    """A data folder with ``count`` complaints for `running_system`: the one of an earlier run if it was finished."""
    done = folder / "seeded"
    if done.exists() and done.read_text() == f"{count}\n":
        say(f"Using {folder}, seeded before")
        return folder
    say(f"Seeding {count} complaints into {folder}")
    with embedded_servers(folder) as servers:
        with MongoClient[Any](servers.mongo_url) as client:
            for name in client.list_database_names():
                if name.startswith(f"{namespace}_"):
                    client.drop_database(name)
        seed(servers.mongo_url, namespace, count, say=say)
    done.write_text(f"{count}\n")
    return folder


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m tests.load.seed", description=__doc__)
    parser.add_argument("count", type=int)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--folder", type=Path, help="a data folder, which is made if it is not there")
    where.add_argument("--mongo-url", help="databases that exist already and are empty")
    parser.add_argument("--namespace", default="lapor")
    given = parser.parse_args()
    if given.folder:
        seeded_folder(given.folder, given.count, namespace=given.namespace)
    else:
        seed(given.mongo_url, given.namespace, given.count)
