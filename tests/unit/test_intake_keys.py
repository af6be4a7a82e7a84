"""Signing keys, their rotation, and tracking codes."""

import base64
import hashlib
import json
import secrets
from datetime import timedelta
from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, NoEncryption, PrivateFormat
from hypothesis import given
from hypothesis import strategies as st

from services.intake.keys import SigningKeys, TrackingCodes
from shared.auth import Principal, Verifier
from shared.keyfile import UnusableKey
from shared.sop import Role
from tests.support.intake import signing_key

OPERATOR = Principal("account-1", Role.AGENCY_OPERATOR, "DPUPR")


def verifier(keys: SigningKeys) -> Verifier:
    made = Verifier("http://127.0.0.1:1/unused")
    for key in keys.jwks["keys"]:
        made.trust(jwt.PyJWK(key))
    return made


async def test_after_a_rotation_tokens_of_both_keys_are_accepted_and_new_ones_are_by_the_new_key(
    tmp_path: Path,
) -> None:
    old, new = signing_key(tmp_path, "old.pem"), signing_key(tmp_path, "new.pem")
    before = SigningKeys(old, None, timedelta(minutes=30))
    after = SigningKeys(new, old, timedelta(minutes=30))
    earlier, _ = before.token(OPERATOR)
    later, seconds = after.token(OPERATOR)
    assert seconds == 1800
    assert await verifier(after).verify(earlier) == OPERATOR
    assert await verifier(after).verify(later) == OPERATOR
    assert jwt.get_unverified_header(later)["kid"] == after.jwks["keys"][0]["kid"]
    assert jwt.get_unverified_header(later)["kid"] != jwt.get_unverified_header(earlier)["kid"]


def test_a_keys_id_is_its_thumbprint_and_nothing_private_is_published(tmp_path: Path) -> None:
    (key,) = SigningKeys(signing_key(tmp_path), None, timedelta(minutes=1)).jwks["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}
    # RFC 7638 section 3: the required members in lexicographic order, without white space.
    text = f'{{"crv":"P-256","kty":"EC","x":"{key["x"]}","y":"{key["y"]}"}}'
    assert key["kid"] == base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    assert json.loads(text)["kty"] == "EC"


def test_keys_that_cannot_sign_es256_are_refused_by_name(tmp_path: Path) -> None:
    pem, pkcs8 = Encoding.PEM, PrivateFormat.PKCS8
    other = {
        "missing.pem": None,
        "text.pem": b"no key",
        "p384.pem": ec.generate_private_key(ec.SECP384R1()).private_bytes(pem, pkcs8, NoEncryption()),
        "rsa.pem": rsa.generate_private_key(65537, 2048).private_bytes(pem, pkcs8, NoEncryption()),
        "locked.pem": ec.generate_private_key(ec.SECP256R1()).private_bytes(pem, pkcs8, BestAvailableEncryption(b"x")),
    }
    for name, content in other.items():
        if content is not None:
            (tmp_path / name).write_bytes(content)
        with pytest.raises(UnusableKey, match=name):
            SigningKeys(tmp_path / name, None, timedelta(minutes=1))


def codes(folder: Path, content: bytes) -> TrackingCodes:
    (folder / "tracking-key").write_bytes(content)
    return TrackingCodes(folder / "tracking-key")


def test_tracking_codes_hold_128_bits_and_are_the_same_again_under_the_same_key_only(tmp_path: Path) -> None:
    key = secrets.token_bytes(32)
    made = codes(tmp_path, key)
    code = made.code("complaint-1")
    assert len(base64.b32decode(code + "======")) == 16
    assert codes(tmp_path, key).code("complaint-1") == code
    assert codes(tmp_path, secrets.token_bytes(32)).code("complaint-1") != code
    assert len({made.code(f"complaint-{i}") for i in range(1000)}) == 1000
    assert made.matches("complaint-1", f" {code[:13].lower()}-{code[13:].lower()} ")
    assert not made.matches("complaint-2", code)


@given(st.text(max_size=40))
def test_no_other_text_is_the_code(text: str) -> None:
    made = TrackingCodes(Path(__file__))  # any file of 32 bytes and more
    if text.strip().upper().replace("-", "") != made.code("complaint-1"):
        assert not made.matches("complaint-1", text)


def test_a_tracking_key_that_is_short_or_missing_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnusableKey, match="holds 31 bytes"):
        codes(tmp_path, b"x" * 31)
    with pytest.raises(UnusableKey, match="nowhere"):
        TrackingCodes(tmp_path / "nowhere")
