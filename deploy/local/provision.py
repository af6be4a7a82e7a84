"""What must be there before the services can work: topics, and the staff accounts and agencies of a demo."""

from collections.abc import Mapping

from deploy.local.credentials import NOTIFY, Credentials
from services.intake.account_store import removed_login
from services.intake.accounts import Staff, add_staff, list_staff
from services.intake.clients import Client, put_client
from services.routing.agencies import import_agencies, list_agencies
from shared import topics
from shared.settings import ServiceSettings
from shared.sop import Role

NOTIFY_CLIENT = Client("Layanan notifikasi", Role.SYSTEM, ("intake:read", "opd:read"), id=NOTIFY)
"""It fetches the photos of the e-mails, and nothing else."""


async def provision(environment: Mapping[str, str], credentials: Credentials) -> ServiceSettings:
    """Make what is missing, and leave what is there as it is. `environment` is what the services are started with, and
    where the servers are locked, the administrator's sign-in. Returns what it says as settings."""
    settings = ServiceSettings.model_validate(
        {name.removeprefix("LAPOR_").lower(): value for name, value in environment.items() if name.startswith("LAPOR_")}
    )
    if not await list_agencies(settings):  # an administrator's changes outlive the next start
        await import_agencies(settings)
    await topics.create(settings, [agency["_id"] for agency in await list_agencies(settings)])
    disabled = {login for one in await list_staff(settings) if not one["active"] for login in one["logins"]}
    accounts = [a for a in credentials.staff if not {a.login, removed_login(a.login)} & disabled]
    await add_staff(settings, *(Staff(a.login, Role(a.role), a.name, a.password, a.agency) for a in accounts))
    await put_client(settings, NOTIFY_CLIENT, credentials.notify)
    return settings
