"""What locks the servers that are started here: who administers them, how they know one another, and their TLS."""

from dataclasses import dataclass
from pathlib import Path

from deploy.access.secrets_folder import ADMIN, BROKER, Secret, SecretsFolder
from deploy.local.errors import CannotRun
from deploy.local.settings import LocalSettings

FOLDER = "principals"
"""In the data folder: the sign that its data are locked, and the secrets."""
DATA = ("kafka", "mongod")
"""How the names of the servers' folders begin."""


@dataclass(frozen=True)
class Tls:
    """PEM files: the servers' certificate with its key (PKCS #8), and the authority that clients trust.

    `ask_clients`: only clients that show a certificate of that authority are let in.
    """

    cert_file: Path
    ca_file: Path
    ask_clients: bool = False

    def settings(self) -> dict[str, str]:
        """What clients are told of it, by the names of `shared.settings.ServiceSettings`."""
        told = {"tls": "true", "ca_file": str(self.ca_file)}
        if self.ask_clients:
            told["cert_file"] = str(self.cert_file)
        return {f"{server}_{name}": value for server in ("kafka", "mongo") for name, value in told.items()}


@dataclass(frozen=True)
class Locks:
    """`admin` makes users and rights; `broker` is what brokers and controllers of Kafka sign in to one another as;
    `key_file` is what mongods know one another by."""

    admin: Secret
    broker: Secret
    key_file: Path
    tls: Tls | None = None


def locks_of(data_dir: Path, settings: LocalSettings) -> Locks | None:
    """The locks of an installation, made at its first start; None where it has none.

    Raises CannotRun for data that were made the other way: a switch would open them to all, or lock out their owner.
    """
    folder = data_dir / FOLDER
    data = [path.name for path in data_dir.iterdir() if path.name.startswith(DATA)]
    if data and folder.exists() != settings.secure:
        kept, wanted = ("with", "without") if folder.exists() else ("without", "with")
        use = "with --secure (make run SECURE=1)" if folder.exists() else "without --secure"
        raise CannotRun(
            f"The data in {data_dir} were made {kept} locks, and are not carried over to servers {wanted} them.\n"
            f"Start {use} to use them, with --fresh to delete them, or choose another folder with --data-dir."
        )
    if not settings.secure:
        return None
    secrets = SecretsFolder(folder)
    tls = None
    if settings.tls_cert_file and settings.tls_ca_file:
        tls = Tls(settings.tls_cert_file.absolute(), settings.tls_ca_file.absolute(), settings.tls_ask_clients)
    return Locks(secrets.secret(ADMIN, ADMIN), secrets.secret(BROKER, BROKER), secrets.key_file(), tls)
