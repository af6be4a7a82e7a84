"""All that intake has about a citizen, as one file to take away (UU PDP 27/2022, articles 7 and 13): a zip of JSON and
photos.

It is written complaint by complaint and photo by photo into a temporary file, which nobody can open by a name and which
goes with its handle, so its size costs no memory; and in threads, so that nobody waits for it but whoever asked.
"""

import asyncio
import zipfile
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from tempfile import SpooledTemporaryFile

from pydantic import BaseModel

from shared.events import now
from shared.media_store import StoredPhoto

_IN_MEMORY = 2**20
_CHUNK_BYTES = 2**18

README = """Ini adalah salinan data Anda di LAPOR! Pontianak.

data.json             data diri, siapa dari petugas yang melihatnya, dan tempat Anda masuk
laporan/<nomor>/      satu folder untuk setiap laporan Anda:
  laporan.json        laporan, semua versinya, status, dan riwayatnya
  foto-1.jpg ...      foto yang Anda kirim, tanpa lokasi dan data kamera

Kotak masuk dan pilihan pemberitahuan Anda ada di layanan pemberitahuan (GET /v1/me/export di sana). Foto
pekerjaan yang selesai disimpan oleh OPD dan dapat dilihat pada halaman laporan.
"""


class Archive:
    """A zip that is being written. Its methods do not hold up the event loop."""

    def __init__(self) -> None:
        self._file = SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115 - closed by `chunks` or `close`
        self._zip = zipfile.ZipFile(self._file, "w", zipfile.ZIP_DEFLATED)

    async def add_json(self, path: str, content: BaseModel) -> None:
        """A model as JSON that people can read."""
        await asyncio.to_thread(self._zip.writestr, path, content.model_dump_json(indent=2))

    async def add_text(self, path: str, content: str) -> None:
        """A text."""
        await asyncio.to_thread(self._zip.writestr, path, content)

    async def add_photo(self, path: str, photo: StoredPhoto) -> None:
        """A photo as it is stored: it is compressed already."""
        entry = zipfile.ZipInfo(path, now().timetuple()[:6])
        with self._zip.open(entry, "w") as target:
            async for chunk in photo.chunks:
                await asyncio.to_thread(target.write, chunk)

    async def finish(self) -> int:
        """No more is added; returns the length in bytes."""
        await asyncio.to_thread(self._zip.close)
        return self._file.tell()

    async def chunks(self) -> AsyncIterator[bytes]:
        """What was written, from its beginning; then, or when nobody wants more, it is gone."""
        try:
            self._file.seek(0)
            while chunk := await asyncio.to_thread(self._file.read, _CHUNK_BYTES):
                yield chunk
        finally:
            self.close()

    def close(self) -> None:
        """Give it up."""
        with suppress(ValueError, OSError):  # what is half-written cannot be ended well
            self._zip.close()
        self._file.close()


class Exports:
    """How many may be made at a time in one process, and of one person."""

    def __init__(self, at_a_time: int = 2) -> None:
        self._at_a_time = at_a_time
        self._under_way: set[str] = set()

    @contextmanager
    def one(self, citizen_id: str, again: Exception, busy: Exception) -> Iterator[None]:
        """While an export of a citizen's data is made. Raises ``again`` if another of theirs is, and ``busy`` if too
        many are."""
        if citizen_id in self._under_way:
            raise again
        if len(self._under_way) >= self._at_a_time:
            raise busy
        self._under_way.add(citizen_id)
        try:
            yield
        finally:
            self._under_way.discard(citizen_id)
