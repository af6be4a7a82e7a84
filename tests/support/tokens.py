"""Tokens that a service under test accepts without intake: signed by a key of the tests."""

import time

import jwt
from cryptography.hazmat.primitives.asymmetric import ec

from shared.auth import ALGORITHM, AUDIENCE, ISSUER, Verifier
from shared.sop import Role

_KEY_ID = "tests"
_KEY = ec.generate_private_key(ec.SECP256R1())


def public_key() -> jwt.PyJWK:
    """The key by which `token`'s tokens are verified."""
    numbers = jwt.algorithms.ECAlgorithm.to_jwk(_KEY.public_key(), as_dict=True)
    return jwt.PyJWK.from_dict({**numbers, "kid": _KEY_ID, "alg": ALGORITHM, "use": "sig"})


def signing_key() -> tuple[str, ec.EllipticCurvePrivateKey]:
    """The key that `token`'s tokens are signed with, and its id: for tokens that are wrong in one thing only."""
    return _KEY_ID, _KEY


def trust(verifier: Verifier) -> None:
    """Make a service accept these tokens: ``trust(app.state.verifier)``."""
    verifier.trust(public_key())


def token(
    role: Role,
    account_id: str = "test-account",
    agency: str | None = None,
    *,
    lasts: float = 86_400,
    scope: str | None = None,
) -> str:
    """A token of ``role``; ``lasts`` seconds (negative: it has expired); a machine's, if it has a ``scope``. Made on
    import, it must outlive all tests."""
    issued = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": account_id, "role": role.value, "iat": issued}
    claims |= {"exp": int(issued + lasts)} | ({"agency": agency} if agency else {})
    claims |= {} if scope is None else {"scope": scope}
    return jwt.encode(claims, _KEY, algorithm=ALGORITHM, headers={"kid": _KEY_ID})


def bearer(
    role: Role, account_id: str = "test-account", agency: str | None = None, *, scope: str | None = None
) -> dict[str, str]:
    """The header of a request by ``role``."""
    return {"Authorization": f"Bearer {token(role, account_id, agency, scope=scope)}"}
