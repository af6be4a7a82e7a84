"""Photos over HTTP, the same in each service that takes them: upload as the request's body, check, keep, claim,
serve."""

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import timedelta
from typing import Literal

import structlog
from fastapi import Request
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field
from starlette.requests import ClientDisconnect

from shared import telemetry
from shared.admission import within
from shared.events import Photo, now
from shared.http import Problem, busy, invalid, not_found
from shared.journal import Overloaded
from shared.limits import too_often
from shared.media import Limits, PhotoRefused, Size, too_large
from shared.media_store import PhotoStore
from shared.media_workers import PhotoWorkers
from shared.scanner import Clamd, ScannerAway
from shared.service import Service

log = structlog.get_logger()

__all__ = ["USABLE", "PhotoSettings", "Photos", "Size", "serve_photo"]

USABLE = timedelta(days=7)
"""How long after its upload a photo that nothing shows can be used."""


class PhotoSettings(BaseModel):
    """What a photo may be, and how many are prepared at a time (``LAPOR_PHOTOS__MAX_BYTES`` and so on)."""

    max_bytes: int = Field(10 * 2**20, gt=0)
    max_pixels: int = Field(40_000_000, gt=0)
    workers: int = Field(2, ge=1)
    waiting: int = Field(32, ge=1)
    seconds: float = Field(120, gt=0, description="within which a photo must be there")
    per_owner: int = Field(8, ge=1, description="photos that one citizen or agency sends at a time")


class Photos:
    """The photos of one service, which is named in their references (``held_by``). Where photos that nothing shows are
    removed in time, ``shown`` gives the ids of those that something of an owner's does."""

    def __init__(
        self,
        service: Service,
        held_by: Literal["intake", "opd"],
        settings: PhotoSettings,
        shown: Callable[[str], Awaitable[Collection[str]]] | None = None,
    ) -> None:
        self._held_by: Literal["intake", "opd"] = held_by
        self._shown = shown
        self._limits = Limits(settings.max_bytes, settings.max_pixels)
        self._most = settings.workers + settings.waiting
        self._seconds = settings.seconds
        self._per_owner = settings.per_owner
        self._receiving: Counter[str] = Counter()
        self._scanner = Clamd(service.settings.clamd) if service.settings.clamd else None
        self._scan_required = service.settings.clamd_required
        self._workers = PhotoWorkers(settings.workers, settings.waiting, self._limits)
        self.store = PhotoStore(service.database)
        service.before_start(self._workers.start)
        service.before_start(self.store.ensure_indexes)
        service.after_stop(self._workers.stop)

    async def receive(self, request: Request, owner: str) -> Photo:
        """Take the request's body as a photo of ``owner``. Raises the problem of its refusal (408, 413, 415, 422,
        or 429 for one who sends too many at a time), or Overloaded: photos on their way take memory, so only as many
        are read as can be prepared."""
        if self._receiving[owner] >= self._per_owner:
            raise too_often(2)
        if self._receiving.total() >= self._most:
            raise Overloaded("too many photos are on their way")
        self._receiving[owner] += 1
        try:
            return await self._take(request, owner)
        finally:
            self._receiving[owner] -= 1
            if not self._receiving[owner]:
                del self._receiving[owner]

    async def _take(self, request: Request, owner: str) -> Photo:
        try:
            data = await self._read(request)
            if not data:
                detail = "The request's body is empty: send the photo's bytes as the body."
                raise invalid("body", detail, "Foto kosong.")
            await self._scan(data)
            clean = await self._workers.prepare(data)
        except PhotoRefused as refusal:
            telemetry.PHOTOS.labels(refusal.reason.value).inc()
            status = {"photo-too-large": 413, "photo-format-not-supported": 415, "photo-not-an-image": 415}
            code = status.get(refusal.reason.value, 422)
            leave = {"Connection": "close"} if code == 413 else None
            raise Problem(code, refusal.reason.value, refusal.message, refusal.message_id, headers=leave) from None
        await self.store.put(clean, owner)
        telemetry.PHOTOS.labels("accepted").inc()
        return self._reference(clean.content_hash, clean.original.width, clean.original.height)

    async def _read(self, request: Request) -> bytes:
        """The body. What is too large is not read to its end, and not at all if it says so; what is too slow neither.
        Raises PhotoRefused, or 408."""
        most = self._limits.max_bytes
        if int(request.headers.get("content-length", 0)) > most:
            raise too_large(self._limits)
        data = bytearray()
        until = asyncio.get_running_loop().time() + self._seconds
        while True:
            message = await within(until, request.receive)
            if message["type"] == "http.disconnect":
                raise ClientDisconnect
            data += message.get("body", b"")
            if len(data) > most:
                raise too_large(self._limits)
            if not message.get("more_body", False):
                return bytes(data)

    async def _scan(self, data: bytes) -> None:
        """Raises 422 for what the scanner finds something in, and 503 without its verdict if there must be one."""
        if self._scanner is None:
            return
        try:
            infected = await self._scanner.infected(data)
        except ScannerAway as away:
            telemetry.PHOTOS.labels("not-scanned").inc()
            log.warning("a photo was not scanned", reason=str(away))
            if self._scan_required:
                raise busy() from None
            return
        if infected:
            telemetry.PHOTOS.labels("photo-infected").inc()
            detail = "A virus scanner found something harmful in this file. Take another photo."
            raise Problem(422, "photo-infected", detail, "Berkas ini mengandung kode berbahaya. Kirim foto lain.")

    async def claim(self, ids: Sequence[str], owner: str) -> tuple[Photo, ...]:
        """References to photos that ``owner`` has uploaded. Raises 422 with the field for an id that is not one of
        them.

        Where photos that nothing shows are removed in time (`shared.kept.PHOTOS`), one that may be about to be is not
        to be had long before: what is filed just now holds none of them."""
        known = await self.store.owned(ids, owner, since=now() - USABLE if self._shown else None)
        if self._shown and (older := [photo_id for photo_id in ids if photo_id not in known]):
            shown = await self._shown(owner)
            known |= await self.store.owned([photo_id for photo_id in older if photo_id in shown], owner)
        for position, photo_id in enumerate(ids):
            if photo_id not in known:
                field = f"body.photos.{position}"
                detail = "You have uploaded no such photo, or longer than a week ago; upload it first."
                raise invalid(field, detail, "Foto belum diunggah, atau sudah lebih dari seminggu: unggah lagi.")
        return tuple(self._reference(i, *known[i]) for i in dict.fromkeys(ids))

    def _reference(self, photo_id: str, width: int, height: int) -> Photo:
        return Photo(id=photo_id, held_by=self._held_by, content_type="image/jpeg", width=width, height=height)


async def serve_photo(photos: Photos, photo_id: str, size: Size) -> StreamingResponse:
    """A photo's bytes. Who may see it has been decided before. Raises 404."""
    stored = await photos.store.get(photo_id, size)
    if stored is None:
        raise not_found("photo")
    headers = {
        "Content-Length": str(stored.length),
        "Cache-Control": "private, max-age=3600",
        "X-Content-Type-Options": "nosniff",
        "Content-Disposition": f'inline; filename="{photo_id[:12]}.jpg"',
    }
    return StreamingResponse(stored.chunks, media_type=stored.content_type, headers=headers)
