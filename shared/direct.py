"""The short way of what is asked most: a request that is as it should be goes straight to its endpoint.

The framework resolves routes and dependencies, parses and validates in general steps and layers that cost more than the
rest of a move together. Where a route has only what those of the desks have (the caller, an Idempotency-Key, parts of
the path, one JSON body), the same can be done in four steps: who asks, the key, the body by the model's own parser, the
answer by the model's own writer, or its refusal. Whatever is unusual about a request goes the framework's way, and so
does whatever else is raised, so that errors and documents stay the framework's own.
"""

from collections.abc import Awaitable, Callable, Coroutine, Iterable
from typing import Any, cast

from fastapi import APIRouter, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from shared.http import KEY_LENGTH, Problem, SignedIn, idempotency, once_of

Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_RAISED = "lapor.raised"
_ANY = "{}"
_CONTENT_TYPE = (b"content-type", b"application/json")


class Direct(APIRoute):
    """A route that takes the short way if its shape allows it. The framework answers for what the endpoint raised."""

    def get_route_handler(self) -> Handler:
        usual = super().get_route_handler()

        async def handle(request: Request) -> Response:
            raised = request.scope.pop(_RAISED, None)
            if raised is not None:
                raise raised
            return await usual(request)

        return handle


class Plan:
    """How a route's endpoint is called and answered."""

    def __init__(self, route: APIRoute, body: tuple[str, TypeAdapter[Any]] | None) -> None:
        self.route = route
        self._endpoint: Callable[..., Awaitable[BaseModel]] = route.endpoint
        asked = ((str(d.name), d.call) for d in route.dependant.dependencies)
        self._caller = next((name, call) for name, call in asked if isinstance(call, SignedIn))
        self._keys = [str(d.name) for d in route.dependant.dependencies if d.call is idempotency]
        self._body = body
        self.status = route.status_code or 200

    @classmethod
    def of(cls, route: APIRoute) -> "Plan | None":
        """The plan of a route, or None if it has something that the short way does not know."""
        needs: Dependant = route.dependant
        others = (*needs.query_params, *needs.header_params, *needs.cookie_params)
        texts = all(field.field_info.annotation is str and not field.field_info.metadata for field in needs.path_params)
        known = all(isinstance(d.call, SignedIn) or d.call is idempotency for d in needs.dependencies)
        callers = sum(isinstance(d.call, SignedIn) for d in needs.dependencies)
        bodies = [(field.name, field.field_info.annotation) for field in needs.body_params]
        models = all(isinstance(kind, type) and issubclass(kind, BaseModel) for _, kind in bodies)
        answer = route.response_model
        answered = isinstance(answer, type) and issubclass(answer, BaseModel)
        special = needs.request_param_name or needs.response_param_name or needs.background_tasks_param_name
        shaped = texts and known and models and answered and callers == 1 and route.methods in ({"GET"}, {"POST"})
        if others or not shaped or len(bodies) > 1 or special or not needs.path:
            return None
        return cls(route, (bodies[0][0], TypeAdapter(cast(Any, bodies[0][1]))) if bodies else None)

    async def answer(self, scope: Scope, body: bytes) -> bytes | None:
        """The endpoint's answer, or None if the request is to go the usual way. Raises what the endpoint raises."""
        authorization = content_type = b""
        key: str | None = None
        for header, value in scope["headers"]:
            if header == b"authorization":
                authorization = authorization or value
            elif header == b"content-type":
                content_type = content_type or value
            elif header == b"idempotency-key" and key is None:
                key = value.decode("latin-1")
        if key is not None and not KEY_LENGTH[0] <= len(key) <= KEY_LENGTH[1]:
            return None
        values: dict[str, Any] = dict(scope["path_params"])
        name, signed_in = self._caller
        caller = await signed_in.admit(scope, authorization.decode("latin-1"))
        values[name] = caller
        if self._body is not None:
            if content_type != b"application/json":
                return None
            name, adapter = self._body
            try:
                values[name] = adapter.validate_json(body)
            except ValidationError:
                return None
        for name in self._keys:
            values[name] = once_of(caller, scope, key, body)
        return (await self._endpoint(**values)).model_dump_json().encode()


class ShortWay:
    """ASGI layer before the framework's own: requests for ``routers``' `Direct` routes are answered here where that can
    be."""

    def __init__(self, app: ASGIApp, routers: Iterable[APIRouter]) -> None:
        self._app = app
        self._plans: dict[tuple[str, str], list[Plan]] = {}
        for route in (route for router in routers for route in router.routes if isinstance(route, APIRoute)):
            last = route.path.rpartition("/")[2]
            plan = Plan.of(route) if isinstance(route, Direct) else None
            for method in (
                route.methods or ()
            ):  # also of a route that has no plan, lest another's parameter take its name
                at_its_name = self._plans.setdefault((method, _ANY if last.startswith("{") else last), [])
                at_its_name += [plan] if plan else []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        plan = self._plan(scope) if scope["type"] == "http" else None
        if plan is None:
            await self._app(scope, receive, send)
            return
        taken: list[Message] = []
        answer: bytes | None = None
        try:
            while not taken or taken[-1].get("more_body"):
                taken.append(await receive())
        except HTTPException as error:  # a body that is too large or too slow
            scope[_RAISED] = error
        if _RAISED not in scope and taken[-1]["type"] == "http.request":
            try:
                answer = await plan.answer(scope, b"".join(message.get("body", b"") for message in taken))
            except Problem as refusal:
                await refusal.response()(scope, receive, send)
                return
            except Exception as error:  # noqa: BLE001 - the framework's layers answer for it
                scope[_RAISED] = error
        if answer is None:
            await self._app(scope, _again(taken, receive), send)
            return
        headers = [(b"content-length", str(len(answer)).encode()), _CONTENT_TYPE]
        await send({"type": "http.response.start", "status": plan.status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    def _plan(self, scope: Scope) -> Plan | None:
        path, method = scope["path"], scope["method"]
        named = self._plans.get((method, path.rpartition("/")[2]))
        for plan in self._plans.get((method, _ANY), ()) if named is None else named:
            if match := plan.route.path_regex.match(path):
                scope["route"], scope["path_params"] = plan.route, match.groupdict()
                return plan
        return None


def _again(taken: list[Message], receive: Receive) -> Receive:
    """What was taken, once more, then what comes."""
    left = list(reversed(taken))

    async def again() -> Message:
        return left.pop() if left else await receive()

    return again
