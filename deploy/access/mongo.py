"""Users on MongoDB, each with exactly the roles that the table says."""

from collections.abc import Mapping
from typing import Any

from pymongo import MongoClient
from pymongo.errors import OperationFailure

from deploy.access.rights import Principal
from deploy.access.secrets_folder import Secret
from shared.connections import mongo_options
from shared.settings import ServiceSettings

MECHANISM = "SCRAM-SHA-256"
_EXISTS = 51003


def put(settings: ServiceSettings, principals: Mapping[Principal, Secret]) -> None:
    """Make the users with these secrets and roles; roles that they had besides are taken away. Signed in as the
    administrator that ``settings`` name. Raises `pymongo.errors.PyMongoError`."""
    with MongoClient[dict[str, Any]](settings.mongo_url, **mongo_options(settings)) as client:
        for principal, secret in principals.items():
            roles = [{"role": role.name, "db": role.database} for role in principal.mongo]
            given: dict[str, Any] = {"pwd": secret.password, "roles": roles, "mechanisms": [MECHANISM]}
            try:
                client.admin.command("createUser", secret.username, **given)
            except OperationFailure as error:
                if error.code != _EXISTS:
                    raise
                client.admin.command("updateUser", secret.username, **given)
