"""What the five HTTP APIs have in common: problems (RFC 9457), pages, Idempotency-Key, and who is asking.

Every refusal is ``application/problem+json`` and says what to do; ``message`` is the Indonesian sentence for the
citizen's screen.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from http import HTTPStatus
from typing import Annotated, Any

from fastapi import Depends, FastAPI, Header, Query, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from fastapi.security import HTTPBearer
from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field
from starlette.exceptions import HTTPException
from starlette.types import Scope

from shared import openapi, telemetry
from shared.admission import TOO_LARGE
from shared.auth import InvalidToken, Principal, Verifier
from shared.journal import Idempotency, KeyReused, Overloaded, Taken, Unstorable
from shared.queries import BadCursor
from shared.scopes import GRANTABLE, SECOND_FACTOR, needed
from shared.sop import Refusal, Role
from shared.storage import TRANSIENT, refusal
from shared.words import number_prefix, words_of


class Body(BaseModel):
    """What a caller sends as JSON. A field that is not one of its own is refused by name: a misspelt optional field
    would otherwise be lost without a word."""

    model_config = ConfigDict(extra="forbid")


class FieldFault(BaseModel):
    """One fault of the request: where it is (a path such as ``body.photos.0``), and what to do."""

    field: str
    detail: str


class ProblemBody(BaseModel):
    """The body of every error (RFC 9457), as OpenAPI shows it."""

    type: str = Field(examples=["urn:lapor:problem:move-not-allowed-from-status"])
    title: str
    status: int
    detail: str
    message: str = Field(description="for the citizen's screen, in Indonesian")
    errors: list[FieldFault] = []


class Problem(Exception):
    """An answer that is an error. ``extra`` members are added to the body, such as the fresh state of a case."""

    def __init__(
        self,
        status: int,
        name: str,
        detail: str,
        message: str = "Permintaan tidak dapat diproses.",
        *,
        errors: Sequence[FieldFault] = (),
        headers: dict[str, str] | None = None,
        **extra: Any,
    ) -> None:
        super().__init__(detail)
        self.status, self.name, self.detail, self.message = status, name, detail, message
        self.errors, self.headers, self.extra = errors, headers or {}, extra

    def response(self) -> JSONResponse:
        """The problem as an HTTP answer."""
        body = ProblemBody(
            type=f"urn:lapor:problem:{self.name}",
            title=HTTPStatus(self.status).phrase,
            status=self.status,
            detail=self.detail,
            message=self.message,
            errors=list(self.errors),
        ).model_dump(mode="json")
        return JSONResponse(body | self.extra, self.status, self.headers, "application/problem+json")


def not_found(what: str = "complaint") -> Problem:
    """For what does not exist and for what the caller may not see: the two look alike."""
    return Problem(404, "not-found", f"There is no such {what}, or you may not see it.", "Data tidak ditemukan.")


def busy() -> Problem:
    """503: the same request may be sent again after a moment."""
    detail = "The service cannot take this now. Send the same request again, with the same Idempotency-Key."
    message = "Layanan sedang sibuk. Silakan coba beberapa saat lagi."
    return Problem(503, "unavailable", detail, message, headers={"Retry-After": "2"})


def too_large(most: int) -> Problem:
    """413 for a body of more than ``most`` bytes."""
    return Problem(
        413,
        "content-too-large",
        TOO_LARGE.format(most),
        "Isi permintaan terlalu besar.",
        headers={"Connection": "close"},
    )


def invalid(field: str, detail: str, message: str = "Periksa kembali isian Anda.") -> Problem:
    """422 for one field that is well-formed but cannot be right."""
    return Problem(422, "invalid-request", detail, message, errors=[FieldFault(field=field, detail=detail)])


def findable(text: str, sort: str | None, by: str) -> str:
    """What somebody wrote into a search field, if it can be looked for in the order that is asked for: what words find
    comes by the field ``by``, in either direction, and what the beginning of a number finds by number. Raises 422."""
    if number_prefix(text):
        if sort is not None:
            raise invalid("query.sort", "What is found by number comes by number: leave `sort` out.")
    elif not words_of(text):
        raise invalid("query.q", "It needs a word of at least two letters or digits, or how a number begins (LP-…).")
    elif sort not in (None, by, f"-{by}"):
        raise invalid("query.sort", f"With words in `q` it can be `{by}` or `-{by}`; narrow down by the other filters.")
    return text


REFUSALS: dict[Refusal, tuple[int, str, str]] = {
    Refusal.WRONG_ROLE: (403, "Your role does not make this move.", "Peran Anda tidak dapat melakukan tindakan ini."),
    Refusal.WRONG_STATUS: (
        409,
        "The complaint's present status does not allow this move; read it again and choose among `allowed`.",
        "Status laporan saat ini tidak mengizinkan tindakan ini.",
    ),
    Refusal.COORDINATOR_ASSIGNS: (
        409,
        "Two agencies have declined: only the coordinator assigns now.",
        "Dua OPD telah menolak; hanya koordinator yang dapat mendisposisikan.",
    ),
    Refusal.ASSIGNMENT_BINDS: (
        409,
        "The coordinator made this assignment: it cannot be declined.",
        "Disposisi koordinator bersifat mengikat dan tidak dapat ditolak.",
    ),
    Refusal.WINDOW_PASSED: (409, "The time for this move has passed.", "Batas waktu untuk tindakan ini telah lewat."),
    Refusal.WINDOW_OPEN: (409, "The citizen's time has not passed yet.", "Batas waktu warga belum lewat."),
    Refusal.NO_SUCH_AGENCY: (
        422,
        "`agency`: the directory has no active agency of this code; choose one of `GET /v1/agencies`.",
        "OPD tidak ada dalam direktori atau tidak aktif.",
    ),
    Refusal.AGENCY_DECLINED: (
        422,
        "`agency`: it has declined this complaint already; choose another.",
        "OPD ini telah menolak laporan tersebut; pilih OPD lain.",
    ),
}


def refused(refusal: Refusal, **extra: Any) -> Problem:
    """The problem for a move that is not made; ``extra`` carries the fresh state."""
    status, detail, message = REFUSALS[refusal]
    return Problem(status, refusal.value, detail, message, **extra)


class SignedIn(HTTPBearer):
    """A dependency: who is asking, by the bearer token, who must have one of ``roles`` where any are given. A token of
    some scopes only must have the service's for the method, or ``scope`` where the route asks for that instead
    (`shared.scopes`).

    One callable and no chain of them: the framework's bookkeeping for each costs as much as the check itself. Raises
    401 or 403.
    """

    def __init__(self, *roles: Role, scope: str | None = None) -> None:
        super().__init__(
            scheme_name="HTTPBearer", auto_error=False, description="A token from the intake service's sign-in."
        )
        self._roles = frozenset(roles)
        self._scope = scope

    async def __call__(self, request: Request) -> Principal:  # type: ignore[override]  # the account, not the token
        return await self.admit(request.scope, request.headers.get("authorization", ""))

    async def admit(self, request: Scope, authorization: str) -> Principal:
        """The account of whoever sent a request with this Authorization header. Raises 401 or 403."""
        state = request["app"].state
        principal = await _principal(state.verifier, authorization)
        if principal.scopes is not None:
            wanted = self._scope or needed(state.service, request["method"])
            if wanted not in principal.scopes:
                telemetry.bind_account(principal.id)
                raise _out_of_scope(wanted, principal.scopes)
        if self._roles and principal.role not in self._roles:
            telemetry.bind_account(principal.id)
            raise refused(Refusal.WRONG_ROLE)
        return principal


def bearer_token(authorization: str) -> str | None:
    """The token in an Authorization header (RFC 6750, section 2.1), if there is one."""
    scheme, _, token = authorization.partition(" ")
    return token if scheme.lower() == "bearer" and token else None


async def _principal(verifier: Verifier, authorization: str) -> Principal:
    token = bearer_token(authorization)
    if token is None:
        raise _unauthorized("Send a bearer token: sign in at the intake service.")
    try:
        return await verifier.verify(token)
    except InvalidToken as error:
        raise _unauthorized(f"The token was not accepted: {error}. Sign in again.") from None


def _unauthorized(detail: str) -> Problem:
    return Problem(
        401, "sign-in-required", detail, "Silakan masuk terlebih dahulu.", headers={"WWW-Authenticate": "Bearer"}
    )


def _out_of_scope(wanted: str, scopes: frozenset[str]) -> Problem:
    """403 for a token that may do less than its account's role."""
    if SECOND_FACTOR in scopes:
        return Problem(
            403,
            "second-factor-needed",
            "Your account needs a second factor first: POST /v1/me/second-factor and confirm it, then sign in again.",
            "Aktifkan faktor kedua terlebih dahulu, lalu masuk kembali.",
        )
    if wanted not in GRANTABLE:
        return Problem(403, "for-people-only", "No machine account may do this.", "Hanya untuk akun orang.")
    return Problem(
        403,
        "scope-missing",
        f"The token lacks the scope {wanted}: ask for it, and if the account has not got it, its administrator.",
        "Akun mesin ini tidak memiliki izin yang diperlukan.",
        headers={"WWW-Authenticate": f'Bearer error="insufficient_scope", scope="{wanted}"'},
        scope=wanted,
    )


Caller = Annotated[Principal, Depends(SignedIn())]


def any_of(*roles: Role, scope: str | None = None) -> Any:
    """A dependency: the caller, who must have one of the roles. Raises 401 or 403."""
    return Depends(SignedIn(*roles, scope=scope))


KEY_LENGTH = (8, 200)


async def idempotency(
    request: Request,
    idempotency_key: Annotated[
        str | None,
        Header(
            min_length=KEY_LENGTH[0],
            max_length=KEY_LENGTH[1],
            description="Any unique text: the same request with it is carried out once.",
        ),
    ] = None,
) -> Idempotency | None:
    """The Idempotency-Key of a POST that creates, bound to the caller, the route and the body."""
    if idempotency_key is None:
        return None
    caller = await _principal(request.app.state.verifier, request.headers.get("authorization", ""))
    return once_of(caller, request.scope, idempotency_key, await request.body())


def once_of(caller: Principal, scope: Scope, key: str | None, body: bytes) -> Idempotency | None:
    """The same from its parts."""
    return Idempotency.of(caller.id, f"{scope['method']} {scope['path']}", key, body) if key is not None else None


_RFC3339 = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d(:\d\d(\.\d+)?)?([Zz]|[+-]\d\d:?\d\d)")


def _written_moment(value: Any) -> Any:
    if isinstance(value, datetime) or (isinstance(value, str) and _RFC3339.fullmatch(value)):
        return value
    raise ValueError("write date, time and offset, such as 2026-11-20T07:30:00+07:00")


Moment = Annotated[AwareDatetime, BeforeValidator(_written_moment, json_schema_input_type=AwareDatetime)]
"""A moment as RFC 3339 writes it; a number, which could be seconds or milliseconds of anything, is none."""

Once = Annotated[Idempotency | None, Depends(idempotency)]
Limit = Annotated[int, Query(ge=1, le=100, description="rows of one page")]
Cursor = Annotated[str | None, Query(max_length=500, description="`next` of the page before")]

PROBLEMS: dict[int | str, dict[str, Any]] = {
    code: {"model": ProblemBody, "content": {"application/problem+json": {}}}
    for code in (400, 401, 403, 404, 408, 409, 413, 415, 422, 429, 503)
}


_MOST_FAULTS = 20  # told of one request


def _fault(error: dict[str, Any]) -> FieldFault:
    """One of pydantic's errors; the name of an unknown field is the caller's own, of any length."""
    field = ".".join(map(str, error["loc"]))[:200]
    unknown = error["type"] == "extra_forbidden"
    return FieldFault(field=field, detail="There is no such field; leave it out." if unknown else error["msg"])


def install(app: FastAPI) -> None:
    """Make every error of ``app`` a problem, those of the framework included."""

    @app.exception_handler(Problem)
    async def _problem(_: Request, problem: Problem) -> JSONResponse:
        return problem.response()

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        faults = [_fault(e) for e in error.errors()[:_MOST_FAULTS]]
        detail = f"{faults[0].field}: {faults[0].detail}" if faults else "The request is not valid."
        return Problem(422, "invalid-request", detail, "Periksa kembali isian Anda.", errors=faults).response()

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        headers = dict(error.headers or {})
        if error.status_code == 405:
            headers["Allow"] = openapi.allowed(app.routes, request.scope)
        if error.status_code == 413:  # whose phrase differs between versions of Python
            name = "content-too-large"
        else:
            name = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
        return Problem(error.status_code, name, str(error.detail), headers=headers).response()

    @app.exception_handler(KeyReused)
    async def _reused(_: Request, __: KeyReused) -> JSONResponse:
        detail = "This Idempotency-Key was used for another request. Use a new key for a new request."
        return Problem(422, "idempotency-key-reused", detail, "Permintaan ini tidak sama dengan sebelumnya.").response()

    @app.exception_handler(BadCursor)
    async def _cursor(_: Request, error: BadCursor) -> JSONResponse:
        return invalid("query.cursor", f"{error}. Start from the first page.").response()

    async def unencodable(_: Request, __: Exception) -> JSONResponse:
        return invalid("body", "A text holds characters that are not valid Unicode.").response()

    for error in (Unstorable, UnicodeEncodeError):
        app.add_exception_handler(error, unencodable)

    async def unavailable(_: Request, __: Exception) -> JSONResponse:
        return busy().response()

    for away in (Overloaded, TimeoutError, *TRANSIENT):
        app.add_exception_handler(away, unavailable)

    @app.exception_handler(Taken)
    async def _taken(_: Request, __: Taken) -> JSONResponse:
        return refused(Refusal.WRONG_STATUS).response()

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:
        if refusal(error):  # the same request will do when an operator has seen to it
            return busy().response()
        detail = "The service failed on this request; its operators have been told. Give them the header x-trace-id."
        return Problem(500, "internal-error", detail, "Terjadi kesalahan pada sistem.").response()
