"""Settings of the opd service."""

from shared.photos import PhotoSettings
from shared.settings import ServiceSettings


class Settings(ServiceSettings):
    """What all services have, and what a photo may be."""

    port: int = 8103
    photos: PhotoSettings = PhotoSettings()
