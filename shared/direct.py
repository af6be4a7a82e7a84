"""Routes for what is asked most: a request that is as it should be goes straight to its endpoint.

The framework resolves dependencies, parses and validates in general steps that cost as much as the rest of a move
together. Where a route has only what those of the desks have (the caller, an Idempotency-Key, parts of the path, one
JSON body), the same can be done in four: who asks, the key, the body by the model's own parser, the answer by the
model's own writer. Whatever is unusual about a request goes the framework's way, so that errors and documents stay its
own.
"""

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, cast

from fastapi import Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from pydantic import BaseModel, TypeAdapter, ValidationError

from shared.http import KEY_LENGTH, SignedIn, idempotency

Handler = Callable[[Request], Coroutine[Any, Any, Response]]


class Direct(APIRoute):
    """A route that takes the short way if its shape allows it."""

    def get_route_handler(self) -> Handler:
        usual = super().get_route_handler()
        plan = Plan.of(self)
        if plan is None:
            return usual

        async def handle(request: Request) -> Response:
            return await plan.answer(request) or await usual(request)

        return handle


class Plan:
    """How a route's endpoint is called and answered."""

    def __init__(self, route: APIRoute, body: tuple[str, TypeAdapter[Any]] | None) -> None:
        self._endpoint: Callable[..., Awaitable[BaseModel]] = route.endpoint
        self._status = route.status_code or 200
        self._path = [field.name for field in route.dependant.path_params]
        self._asked = [(str(d.name), d.call) for d in route.dependant.dependencies]
        self._body = body

    @classmethod
    def of(cls, route: APIRoute) -> "Plan | None":
        """The plan of a route, or None if it has something that the short way does not know."""
        needs: Dependant = route.dependant
        others = (*needs.query_params, *needs.header_params, *needs.cookie_params)
        texts = all(field.field_info.annotation is str and not field.field_info.metadata for field in needs.path_params)
        known = all(isinstance(d.call, SignedIn) or d.call is idempotency for d in needs.dependencies)
        bodies = [(field.name, field.field_info.annotation) for field in needs.body_params]
        models = all(isinstance(kind, type) and issubclass(kind, BaseModel) for _, kind in bodies)
        answer = route.response_model
        answered = isinstance(answer, type) and issubclass(answer, BaseModel)
        special = needs.request_param_name or needs.response_param_name or needs.background_tasks_param_name
        if others or not (texts and known and models and answered) or len(bodies) > 1 or special or not needs.path:
            return None
        return cls(route, (bodies[0][0], TypeAdapter(cast(Any, bodies[0][1]))) if bodies else None)

    async def answer(self, request: Request) -> Response | None:
        """The endpoint's answer, or None if the request is to go the usual way. Raises what the endpoint raises."""
        headers = request.headers
        key = headers.get("idempotency-key")
        if key is not None and not KEY_LENGTH[0] <= len(key) <= KEY_LENGTH[1]:
            return None
        values: dict[str, Any] = {name: request.path_params[name] for name in self._path}
        for name, call in self._asked:
            values[name] = await (idempotency(request, key) if call is idempotency else call(request))  # type: ignore[misc]
        if self._body is not None:
            if headers.get("content-type") != "application/json":
                return None
            name, adapter = self._body
            try:
                values[name] = adapter.validate_json(await request.body())
            except ValidationError:
                return None
        answer = await self._endpoint(**values)
        return Response(answer.model_dump_json(), self._status, media_type="application/json")
