"""Tokens for machine accounts: the client credentials grant (RFC 6749, section 4.4)."""

import base64
import binascii
from typing import Any, Literal
from urllib.parse import parse_qsl, unquote_plus

import structlog
from fastapi import APIRouter, Request
from prometheus_client import Counter
from pydantic import BaseModel, Field

from services.intake.client_store import ClientStore
from services.intake.clients import admitted
from services.intake.keys import SigningKeys
from shared import telemetry
from shared.auth import Principal
from shared.http import PROBLEMS, Problem

log = structlog.get_logger()

CLIENT_SIGN_INS = Counter("lapor_client_sign_ins_total", "Attempts of machine accounts to sign in.", ["outcome"])
CLIENT_SIGN_INS.labels("accepted"), CLIENT_SIGN_INS.labels("refused")

_GRANT = "client_credentials"
_FORM = "application/x-www-form-urlencoded"
_TEXT: dict[str, Any] = {"type": "string", "maxLength": 500}
_DOCUMENT: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {
            _FORM: {
                "schema": {
                    "type": "object",
                    "required": ["grant_type"],
                    "additionalProperties": {"type": "string"},
                    "properties": {
                        "grant_type": {"type": "string", "const": _GRANT},
                        "client_id": _TEXT,
                        "client_secret": _TEXT,
                        "scope": _TEXT | {"description": "of the account's, with blanks between; all if left out"},
                    },
                }
            }
        },
    }
}


class ClientToken(BaseModel):
    """The answer of RFC 6749, section 5.1. There is no refresh token: the secret is as good."""

    access_token: str
    token_type: Literal["Bearer"] = "Bearer"  # noqa: S105 - RFC 6750's name of the scheme
    expires_in: int = Field(description="seconds")
    scope: str


def router(clients: ClientStore, keys: SigningKeys) -> APIRouter:
    """The token endpoint."""
    api = APIRouter(tags=["machines"])

    @api.post(
        "/oauth/token",
        summary="A token for a machine account (its id and secret by HTTP Basic or in the form)",
        openapi_extra=_DOCUMENT,
        responses={code: PROBLEMS[code] for code in (400, 401)},
    )
    async def token(request: Request) -> ClientToken:
        form = _form(request.headers.get("content-type", ""), await request.body())
        if form.get("grant_type") != _GRANT:
            missing = "grant_type" not in form
            raise _error(
                "invalid_request" if missing else "unsupported_grant_type", f"`grant_type` needs to be {_GRANT}."
            )
        client_id, secret = _credentials(request.headers.get("authorization"), form)
        client = await clients.find(client_id)
        if client is not None:
            telemetry.bind_account(client["_id"])
        principal = admitted(client, secret)
        if principal is None:
            CLIENT_SIGN_INS.labels("refused").inc()
            raise _error("invalid_client", "The client's id or secret is wrong, or the account is closed.")
        scopes = _asked(form.get("scope"), principal.scopes or frozenset())
        CLIENT_SIGN_INS.labels("accepted").inc()
        log.info("signed in", by="client secret", role=principal.role.value)
        given, seconds = keys.token(Principal(principal.id, principal.role, principal.agency, scopes=scopes))
        return ClientToken(access_token=given, expires_in=seconds, scope=" ".join(sorted(scopes)))

    return api


def _form(content_type: str, body: bytes) -> dict[str, str]:
    """The form's fields. Raises 400 for what is none, and for a field that stands twice (RFC 6749, section 3.2)."""
    if content_type.partition(";")[0].strip().lower() != _FORM:
        raise _error("invalid_request", f"Send a form: Content-Type: {_FORM}.")
    try:
        fields = parse_qsl(body.decode("ascii"), keep_blank_values=True, errors="strict", max_num_fields=20)
    except ValueError:
        raise _error("invalid_request", "The form cannot be read.") from None
    found = {name: value for name, value in fields if value}  # without a value it is as if it were left out
    if len({name for name, _ in fields}) != len(fields):
        raise _error("invalid_request", "A field stands twice.")
    return found


def _credentials(authorization: str | None, form: dict[str, str]) -> tuple[str, str]:
    """The client's id and secret, from one place (RFC 6749, section 2.3.1). Raises 400 or 401."""
    in_form = "client_secret" in form
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() == "basic":
        if in_form:
            raise _error("invalid_request", "Give the secret in one place: by HTTP Basic or in the form.")
        try:
            client_id, colon, secret = base64.b64decode(encoded, validate=True).decode("ascii").partition(":")
        except (binascii.Error, ValueError):
            client_id = colon = secret = ""
        client_id, secret = unquote_plus(client_id), unquote_plus(secret)
        if colon and form.get("client_id", client_id) == client_id:
            return client_id, secret
    elif in_form and "client_id" in form:
        return form["client_id"], form["client_secret"]
    raise _error("invalid_client", "Send the client's id and secret by HTTP Basic, or both in the form.")


def _asked(scope: str | None, own: frozenset[str]) -> frozenset[str]:
    """The scopes that are asked for; all of the account's if none are. Raises 400."""
    asked = frozenset(scope.split()) if scope else own
    if not asked or not asked <= own:
        raise _error("invalid_scope", "Ask only for scopes that the account has; leave `scope` out for all of them.")
    return asked


def _error(error: str, detail: str) -> Problem:
    """A refusal that a client of RFC 6749 (section 5.2) reads by ``error``, and anybody else as a problem."""
    refused = error == "invalid_client"
    return Problem(
        401 if refused else 400,
        error.replace("_", "-"),
        detail,
        "Akun mesin tidak dapat masuk.",
        headers={"WWW-Authenticate": 'Basic realm="lapor", charset="UTF-8"'} if refused else None,
        error=error,
        error_description=detail.replace("`", ""),
    )
