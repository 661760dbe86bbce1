"""JSON bodies read strictly: NaN, Infinity and lone surrogates are no part of JSON, whatever Python's reader says."""

from collections.abc import Callable, Coroutine
from http import HTTPStatus
from typing import Any

from fastapi import Request, Response
from fastapi.routing import APIRoute
from pydantic_core import from_json
from starlette.exceptions import HTTPException

from depthwright.errors import InvalidParameter

JSON_OBJECT = 'a JSON object such as {"prompt": "a red sphere"}'


def read_json(body: bytes) -> Any:
    """A body that is JSON. Raises InvalidParameter."""
    try:
        return from_json(body, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidParameter("The body", body[:60].decode("utf-8", "replace"), JSON_OBJECT) from error


class _StrictRequest(Request):
    async def json(self) -> Any:
        try:
            return read_json(await self.body())
        except InvalidParameter as error:
            # The one error that the framework lets through from here.
            raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from error


class StrictRoute(APIRoute):
    """A route whose body is read so."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The usual handler, with a request that reads strictly."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            return await handler(_StrictRequest(request.scope, request.receive))

        return strict
