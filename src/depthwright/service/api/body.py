"""Bodies, bounded: no request is read further than its endpoint takes."""

import re
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from depthwright.service.api.answers import failure
from depthwright.service.images import LIMIT_BYTES

_SMALL = 1_000_000
# Base64 takes four bytes for three, and the other fields need room.
_SUBMISSION = LIMIT_BYTES * 4 // 3 + _SMALL
_LIMITS = (
    (re.compile(r"/api/v[23]/wavespeed-ai/"), _SUBMISSION),
    (re.compile(r"/api/v[23]/media/upload/binary|/uploads/ticket/"), LIMIT_BYTES + _SMALL),
)


class BoundedBodies:
    """ASGI middleware that answers 413 as soon as a body is known to be too large."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, counting."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit = next((most for path, most in _LIMITS if path.match(scope["path"])), _SMALL)
        message = f"The body is too large: at most {limit / 1_000_000:.1f} MB are read here."
        lengths = [value for name, value in scope["headers"] if name == b"content-length"]
        if lengths and lengths[0].isdigit() and int(lengths[0]) > limit:
            await failure(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)(scope, receive, send)
            return
        received = 0

        async def counted() -> Message:
            nonlocal received
            part = await receive()
            received += len(part.get("body", b""))
            if received > limit:
                # The framework takes any other error in here for a body that cannot be parsed.
                raise HTTPException(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, message)
            return part

        await self._app(scope, counted, send)
