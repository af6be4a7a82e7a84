"""Settings of the sla service."""

from datetime import timedelta

from pydantic import Field

from shared.calendar import Deadlines
from shared.settings import FollowerSettings


class Settings(FollowerSettings):
    """What all services have, the procedure's deadlines, and how alarms are raised (all times in seconds)."""

    port: int = 8105
    deadlines: Deadlines = Deadlines()
    alarm_grace_seconds: float = Field(
        2.0, ge=0, description="how long after its moment an alarm waits for events that are on their way"
    )
    alarm_patience_seconds: float = Field(
        60.0, ge=0, description="how long an alarm waits for a consumer that does not get on, or for a missing event"
    )
    alarm_tick_seconds: float = Field(1.0, gt=0, description="time between two looks for alarms")
    alarm_batch: int = Field(500, ge=1, description="complaints of one look")

    @property
    def grace(self) -> timedelta:
        return timedelta(seconds=self.alarm_grace_seconds)

    @property
    def patience(self) -> timedelta:
        return timedelta(seconds=self.alarm_patience_seconds)
