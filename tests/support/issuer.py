"""A real OpenID Connect provider as a process on loopback, and people who sign in at it."""

import base64
import contextlib
import hashlib
import json
import secrets
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

from deploy.local.ports import free_ports

CLIENT = "lapor"
"""The provider's client that the city's frontends are; the audience of its ID tokens."""
_CALLBACK = "http://127.0.0.1/callback"


@dataclass
class Provider:
    """A running provider."""

    url: str

    def sign_in(self, subject: str, client: str = CLIENT) -> str:
        """Somebody's token, by the authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636)."""
        verifier = secrets.token_urlsafe(48)
        challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
        asked = {
            "response_type": "code",
            "client_id": client,
            "redirect_uri": _CALLBACK,
            "scope": "openid profile",
            "state": secrets.token_urlsafe(16),
            "nonce": secrets.token_urlsafe(16),
            "code_challenge": challenge,
            "code_challenge_method": "S256",
        }
        with httpx.Client(base_url=self.url, timeout=10) as browser:
            page = browser.get("/oauth2/authorize", params=asked)
            assert page.status_code == 200, page.text
            back = browser.post("/oauth2/authorize", params=asked, data={"sub": subject})
            assert back.status_code == 302, back.text
            answered = parse_qs(urlsplit(back.headers["location"]).query)
            assert answered["state"] == [asked["state"]]
            exchange = {
                "grant_type": "authorization_code",
                "code": answered["code"][0],
                "redirect_uri": _CALLBACK,
                "client_id": client,
                "client_secret": "any",
                "code_verifier": verifier,
            }
            answer = browser.post("/oauth2/token", data=exchange)
        assert answer.status_code == 200, answer.text
        token: str = answer.json()["id_token"]
        return token


@contextlib.contextmanager
def provider(people: dict[str, dict[str, Any]], port: int | None = None) -> Iterator[Provider]:
    """A provider that knows ``people``: by subject, the claims it makes about them. Each has a key of its own."""
    at = port or free_ports(1)[0]
    known = [json.dumps({"sub": subject, **claims}) for subject, claims in people.items()]
    users = [argument for person in known for argument in ("--user-claims", person)]
    command = [sys.executable, "-m", "oidc_provider_mock", "--port", str(at), *users]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    url = f"http://127.0.0.1:{at}"
    try:
        deadline = time.monotonic() + 30
        while True:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{url}/.well-known/openid-configuration").status_code == 200:
                    break
            assert process.poll() is None, "the provider has ended"
            assert time.monotonic() < deadline, "the provider does not answer"
            time.sleep(0.1)
        yield Provider(url)
    finally:
        process.terminate()
        process.wait(10)
