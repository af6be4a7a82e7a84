"""Row: queue pages and searches, over HTTP, where little and where very much is stored."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from urllib.parse import urlencode

from services.intake.keys import SigningKeys
from shared.auth import Principal
from shared.sop import Role
from tests.load.installation import Installation, Json, checked, installation, sign_in
from tests.load.proof import until_level
from tests.load.row import Effort, Measured, compare
from tests.load.seed import seeded_folder
from tests.load.stored import SEEDS
from tests.load.wire import Pool, pool, request

SERVICES = ("intake", "routing", "opd", "notify", "sla")
DEEP = 30
"""The deep page lies behind so many pages of a hundred rows, or is the last."""


@dataclass(frozen=True, slots=True)
class Query:
    """One list as somebody asks for it. ``group`` is what it is counted under."""

    group: str
    service: str
    role: Role
    path: str
    parameters: tuple[tuple[str, str], ...] = ()

    @property
    def name(self) -> str:
        asked = urlencode(self.parameters)
        return f"{self.role.value}: {self.service} {self.path}{'?' if asked else ''}{asked}"

    def bytes(self, token: str, **more: str) -> bytes:
        """The request."""
        asked = urlencode([*self.parameters, *more.items()])
        return request("GET", f"{self.path}?{asked}", token=token)


def _query(group: str, service: str, role: Role, path: str, **parameters: str) -> Query:
    return Query(group, service, role, path, tuple(parameters.items()))


def _queries() -> Iterator[Query]:
    central, regional, coordinator = Role.CENTRAL_OPERATOR, Role.REGIONAL_OPERATOR, Role.COORDINATOR
    agency, citizen = Role.AGENCY_OPERATOR, Role.CITIZEN
    cases, work = "/v1/cases", "/v1/work"
    yield _query("queues", "routing", central, cases, desk="central")
    yield _query("queues", "routing", regional, cases, desk="regional")
    yield _query("queues", "routing", coordinator, cases, desk="coordinator")
    yield _query("queues", "routing", coordinator, cases)
    yield _query("queues", "routing", coordinator, cases, sort="submitted_at")
    yield _query("queues", "routing", coordinator, "/v1/informed")
    yield _query("queues", "opd", agency, work)
    yield _query("queues", "opd", agency, work, sort="-assigned_at")
    yield _query("filters", "routing", central, cases)
    yield _query("filters", "routing", central, cases, desk="central", category="other")
    yield _query("filters", "routing", central, cases, desk="central", age="3d", sort="-submitted_at")
    yield _query("filters", "routing", coordinator, cases, overdue="true")
    yield _query("filters", "routing", coordinator, cases, status="returned")
    yield _query("filters", "routing", coordinator, cases, agency="DLH")
    yield _query("filters", "routing", coordinator, cases, agency="DLH", overdue="true")
    yield _query("filters", "routing", coordinator, cases, category="markets", district="Pontianak Kota")
    yield _query("filters", "routing", regional, cases, status="closed", district="Pontianak Selatan", category="roads")
    yield _query("filters", "routing", coordinator, cases, category="roads", agency="DINKES")
    yield _query("filters", "opd", agency, work, overdue="true")
    yield _query("filters", "opd", agency, work, status="closed", district="Pontianak Kota")
    for service, role, path in (("routing", central, cases), ("opd", agency, work)):
        yield _query("frequent word", service, role, path, q="jalan")
        yield _query("frequent word", service, role, path, q="laporan", sort=_oldest(service))
        yield _query("rare word", service, role, path, q="000000017")
        yield _query("rare word", service, role, path, q="tidakadakatanya")
        yield _query("several words", service, role, path, q="sekolah malam jembatan")
        yield _query("several words", service, role, path, q="laporan 000000017")
        yield _query("several words", service, role, path, q="jembatan obat")
        yield _query("number", service, role, path, q="LP-7")
        yield _query("number", service, role, path, q="LP-7K3M")
    yield _query("words and filters", "routing", central, cases, q="jalan", desk="central")
    yield _query(
        "words and filters", "routing", coordinator, cases, q="air", category="roads", district="Pontianak Kota"
    )
    yield _query("words and filters", "opd", agency, work, q="warga", status="in_progress")
    yield _query("clocks", "sla", coordinator, "/v1/overdue")
    yield _query("clocks", "sla", coordinator, "/v1/overdue", district="Pontianak Kota")
    yield _query("clocks", "sla", regional, "/v1/due-soon", hours="72")
    yield _query("clocks", "sla", agency, "/v1/due-soon", hours="240")
    yield _query("own lists", "intake", citizen, "/v1/complaints")
    yield _query("own lists", "intake", citizen, "/v1/complaints", category="markets")
    yield _query("own lists", "notify", citizen, "/v1/inbox")
    yield _query("own lists", "notify", coordinator, "/v1/inbox")
    yield _query("own lists", "notify", agency, "/v1/inbox", unread="true")
    yield _query("own lists", "notify", coordinator, "/v1/deliveries", state="sent")


def _oldest(service: str) -> str:
    return "submitted_at" if service == "routing" else "assigned_at"


@dataclass(slots=True)
class Page:
    """One request that is measured: ``place`` is `first`, `second` or `deep`. ``seconds`` are of each answer; ``rows``
    of one answer; ``keys`` and ``documents`` are what the database looked at for it."""

    query: Query
    place: str
    sent: bytes
    rows: int = 0
    keys: int = 0
    documents: int = 0
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Queries:
    """Every list and search, at two amounts of stored complaints, in turn."""

    name: str = "queries"
    title: str = "Queue pages and searches at 1,000,000 stored, beside 10,000"
    how: str = (
        "Each list of each service over HTTP, one request at a time in random order: the first page of 20 rows, the "
        f"second, and one behind {DEEP} pages of 100. On two installations in turn: one has 10,000 complaints in its "
        "five databases, the other 1,000,000, made by the services' own decisions and folds (97 % closed); compared "
        "are the pages that both have. What the database looked at is its own record (the profiler) of one answer each."
    )

    def run(self, effort: Effort) -> Measured:
        few, many = int(effort.pick(500, 10_000)), int(effort.pick(2_000, 1_000_000))
        rounds, repeats = int(effort.pick(1, 3)), int(effort.pick(3, 40))
        folders = {count: seeded_folder(SEEDS / str(count), count, say=effort.say) for count in (few, many)}
        of: dict[int, list[list[Page]]] = {few: [], many: []}
        for number in range(1, rounds + 1):
            for count, measured in of.items():
                effort.say(f"  {count} stored, round {number}")
                with installation(folders[count], effort.say, fresh=False) as bench:
                    effort.say(f"  level after {until_level(bench, within=900):.0f} s")
                    measured.append(measure(bench, repeats))
        return result(of, few, many)


def measure(bench: Installation, repeats: int) -> list[Page]:
    """Each page of each query, ``repeats`` times."""
    return bench.run(_measure(bench, repeats))


def result(of: dict[int, list[list[Page]]], few: int, many: int) -> Measured:
    """What the rounds at each amount give."""
    measured = Measured([], facts={"few": few, "many": many})
    known = {count: _by_name(rounds) for count, rounds in of.items()}
    both = [name for name in known[few] if name in known[many]]
    sorts: dict[str, list[str]] = {}
    for name in both:
        page = known[few][name][0]
        for kind in (f"{page.place} pages", page.query.group):
            sorts.setdefault(kind, []).append(name)
    for kind, names in sorts.items():
        ours, theirs = (_p95s(of[count], set(names)) for count in (many, few))
        measured.comparisons.append(
            compare(f"{kind}, p95", "ms", ours, theirs, at_most=1.5, against_name=f"same at {few}")
        )
    for count, pages in known.items():
        measured.facts[str(count)] = {name: _told(found) for name, found in pages.items()}
    shown = [page for pages in known.values() for found in pages.values() for page in found]
    measured.proofs["every request was answered with a page"] = all(page.seconds for page in shown)
    most = max(page.keys for page in shown), max(page.documents for page in shown)
    measured.facts["most_keys"], measured.facts["most_documents"] = most
    measured.notes.append(f"For no page did the database look at more than {most[0]} keys and {most[1]} documents.")
    return measured


def _by_name(rounds: Sequence[Sequence[Page]]) -> dict[str, list[Page]]:
    found: dict[str, list[Page]] = {}
    for page in (page for pages in rounds for page in pages):
        found.setdefault(f"{page.query.name}, {page.place}", []).append(page)
    return found


def _p95s(rounds: Sequence[Sequence[Page]], names: set[str]) -> list[float]:
    """Of each round, the 95th percentile over all answers of these pages, in ms."""
    seconds = [
        sorted(
            s for name, pages in _by_name([of_round]).items() if name in names for page in pages for s in page.seconds
        )
        for of_round in rounds
    ]
    return [1e3 * share(of_round, 0.95) for of_round in seconds]


def _told(rounds: Sequence[Page]) -> Json:
    """One page over the rounds."""
    seconds = sorted(s for page in rounds for s in page.seconds)
    return {
        "rows": rounds[0].rows,
        "p50_ms": round(1e3 * share(seconds, 0.5), 2),
        "p95_ms": round(1e3 * share(seconds, 0.95), 2),
        "keys": max(page.keys for page in rounds),
        "documents": max(page.documents for page in rounds),
    }


def share(values: Sequence[float], part: float) -> float:
    """The value below which ``part`` of the sorted ``values`` lie."""
    return values[min(len(values) - 1, int(part * len(values)))]


async def _measure(bench: Installation, repeats: int) -> list[Page]:
    tokens = await _tokens(bench)
    pools = {name: pool(bench.urls[name], 1) for name in SERVICES}
    opened = {name: await made.__aenter__() for name, made in pools.items()}
    try:
        pages: list[Page] = []
        for query in _queries():
            pages += await _pages(query, opened[query.service], tokens[query.role])
        for page in pages:
            page.keys, page.documents = await _looked_at(bench, page, opened[page.query.service])
        asked = [page for page in pages for _ in range(repeats)]
        random.Random(repeats).shuffle(asked)
        for page in asked:
            began = time.perf_counter()
            checked(await opened[page.query.service].send(page.sent), 200)
            page.seconds.append(time.perf_counter() - began)
        return pages
    finally:
        for made in pools.values():
            await made.__aexit__(None, None, None)


async def _tokens(bench: Installation) -> dict[Role, str]:
    """Of the staff by signing in; of a seeded citizen, who has no password, by intake's own key."""
    accounts = bench.system.credentials.staff
    async with pool(bench.urls["intake"], 1) as intake:
        tokens = {Role(a.role): await sign_in(intake, a.login, a.password) for a in reversed(accounts)}
    keys = SigningKeys(bench.system.credentials.signing_key, None, timedelta(hours=10))
    with bench.mongo() as client:
        complaint = client[bench.services.database("intake")]["complaints"].find_one({}, {"reporter_id": 1})
    assert complaint is not None, "nothing is stored"
    tokens[Role.CITIZEN], _ = keys.token(Principal(complaint["reporter_id"], Role.CITIZEN))
    return tokens


async def _pages(query: Query, service: Pool, token: str) -> list[Page]:
    """The pages of a query that are there."""
    first = query.bytes(token, limit="20")
    answer = checked(await service.send(first), 200)
    found = [Page(query, "first", first, len(answer["items"]))]
    if answer["next"]:
        second = query.bytes(token, limit="20", cursor=answer["next"])
        found.append(Page(query, "second", second, len(checked(await service.send(second), 200)["items"])))
    cursor: str | None = None
    for _ in range(DEEP):
        more: dict[str, str] = {"cursor": cursor} if cursor else {}
        following = checked(await service.send(query.bytes(token, limit="100", **more)), 200)["next"]
        if following is None:
            break
        cursor = following
    if cursor:
        deep = query.bytes(token, limit="20", cursor=cursor)
        found.append(Page(query, "deep", deep, len(checked(await service.send(deep), 200)["items"])))
    return found


async def _looked_at(bench: Installation, page: Page, service: Pool) -> tuple[int, int]:
    """How many keys and documents the database looks at for one answer, all its operations together."""
    with bench.mongo() as client:
        database = client[bench.services.database(page.query.service)]
        database.command("profile", 2)
        checked(await service.send(page.sent), 200)
        database.command("profile", 0)
        lists = [f"{database.name}.{name}" for name in ("cases", "work", "clocks", "complaints", "inbox", "deliveries")]
        made: list[dict[str, Any]] = list(database["system.profile"].find({"ns": {"$in": lists}, "op": "query"}))
        database.drop_collection("system.profile")
    return sum(m.get("keysExamined", 0) for m in made), sum(m.get("docsExamined", 0) for m in made)


QUERIES = Queries()
