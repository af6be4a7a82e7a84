"""Walks and pages on real MongoDB: nothing is left out or comes twice, and no page costs more than its bound."""

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from itertools import chain
from typing import Any

import pytest

from deploy.local.servers import Servers
from shared.projection import Document
from shared.queries import DOCUMENTS, KEYS, BadCursor, Walk, merged, page, read, set_indexes, sparsest
from shared.storage import ASCENDING, Database, Documents, IndexModel, connect

ANY_NUMBER = {"$gt": -1}
BY_AT = Walk("at", "at", within=ANY_NUMBER)


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_queries"]
    client.close()


async def rows_of(database: Database, documents: Sequence[Document]) -> Documents:
    """A collection of these, with an index that tells ``kind`` and not ``name``."""
    rows = database["rows"]
    fields = ("at", "_id", "kind")
    await set_indexes(rows, [IndexModel([(field, ASCENDING) for field in fields], name="at")])
    await rows.insert_many(documents)
    return rows


async def pages(rows: Documents, walk: Walk, limit: int) -> list[list[str]]:
    """The ids on each page, to the end."""
    found: list[list[str]] = []
    cursor: str | None = None
    while True:
        documents, cursor = await page(rows, walk, limit, cursor)
        found.append([document["_id"] for document in documents])
        if cursor is None:
            return found


async def test_pages_join_without_gap_or_repetition(database: Database) -> None:
    """Also where many documents share the value they are sorted by."""
    documents = [{"_id": f"{n:03}", "at": n // 10} for n in range(95)]
    rows = await rows_of(database, [*documents, {"_id": "without"}, {"_id": "null", "at": None}])
    for descending, expected in ((False, 0), (True, 94)):
        found = list(chain(*await pages(rows, replace(BY_AT, descending=descending), 7)))
        assert found == sorted(found, reverse=descending)
        assert len(found) == 95
        assert int(found[0]) == expected


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize(("field", "told"), [("kind", True), ("name", False)])
async def test_what_is_rare_is_found_page_by_page(
    database: Database, field: str, *, told: bool, descending: bool
) -> None:
    """Two in ten thousand, among documents of which thousands share the value they are sorted by: a page ends at its
    bound, and the next goes on there."""
    total = 10_000
    wanted = ["00017", "09983"]
    documents = [{"_id": f"{n:05}", "at": n // 4000, field: 17 if n in (17, 9983) else 0} for n in range(total)]
    rows = await rows_of(database, documents)
    walk = replace(BY_AT, picks=[{field: 17}], told=told, descending=descending)
    await database.command("profile", 2)
    found = await pages(rows, walk, 3)
    await database.command("profile", 0)
    assert list(chain(*found)) == sorted(wanted, reverse=descending)
    assert [] in found, "some pages hold nothing and yet go on"
    most = KEYS[-1] if told else DOCUMENTS[-1]
    assert len(found) >= total // most
    reads = await database["system.profile"].find({"ns": rows.full_name}).to_list(None)
    assert max(entry["keysExamined"] for entry in reads) <= most + 10
    assert max(entry["docsExamined"] for entry in reads) <= (4 if told else most)


async def test_the_rarest_way_is_taken_from_where_the_page_begins(database: Database) -> None:
    """``early`` is frequent at first and rare later; ``late`` the other way round."""
    documents = [
        {"_id": f"{n:05}", "at": n, "words": ["early"] if n % 10 == (0 if n < 2000 else n) else ["late"]}
        for n in range(4000)
    ]
    documents += [{"_id": f"x{n}", "at": 2000 + 2 * n, "words": ["early"]} for n in range(200)]
    rows = database["rows"]
    await set_indexes(rows, [IndexModel([(name, ASCENDING) for name in ("words", "at", "_id")], name="words")])
    await rows.insert_many(documents)
    early, late = (Walk("words", "at", {"words": word}, ANY_NUMBER) for word in ("early", "late"))
    assert await sparsest(rows, [early, late], None) is early
    assert await sparsest(rows, [late], None) is late
    backwards = [replace(walk, descending=True) for walk in (early, late)]
    assert await sparsest(rows, backwards, None) is backwards[0]
    rare = Walk("words", "at", {"words": "nowhere"}, ANY_NUMBER)
    assert await sparsest(rows, [early, late, rare], None) is rare


async def test_walks_are_merged_as_far_as_all_have_been_read(database: Database) -> None:
    documents: list[Any] = [{"_id": f"{n:02}", "at": n, "kind": n % 3} for n in range(20)]
    rows = await rows_of(database, documents)
    odd_ones = [replace(BY_AT, picks=[{"kind": kind}], told=True) for kind in (0, 2)]
    found: list[str] = []
    after = None
    while True:
        parts = [await read(rows, walk, 3, after) for walk in odd_ones]
        joined, after = merged(parts, 3)
        found += [document["_id"] for _, document in joined]
        if after is None:
            break
        assert len(joined) == 3
    assert found == [d["_id"] for d in documents if d["kind"] != 1]


async def test_indexes_of_an_earlier_version_go(database: Database) -> None:
    rows = await rows_of(database, [{"_id": "a", "at": 1, "title": "x"}])
    await rows.create_index([("title", "text")], name="words")
    await rows.create_index([("kind", ASCENDING)])
    wanted = [
        IndexModel([("words", ASCENDING)], name="words"),
        IndexModel([("at", ASCENDING)], name="at", partialFilterExpression={"at": ANY_NUMBER}),
    ]
    for _ in range(2):
        await set_indexes(rows, wanted)
        there = await rows.index_information()
        assert {name: index["key"] for name, index in there.items()} == {
            "_id_": [("_id", 1)],
            "words": [("words", 1)],
            "at": [("at", 1)],
        }


@pytest.mark.parametrize(
    "cursor",
    [
        "x",
        "%%%",
        "bm90IGpzb24",  # not json
        "W10",  # []
        "bnVsbA",  # null
        "eyJpZCI6IDEsICJ2YWx1ZSI6IDF9",  # {"id": 1, "value": 1}
        "eyJpZCI6ICJhIiwgInZhbHVlIjogeyIkZ3QiOiAwfX0",  # {"id": "a", "value": {"$gt": 0}}
        "eyJpZCI6ICJhIiwgImF0IjogInNvb24ifQ",  # {"id": "a", "at": "soon"}
        "eyJpZCI6ICJcdWQ4MDAiLCAidmFsdWUiOiAxfQ",  # {"id": "\ud800", "value": 1}
        "eyJpZCI6ICJhIiwgInZhbHVlIjogMTAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMH0",  # {"id": "a", "value": 10**27}
        "é",
    ],
)
async def test_a_cursor_that_nobody_made_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(BadCursor):
        await page(database["rows"], BY_AT, 7, cursor)
