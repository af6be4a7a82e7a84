"""Whose data are restricted (UU PDP 27/2022, article 11), as each process remembers it: filing a complaint must not
wait for a look at the account."""

from services.intake.account_store import AccountStore
from shared.http import Problem


class Restrictions:
    """The citizens whose data are kept and not used."""

    def __init__(self, accounts: AccountStore) -> None:
        self._accounts = accounts
        self._citizens: set[str] = set()

    async def learn(self) -> None:
        """Periodic work: what other processes were told."""
        self._citizens = await self._accounts.restricted()

    def learn_one(self, citizen_id: str, *, restricted: bool) -> None:
        """What this process was told."""
        (self._citizens.add if restricted else self._citizens.discard)(citizen_id)

    def check(self, citizen_id: str) -> None:
        """Raises 409 for one of them, who wants to file a complaint."""
        if citizen_id in self._citizens:
            raise Problem(
                409,
                "data-restricted",
                "You have restricted the use of your data: lift that first (DELETE /v1/me/restriction).",
                "Anda membatasi pemrosesan data Anda; cabut pembatasan itu sebelum melapor.",
            )
