"""Settings of the routing service."""

from pathlib import Path

from pydantic import Field

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What all services have."""

    port: int = 8102
    audit_key_file: Path = Field(description="at least 32 random bytes that seal the audit log")
