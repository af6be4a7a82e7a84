"""External OpenID Connect issuers, such as the city's single sign-on: who they are, and what they may say.

An installation names them in ``LAPOR_ISSUERS``, a JSON list:

    [{"issuer": "https://sso.pontianak.example/realms/kota", "audience": "lapor",
      "roles_claim": "groups",
      "roles": {"lapor-pusat": {"role": "central_operator"},
                "dinas-pupr": {"role": "agency_operator", "agency": "DPUPR"}}}]

Its keys are found by OpenID Connect Discovery 1.0 (section 4). It speaks for accounts of its own only, and gives only
the roles that stand in its map.
"""

import hashlib
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from shared.auth import InvalidToken, Principal
from shared.sop import Role

DISCOVERY = "/.well-known/openid-configuration"
GIVABLE = frozenset(Role) - {Role.CITIZEN, Role.SYSTEM}
"""The roles that an external issuer can give: staff. Citizens' accounts and contacts are intake's, and nobody signs in
as the system."""
_LOOPBACK = ("127.0.0.1", "::1", "localhost")
_LONGEST_SUBJECT = 255
"""Characters (OpenID Connect Core 1.0, section 2)."""

Algorithm = Literal["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
_CODE = re.compile(r"[A-Z][A-Z0-9-]{1,19}")
Code = Annotated[str, Field(pattern=rf"^{_CODE.pattern}$")]


def secure(url: str) -> str:
    """The address, if it is https, or http on this machine. Raises ValueError."""
    parts = urlsplit(url)
    local = parts.scheme == "http" and parts.hostname in _LOOPBACK
    safe = local or (parts.scheme == "https" and parts.hostname)
    if not safe or parts.query or parts.fragment or parts.username or any(c.isspace() for c in url):
        raise ValueError("it needs to be https://… without query, fragment and user; http on this machine only")
    return url


def account_id(issuer: str, subject: str) -> str:
    """The id under which this system knows an external account. No two issuers can name the same, and it tells nothing
    about the person."""
    named = f"{issuer}\n{subject}".encode()  # no issuer's address holds a line break
    return f"ext-{hashlib.sha256(named).hexdigest()[:40]}"


class _Given(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Grant(_Given):
    """What a value of the roles' claim gives: a role, and to an agency's operator the agency, unless `agency_claim`
    says which."""

    role: Role
    agency: Code | None = None


class ExternalIssuer(_Given):
    """One external issuer. ``roles_claim`` holds a text or a list of texts; the first row of ``roles`` that is among
    them counts. A claim's name may be a path into nested objects (``realm_access.roles``)."""

    issuer: Annotated[str, AfterValidator(secure)]
    audience: str = Field(min_length=1, description="what its tokens for this system say in `aud`")
    algorithms: Sequence[Algorithm] = Field(("RS256", "ES256"), min_length=1)
    subject_claim: str = "sub"
    roles_claim: str = "groups"
    roles: dict[str, Grant] = Field(min_length=1)
    agency_claim: str | None = Field(None, description="claim that holds the code of an operator's agency")
    leeway_seconds: float = Field(5, ge=0, le=120, description="by how much its clock may differ")
    longest_seconds: float = Field(24 * 3600, gt=0, description="the longest life of its tokens that is accepted")

    @property
    def may_name_no_key(self) -> bool:
        return True

    @model_validator(mode="after")
    def _grants_are_possible(self) -> "ExternalIssuer":
        for name, grant in self.roles.items():
            if grant.role not in GIVABLE:
                raise ValueError(f"roles.{name}: an external issuer cannot give the role {grant.role.value}")
            of_agency = grant.role is Role.AGENCY_OPERATOR
            if of_agency and not (grant.agency or self.agency_claim):
                raise ValueError(f"roles.{name}: an agency's operator needs `agency`, or an `agency_claim`")
            if grant.agency and not of_agency:
                raise ValueError(f"roles.{name}: only an agency's operator has an agency")
        return self

    async def keys_at(self, client: httpx.AsyncClient) -> str:
        """Where its key set is, as its own discovery document says. Raises ValueError or httpx.HTTPError."""
        answer = await client.get(self.issuer.rstrip("/") + DISCOVERY)
        answer.raise_for_status()
        document = answer.json()
        if not isinstance(document, dict) or document.get("issuer") != self.issuer:
            raise ValueError("its discovery document names another issuer")
        return secure(str(document.get("jwks_uri")))

    def principal(self, claims: dict[str, Any]) -> Principal:
        """The account, namespaced, with what the map gives it. Raises InvalidToken."""
        subject = _claim(claims, self.subject_claim)
        if not isinstance(subject, str) or not 0 < len(subject) <= _LONGEST_SUBJECT:
            raise InvalidToken("it names no account")
        said = _claim(claims, self.roles_claim)
        names = [said] if isinstance(said, str) else said
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise InvalidToken("it names no role of this system")
        grant = next((grant for name, grant in self.roles.items() if name in names), None)
        if grant is None:
            raise InvalidToken("it names no role of this system")
        agency = None
        if grant.role is Role.AGENCY_OPERATOR:
            agency = grant.agency or _claim(claims, self.agency_claim or "")
            if not isinstance(agency, str) or not _CODE.fullmatch(agency):
                raise InvalidToken("it names no agency")
        return Principal(account_id(self.issuer, subject), grant.role, agency)


def unique(issuers: Sequence[ExternalIssuer]) -> Sequence[ExternalIssuer]:
    """The issuers, if each stands there once. Raises ValueError."""
    if len({issuer.issuer for issuer in issuers}) < len(issuers):
        raise ValueError("an issuer stands there twice")
    return issuers


def _claim(claims: dict[str, Any], name: str) -> Any:
    """A claim by its name or by its path; None if it is not there."""
    if name in claims:
        return claims[name]
    found: Any = claims
    for part in name.split("."):
        found = found.get(part) if isinstance(found, dict) else None
    return found
