"""Puts the table of rights in force on an installation's servers."""

from deploy.access import mongo
from deploy.access.kafka import KafkaAccess
from deploy.access.rights import of_agency, of_installation
from deploy.access.secrets_folder import Secret, SecretsFolder
from shared.settings import ServiceSettings


def install(admin: ServiceSettings, folder: SecretsFolder) -> dict[str, Secret]:
    """Make the principal of each service, and the witness, with their rights; returns their secrets, which are kept in
    ``folder``, by short name. What is there already is brought up to the table. Blocks.

    Raises `KafkaRefused`, `pymongo.errors.PyMongoError` or OSError.
    """
    principals = of_installation(admin)
    made = {name: folder.secret(name, principal.name) for name, principal in principals.items()}
    wanted = {principal: made[name] for name, principal in principals.items()}
    KafkaAccess(admin).put(wanted)
    mongo.put(admin, wanted)
    return made


def connect_agency(admin: ServiceSettings, code: str, password: str) -> Secret:
    """Let an agency's own system in, by a password; one that it had before is no longer good. Blocks; raises
    `KafkaRefused`."""
    principal = of_agency(admin, code)
    secret = Secret(principal.name, password)
    KafkaAccess(admin).put({principal: secret})
    return secret


def disconnect_agency(admin: ServiceSettings, code: str) -> None:
    """Let an agency's own system in no more. Blocks; raises `KafkaRefused`."""
    KafkaAccess(admin).remove(of_agency(admin, code))
