"""The photos of the finished work, fetched from the service that holds them, with the machine account's token."""

import asyncio
import time
from collections.abc import Sequence

import httpx

from services.notify.settings import Settings
from shared.projection import Document

_MARGIN_SECONDS = 30.0


class Unavailable(Exception):
    """A photo cannot be fetched now; the text says why."""


class Evidence:
    """A signed-in client of the services that hold photos. It connects when it is first used."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._client = httpx.AsyncClient(timeout=settings.photo_timeout_seconds)
        self._token = ""
        self._valid_until = 0.0
        self._signing_in = asyncio.Lock()
        self._routes = {"opd": f"{settings.opd_url}/v1/work", "intake": f"{settings.intake_url}/v1/complaints"}

    async def fetch(self, complaint_id: str, photos: Sequence[Document]) -> list[bytes]:
        """The photos (references as in `shared.events.Photo`), longest side 1280 pixels, JPEG. Raises `Unavailable`."""
        try:
            async with asyncio.timeout(self._settings.photo_timeout_seconds):
                return [await self._one(complaint_id, photo) for photo in photos]
        except TimeoutError:
            raise Unavailable("photos-timeout") from None
        except (httpx.HTTPError, ValueError, KeyError) as error:
            raise Unavailable(type(error).__name__) from None

    async def _one(self, complaint_id: str, photo: Document) -> bytes:
        url = f"{self._routes[photo['held_by']]}/{complaint_id}/photos/{photo['id']}"
        for again in (False, True):
            headers = {"Authorization": f"Bearer {await self._sign_in(again=again)}"}
            answer = await self._client.get(url, params={"size": "large"}, headers=headers)
            if answer.status_code != httpx.codes.UNAUTHORIZED:
                break
        if answer.status_code != httpx.codes.OK:
            raise Unavailable(f"photos-{answer.status_code}")
        return answer.content

    async def _sign_in(self, *, again: bool) -> str:
        client_id, secret = self._settings.notify_client_id, self._settings.notify_client_secret
        if client_id is None or secret is None:
            raise Unavailable("no-machine-account")
        async with self._signing_in:
            if again or time.monotonic() > self._valid_until:
                answer = await self._client.post(
                    f"{self._settings.intake_url}/oauth/token",
                    data={"grant_type": "client_credentials"},
                    auth=(client_id, secret.get_secret_value()),
                )
                if answer.is_error:
                    raise Unavailable(f"sign-in-{answer.status_code}")
                grant = answer.json()
                self._token = str(grant["access_token"])
                self._valid_until = time.monotonic() + float(grant["expires_in"]) - _MARGIN_SECONDS
        return self._token

    async def close(self) -> None:
        """Close the connections."""
        await self._client.aclose()
