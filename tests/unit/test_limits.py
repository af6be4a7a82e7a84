"""Limits by themselves: what is counted to whom, what replicas tell each other, and life without the database."""

from collections.abc import Mapping
from typing import Any

import pytest
from pydantic import ValidationError

from shared.limits import Addresses, Limits, kind_of
from shared.rates import RATES, LimitSettings
from shared.settings import ServiceSettings


class Shared:
    """Where replicas meet, in memory; ``away``: the database is not there."""

    def __init__(self) -> None:
        self.totals: dict[str, int] = {}
        self.away = False
        self.calls = 0

    async def add(self, counted: Mapping[str, tuple[int, float]]) -> dict[str, int]:
        self.calls += 1
        if self.away:
            raise ConnectionError
        for name, (n, _) in counted.items():
            self.totals[name] = self.totals.get(name, 0) + n
        return {name: self.totals[name] for name in counted}


def limits(shared: Shared, rate: str = "5/3600", **settings: Any) -> Limits:
    return Limits(LimitSettings(rates={"file/person": rate, "file/address": "1000/3600"}, **settings), shared)


def let_in(of: Limits, times: int, person: str = "a", address: str = "10.0.0.1") -> int:
    """How many of so many requests are let in."""
    return sum(of.take("file", person, address)[1] for _ in range(times))


async def test_one_persons_flood_takes_nothing_from_another() -> None:
    one = limits(Shared())
    assert let_in(one, 50, "flood") == 5
    assert let_in(one, 5, "other") == 5


async def test_replicas_share_a_limit_by_what_they_have_told_each_other() -> None:
    shared = Shared()
    one, two = limits(shared), limits(shared)
    assert let_in(one, 3) == 3
    await one.exchange()
    assert let_in(two, 1) == 1, "it has heard nothing yet"
    await two.exchange()
    assert (let_in(two, 9), let_in(one, 9)) == (1, 2), "each may overrun it by what the other has not told it yet"
    for _ in range(2):
        await one.exchange()
        await two.exchange()
    assert (let_in(two, 9), let_in(one, 9)) == (0, 0)
    assert set(shared.totals.values()) == {7}, "every request that was let in is counted once"


async def test_without_the_database_each_goes_on_by_what_it_knows_and_owes_the_rest() -> None:
    shared = Shared()
    one = limits(shared)
    shared.away = True
    assert let_in(one, 4) == 4
    await one.exchange()
    assert let_in(one, 9) == 1, "it does not fail open"
    await one.exchange()
    shared.away = False
    await one.exchange()
    assert list(shared.totals.values()) == [5, 5], "what was counted meanwhile is told"
    assert let_in(one, 9) == 0


async def test_who_asks_nothing_costs_nothing() -> None:
    shared = Shared()
    one = limits(shared)
    await one.exchange()
    assert shared.calls == 0
    let_in(one, 1)
    for _ in range(5):
        await one.exchange()
    assert shared.calls == 1


async def test_the_windows_counters_are_bounded_and_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    one = limits(Shared(), remembered=100)
    for number in range(1000):
        one.take("read", None, f"10.0.{number // 250}.{number % 250}")
    assert len(one._counts) == 100
    monkeypatch.setattr("shared.limits.time.time", lambda: 10**10)
    await one.exchange()
    assert len(one._counts) == 0
    assert let_in(one, 9) == 5, "a new window"


@pytest.mark.parametrize(
    ("method", "path", "kind"),
    [
        ("GET", "/v1/complaints", "read"),
        ("POST", "/v1/complaints", "file"),
        ("POST", "/v1/complaints/1/rate", "write"),
        ("POST", "/v1/photos", "upload"),
        ("POST", "/v1/tokens", "sign-in"),
        ("POST", "/v1/tokens/refresh", "write"),
        ("POST", "/v1/codes", "sign-in"),
        ("POST", "/v1/citizens/confirm", "sign-in"),
        ("PUT", "/v1/me/password", "sign-in"),
        ("POST", "/v1/tracking", "guess"),
        ("GET", "/health/ready", None),
        ("GET", "/metrics", None),
        ("GET", "/.well-known/jwks.json", None),
        ("BREW", "/v1/anything", "write"),
    ],
)
def test_what_kind_a_request_is_of(method: str, path: str, kind: str | None) -> None:
    assert kind_of(method, path) == kind
    assert kind is None or any(known == kind for known, _ in RATES)


def address(peer: str | None, forwarded: list[str], *trusted: str) -> str:
    settings = LimitSettings.model_validate({"trusted_proxies": trusted})
    headers = [(b"x-forwarded-for", value.encode()) for value in forwarded]
    scope = {"client": (peer, 1) if peer else None, "headers": headers}
    return Addresses(settings.trusted_proxies).of(scope)


@pytest.mark.parametrize(
    ("peer", "forwarded", "trusted", "expected"),
    [
        ("203.0.113.9", ["1.2.3.4"], (), "203.0.113.9"),
        ("203.0.113.9", ["1.2.3.4"], ("10.0.0.0/8",), "203.0.113.9"),
        ("10.0.0.2", ["1.2.3.4"], ("10.0.0.0/8",), "1.2.3.4"),
        ("10.0.0.2", ["9.9.9.9, 1.2.3.4, 10.0.0.3"], ("10.0.0.0/8",), "1.2.3.4"),
        ("10.0.0.2", ["9.9.9.9", "1.2.3.4"], ("10.0.0.0/8",), "1.2.3.4"),
        ("10.0.0.2", ["nonsense"], ("10.0.0.0/8",), "10.0.0.2"),
        ("10.0.0.2", ["1.2.3.4, nonsense, 10.0.0.3"], ("10.0.0.0/8",), "10.0.0.3"),
        ("2001:db8:1:2:3:4:5:6", [], (), "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", [], (), "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", [], (), "203.0.113.9"),
        ("fd00::1", ["2001:db8::1"], ("fd00::/8",), "2001:db8::/64"),
        (None, [], (), ""),
    ],
)
def test_whose_address_it_is(peer: str | None, forwarded: list[str], trusted: tuple[str, ...], expected: str) -> None:
    assert address(peer, forwarded, *trusted) == expected


@pytest.mark.parametrize("rates", [{"file/nobody": "1/1"}, {"file/person": "0/5"}, {"file/person": "many"}])
def test_rates_that_mean_nothing_are_refused_at_the_start(rates: dict[str, str]) -> None:
    with pytest.raises(ValidationError):
        LimitSettings(rates=rates)


def test_rates_are_read_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPOR_LIMITS__RATES", '{"file/person": "3/60"}')
    monkeypatch.setenv("LAPOR_LIMITS__TRUSTED_PROXIES", '["10.0.0.0/8"]')
    limits = ServiceSettings().limits
    assert limits.rates == {"file/person": "3/60"}
    assert str(limits.trusted_proxies[0]) == "10.0.0.0/8"
