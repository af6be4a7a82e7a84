"""The photo store on a real MongoDB: stored once, never half, and safe for several writers at a time."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
from bson import ObjectId
from gridfs import GridFSBucket
from pymongo import MongoClient
from pymongo.errors import BulkWriteError

from deploy.local.servers import Servers
from shared.events import now
from shared.media import CleanPhoto, Size, prepare
from shared.media_store import PhotoStore
from shared.projection import Document
from shared.storage import Database, connect
from tests import images


@pytest.fixture(scope="module")
def photo() -> CleanPhoto:
    """Several chunks long."""
    return prepare(images.encoded(images.grainy(2400, 1800), quality=88))


@pytest.fixture
async def database(servers: Servers, namespace: str) -> AsyncIterator[Database]:
    client = connect(servers.mongo_url)
    yield client[f"{namespace}_photos"]
    client.close()


@pytest.fixture
async def store(database: Database) -> PhotoStore:
    store = PhotoStore(database)
    await store.ensure_indexes()
    await store.ensure_indexes()
    return store


async def read(store: PhotoStore, photo_id: str, size: Size = "original") -> bytes:
    stored = await store.get(photo_id, size)
    assert stored is not None
    data = b"".join([chunk async for chunk in stored.chunks])
    assert stored.length == len(data)
    assert stored.content_type == "image/jpeg"
    return data


async def counts(database: Database) -> tuple[int, ...]:
    return tuple(
        [await database[name].count_documents({}) for name in ("photos", "photos.files", "photos.chunks")],
    )


async def test_what_is_put_can_be_got_in_each_size(store: PhotoStore, photo: CleanPhoto) -> None:
    await store.put(photo, "citizen-1")
    assert len(photo.original.data) > 3 * 255 * 1024
    assert await read(store, photo.content_hash) == photo.original.data
    assert await read(store, photo.content_hash, "large") == photo.large.data
    assert await read(store, photo.content_hash, "small") == photo.small.data
    small = await store.get(photo.content_hash, "small")
    assert small is not None
    assert (small.width, small.height) == (320, 240)
    assert await store.owners(photo.content_hash) == ("citizen-1",)


async def test_what_was_not_put_is_not_there(store: PhotoStore, photo: CleanPhoto) -> None:
    assert await store.get(photo.content_hash) is None
    assert await store.owners(photo.content_hash) == ()
    assert await store.owned([photo.content_hash], "citizen-1") == {}


async def test_the_same_content_is_stored_once_for_each_owner(
    store: PhotoStore, database: Database, photo: CleanPhoto
) -> None:
    await store.put(photo, "citizen-1")
    once = await counts(database)
    for owner in ("citizen-1", "citizen-2", "citizen-2"):
        await store.put(photo, owner)
    assert await counts(database) == once
    assert sorted(await store.owners(photo.content_hash)) == ["citizen-1", "citizen-2"]
    other = prepare(images.jpeg(seed=8))
    await store.put(other, "citizen-1")
    asked = [photo.content_hash, other.content_hash, "0" * 64]
    assert await store.owned(asked, "citizen-1") == {photo.content_hash: (2400, 1800), other.content_hash: (640, 480)}
    assert await store.owned(asked, "citizen-2") == {photo.content_hash: (2400, 1800)}
    assert await store.owned(asked, "citizen-3") == {}


async def test_twenty_at_once(store: PhotoStore, database: Database, photo: CleanPhoto) -> None:
    await asyncio.gather(*(store.put(photo, f"citizen-{i}") for i in range(20)))
    chunks = sum(-(-len(r.data) // (255 * 1024)) for r in (photo.original, photo.large, photo.small))
    assert await counts(database) == (1, 3, chunks)
    assert sorted(await store.owners(photo.content_hash)) == sorted(f"citizen-{i}" for i in range(20))
    assert await read(store, photo.content_hash) == photo.original.data


async def test_sizes_may_be_the_same_file(store: PhotoStore, database: Database) -> None:
    """A photo that comes small and at the thumbnails' quality is its own thumbnail."""
    tiny = prepare(images.encoded(images.picture(200, 100), "JPEG", quality=80))
    await store.put(tiny, "citizen-1")
    assert tiny.original == tiny.large == tiny.small
    assert await counts(database) == (1, 1, 1)
    assert await read(store, tiny.content_hash, "small") == tiny.original.data


@pytest.mark.parametrize("left", ["no photo document", "no files", "some chunks"])
async def test_a_crash_half_way_is_not_seen_and_is_healed(
    store: PhotoStore, database: Database, photo: CleanPhoto, left: str
) -> None:
    await store.put(photo, "citizen-1")
    whole = await counts(database)
    await database["photos"].delete_many({})
    if left != "no photo document":
        await database["photos.files"].delete_many({})
    if left == "some chunks":
        await database["photos.chunks"].delete_many({"n": {"$in": [1, 2]}})
    assert await store.get(photo.content_hash) is None
    assert await store.owned([photo.content_hash], "citizen-1") == {}
    await store.put(photo, "citizen-2")
    assert await counts(database) == whole
    assert await read(store, photo.content_hash) == photo.original.data
    assert await store.owners(photo.content_hash) == ("citizen-2",)


async def test_a_write_that_is_cut_off_shows_nothing(store: PhotoStore, database: Database, photo: CleanPhoto) -> None:
    for after in (0.001, 0.003, 0.006, 0.012, 0.025):
        call = asyncio.create_task(store.put(photo, "citizen-1"))
        await asyncio.sleep(after)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        if await store.get(photo.content_hash) is not None:
            assert await read(store, photo.content_hash) == photo.original.data
    await store.put(photo, "citizen-1")
    assert await read(store, photo.content_hash) == photo.original.data


async def test_a_refusal_by_the_database_is_not_taken_for_a_repetition(
    store: PhotoStore, database: Database, photo: CleanPhoto
) -> None:
    await database.command("collMod", "photos.chunks", validator={"n": {"$lt": 2}})
    with pytest.raises(BulkWriteError):
        await store.put(photo, "citizen-1")
    assert await store.get(photo.content_hash) is None


async def test_any_gridfs_reader_can_read_it(
    store: PhotoStore, photo: CleanPhoto, servers: Servers, namespace: str
) -> None:
    await store.put(photo, "citizen-1")
    with MongoClient[Document](servers.mongo_url) as client:
        bucket = GridFSBucket(client[f"{namespace}_photos"], "photos")
        files = {file.read() for file in bucket.find({})}
        assert files == {photo.original.data, photo.large.data, photo.small.data}
        assert bucket.open_download_stream(hashlib.sha256(photo.small.data).hexdigest()).read() == photo.small.data
        assert not any(isinstance(file._id, ObjectId) for file in bucket.find({})), "named by content"


async def test_what_nothing_shows_is_removed_unless_it_is_stored_again_or_kept(
    store: PhotoStore, database: Database, photo: CleanPhoto
) -> None:
    shown, again = prepare(images.jpeg(seed=8)), prepare(images.jpeg(seed=9))
    for one in (photo, shown, again):
        await store.put(one, "citizen-1")
    assert set(await store.owned([photo.content_hash], "citizen-1")) == {photo.content_hash}
    old, before = now() - timedelta(days=2), now() - timedelta(days=1)
    await database["photos"].update_many({}, {"$set": {"stored_at": old}})
    assert {unused.id for unused in await store.unused(before, 9)} == {
        one.content_hash for one in (photo, shown, again)
    }
    assert await store.unused(before, 9, after=before) == []
    await store.keep([shown.content_hash])
    await store.put(again, "citizen-2")
    (unused,) = await store.unused(before, 9)
    assert (unused.id, unused.owners, await store.count_unused(before)) == (photo.content_hash, ("citizen-1",), 1)
    assert [await store.remove_unused(one.content_hash, before) for one in (photo, shown, again)] == [
        True,
        False,
        False,
    ]
    assert await store.get(photo.content_hash) is None
    assert await store.owned([photo.content_hash], "citizen-1") == {}, "nor is it remembered"
    assert await read(store, shown.content_hash) == shown.original.data
    assert await counts(database) == (2, 6, 6)


async def test_a_photo_is_somebodys_since_it_was_stored_last(
    store: PhotoStore, database: Database, photo: CleanPhoto
) -> None:
    await store.put(photo, "citizen-1")
    since = now() - timedelta(days=7)
    mine = {photo.content_hash: (2400, 1800)}
    assert await store.owned([photo.content_hash], "citizen-1", since) == mine
    await database["photos"].update_many({}, {"$set": {"stored_at": since - timedelta(days=1)}})
    other = PhotoStore(database)
    assert await other.owned([photo.content_hash], "citizen-1", since) == {}
    assert await other.owned([photo.content_hash], "citizen-1") == mine
    await store.put(photo, "citizen-1")
    assert await other.owned([photo.content_hash], "citizen-1", since) == mine, "what is remembered is asked again"
