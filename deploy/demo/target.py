"""What the demo is run against: a system that is running somewhere, and the sign-ins it needs there."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.settings import ServiceSettings


@dataclass(frozen=True, slots=True)
class SignIn:
    """One staff account. ``role`` as in ``shared.sop.Role``; ``agency`` is the code, for agency operators only."""

    login: str
    password: str
    role: str
    name: str
    agency: str | None = None


@dataclass(frozen=True, slots=True)
class Target:
    """Base URLs by service name, the servers that the witness looks into, and where received mail lies as .eml
    files."""

    urls: Mapping[str, str]
    kafka_bootstrap: str
    mongo_url: str
    mail_dir: Path
    staff: tuple[SignIn, ...]
    namespace: str = "lapor"
    witness: Mapping[str, str] = field(default_factory=dict)
    """How the witness signs in where the servers are locked: settings by name (`shared.settings.ServiceSettings`)."""

    def reading(self) -> ServiceSettings:
        """The servers as the witness reaches them."""
        where = {"namespace": self.namespace, "kafka_bootstrap": self.kafka_bootstrap, "mongo_url": self.mongo_url}
        return ServiceSettings.model_validate({**where, **self.witness})

    def who(self, role: str, agency: str | None = None) -> SignIn:
        """The account with a role (and agency). Raises LookupError naming what is missing."""
        for account in self.staff:
            if account.role == role and agency in (None, account.agency):
                return account
        raise LookupError(
            f"the demo needs a staff account with role {role}" + (f" of agency {agency}" if agency else "")
        )

    @classmethod
    def from_environment(cls) -> "Target":
        """A target described by ``LAPOR_*`` variables: ``LAPOR_<SERVICE>_URL``, ``LAPOR_KAFKA_BOOTSTRAP``,
        ``LAPOR_MONGO_URL``, ``LAPOR_MAIL_DIR`` and ``LAPOR_CREDENTIALS_FILE`` (the ``credentials.json`` of the
        launcher).

        Raises KeyError for a variable that is not set."""
        credentials = json.loads(Path(os.environ["LAPOR_CREDENTIALS_FILE"]).read_text())
        return cls(
            urls={
                name: os.environ[f"LAPOR_{name.upper()}_URL"] for name in ("intake", "routing", "opd", "notify", "sla")
            },
            kafka_bootstrap=os.environ["LAPOR_KAFKA_BOOTSTRAP"],
            mongo_url=os.environ["LAPOR_MONGO_URL"],
            mail_dir=Path(os.environ["LAPOR_MAIL_DIR"]),
            staff=tuple(SignIn(**account) for account in credentials["staff"]),
            namespace=os.environ.get("LAPOR_NAMESPACE", "lapor"),
        )
