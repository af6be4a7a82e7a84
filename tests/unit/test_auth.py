"""Tokens: what is accepted and remembered, and what happens when an issuer cannot be asked. How they are forged:
``tests/attack/test_tokens.py``."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from shared.auth import ALGORITHM, AUDIENCE, ISSUER, InvalidToken, KeysUnavailable, Principal, Verifier
from shared.sop import Role

KEY = ec.generate_private_key(ec.SECP256R1())
STRANGER = ec.generate_private_key(ec.SECP256R1())


def published(key: ec.EllipticCurvePrivateKey, kid: str) -> dict[str, Any]:
    """A key's entry in a JWKS (RFC 7517)."""
    public: dict[str, Any] = jwt.algorithms.ECAlgorithm.to_jwk(key.public_key(), as_dict=True)
    return public | {"kid": kid, "alg": ALGORITHM, "use": "sig"}


def claims(**changes: Any) -> dict[str, Any]:
    """What a good token claims, with changes; a claim of None is left out."""
    now = int(time.time())
    good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "siti", "role": "citizen", "iat": now, "exp": now + 60}
    return {name: value for name, value in (good | changes).items() if value is not None}


def signed(key: Any = KEY, alg: str = ALGORITHM, kid: str | None = "known", **changes: Any) -> str:
    return jwt.encode(claims(**changes), key, algorithm=alg, headers={"kid": kid} if kid else {})


def verifier(url: str = "http://127.0.0.1:1/jwks.json") -> Verifier:
    made = Verifier(url)
    made.trust(jwt.PyJWK(published(KEY, "known")))
    made._issuers[ISSUER][
        1
    ]._fetched_at = time.monotonic()  # as after a fetch: an unknown key is a forgery, not a reason to ask
    return made


async def test_a_good_token_names_its_account() -> None:
    made = verifier()
    assert await made.verify(signed()) == Principal("siti", Role.CITIZEN)
    agency = await made.verify(signed(sub="budi", role="agency_operator", agency="DPUPR"))
    assert agency == Principal("budi", Role.AGENCY_OPERATOR, "DPUPR")


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


async def test_a_token_that_was_verified_costs_no_second_look(monkeypatch: pytest.MonkeyPatch) -> None:
    made, token = verifier(), signed()
    first = await made.verify(token)

    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("verified again")

    monkeypatch.setattr(jwt, "decode", forbidden)
    monkeypatch.setattr("shared.auth._unverified", forbidden)
    assert await made.verify(token) is first


async def test_behind_an_issuer_that_does_not_answer_nobody_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shared.auth._FETCH_SECONDS", 0.5)
    monkeypatch.setattr("shared.auth._PAUSE_SECONDS", 0.0)

    async def silence(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(2)
        writer.close()

    async with await asyncio.start_server(silence, "127.0.0.1", 0) as server:
        made = Verifier(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys")
        with pytest.raises(KeysUnavailable):
            await made.verify(signed())
        asking = asyncio.create_task(made.verify(signed()))
        await asyncio.sleep(0.05)
        began = time.monotonic()
        for _ in range(20):
            with pytest.raises(KeysUnavailable):
                await made.verify(signed())
        assert time.monotonic() - began < 0.3, "they were told at once"
        with pytest.raises(KeysUnavailable):
            await asking
