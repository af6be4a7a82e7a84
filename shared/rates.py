"""The table of limits (`shared.limits` keeps them), and what an installation may change of it."""

from ipaddress import IPv4Network, IPv6Network
from typing import Literal

from pydantic import BaseModel, Field, field_validator

Kind = Literal["read", "write", "file", "upload", "sign-in", "guess"]
Who = Literal["person", "address"]

RATES: dict[tuple[Kind, Who], tuple[int, int]] = {
    ("read", "person"): (600, 60),
    ("read", "address"): (3000, 60),
    ("write", "person"): (120, 60),
    ("write", "address"): (1200, 60),
    ("file", "person"): (30, 3600),
    ("file", "address"): (300, 3600),
    ("upload", "person"): (120, 3600),
    ("upload", "address"): (1500, 3600),
    ("sign-in", "address"): (120, 60),
    ("guess", "address"): (30, 60),
}
"""Requests and seconds. An address is often many people's: a mobile network's, an office's."""


class LimitSettings(BaseModel):
    """``LAPOR_LIMITS__ENABLED`` and so on. ``rates`` changes rows of the table: ``{"file/person": "5/3600"}``."""

    enabled: bool = Field(
        True, description="off where load is measured, or where what stands before the service limits"
    )
    rates: dict[str, str] = Field({}, description="`kind/who` to `requests/seconds`")
    trusted_proxies: tuple[IPv4Network | IPv6Network, ...] = Field(
        (), description="whose X-Forwarded-For is believed; of nobody else"
    )
    exchange_seconds: float = Field(0.3, gt=0, le=5, description="how often replicas tell each other")
    remembered: int = Field(50_000, ge=100, description="counters that a process holds; beyond it the oldest go")

    @field_validator("rates")
    @classmethod
    def _known(cls, rates: dict[str, str]) -> dict[str, str]:
        for name, rate in rates.items():
            if not any(name == f"{kind}/{who}" for kind, who in RATES):
                raise ValueError(f"{name}: there is no such rate")
            if not all(part.isdecimal() and int(part) > 0 for part in rate.split("/")) or rate.count("/") != 1:
                raise ValueError(f"{name}: write requests/seconds")
        return rates
