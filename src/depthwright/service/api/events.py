"""Progress as server-sent events."""

import asyncio
import json
import time
from base64 import b64encode
from collections.abc import AsyncIterator
from typing import Any

from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse

from depthwright.service.api.errors import NotFound
from depthwright.service.api.operations import Call

_HEARTBEAT_SECONDS = 10.0
_LEAST_SECONDS = 0.05  # between two looks: a burst of changes elsewhere is looked at once


def event_stream(call: Call, prediction_id: str) -> StreamingResponse:
    """Every change of a prediction as an event `progress`, and `end` when nothing will change any more."""
    return StreamingResponse(
        _events(call, prediction_id),
        media_type="text/event-stream",
        headers={"cache-control": "no-store", "x-accel-buffering": "no"},
    )


async def _events(call: Call, prediction_id: str) -> AsyncIterator[bytes]:
    ops = call.ops
    told: dict[str, Any] | None = None
    last_preview: bytes | None = None
    spoken = time.monotonic()
    await run_in_threadpool(ops.store.want_preview, prediction_id)
    while True:
        # 1. The newest state; a prediction that is deleted meanwhile ends the stream.
        mark, looked = ops.watcher.mark(), time.monotonic()
        try:
            prediction = await run_in_threadpool(ops.find, call, prediction_id)
        except NotFound:
            yield _event("end", {"id": prediction_id, "status": "deleted"})
            return
        data = await ops.answer(call, prediction)
        if prediction.status.is_terminal:
            yield _event("end", data)
            return
        # 2. Told if it is news.
        if data != told:
            told = data
            preview = await run_in_threadpool(ops.store.preview, prediction_id)
            fresh = {}
            if preview is not None and preview != last_preview:
                fresh["preview"] = "data:image/jpeg;base64," + b64encode(preview).decode()
                last_preview = preview
            yield _event("progress", data | fresh)
            spoken = time.monotonic()
        # 3. A comment now and then keeps the connection open, and finds out when nobody listens.
        elif time.monotonic() - spoken > _HEARTBEAT_SECONDS:
            yield b": still here\n\n"
            spoken = time.monotonic()
        await ops.watcher.after(mark, _HEARTBEAT_SECONDS)
        await asyncio.sleep(max(0.0, looked + _LEAST_SECONDS - time.monotonic()))


def _event(name: str, data: object) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data, separators=(',', ':'))}\n\n".encode()
