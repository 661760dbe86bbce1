"""The endpoints that both dialects have: submit, result, cancel, delete, events, delivery log, upload."""

from typing import Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import StreamingResponse
from starlette.datastructures import UploadFile

from depthwright.errors import InvalidParameter
from depthwright.parameters import SizeBounds
from depthwright.request import IDEMPOTENCY_MAX, URL_MAX, WEBHOOK_FORM, PredictionRequest
from depthwright.service.api.access import Called
from depthwright.service.api.answers import MODEL, success, upload_url
from depthwright.service.api.errors import told
from depthwright.service.api.events import event_stream
from depthwright.service.api.shapes import Deleted, DeliveryLog, Envelope, PredictionAnswer, Uploaded
from depthwright.service.images import LIMIT_BYTES
from depthwright.service.outputs import CONTENT_TYPES

EXAMPLE = {
    "prompt": "a red sphere left of a blue cube on a wooden floor outdoors, in daylight",
    "control_scale": 1,
    "seed": 0,
    "num_images": 1,
    "size": "864*1636",
    "num_inference_steps": 28,
    "guidance_scale": 3.5,
    "enable_safety_checker": True,
}

_EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["progress", "end"]},
        "data": {"type": "string", "contentMediaType": "application/json"},
    },
    "required": ["event", "data"],
}
_FILE = {
    "required": True,
    "content": {
        "multipart/form-data": {
            "schema": {
                "type": "object",
                "properties": {"file": {"type": "string", "format": "binary"}},
                "required": ["file"],
            },
            "encoding": {"file": {"contentType": ", ".join(CONTENT_TYPES.values())}},
        }
    },
}


def routes(size_bounds: SizeBounds) -> APIRouter:
    """A fresh router with them, for an installation that makes pictures of these sizes."""
    router = APIRouter()

    @router.post(
        f"/{MODEL}",
        summary="Submit a prediction",
        responses={200: {"model": Envelope[PredictionAnswer]}, **told(400, 401, 409, 413, 429)},
        openapi_extra={"requestBody": _request_body(size_bounds)},
    )
    async def submit(
        request: Request,
        call: Called,
        webhook: Annotated[
            str | None,
            Query(description="The same as webhook_url.", max_length=URL_MAX, pattern=WEBHOOK_FORM),
        ] = None,
        idempotency_key: Annotated[
            str | None,
            Header(
                description="Makes it safe to send the same request again.",
                min_length=1,
                max_length=IDEMPOTENCY_MAX,
            ),
        ] = None,
    ) -> Response:
        """Answers once the prediction is safe on the disk; in sync mode, once it has ended."""
        return success(await call.ops.submit(call, await request.body(), webhook, idempotency_key))

    answer: dict[int | str, dict[str, Any]] = {200: {"model": Envelope[PredictionAnswer]}, **told(401, 404)}

    @router.get("/predictions/{prediction_id}", summary="Get a prediction", responses=answer)
    @router.get("/predictions/{prediction_id}/result", summary="Get a prediction's result", responses=answer)
    def result(prediction_id: str, call: Called) -> Response:
        """How it stands, and its pictures once there are any."""
        return success(call.ops.show(call, prediction_id))

    @router.post("/predictions/{prediction_id}/cancel", summary="Cancel a prediction", responses=answer)
    def cancel(prediction_id: str, call: Called) -> Response:
        """What waits is cancelled at once, what runs at its next step; what has ended stays as it is."""
        return success(call.ops.cancel(call, prediction_id))

    @router.delete(
        "/predictions/{prediction_id}",
        summary="Delete a prediction",
        responses={200: {"model": Envelope[Deleted]}, **told(401, 404)},
    )
    def delete(prediction_id: str, call: Called) -> Response:
        """Removes it and its pictures, whatever its state."""
        call.ops.find(call, prediction_id)
        return success({"deleted_count": call.ops.delete(call, [prediction_id])})

    @router.get(
        "/predictions/{prediction_id}/events",
        summary="Follow a prediction",
        response_class=StreamingResponse,
        responses={
            200: {
                "content": {"text/event-stream": {"schema": _EVENT}},
                "description": "Events `progress`, and `end` at last.",
            },
            **told(401, 404),
        },
    )
    async def events(prediction_id: str, call: Called) -> Response:
        """Server-sent events: each holds the prediction, and a preview while it is made."""
        await run_in_threadpool(call.ops.find, call, prediction_id)
        return event_stream(call, prediction_id)

    @router.get(
        "/predictions/{prediction_id}/webhooks",
        summary="See how webhooks went",
        responses={200: {"model": Envelope[list[DeliveryLog]]}, **told(401, 404)},
    )
    def webhooks(prediction_id: str, call: Called) -> Response:
        """The delivery log."""
        call.ops.find(call, prediction_id)
        return success([dict(each) for each in call.ops.deliveries.log(prediction_id)])

    @router.post(
        "/media/upload/binary",
        summary="Upload a picture",
        responses={200: {"model": Envelope[Uploaded]}, **told(400, 401, 413, 429)},
        openapi_extra={"requestBody": _FILE},
    )
    async def upload(request: Request, call: Called) -> Response:
        """A PNG, JPEG or WebP file of at most 20 MB, kept as long as predictions are."""
        call.ops.limit.spend(call.caller.key_id)
        # Read in here, so that the key is judged before a stranger's megabytes are.
        async with request.form(max_files=1, max_fields=20) as form:
            file = form.get("file")
            if not isinstance(file, UploadFile):
                raise InvalidParameter("file", file, "a PNG, JPEG or WebP file, sent as multipart/form-data")
            data = await file.read(LIMIT_BYTES + 1)
        kept = await run_in_threadpool(call.ops.uploads.add, call.caller.key_id, data, file.filename or "")
        return success(
            {
                "type": "image",
                "download_url": upload_url(call.base_url, kept.id),
                "filename": kept.filename,
                "size": kept.size,
            }
        )

    return router


def _request_body(size_bounds: SizeBounds) -> dict[str, Any]:
    schema = PredictionRequest.json_schema(size_bounds)
    return {
        "required": True,
        "content": {"application/json": {"schema": schema, "examples": {"source": {"value": EXAMPLE}}}},
    }
