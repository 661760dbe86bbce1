"""The one table of errors: which of ours is which HTTP status. Nothing a client sends is ever a 500."""

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import OperationalError
from starlette.exceptions import HTTPException

from depthwright.errors import DepthwrightError, DiskFull, InvalidImage, InvalidParameter, UserError, echo
from depthwright.service.api.answers import failure
from depthwright.service.api.shapes import ErrorAnswer
from depthwright.service.limits import TooManyRequests
from depthwright.service.store import IdempotencyConflict, TooManyOpen
from depthwright.service.uploads import TicketInvalid

log = structlog.get_logger()
_RETRY_SECONDS = 5


class Unauthorized(UserError):
    """There is no key in the request, or none that is valid."""


class Forbidden(UserError):
    """The request may not be made here."""


class NotFound(UserError):
    """There is no such thing, or it belongs to another key."""


# The first class that fits gives the status.
STATUS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (Unauthorized, HTTPStatus.UNAUTHORIZED),
    (Forbidden, HTTPStatus.FORBIDDEN),
    (NotFound, HTTPStatus.NOT_FOUND),
    (TicketInvalid, HTTPStatus.FORBIDDEN),
    (IdempotencyConflict, HTTPStatus.CONFLICT),
    (TooManyRequests, HTTPStatus.TOO_MANY_REQUESTS),
    (TooManyOpen, HTTPStatus.TOO_MANY_REQUESTS),
    (InvalidParameter, HTTPStatus.BAD_REQUEST),
    (InvalidImage, HTTPStatus.BAD_REQUEST),
    (UserError, HTTPStatus.BAD_REQUEST),
    (DiskFull, HTTPStatus.SERVICE_UNAVAILABLE),
    (OperationalError, HTTPStatus.SERVICE_UNAVAILABLE),
    (DepthwrightError, HTTPStatus.INTERNAL_SERVER_ERROR),
)
_WORDS = {
    HTTPStatus.BAD_REQUEST: "The request is not as it must be; the message names the field.",
    HTTPStatus.UNAUTHORIZED: "No valid key.",
    HTTPStatus.FORBIDDEN: "The upload ticket is used up, too old, or none.",
    HTTPStatus.NOT_FOUND: "There is no such thing, or it belongs to another key.",
    HTTPStatus.CONFLICT: "The Idempotency-Key was used for another request.",
    HTTPStatus.REQUEST_ENTITY_TOO_LARGE: "The body is larger than is read.",
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: "The range begins behind the picture's end.",
    HTTPStatus.TOO_MANY_REQUESTS: "Too many requests, or predictions at once; Retry-After tells when to try again.",
    HTTPStatus.SERVICE_UNAVAILABLE: "The server cannot store anything now; Retry-After tells when to try again.",
}


_RETRY_AFTER: dict[str, object] = {
    "Retry-After": {"description": "Seconds.", "required": True, "schema": {"type": "integer"}}
}
_HEADERS: dict[HTTPStatus, dict[str, object]] = {
    HTTPStatus.UNAUTHORIZED: {
        "WWW-Authenticate": {"description": "`Bearer`.", "required": True, "schema": {"const": "Bearer"}}
    },
    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE: {
        "Content-Range": {"description": "The size.", "required": True, "schema": {"type": "string"}}
    },
    HTTPStatus.TOO_MANY_REQUESTS: _RETRY_AFTER,
    HTTPStatus.SERVICE_UNAVAILABLE: _RETRY_AFTER,
}


def told(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """These errors as an endpoint's documentation lists them."""
    return {
        status: {
            "model": ErrorAnswer,
            "description": _WORDS[status],
            **({"headers": _HEADERS[status]} if status in _HEADERS else {}),
        }
        for status in map(HTTPStatus, (*statuses, HTTPStatus.SERVICE_UNAVAILABLE))
    }


def install(app: FastAPI) -> None:
    """Make every error an answer in the envelope."""
    for kind in (DepthwrightError, OperationalError):
        app.add_exception_handler(kind, _ours)
    app.add_exception_handler(HTTPException, _framework)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(Exception, _unexpected)


def _ours(request: Request, error: Exception) -> Response:
    status = next(status for kind, status in STATUS if isinstance(error, kind))
    headers: dict[str, str] = {}
    message = str(error)
    match error:
        case TooManyRequests(seconds=seconds):
            headers["retry-after"] = str(seconds)
        case TooManyOpen():
            headers["retry-after"] = str(_RETRY_SECONDS)
        case Unauthorized():
            headers["www-authenticate"] = "Bearer"
        case OperationalError():
            log.error("database not usable", error=str(error.orig), path=request.url.path)
            message = f"The server's database does not answer: try again in {_RETRY_SECONDS} s."
    if status is HTTPStatus.SERVICE_UNAVAILABLE:
        headers["retry-after"] = str(_RETRY_SECONDS)
    return failure(status, message, headers)


def _framework(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    message, headers = str(error.detail), dict(error.headers or {})
    if error.status_code == HTTPStatus.NOT_FOUND:
        message = f"There is nothing at {request.url.path[:200]}: /docs tells what there is."
    elif error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        # The framework names the methods of one route; an address may have several.
        headers["Allow"] = allowed = ", ".join(sorted(set(_methods(request)))) or headers.get("Allow", "GET")
        message = f"{request.method} is not what {request.url.path[:200]} takes: {allowed} is."
    return failure(error.status_code, message, headers)


def _methods(request: Request) -> Iterator[str]:
    app: FastAPI = request.app
    paths = app.openapi()["paths"]
    # A path of its own goes before one with a place for an id, as it does where requests are routed.
    literal = {name: operations for name, operations in paths.items() if name == request.url.path}
    for template, operations in (literal or paths).items():
        if re.fullmatch(re.sub(r"\\?{[^}]*}", "[^/]+", re.escape(template)), request.url.path):
            yield from (method.upper() for method in operations)


def _invalid(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    name = ".".join(str(part)[:60] for part in first["loc"][1:]) or "The body"
    # What is missing has no value of its own: the library tells the object around it.
    came = "missing" if first["type"] == "missing" else echo(first["input"])
    return failure(HTTPStatus.BAD_REQUEST, f"{name} is {came}: {first['msg'][:200]}.")


def _unexpected(request: Request, error: Exception) -> Response:
    log.error("unexpected", path=request.url.path, exc_info=error)
    return failure(
        HTTPStatus.INTERNAL_SERVER_ERROR,
        "Something went wrong on the server. Send it again; if it fails again, show this to the operator.",
    )
