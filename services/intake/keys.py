"""The secrets of intake at work: signing tokens (ES256), publishing their keys (JWKS), and making tracking codes."""

import base64
import hashlib
import hmac
import json
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from jwt.algorithms import ECAlgorithm

from shared.auth import ALGORITHM, AUDIENCE, ISSUER, Principal
from shared.keyfile import UnusableKey, random_key


class SigningKeys:
    """The key that signs and the one before it, by whose public halves the other services verify."""

    def __init__(self, signing: Path, previous: Path | None, lifetime: timedelta) -> None:
        self._private, current = _load(signing)
        self._kid = str(current["kid"])
        self.lifetime = lifetime
        self.jwks: dict[str, list[dict[str, Any]]] = {"keys": [current, *([_load(previous)[1]] if previous else [])]}

    def token(self, principal: Principal) -> tuple[str, int]:
        """A signed token for an account, and its lifetime in seconds. It holds no personal data."""
        issued_at = int(time.time())
        seconds = int(self.lifetime.total_seconds())
        claims: dict[str, Any] = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": principal.id,
            "role": principal.role.value,
            "iat": issued_at,
            "exp": issued_at + seconds,
        }
        if principal.agency:
            claims["agency"] = principal.agency
        if principal.session:
            claims["sid"] = principal.session
        if principal.scopes is not None:
            claims["scope"] = " ".join(sorted(principal.scopes))
        return jwt.encode(claims, self._private, ALGORITHM, {"kid": self._kid}), seconds


def _load(path: Path) -> tuple[ec.EllipticCurvePrivateKey, dict[str, Any]]:
    """The private key in a PEM file and its public JWK; the key id is the thumbprint (RFC 7638)."""
    try:
        key = load_pem_private_key(path.read_bytes(), None)
    except (OSError, ValueError, TypeError) as error:
        raise UnusableKey(f"{path}: cannot be read as a PEM private key without a password: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise UnusableKey(f"{path}: ES256 needs a P-256 key; make one with `openssl ecparam -name prime256v1 -genkey`")
    public: dict[str, Any] = json.loads(ECAlgorithm.to_jwk(key.public_key()))
    required = json.dumps(
        {name: public[name] for name in ("crv", "kty", "x", "y")}, separators=(",", ":"), sort_keys=True
    )
    kid = base64.urlsafe_b64encode(hashlib.sha256(required.encode()).digest()).decode().rstrip("=")
    return key, {**public, "kid": kid, "use": "sig", "alg": ALGORITHM}


class TrackingCodes:
    """The secret by which a complaint can be followed without signing in: 128 bits, made from its id under a key.

    So it is stored nowhere, and a repeated request gets the same code (docs/decisions/0005).
    """

    def __init__(self, key_file: Path) -> None:
        self._key = random_key(key_file)

    def code(self, complaint_id: str) -> str:
        """The code of a complaint: 26 letters and digits."""
        digest = hmac.digest(self._key, complaint_id.encode(), "sha256")[:16]
        return base64.b32encode(digest).decode().rstrip("=")

    def matches(self, complaint_id: str, code: str) -> bool:
        """Whether a code is the complaint's, in a time that tells nothing."""
        given = code.strip().upper().replace("-", "").encode()
        return hmac.compare_digest(self.code(complaint_id).encode(), given)
