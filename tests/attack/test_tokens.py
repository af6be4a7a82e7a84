"""Every way known to us of forging a token, against a running service: 401 as a problem, and nothing has changed.

The service trusts intake and two issuers besides, whose keys we hold: so that a token can be right in all things but
one. An address in a token's header leads to a trap, which nobody must visit.
"""

import asyncio
import base64
import hashlib
import hmac
import json
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from deploy.local.servers import Servers
from shared.auth import AUDIENCE, ISSUER, LONGEST_TOKEN
from shared.issuers import DISCOVERY, ExternalIssuer
from shared.sop import Role
from tests.support import tokens
from tests.support.events import Chain
from tests.support.routing import BODIES, Routing, routing_at_work

Json = dict[str, Any]
INTAKE_KID, INTAKE_KEY = tokens.signing_key()
RSA_KEY, EC_KEY = rsa.generate_private_key(65537, 2048), ec.generate_private_key(ec.SECP256R1())
STRANGER, STRANGER_RSA = ec.generate_private_key(ec.SECP256R1()), rsa.generate_private_key(65537, 2048)
SAME_KID = "1"
"""The key id that both issuers use, each for a key of its own."""
ROLES = {"pusat": {"role": "central_operator"}, "dinas": {"role": "agency_operator"}}


def pem(key: Any) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key.public_key().public_bytes(serialization.Encoding.PEM, form))


def published(key: Any, kid: str, **more: Any) -> Json:
    """A public key as a JWK."""
    kind = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**kind.to_jwk(key.public_key(), as_dict=True), "kid": kid, **more}


@dataclass
class Site:
    """An HTTP server of fixed documents; ``asked`` are the paths that were asked for."""

    url: str = ""
    documents: dict[str, Json] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)

    def issuer(self, *keys: Json) -> None:
        """Make it an issuer with these keys."""
        self.documents[DISCOVERY] = {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        self.documents["/keys"] = {"keys": list(keys)}


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    """A server on loopback."""
    made = Site()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1].decode()
        made.asked.append(path)
        body = json.dumps(made.documents.get(path, {})).encode()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(body), body))
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    async with server:
        made.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        yield made


def compact(header: Json | bytes, claims: Json | bytes, key: Any = None, alg: str = "ES256") -> str:
    """A token as it stands there, whatever is in it. ``key`` None: no signature; bytes: an HMAC."""

    def part(data: Json | bytes) -> str:
        raw = data if isinstance(data, bytes) else json.dumps(data).encode()
        return base64.urlsafe_b64encode(raw).decode().rstrip("=")

    text = f"{part(header)}.{part(claims)}"
    if key is None:
        signature = b""
    elif isinstance(key, bytes):
        signature = hmac.new(key, text.encode(), hashlib.sha256).digest()
    else:
        signature = jwt.get_algorithm_by_name(alg).sign(text.encode(), key)
    return f"{text}.{part(signature)}"


@dataclass
class Target:
    """The service under attack, its issuers, and the trap."""

    routing: Routing
    first: Site
    second: Site
    trap: Site

    def intake_claims(self, **changes: Any) -> Json:
        now = int(time.time())
        good = {"iss": ISSUER, "aud": AUDIENCE, "sub": "siti", "role": "central_operator", "iat": now, "exp": now + 60}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def claims(self, **changes: Any) -> Json:
        """What a good token of the first issuer claims; None leaves one out."""
        now = int(time.time())
        good = {"iss": self.first.url, "aud": "lapor", "sub": "p1", "groups": ["pusat"], "iat": now, "exp": now + 60}
        return {name: value for name, value in (good | changes).items() if value is not None}

    def intake(self, header: Json | None = None, key: Any = INTAKE_KEY, **changes: Any) -> str:
        head = {"alg": "ES256", "kid": INTAKE_KID, "typ": "JWT"} | (header or {})
        return compact({k: v for k, v in head.items() if v is not None}, self.intake_claims(**changes), key, "ES256")

    def external(self, header: Json | None = None, key: Any = RSA_KEY, alg: str = "RS256", **changes: Any) -> str:
        head = {"alg": alg, "kid": SAME_KID, "typ": "JWT"} | (header or {})
        return compact({k: v for k, v in head.items() if v is not None}, self.claims(**changes), key, alg)

    def hidden_key(self, header: Json) -> str:
        """A stranger's key offered in the header."""
        return self.external({"kid": "mine"} | header, STRANGER_RSA)

    def tampered(self) -> str:
        head, _, signature = self.intake(role="citizen").split(".")
        body = base64.urlsafe_b64encode(json.dumps(self.intake_claims()).encode()).decode().rstrip("=")
        return f"{head}.{body}.{signature}"

    def repeated(self, where: str) -> str:
        """Signed by intake, with a name that stands twice in one of its parts."""
        claims = json.dumps(self.intake_claims(role="citizen"))
        header = json.dumps({"alg": "ES256", "kid": INTAKE_KID})
        if where == "claims":
            claims = claims[:-1] + ', "role": "central_operator"}'
        else:
            header = header[:-1] + ', "alg": "ES256"}'
        return compact(header.encode(), claims.encode(), INTAKE_KEY)


def raw(body: bytes) -> Callable[[Target], str]:
    return lambda _: compact({"alg": "ES256", "kid": INTAKE_KID}, body, INTAKE_KEY)


DEEP = b'{"a":' + b"[" * 2900 + b"]" * 2900 + b"}"
HOUR = 3600

FORGERIES: dict[str, Callable[[Target], str]] = {
    "no token": lambda _: "",
    "garbage": lambda _: "a.b.c",
    "one part": lambda _: "abc",
    "not ASCII": lambda _: "é.é.é",
    "no signature": lambda t: compact({"alg": "none", "kid": INTAKE_KID}, t.intake_claims()),
    "no signature, other spelling": lambda t: compact({"alg": "nOnE", "kid": INTAKE_KID}, t.intake_claims()),
    "no signature under ES256": lambda t: compact({"alg": "ES256", "kid": INTAKE_KID}, t.intake_claims()),
    "no signature, external": lambda t: compact({"alg": "none", "kid": SAME_KID}, t.claims()),
    "zeros as signature": lambda t: t.intake().rpartition(".")[0] + "." + "A" * 86,
    "HMAC with intake's public key": lambda t: t.intake({"alg": "HS256"}, pem(INTAKE_KEY)),
    "HMAC under the name of ES256": lambda t: t.intake(key=pem(INTAKE_KEY)),
    "HMAC with an issuer's public key": lambda t: t.external({"alg": "HS256"}, pem(RSA_KEY)),
    "HMAC under the name of RS256": lambda t: t.external(key=pem(RSA_KEY)),
    "HMAC with a published secret": lambda t: t.external({"alg": "HS256", "kid": "secret"}, b"published"),
    "an algorithm that intake does not use": lambda t: compact(
        {"alg": "RS256", "kid": INTAKE_KID}, t.intake_claims(), RSA_KEY, "RS256"
    ),
    "an algorithm that is not configured": lambda t: t.external(alg="RS512"),
    "an elliptic key under the name of RS256": lambda t: t.external({"alg": "RS256", "kid": "ec"}, EC_KEY, "ES256"),
    "algorithm is a list": lambda t: t.external({"alg": ["RS256"]}),
    "no algorithm": lambda t: t.external({"alg": None}),
    "another's key under intake's id": lambda t: t.intake(key=STRANGER),
    "another's key under its own id": lambda t: t.intake({"kid": "foreign"}, STRANGER),
    "another's key under the issuer's id": lambda t: t.external(key=STRANGER_RSA),
    "no key id, intake": lambda t: t.intake({"kid": None}),
    "no key id where there are several": lambda t: t.external({"kid": None}),
    "key id is a number": lambda t: t.intake({"kid": 1}),
    "key id is a path": lambda t: t.external({"kid": "../../../dev/null"}),
    "key id is an operator": lambda t: t.external({"kid": {"$ne": None}}),
    "key in the header": lambda t: t.hidden_key({"jwk": published(STRANGER_RSA, "mine")}),
    "address of keys": lambda t: t.hidden_key({"jku": f"{t.trap.url}/keys"}),
    "address of a certificate": lambda t: t.hidden_key({"x5u": f"{t.trap.url}/x"}),
    "certificate in the header": lambda t: t.hidden_key({"x5c": ["MIIB"]}),
    "address of keys, intake": lambda t: t.intake({"kid": "m", "jku": f"{t.trap.url}/keys"}, STRANGER),
    "an extension that must be understood": lambda t: t.intake({"crit": ["exp"], "exp": 1}),
    "payload that is not encoded": lambda t: t.intake({"b64": False, "crit": ["b64"]}),
    "claims changed": lambda t: t.tampered(),
    "expired": lambda t: t.intake(exp=int(time.time()) - 1),
    "expired, external": lambda t: t.external(exp=int(time.time()) - 30),
    "not yet valid": lambda t: t.intake(nbf=int(time.time()) + 60),
    "issued tomorrow": lambda t: t.external(iat=int(time.time()) + HOUR, exp=int(time.time()) + 2 * HOUR),
    "valid for too long": lambda t: t.external(exp=int(time.time()) + 48 * HOUR),
    "never expires": lambda t: t.intake(exp=None),
    "never expires, external": lambda t: t.external(exp=None),
    "expires at infinity": lambda t: compact(
        {"alg": "RS256", "kid": SAME_KID},
        json.dumps(t.claims()).replace(str(t.claims()["exp"]), "1e999").encode(),
        RSA_KEY,
        "RS256",
    ),
    "expiry is a text": lambda t: t.intake(exp="tomorrow"),
    "no time of issue": lambda t: t.external(iat=None),
    "time of issue is a list": lambda t: t.external(iat=[1]),
    "another audience": lambda t: t.intake(aud="another"),
    "another audience, external": lambda t: t.external(aud="another"),
    "no audience": lambda t: t.intake(aud=None),
    "no audience, external": lambda t: t.external(aud=None),
    "audience is a number": lambda t: t.external(aud=7),
    "unknown issuer": lambda t: t.intake(iss="somebody"),
    "unknown issuer with an address": lambda t: t.external(iss=t.trap.url),
    "issuer spelled another way": lambda t: t.external(iss=t.first.url + "/"),
    "no issuer": lambda t: t.external(iss=None),
    "issuer is a list": lambda t: t.external(iss=[t.first.url]),
    "an issuer's key for intake's token": lambda t: t.intake({"kid": SAME_KID}, EC_KEY),
    "intake's key for an issuer's token": lambda t: t.external({"kid": INTAKE_KID}, INTAKE_KEY, "ES256"),
    "the first issuer's key for the second's token": lambda t: t.external(iss=t.second.url),
    "the second issuer's key for the first's token": lambda t: t.external(key=EC_KEY, alg="ES256"),
    "no account": lambda t: t.intake(sub=None),
    "no account, external": lambda t: t.external(sub=None),
    "account is empty": lambda t: t.intake(sub=""),
    "account is empty, external": lambda t: t.external(sub=""),
    "account is a number": lambda t: t.intake(sub=7),
    "account is an operator": lambda t: t.intake(sub={"$ne": None}),
    "account is very long": lambda t: t.external(sub="x" * 300),
    "no role": lambda t: t.intake(role=None),
    "unknown role": lambda t: t.intake(role="mayor"),
    "role is a list": lambda t: t.intake(role=["central_operator"]),
    "agency is a list": lambda t: t.intake(role="agency_operator", agency=["DPUPR"]),
    "no groups": lambda t: t.external(groups=None),
    "groups outside of the map": lambda t: t.external(groups=["central_operator", "admin", "PUSAT"]),
    "intake's role from an issuer": lambda t: t.external(groups=None, role="central_operator"),
    "groups is an object": lambda t: t.external(groups={"pusat": True}),
    "groups holds a number": lambda t: t.external(groups=["pusat", 7]),
    "an agency's operator without agency": lambda t: t.external(groups=["dinas"]),
    "an agency that is a list": lambda t: t.external(groups=["dinas"], opd=["DPUPR"]),
    "a name twice in the claims": lambda t: t.repeated("claims"),
    "a name twice in the header": lambda t: t.repeated("header"),
    "claims are a list": raw(b"[]"),
    "claims are no JSON": raw(b"{'iss': 1}"),
    "claims are not UTF-8": raw(b'{"iss": "\xff"}'),
    "claims are deep": raw(DEEP),
    "header is deep": lambda t: compact(DEEP, t.intake_claims(), INTAKE_KEY),
    "header is a text": lambda t: compact(b'"ES256"', t.intake_claims(), INTAKE_KEY),
    "very long": lambda t: t.intake(name="x" * LONGEST_TOKEN),
    "encrypted": lambda _: "a.b.c.d.e",
}


@pytest.fixture(scope="module")
async def target(servers: Servers) -> AsyncIterator[Target]:
    """A routing service that trusts two issuers besides intake."""
    async with site() as intake, site() as first, site() as second, site() as trap:
        intake.documents["/.well-known/jwks.json"] = {"keys": [published(INTAKE_KEY, INTAKE_KID)]}
        oct_key = {"kty": "oct", "kid": "secret", "k": base64.urlsafe_b64encode(b"published").decode()}
        first.issuer(published(RSA_KEY, SAME_KID), published(EC_KEY, "ec"), oct_key)
        second.issuer(published(EC_KEY, SAME_KID))
        issuers = [
            ExternalIssuer.model_validate(
                {"issuer": s.url, "audience": "lapor", "roles": ROLES, "agency_claim": "opd", "leeway_seconds": 2}
            )
            for s in (first, second)
        ]
        async with routing_at_work(servers, issuers=issuers, intake_url=intake.url) as routing:
            yield Target(routing, first, second, trap)


async def forward(target: Target, chain: Chain, token: str) -> httpx.Response:
    authorization = b"Bearer " + token.encode("utf-8", "surrogateescape")
    headers = {b"Authorization": authorization, b"Content-Type": b"application/json"}
    path = f"/v1/cases/{chain.complaint_id}/forward"
    return await target.routing.client.post(path, content=json.dumps(BODIES["forward"]), headers=headers)


async def test_the_tokens_that_forgeries_are_made_of_are_good(target: Target) -> None:
    good = {
        "intake": target.intake(),
        "external": target.external(),
        "second issuer, same key id": target.external(key=EC_KEY, alg="ES256", iss=target.second.url),
        "second issuer, its only key": target.external({"kid": None}, EC_KEY, "ES256", iss=target.second.url),
        "longest": target.intake(name="x" * (LONGEST_TOKEN * 3 // 4 - 400)),
    }
    for name, token in good.items():
        assert (await forward(target, await target.routing.has(Chain()), token)).status_code == 201, name


@pytest.mark.parametrize("forgery", FORGERIES)
async def test_a_forged_token_is_refused_and_changes_nothing(target: Target, forgery: str) -> None:
    chain, token = await target.routing.has(Chain()), FORGERIES[forgery](target)
    before = await target.routing.case(chain)
    answer = await forward(target, chain, token)
    assert answer.status_code == 401, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["www-authenticate"] == "Bearer"
    problem = answer.json()
    assert problem["type"] == "urn:lapor:problem:sign-in-required"
    assert problem["message"] == "Silakan masuk terlebih dahulu."
    assert not token or token not in answer.text
    assert await target.routing.case(chain) == before
    assert (await target.routing.move(Role.CENTRAL_OPERATOR, chain, "forward")).status_code == 201
    assert target.trap.asked == []


async def test_made_up_keys_do_not_storm_an_issuer(target: Target) -> None:
    chain = await target.routing.has(Chain())
    before = len(target.first.asked)
    made_up = [target.external({"kid": f"made-up-{n}"}, STRANGER_RSA) for n in range(50)]
    answers = await asyncio.gather(*(forward(target, chain, token) for token in made_up))
    assert {answer.status_code for answer in answers} == {401}
    assert len(target.first.asked) - before <= 2, "one fetch: the discovery document and the keys"


async def test_a_header_of_many_tokens_is_read_as_none(target: Target) -> None:
    chain, good = await target.routing.has(Chain()), target.intake()
    for text in (f"Bearer {good}, Bearer {good}", f"Basic {good}", good, f"Bearer  {good} x"):
        headers = {"Authorization": text}
        path = f"/v1/cases/{chain.complaint_id}/forward"
        answer = await target.routing.client.post(path, json=BODIES["forward"], headers=headers)
        assert answer.status_code == 401, text
