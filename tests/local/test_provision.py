"""Each start provisions again: it makes what is missing, and takes back nothing that an administrator has done."""

from pathlib import Path

from deploy.local.credentials import NOTIFY, STAFF, load_or_make
from deploy.local.provision import provision
from deploy.local.servers import Servers
from services.intake.accounts import disable_staff, list_staff
from services.intake.clients import disable_client, list_clients
from services.routing.agencies import list_agencies
from shared.settings import ServiceSettings


async def test_a_disabled_account_stays_so(tmp_path: Path, servers: Servers, namespace: str) -> None:
    environment = {
        "LAPOR_NAMESPACE": namespace,
        "LAPOR_KAFKA_BOOTSTRAP": servers.kafka_bootstrap,
        "LAPOR_MONGO_URL": servers.mongo_url,
        "LAPOR_AUDIT_KEY_FILE": str(tmp_path / "audit-key"),
    }
    credentials = load_or_make(tmp_path)
    settings = ServiceSettings(
        namespace=namespace,
        kafka_bootstrap=servers.kafka_bootstrap,
        mongo_url=servers.mongo_url,
        audit_key_file=credentials.audit_key,
    )
    login = STAFF[0][0]

    await provision(environment, credentials)
    first = await list_staff(settings)
    agencies = await list_agencies(settings)
    assert {account["logins"][0] for account in first} == {a.login for a in credentials.staff}
    assert [(client["_id"], client["role"]) for client in await list_clients(settings)] == [(NOTIFY, "system")]
    assert agencies

    assert await disable_staff(settings, login)
    assert await disable_client(settings, NOTIFY)
    await provision(environment, credentials)

    again = {account["logins"][0]: account for account in await list_staff(settings)}
    assert not again.pop(login)["active"]
    unchanged = {account["logins"][0]: account for account in first}
    del unchanged[login]
    assert again == unchanged
    assert [client["active"] for client in await list_clients(settings)] == [False]
    assert await list_agencies(settings) == agencies
