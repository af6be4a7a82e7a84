"""Settings of the routing service."""

from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What all services have."""

    port: int = 8102
