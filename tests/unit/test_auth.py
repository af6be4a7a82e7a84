"""Tokens: what is accepted, every way known to us of forging one, and what happens when sign-in cannot be asked."""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from fastapi import FastAPI

from shared import http
from shared.auth import ALGORITHM, AUDIENCE, ISSUER, InvalidToken, KeysUnavailable, Principal, Verifier
from shared.http import Caller
from shared.sop import Role

KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())


def published(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """A key's entry in a JWKS (RFC 7517)."""
    public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": kid, "alg": ALGORITHM, "use": "sig"}


PUBLIC_PEM = KEY.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token claims, with changes; a claim of None is left out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "siti", "role": "citizen", "iat": now, "exp": now + 60}
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: Any = KEY, alg: str = ALGORITHM, kid: str | None = "known", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=alg, headers={"kid": kid} if kid else {})


def by_hand(header: dict[str, Any], body: dict[str, Any], secret: bytes | None = None) -> str:
    """A token that no library would make: unsigned, or an HMAC with whatever secret."""

    def part(data: bytes) -> str:
        return base64.urlsafe_b64encode(data).decode().rstrip("=")

    text = part(json.dumps(header).encode()) + "." + part(json.dumps(body).encode())
    signature = hmac.new(secret, text.encode(), hashlib.sha256).digest() if secret else b""
    return f"{text}.{part(signature)}"


def tampered() -> str:
    header, _, signature = signed().split(".")
    body = base64.urlsafe_b64encode(json.dumps(claims(role="coordinator")).encode()).decode().rstrip("=")
    return f"{header}.{body}.{signature}"


FORGED = {
    "no signature": by_hand({"alg": "none", "kid": "known"}, claims()),
    "no signature, other spelling": by_hand({"alg": "nOnE", "kid": "known"}, claims()),
    "HMAC with the public key": by_hand({"alg": "HS256", "kid": "known"}, claims(), PUBLIC_PEM),
    "HMAC under the name of ES256": by_hand({"alg": "ES256", "kid": "known"}, claims(), PUBLIC_PEM),
    "RSA": signed(rsa.generate_private_key(65537, 2048), "RS256"),
    "another's key under our key's id": signed(STRANGER),
    "another's key under its own id": signed(STRANGER, kid="foreign"),
    "no key id": signed(kid=None),
    "key in the header": jwt.encode(claims(), STRANGER, ALGORITHM, {"kid": "mine", "jwk": published(STRANGER, "mine")}),
    "address of keys in the header": jwt.encode(claims(), STRANGER, ALGORITHM, {"kid": "m", "jku": "http://127.0.0.1"}),
    "claims changed": tampered(),
    "expired": signed(exp=int(time.time()) - 1),
    "not yet valid": signed(nbf=int(time.time()) + 60),
    "never expires": signed(exp=None),
    "issued by another": signed(iss="somebody"),
    "for another audience": signed(aud="another"),
    "no audience": signed(aud=None),
    "no account": signed(sub=None),
    "account is no text": signed(sub=7),
    "no role": signed(role=None),
    "unknown role": signed(role="mayor"),
    "role is a list": signed(role=["citizen"]),
    "no token": "",
    "garbage": "a.b.c",
    "one part": "abc",
    "not ASCII": "é.é.é",
}


def verifier(url: str = "http://127.0.0.1:1/jwks.json") -> Verifier:
    made = Verifier(url)
    made.trust(jwt.PyJWK(published(KEY, "known")))
    made._fetched_at = time.monotonic()  # as after a fetch: an unknown key is a forgery, not a reason to ask
    return made


async def test_a_good_token_names_its_account() -> None:
    made = verifier()
    assert await made.verify(signed()) == Principal("siti", Role.CITIZEN)
    agency = await made.verify(signed(sub="budi", role="agency_operator", agency="DPUPR"))
    assert agency == Principal("budi", Role.AGENCY_OPERATOR, "DPUPR")


@pytest.mark.parametrize("forgery", FORGED)
async def test_a_forged_token_is_refused(forgery: str) -> None:
    made = verifier()
    await made.verify(signed())
    with pytest.raises(InvalidToken) as refusal:
        await made.verify(FORGED[forgery])
    assert not FORGED[forgery] or FORGED[forgery] not in str(refusal.value)


@pytest.mark.parametrize("forgery", FORGED)
async def test_over_http_a_forged_token_is_401(forgery: str) -> None:
    app = FastAPI()
    app.state.verifier = verifier()
    http.install(app)

    @app.get("/me")
    async def me(principal: Caller) -> str:
        return principal.id

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://service") as client:
        authorization = b"Bearer " + FORGED[forgery].encode("latin-1")
        answer = await client.get("/me", headers={b"Authorization": authorization})
        assert answer.status_code == 401
        assert answer.headers["content-type"] == "application/problem+json"
        good = await client.get("/me", headers={"Authorization": f"Bearer {signed()}"})
        assert good.json() == "siti"


async def test_a_remembered_token_expires_all_the_same() -> None:
    made, token = verifier(), signed(exp=int(time.time()) + 1)
    assert await made.verify(token) == await made.verify(token)
    await asyncio.sleep(1.1)
    with pytest.raises(InvalidToken, match="expired"):
        await made.verify(token)


async def test_no_more_tokens_are_remembered_than_told() -> None:
    made = Verifier("http://127.0.0.1:1", remembered=3)
    made.trust(jwt.PyJWK(published(KEY, "known")))
    for account in range(10):
        await made.verify(signed(sub=str(account)))
    assert len(made._verified) == 3


@asynccontextmanager
async def issuer(answers: list[bytes]) -> AsyncIterator[tuple[str, list[int]]]:
    """A server of keys, and how often it was asked; it gives ``answers`` one after the other, the last again."""
    asked: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.append(len(asked))
        body = answers[min(len(asked), len(answers)) - 1]
        status = b"200 OK" if body else b"500 Broken"
        writer.write(b"HTTP/1.1 %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (status, len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/.well-known/jwks.json", asked


def jwks(*kids: str) -> bytes:
    return json.dumps({"keys": [published(KEY, kid) for kid in kids]}).encode()


async def test_keys_are_fetched_once_however_many_ask() -> None:
    async with issuer([jwks("known")]) as (url, asked):
        made = Verifier(url)
        found = await asyncio.gather(*(made.verify(signed(sub=str(n))) for n in range(20)))
    assert [principal.id for principal in found] == [str(n) for n in range(20)]
    assert len(asked) == 1


async def test_a_new_key_is_fetched_and_unknown_ones_do_not_storm_the_issuer() -> None:
    async with issuer([jwks("known"), jwks("known", "next")]) as (url, asked):
        made = Verifier(url, refetch_seconds=0.2)
        await made.verify(signed())
        await asyncio.sleep(0.25)
        assert (await made.verify(signed(kid="next"))).id == "siti", "the issuer has changed its key"
        for n in range(50):
            with pytest.raises(InvalidToken, match="unknown"):
                await made.verify(signed(STRANGER, kid=f"made-up-{n}"))
    assert len(asked) <= 3


@pytest.mark.parametrize(
    "broken", [b"", b"<html>", b"[]", b'{"keys": []}', b'{"keys": 7}', b'{"keys": [{"kty": "EC"}]}']
)
async def test_an_issuer_that_cannot_be_read_is_asked_again(broken: bytes) -> None:
    async with issuer([broken, jwks("known")]) as (url, asked):
        made = Verifier(url)
        with pytest.raises(KeysUnavailable):
            await made.verify(signed())
        with pytest.raises(KeysUnavailable):
            await made.verify(signed())
        assert len(asked) == 1, "not at once"
        await asyncio.sleep(1.05)
        assert (await made.verify(signed())).id == "siti"


async def test_without_the_issuer_known_keys_still_serve() -> None:
    made = Verifier("http://127.0.0.1:1/jwks.json")
    made.trust(jwt.PyJWK(published(KEY, "known")))
    with pytest.raises(KeysUnavailable):
        await made.verify(signed(STRANGER, kid="foreign"))
    assert (await made.verify(signed())).id == "siti"
