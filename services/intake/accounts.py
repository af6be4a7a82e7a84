"""Staff accounts, which are made by command and not over HTTP. What is done to them is recorded first. Those of
machines: `services.intake.clients`."""

import asyncio
from dataclasses import dataclass

from services.intake.account_store import AccountStore
from services.intake.identity import IdentityRefused, NewAccount, Passwords, check_password, normal_login
from services.intake.second_factor_store import SecondFactorStore
from services.intake.session_store import SessionStore
from shared.audit import Action, AuditLog, operator
from shared.audit_store import audit_log
from shared.events import now
from shared.projection import Document
from shared.settings import ServiceSettings
from shared.sop import Role
from shared.storage import connect


@dataclass(frozen=True, slots=True)
class Staff:
    """One account to be made. ``agency`` is the code of an agency, for agency operators and only for them."""

    login: str
    role: Role
    name: str
    password: str
    agency: str | None = None

    def check(self) -> None:
        """Raises IdentityRefused for what cannot be."""
        if self.role is Role.CITIZEN:
            raise IdentityRefused("role", "Citizens register by themselves.", "Warga mendaftar sendiri.")
        if self.role is Role.SYSTEM:
            raise IdentityRefused(
                "role", "The system's own account is a machine's: `lapor clients add`.", "Peran ini untuk mesin."
            )
        if (self.role is Role.AGENCY_OPERATOR) != bool(self.agency):
            raise IdentityRefused(
                "agency",
                "An agency operator has an agency's code, and nobody else has.",
                "Kode OPD tidak sesuai peran.",
            )
        check_password(self.password, self.login, self.name)


async def add_staff(settings: ServiceSettings, *staff: Staff) -> int:
    """Make the accounts that are missing and bring the others up to date; returns how many were made or changed.

    Raises IdentityRefused, and UnusableKey without the audit log's key, before anything is changed."""
    for one in staff:
        one.check()
    client = connect(settings)
    try:
        store = AccountStore(client[settings.database("intake")])
        await store.ensure_indexes()
        passwords = Passwords()
        database = client[settings.database("intake")]
        sessions = SessionStore(database)
        audit = audit_log(database, "intake", settings.audit_key_file)
        return sum(await asyncio.gather(*(_put(store, sessions, audit, passwords, one) for one in staff)))
    finally:
        client.close()


async def _put(store: AccountStore, sessions: SessionStore, audit: AuditLog, passwords: Passwords, one: Staff) -> bool:
    login = normal_login(one.login)
    facts = {"account_role": one.role.value, "agency": one.agency}
    existing = await store.by_login(login)
    if existing is None:
        hashed = await passwords.hash(one.password)
        account = NewAccount((login,), one.role, one.name, hashed, agency=one.agency).document()
        await audit.record(Action.STAFF_ADDED, operator(), account["_id"], **facts)
        await store.add(account)
        return True
    if existing["role"] == Role.CITIZEN.value:
        raise IdentityRefused("login", f"{one.login} is a citizen's login.", "Login ini milik warga.")
    wanted = {"role": one.role.value, "name": one.name, "agency": one.agency, "active": True}
    same = all(existing[name] == value for name, value in wanted.items())
    if same and await passwords.verify(existing["password_hash"], one.password):
        return False
    hashed = await passwords.hash(one.password)
    await audit.record(Action.STAFF_CHANGED, operator(), existing["_id"], **facts)
    changed = await store.change(
        existing["_id"], existing["version"], {**wanted, "password_hash": hashed, "disabled_at": None}
    )
    if changed:
        await sessions.end_all(existing["_id"])
    return changed


async def list_staff(settings: ServiceSettings) -> list[Document]:
    """All accounts that are not citizens'."""
    client = connect(settings)
    try:
        return await AccountStore(client[settings.database("intake")]).staff()
    finally:
        client.close()


async def disable_staff(settings: ServiceSettings, login: str) -> bool:
    """End an account's sign-in and its sessions; False if there is no such staff account. Raises UnusableKey without
    the audit log's key."""
    client = connect(settings)
    try:
        store = AccountStore(client[settings.database("intake")])
        account = await store.by_login(normal_login(login))
        if account is None or account["role"] == Role.CITIZEN.value:
            return False
        database = client[settings.database("intake")]
        audit = audit_log(database, "intake", settings.audit_key_file)
        await audit.record(Action.STAFF_DISABLED, operator(), account["_id"])
        changed = await store.change(account["_id"], account["version"], {"active": False, "disabled_at": now()})
        if changed:
            await SessionStore(database).end_all(account["_id"])
        return changed
    finally:
        client.close()


async def reset_second_factor(settings: ServiceSettings, login: str) -> bool:
    """Take away the second factor of a staff account whose owner has lost it, and end its sessions; False if there is
    none. Raises UnusableKey without the audit log's key."""
    client = connect(settings)
    try:
        database = client[settings.database("intake")]
        account = await AccountStore(database).by_login(normal_login(login))
        if account is None or await SecondFactorStore(database).find(account["_id"]) is None:
            return False
        audit = audit_log(database, "intake", settings.audit_key_file)
        await audit.record(Action.SECOND_FACTOR_DISABLED, operator(), account["_id"])
        removed = await SecondFactorStore(database).remove(account["_id"])
        await SessionStore(database).end_all(account["_id"])
        return removed
    finally:
        client.close()
