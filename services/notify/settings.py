"""Settings of the notify service."""

from datetime import timedelta
from typing import Literal, Self

from pydantic import Field, FilePath, SecretStr, model_validator

from shared.settings import Breath, FollowerSettings


class Settings(FollowerSettings):
    """What all services have, the mail server, and how patient deliveries are."""

    port: int = 8104
    consumer_breath_seconds: Breath = Field(0.25, description="step 6 has five minutes, and people read")
    opd_url: str = Field("http://127.0.0.1:8103", description="where the photos of the finished work are served")
    notify_client_id: str | None = Field(None, description="id of the machine account that reads those photos")
    notify_client_secret: SecretStr | None = None

    smtp_host: str = "127.0.0.1"
    smtp_port: int = Field(10250, ge=1, le=65535)
    smtp_tls: Literal["if-offered", "starttls", "implicit", "none"] = "if-offered"
    smtp_ca_file: FilePath | None = Field(None, description="PEM of the authority; none: those of the system")
    smtp_username: str | None = None
    smtp_password: SecretStr | None = None
    smtp_connections: int = Field(8, ge=1, le=100, description="e-mails sent at the same time by this process")
    smtp_timeout_seconds: float = Field(20, gt=0, description="for each exchange with the mail server")

    mail_from: str = Field("LAPOR! Pontianak <no-reply@lapor.localhost>", description="sender; a name and an address")
    mail_retry_seconds: float = Field(5, gt=0, description="pause after the first failure; doubled after each further")
    mail_retry_max_seconds: float = Field(900, gt=0, description="the longest pause")
    mail_give_up_hours: float = Field(48, gt=0, description="age at which an e-mail is given up")
    report_link: str = Field("", description="a citizen's page of a report; {number} is replaced; empty: no link")

    delivery_lease_seconds: float = Field(
        120, gt=0, description="how long a process may hold a delivery; then it goes to another"
    )
    report_after_seconds: float = Field(
        60, gt=0, description="a receipt in the inbox is reported as delivered after this, though its e-mail is not out"
    )
    photo_wait_seconds: float = Field(
        120, ge=0, description="how long the reply waits for photos; then it goes without and says where they are"
    )
    photo_retry_seconds: float = Field(5, gt=0)
    photo_timeout_seconds: float = Field(10, gt=0)

    @model_validator(mode="after")
    def _lease_outlasts_one_try(self) -> Self:
        if self.delivery_lease_seconds <= self.one_try.total_seconds():
            raise ValueError("delivery_lease_seconds must be longer than smtp_timeout and photo_timeout together")
        return self

    @property
    def one_try(self) -> timedelta:
        """How long fetching the photos and sending may take together: what is beyond it is cut off."""
        return timedelta(seconds=self.smtp_timeout_seconds + self.photo_timeout_seconds)
