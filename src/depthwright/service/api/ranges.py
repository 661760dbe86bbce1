"""Parts of a picture: one range of bytes, as RFC 9110 has it."""

import asyncio
import re
from http import HTTPStatus
from pathlib import Path

from fastapi.responses import FileResponse
from starlette.datastructures import Headers
from starlette.types import Receive, Scope, Send

from depthwright.service.api.answers import failure

_RANGE = re.compile(r"bytes=(?:([0-9]{1,15})-([0-9]{0,15})|-([0-9]{1,15}))", re.IGNORECASE)


class Picture(FileResponse):
    """A file. A range that is none, or several at once, are ignored: the whole file is the answer then."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer, with an error in the envelope where the range begins behind the end."""
        found = _RANGE.fullmatch(Headers(scope=scope).get("range", "").strip())
        size = (await asyncio.to_thread(Path(self.path).stat)).st_size
        if found is None or (found[2] and int(found[2]) < int(found[1])):
            scope = {**scope, "headers": [each for each in scope["headers"] if each[0] != b"range"]}
        elif (int(found[3]) == 0) if found[3] else (int(found[1]) >= size):
            message = f"The picture has {size} bytes: the range has to begin before."
            headers = {"content-range": f"bytes */{size}"}
            answer = failure(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, message, headers)
            await answer(scope, receive, send)
            return
        await super().__call__(scope, receive, send)
