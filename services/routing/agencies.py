"""The agency directory: which agencies (OPD) there are, what they are competent for, and the import of it from a
file."""

import csv
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from pathlib import Path

from services.routing.agency_store import AgencyStore
from shared.audit import operator
from shared.audit_store import audit_log
from shared.projection import Document
from shared.settings import ServiceSettings
from shared.storage import connect

STARTING_SET = Path(__file__).parent / "data" / "agencies.csv"
COLUMNS = ("code", "name", "categories", "units")
_CODE = re.compile(r"[A-Z][A-Z0-9-]{1,19}")
_CATEGORY = re.compile(r"[a-z][a-z_]{1,39}")


class UnusableFile(Exception):
    """The file cannot be imported: line and column of each fault. Nothing was changed."""


@dataclass(frozen=True, slots=True)
class AgencyRow:
    """One agency: its code, its name, the categories of complaints it serves, the units that follow up."""

    code: str
    name: str
    categories: tuple[str, ...]
    units: tuple[str, ...]

    def document(self) -> Document:
        """The agency as it is stored."""
        return {
            "_id": self.code,
            "name": self.name,
            "categories": list(self.categories),
            "units": list(self.units),
        }


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did, in agencies."""

    added: int
    changed: int
    unchanged: int


def read(path: Path) -> list[AgencyRow]:
    """The agencies in a CSV file with the columns ``COLUMNS``; several categories or units are separated by ``|``.

    Raises UnusableFile with every fault of the file."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            if tuple(reader.fieldnames or ()) != COLUMNS:
                raise UnusableFile(f"{path}, line 1: the columns must be {', '.join(COLUMNS)}")
            lines = [(reader.line_num, row) for row in reader]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UnusableFile(f"{path}: {error}") from None
    faults = [f"{path}, line {line}, {fault}" for line, row in lines for fault in _faults(row)]
    seen: dict[str, int] = {}
    for line, row in lines:
        first = seen.setdefault(str(row["code"]), line)
        if first != line:
            faults.append(f"{path}, line {line}, column code: {row['code']} stands in line {first} already")
    if faults or not lines:
        raise UnusableFile("\n".join(faults) or f"{path}: there is no agency in it")
    return [AgencyRow(r["code"], r["name"].strip(), _many(r["categories"]), _many(r["units"])) for _, r in lines]


def _faults(row: Mapping[str | None, str | None]) -> Iterable[str]:
    if None in row or any(row[column] is None for column in COLUMNS):
        yield f"needs exactly {len(COLUMNS)} columns"
        return
    given = {column: str(row[column]) for column in COLUMNS}
    if not _CODE.fullmatch(given["code"]):
        yield f"column code: {given['code']!r} is not 2 to 20 capitals, digits and hyphens"
    if not 3 <= len(given["name"].strip()) <= 200:
        yield "column name: needs 3 to 200 characters"
    for category in _many(given["categories"]):
        if not _CATEGORY.fullmatch(category):
            yield f"column categories: {category!r} is not a category's code"
    if not _many(given["categories"]):
        yield "column categories: needs at least one"


def _many(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split("|") if part.strip())


async def import_agencies(settings: ServiceSettings, path: Path = STARTING_SET) -> Imported:
    """Bring the directory up to the file: agencies are added or changed, none is removed, and one that was taken out of
    use stays so. Raises UnusableFile, and UnusableKey without the audit log's key."""
    rows = read(path)
    client = connect(settings)
    try:
        store = AgencyStore(client[settings.database("routing")])
        await store.ensure_indexes()
        audit = audit_log(client[settings.database("routing")], "routing", settings.audit_key_file)
        outcomes = [await store.put(row.document(), audit, operator()) for row in rows]
    finally:
        client.close()
    return Imported(*(outcomes.count(field.name) for field in fields(Imported)))  # type: ignore[arg-type]


async def list_agencies(settings: ServiceSettings) -> list[Document]:
    """All agencies by code, those that are not active included."""
    client = connect(settings)
    try:
        return await AgencyStore(client[settings.database("routing")]).all(active_only=False)
    finally:
        client.close()
