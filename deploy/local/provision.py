"""What must be there before the services can work: topics, and the staff accounts and agencies of a demo."""

from collections.abc import Mapping

from deploy.local.credentials import Credentials
from shared import topics
from shared.settings import ServiceSettings


async def provision(environment: Mapping[str, str], credentials: Credentials) -> None:
    """Make what is missing, and leave what is there as it is. `environment` is what the services are started with."""
    settings = ServiceSettings.model_validate(
        {name.removeprefix("LAPOR_").lower(): value for name, value in environment.items() if name.startswith("LAPOR_")}
    )
    await topics.create(settings)
