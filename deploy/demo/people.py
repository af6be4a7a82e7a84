"""The people of the demo, each signed in and acting over the public HTTP APIs as a frontend would."""

import asyncio
import email
import email.policy
import re
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import httpx

from deploy.demo.target import SignIn, Target

Json = dict[str, Any]
PATIENCE = 30.0
"""Seconds that a person waits for a case to reach the desk: the events need a moment, and a busy machine a longer
one."""


class DemoFailed(Exception):
    """A step did not happen as the procedure says; the text tells which and what was seen instead."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who a person is in the demo's output."""

    name: str
    role: str
    login: str


class Person:
    """One signed-in account. Requests that create carry an Idempotency-Key, as every client should."""

    def __init__(self, target: Target, identity: Identity, password: str) -> None:
        self._target = target
        self.identity = identity
        self._password = password
        self._client = httpx.AsyncClient(timeout=30)

    async def __aenter__(self) -> "Person":
        answer = await self._client.post(
            f"{self._target.urls['intake']}/v1/tokens", json={"login": self.identity.login, "password": self._password}
        )
        self._client.headers["Authorization"] = f"Bearer {_json(answer)['access_token']}"
        return self

    async def __aexit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        await self._client.aclose()

    async def get(self, service: str, path: str, **query: Any) -> Json:
        """GET as JSON. Raises DemoFailed with the problem's detail."""
        return _json(await self._client.get(self._target.urls[service] + path, params=query))

    async def post(self, service: str, path: str, body: Json) -> Json:
        """POST as JSON, once. Raises DemoFailed with the problem's detail."""
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        return _json(await self._client.post(self._target.urls[service] + path, json=body, headers=headers))

    async def photo(self, service: str, data: bytes) -> str:
        """Upload a photo; its id."""
        answer = await self._client.post(
            f"{self._target.urls[service]}/v1/photos", content=data, headers={"Content-Type": "image/jpeg"}
        )
        photo_id: str = _json(answer)["id"]
        return photo_id

    async def can(self, service: str, path: str, move: str) -> Json:
        """Wait until the case has reached this person's desk and ``move`` is among what is allowed there."""
        deadline = time.monotonic() + PATIENCE
        seen = "nothing"
        while time.monotonic() < deadline:
            answer = await self._client.get(self._target.urls[service] + path)
            if answer.status_code == 200:
                case: Json = answer.json()
                if move in case["allowed"]:
                    return case
                seen = f"status {case['status']}, allowed {case['allowed']}"
            else:
                seen = f"{answer.status_code} {answer.text[:200]}"
            await asyncio.sleep(0.05)
        raise DemoFailed(f"{self.identity.name} could not make the move {move} within {PATIENCE:.0f} s: {seen}")


def _json(answer: httpx.Response) -> Json:
    if answer.is_error:
        raise DemoFailed(f"{answer.request.method} {answer.request.url}: {answer.status_code} {answer.text[:500]}")
    content: Json = answer.json()
    return content


def staff(target: Target, role: str, agency: str | None = None) -> Person:
    """The account of the target that has a role; enter it to sign in."""
    account: SignIn = target.who(role, agency)
    return Person(target, Identity(account.name, account.role, account.login), account.password)


async def citizen(target: Target, name: str, language: str = "id", say: Callable[[str], None] | None = None) -> Person:
    """A citizen who registers now, under an address that no earlier run has used; enter it to sign in. ``say`` is told
    of the code that came."""
    address = f"{name.split()[0].lower()}.{secrets.token_hex(3)}@warga.example"
    password = secrets.token_urlsafe(12)
    await register(target, {"name": name, "email": address, "password": password, "language": language}, say)
    return Person(target, Identity(name, "citizen", address), password)


async def register(target: Target, who: Json, say: Callable[[str], None] | None = None) -> Json:
    """Register with an e-mail address, and confirm it by the code that comes there; what is answered then. Raises
    DemoFailed."""
    async with httpx.AsyncClient(base_url=target.urls["intake"], timeout=30) as client:
        headers = {"Idempotency-Key": secrets.token_hex(16)}
        asked = _json(await client.post("/v1/citizens", json=who, headers=headers))
        code = await code_sent(target, who["email"])
        if say:
            say(f"{who['name']} registers: code {code} came by e-mail to {asked['sent_to']} and confirms the address")
        given = {"registration_id": asked["registration_id"], "code": code}
        return _json(await client.post("/v1/citizens/confirm", json=given))


async def code_sent(target: Target, address: str) -> str:
    """The one-time code in the latest e-mail to an address, once it has come. Raises DemoFailed."""
    deadline = time.monotonic() + PATIENCE
    read: set[str] = set()
    while time.monotonic() < deadline:
        unread = {path.name for path in target.mail_dir.glob("*.eml")} - read
        for name in sorted(unread, reverse=True):
            mail = email.message_from_bytes((target.mail_dir / name).read_bytes(), policy=email.policy.default)
            body = mail.get_body(("plain",))
            if mail["X-Envelope-To"] == address and body and (code := re.search(r"\b\d{6}\b", body.get_content())):
                return code[0]
        read |= unread
        await asyncio.sleep(0.05)
    raise DemoFailed(f"no code came to {address} within {PATIENCE:.0f} s")
