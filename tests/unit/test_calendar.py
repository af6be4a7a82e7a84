"""Deadlines: their text, the table of due dates, and what holds for every moment."""

from datetime import UTC, date, datetime, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from shared.calendar import CITY, Deadline, Deadlines, Unit, WorkingDays, due_at, warn_at
from shared.sop import Clock

moments = st.datetimes(datetime(2024, 1, 1), datetime(2035, 12, 31)).map(lambda moment: moment.replace(tzinfo=UTC))  # noqa: DTZ001 - bounds are naive in Hypothesis
deadlines = st.builds(Deadline, st.integers(1, 60), st.sampled_from(Unit))


def wib(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=CITY)


@pytest.mark.parametrize("text", ["20s", "10m", "2h", "3d", "5wd", " 14wd ", "9999d"])
def test_a_deadline_is_its_text(text: str) -> None:
    assert str(Deadline.parse(text)) == text.strip()


@pytest.mark.parametrize(
    "text", ["", "3", "d", "0d", "-1d", "3 d", "1.5h", "3D", "3w", "10000d", "wd", "3d4h", "٣d", "3d\nx"]
)
def test_what_is_no_deadline_is_told_the_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"20s .*10m .*2h .*3d \(calendar days\) or 5wd \(working days\)"):
        Deadline.parse(text)


def test_pydantic_takes_and_gives_the_text() -> None:
    class Holder(BaseModel):
        within: Deadline

    holder = Holder.model_validate_json('{"within": "5wd"}')
    assert holder.within == Deadline(5, Unit.WORKING_DAYS)
    assert holder.model_dump_json() == '{"within":"5wd"}'
    assert Holder(within=Deadline(3, Unit.DAYS)).model_dump(mode="json") == {"within": "3d"}
    assert Holder.model_json_schema()["properties"]["within"]["type"] == "string"
    for wrong in ("3 days", 3, None, {"amount": 3}):
        with pytest.raises(ValidationError):
            Holder.model_validate({"within": wrong})


@pytest.mark.parametrize(
    ("opened", "deadline", "due"),
    [
        ("2026-08-14T09:00", "20s", "2026-08-14T09:00:20"),
        ("2026-08-14T23:55", "10m", "2026-08-15T00:05"),
        ("2026-08-14T09:00", "2h", "2026-08-14T11:00"),
        ("2026-08-14T09:00", "3d", "2026-08-17T09:00"),  # calendar days do not ask what day it is
        ("2026-07-06T09:30", "1wd", "2026-07-07T09:30"),  # Monday to Tuesday
        ("2026-07-10T09:30", "1wd", "2026-07-13T09:30"),  # Friday to Monday
        ("2026-07-06T09:30", "10wd", "2026-07-20T09:30"),  # two weeks without a holiday
        ("2026-07-11T15:00", "1wd", "2026-07-14T00:00"),  # Saturday: Monday is the working day that is given
        ("2026-07-12T23:59", "1wd", "2026-07-14T00:00"),  # Sunday
        ("2026-08-14T09:00", "1wd", "2026-08-18T09:00"),  # Friday; Monday is Independence Day
        ("2026-08-17T09:00", "1wd", "2026-08-19T00:00"),  # opened on Independence Day
        ("2026-12-23T16:00", "1wd", "2026-12-28T16:00"),  # collective leave on the 24th, Christmas, weekend
        ("2026-03-17T10:00", "2wd", "2026-03-26T10:00"),  # Nyepi, Idulfitri and their leave, 18 to 24 March
        ("2026-12-31T08:00", "1wd", "2027-01-04T08:00"),  # over the year's end
    ],
)
def test_due_dates(opened: str, deadline: str, due: str) -> None:
    at = due_at(wib(opened), Deadline.parse(deadline))
    assert at == wib(due)
    assert at.tzinfo is UTC


def test_the_day_is_pontianaks() -> None:
    """Friday 18:00 UTC is Saturday in Pontianak, and Sunday 18:00 UTC is Monday."""
    one = Deadline(1, Unit.WORKING_DAYS)
    assert due_at(datetime(2026, 7, 10, 18, tzinfo=UTC), one) == wib("2026-07-14T00:00")
    assert due_at(datetime(2026, 7, 12, 18, tzinfo=UTC), one) == wib("2026-07-14T01:00")


def test_the_citys_own_days() -> None:
    day = date(2026, 10, 23)  # a Friday
    one = Deadline(1, Unit.WORKING_DAYS)
    opened = wib("2026-10-22T09:00")
    assert due_at(opened, one) == wib("2026-10-23T09:00")
    assert due_at(opened, one, WorkingDays(extra_holidays=frozenset({day}))) == wib("2026-10-26T09:00")
    both = WorkingDays(frozenset({day}), frozenset({day, date(2026, 8, 17), date(2026, 7, 11)}))
    assert due_at(opened, one, both) == wib("2026-10-23T09:00"), "a working day is one, whatever else is said"
    assert both.includes(date(2026, 8, 17))
    assert both.includes(date(2026, 7, 11))


@pytest.mark.parametrize("year", range(2024, 2036))
def test_fixed_holidays_of_every_year(year: int) -> None:
    for month, day in ((1, 1), (5, 1), (6, 1), (8, 17), (12, 25)):
        assert not WorkingDays().includes(date(year, month, day))


@given(moments, deadlines)
def test_due_comes_after_opening_on_a_working_day(opened: datetime, deadline: Deadline) -> None:
    due = due_at(opened, deadline)
    assert due > opened
    assert due.tzinfo is UTC
    assert opened < warn_at(opened, due) < due
    if deadline.unit is Unit.WORKING_DAYS:
        local, start = due.astimezone(CITY), opened.astimezone(CITY)
        assert WorkingDays().includes(local.date())
        worked = WorkingDays().includes(start.date())
        assert local.timetz() == start.timetz() if worked else (local.hour, local.minute, local.second) == (0, 0, 0)
        days = (start.date() + timedelta(days=i + 1) for i in range((local.date() - start.date()).days))
        assert sum(WorkingDays().includes(day) for day in days) == deadline.amount + (not worked)


@given(moments, moments, deadlines)
def test_who_opens_later_is_due_no_sooner(one: datetime, other: datetime, deadline: Deadline) -> None:
    first, second = sorted((one, other))
    assert due_at(first, deadline) <= due_at(second, deadline)


@given(moments, st.integers(1, 59), st.sampled_from(Unit))
def test_more_time_is_due_later(opened: datetime, amount: int, unit: Unit) -> None:
    assert due_at(opened, Deadline(amount, unit)) < due_at(opened, Deadline(amount + 1, unit))


@given(moments, deadlines, st.integers(-12, 14))
def test_the_zone_it_is_written_in_does_not_matter(opened: datetime, deadline: Deadline, hours: int) -> None:
    elsewhere = opened.astimezone(timezone(timedelta(hours=hours)))
    assert due_at(elsewhere, deadline) == due_at(opened, deadline)
    assert due_at(opened.astimezone(ZoneInfo("America/New_York")), deadline) == due_at(opened, deadline)


def test_warning_at_the_share() -> None:
    opened = wib("2026-07-06T09:00")
    assert warn_at(opened, opened + timedelta(days=10)) == wib("2026-07-14T09:00")
    assert warn_at(opened, opened + timedelta(minutes=10), 0.5) == wib("2026-07-06T09:05")


def test_a_time_without_a_zone_is_refused() -> None:
    naive = datetime(2026, 7, 6)  # noqa: DTZ001 - it is what is to be refused
    with pytest.raises(ValueError, match="no time zone"):
        due_at(naive, Deadline(1, Unit.DAYS))
    with pytest.raises(ValueError, match="no time zone"):
        warn_at(naive, wib("2026-07-07T00:00"))


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="LAPOR_", env_nested_delimiter="__")
    deadlines: Deadlines = Deadlines()


def test_the_sops_times_are_the_defaults() -> None:
    """SOP, column "waktu", steps 1 to 6."""
    texts = {clock: str(Settings().deadlines.of(clock)) for clock in Clock}
    assert texts == {
        Clock.RECEIPT: "10m",
        Clock.FORWARD: "3d",
        Clock.ASSIGN: "3d",
        Clock.FOLLOW_UP: "10d",
        Clock.DOCUMENT: "5m",
        Clock.ANSWER: "5m",
        Clock.CORRECT: "10wd",
        Clock.REOPEN: "10wd",
    }


def test_deadlines_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAPOR_DEADLINES__FORWARD", "1wd")
    monkeypatch.setenv("LAPOR_DEADLINES__WARN_SHARE", "0.5")
    monkeypatch.setenv("LAPOR_DEADLINES__EXTRA_HOLIDAYS", "2026-10-23, 2026-10-26")
    deadlines = Settings().deadlines
    opened = wib("2026-10-22T09:00")
    assert deadlines.due_at(Clock.FORWARD, opened) == wib("2026-10-27T09:00")
    assert deadlines.warn_at(Clock.FORWARD, opened) == wib("2026-10-24T21:00")
    assert deadlines.due_at(Clock.ASSIGN, opened) == wib("2026-10-25T09:00"), "the others keep the SOP's"


@pytest.mark.parametrize(
    ("name", "value", "told"),
    [
        ("FORWARD", "3 hari", "is not a deadline"),
        ("FORWARDED", "3d", "Extra inputs are not permitted"),
        ("WARN_SHARE", "1.5", "less than 1"),
        ("EXTRA_HOLIDAYS", "17 August", "deadlines.extra_holidays"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(monkeypatch: pytest.MonkeyPatch, name: str, value: str, told: str) -> None:
    monkeypatch.setenv(f"LAPOR_DEADLINES__{name}", value)
    with pytest.raises(ValidationError, match=told):
        Settings()
