"""Whose secret it is: the two that a rotation leaves, each within its time."""

from datetime import timedelta

import pytest

from services.intake.clients import Client, admitted, hashed
from services.intake.identity import IdentityRefused
from shared.auth import Principal
from shared.events import now
from shared.projection import Document
from shared.sop import Role

ADMITTED = Principal("client-1", Role.AGENCY_OPERATOR, "DPUPR", scopes=frozenset({"opd:read"}))


def stored(ends: timedelta, *, active: bool = True) -> Document:
    return {
        "_id": "client-1",
        "role": "agency_operator",
        "agency": "DPUPR",
        "scopes": ["opd:read"],
        "secrets": [{"sha256": hashed("new"), "ends": None}, {"sha256": hashed("old"), "ends": now() + ends}],
        "active": active,
    }


def test_the_secret_before_lives_for_its_time() -> None:
    assert admitted(stored(timedelta(minutes=1)), "old") == ADMITTED
    assert admitted(stored(timedelta(seconds=-1)), "old") is None
    for ends in (timedelta(minutes=1), timedelta(seconds=-1)):
        assert admitted(stored(ends), "new") == ADMITTED


@pytest.mark.parametrize("secret", ["", "wrong", hashed("new"), "NEW", "new "])
def test_anything_else_is_refused(secret: str) -> None:
    assert admitted(stored(timedelta(minutes=1)), secret) is None


def test_nobody_and_a_closed_account_are_refused() -> None:
    assert admitted(None, "") is None
    assert admitted(stored(timedelta(minutes=1), active=False), "new") is None


@pytest.mark.parametrize(
    "client",
    [
        Client("Mesin", Role.CITIZEN, ["intake:read"]),
        Client("Mesin", Role.COORDINATOR, []),
        Client("Mesin", Role.COORDINATOR, ["sla:read", "sla:admin"]),
        Client("M", Role.COORDINATOR, ["sla:read"]),
        Client("Me\nsin", Role.COORDINATOR, ["sla:read"]),
        Client("Mesin", Role.COORDINATOR, ["sla:read"], id="Ada/$"),
    ],
)
def test_a_machine_that_cannot_be_is_refused(client: Client) -> None:
    with pytest.raises(IdentityRefused):
        client.check()
