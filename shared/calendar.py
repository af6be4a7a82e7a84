"""When a step of the procedure is due.

The SOP gives its times as "menit" and "hari" (SOP steps 1-6). "Hari" without a further word are calendar days; the
national LAPOR! classes and the law count working days, so a deadline says which it means: ``3d`` or ``3wd``.
Everything here is pure: the same moment, deadline and calendar give the same due date in every service. So the answers
are kept: each fold of a complaint asks for those of all its clocks again.
"""

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from enum import StrEnum
from functools import cached_property, lru_cache
from typing import Annotated, Any
from zoneinfo import ZoneInfo

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema
from pydantic_settings import NoDecode

from shared.sop import Clock

CITY = ZoneInfo("Asia/Pontianak")
"""WIB, UTC+7 without summer time."""

_PATTERN = r"^[1-9]\d{0,3}(s|m|h|d|wd)$"


class Unit(StrEnum):
    """What a deadline is counted in."""

    SECONDS = "s"
    MINUTES = "m"
    HOURS = "h"
    DAYS = "d"
    WORKING_DAYS = "wd"


_LENGTHS = {
    Unit.SECONDS: timedelta(seconds=1),
    Unit.MINUTES: timedelta(minutes=1),
    Unit.HOURS: timedelta(hours=1),
    Unit.DAYS: timedelta(days=1),
}


@dataclass(frozen=True, slots=True)
class Deadline:
    """How much time a step has, written ``20s``, ``10m``, ``2h``, ``3d`` (calendar days) or ``5wd`` (working days).

    Pydantic takes and gives the text. Amounts go from 1 to 9999.
    """

    amount: int
    unit: Unit

    @classmethod
    def parse(cls, text: str) -> "Deadline":
        """Raises ValueError, which names the forms."""
        match = re.match(_PATTERN, text.strip(), re.ASCII)
        if match is None:
            raise ValueError(
                f"{text!r} is not a deadline; write a number from 1 to 9999 and a unit: 20s (seconds), 10m (minutes), "
                "2h (hours), 3d (calendar days) or 5wd (working days)"
            )
        unit = Unit(match[1])
        return cls(int(text.strip().removesuffix(unit)), unit)

    def __str__(self) -> str:
        return f"{self.amount}{self.unit}"

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            lambda value: value if isinstance(value, cls) else cls.parse(str(value)),
            serialization=core_schema.to_string_ser_schema(),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return {"type": "string", "pattern": _PATTERN, "examples": ["10m", "3d", "5wd"]}


@dataclass(frozen=True, slots=True)
class WorkingDays:
    """Monday to Friday less Indonesia's public holidays and collective leave (cuti bersama), in Pontianak's time.

    ``extra_holidays`` are free as well, such as an election or the city's own; ``extra_working_days`` are worked
    whatever else is said of them.
    """

    extra_holidays: frozenset[date] = frozenset()
    extra_working_days: frozenset[date] = frozenset()

    def includes(self, day: date) -> bool:
        """Whether the city's offices work on ``day`` (a date in Pontianak)."""
        if day in self.extra_working_days:
            return True
        return day.weekday() < 5 and day not in self.extra_holidays and day not in _national_holidays(day.year)

    def after(self, opened_at: datetime, count: int) -> datetime:
        """The same time of day ``count`` working days later. What is opened on a free day counts from the start of
        the next working day."""
        local = opened_at.astimezone(CITY)
        day, clock = local.date(), local.time()
        if not self.includes(day):
            day, clock = self._next(day), time()
        for _ in range(count):
            day = self._next(day)
        return datetime.combine(day, clock, CITY).astimezone(UTC)

    def _next(self, day: date) -> date:
        day += timedelta(days=1)
        while not self.includes(day):
            day += timedelta(days=1)
        return day


@lru_cache(maxsize=64)
def _national_holidays(year: int) -> frozenset[date]:
    """Holidays of one year. Those of the moon are estimates until the government has decreed them, and collective
    leave is known for decreed years only: update the package each year, or use the extra days."""
    import holidays  # it weighs 30 ms and some MB, and services whose deadlines are calendar days never ask

    found = holidays.country_holidays("ID", years=year, categories=("public", "government"))
    return frozenset(found)


@lru_cache(maxsize=10_000)
def due_at(opened_at: datetime, deadline: Deadline, working_days: WorkingDays = WorkingDays()) -> datetime:
    """When something opened at ``opened_at`` is due, in UTC. Raises ValueError for a time without a zone."""
    _require_zone(opened_at)
    if deadline.unit is Unit.WORKING_DAYS:
        return working_days.after(opened_at, deadline.amount)
    return opened_at.astimezone(UTC) + deadline.amount * _LENGTHS[deadline.unit]


@lru_cache(maxsize=10_000)
def warn_at(opened_at: datetime, due_at: datetime, share: float = 0.8) -> datetime:
    """When ``share`` (0 to 1) of the time from opening to due has passed, in UTC and whole milliseconds."""
    _require_zone(opened_at)
    _require_zone(due_at)
    milliseconds = (due_at - opened_at) // timedelta(milliseconds=1)
    return opened_at.astimezone(UTC) + timedelta(milliseconds=int(milliseconds * share))


def _require_zone(moment: datetime) -> None:
    if moment.utcoffset() is None:
        raise ValueError(f"{moment!r} has no time zone")


def _dates(value: Any) -> Any:
    """``2026-10-23,2026-11-27`` as it stands in the environment; lists are left to pydantic."""
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


Dates = Annotated[frozenset[date], NoDecode, BeforeValidator(_dates)]
Given = Annotated[Deadline, NoDecode]
"""A deadline as settings hold it: text that is not JSON."""


class Deadlines(BaseModel):
    """The time each clock of the procedure runs, as settings: ``LAPOR_DEADLINES__FORWARD=20s`` and so on."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    receipt: Given = Field(Deadline(10, Unit.MINUTES), description="SOP step 1: the receipt reaches the citizen")
    forward: Given = Field(Deadline(3, Unit.DAYS), description="SOP step 2: the central operator passes it on")
    assign: Given = Field(Deadline(3, Unit.DAYS), description="SOP step 3: the regional operator assigns or returns")
    follow_up: Given = Field(Deadline(10, Unit.DAYS), description="SOP step 4: the agency finishes the work")
    document: Given = Field(Deadline(5, Unit.MINUTES), description="SOP step 5: the regional operator documents it")
    answer: Given = Field(Deadline(5, Unit.MINUTES), description="SOP step 6: the reply reaches the citizen")
    correct: Given = Field(Deadline(10, Unit.WORKING_DAYS), description="a returned complaint lapses")
    reopen: Given = Field(Deadline(10, Unit.WORKING_DAYS), description="an answered complaint can be reopened")
    warn_share: float = Field(0.8, gt=0, lt=1, description="the share of the time after which the clock warns")
    extra_holidays: Dates = Field(frozenset(), description="dates on which the city does not work, with commas")
    extra_working_days: Dates = Field(frozenset(), description="dates on which it does nevertheless, with commas")

    def of(self, clock: Clock) -> Deadline:
        """The deadline of one clock."""
        deadline: Deadline = getattr(self, clock.value)
        return deadline

    def due_at(self, clock: Clock, opened_at: datetime) -> datetime:
        """When a clock opened at ``opened_at`` (aware) is due, in UTC."""
        return due_at(opened_at, self.of(clock), self._working_days)

    @cached_property
    def _working_days(self) -> WorkingDays:
        return WorkingDays(self.extra_holidays, self.extra_working_days)

    def warn_at(self, clock: Clock, opened_at: datetime) -> datetime:
        """When the same clock warns, in UTC."""
        return warn_at(opened_at, self.due_at(clock, opened_at), self.warn_share)
