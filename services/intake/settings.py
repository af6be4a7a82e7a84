"""Settings of the intake service. The key files have no default: they are secrets."""

from pathlib import Path
from typing import Literal

from pydantic import Field

from services.intake.place import DEFAULT_CITY
from shared.photos import PhotoSettings
from shared.settings import FollowerSettings

_DATA = Path(__file__).parent / "data"


class Settings(FollowerSettings):
    """What all services have, and the keys, the city and the categories."""

    port: int = 8101
    signing_key_file: Path = Field(description="PEM of the ES256 private key that signs tokens")
    previous_key_file: Path | None = Field(None, description="PEM of the key before: still accepted, not signed with")
    tracking_key_file: Path = Field(description="at least 32 random bytes, from which tracking codes are made")
    pseudonym_key_file: Path = Field(
        description="at least 32 random bytes, from which anonymous reporters' pseudonyms are made"
    )
    code_key_file: Path = Field(description="at least 32 random bytes, from which one-time codes are made")
    audit_key_file: Path = Field(description="at least 32 random bytes that seal the audit log")
    token_minutes: int = Field(10, ge=1, le=24 * 60, description="life of an access token")
    session_idle_days: float = Field(30, gt=0, description="a session that is not refreshed for so long ends")
    session_days: float = Field(90, gt=0, description="the longest session of a citizen")
    staff_session_hours: float = Field(12, gt=0, description="the longest session of staff")
    staff_second_factor: Literal["optional", "required"] = Field(
        "optional", description="required: staff without one can do nothing but set one up"
    )
    sign_in_free_tries: int = Field(
        10, ge=1, description="wrong tries to sign in, from one address, before the next has to wait"
    )
    city_file: Path = DEFAULT_CITY
    categories_file: Path = _DATA / "categories.json"
    photos: PhotoSettings = PhotoSettings()
