"""Files by unguessable addresses: pictures that were made, pictures that were uploaded, tickets."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse

from depthwright.service.api.access import Base, Ops
from depthwright.service.api.answers import success, upload_url
from depthwright.service.api.errors import NotFound, told
from depthwright.service.api.ranges import Picture
from depthwright.service.api.shapes import Envelope, Redeemed
from depthwright.service.outputs import CONTENT_TYPES
from depthwright.service.uploads import TicketInvalid

# The name is new for every file, so what is at it never changes.
_HEADERS = {"cache-control": "private, max-age=604800, immutable", "x-content-type-options": "nosniff"}
_GONE = "There is no such picture; it may have been deleted or swept."


def router() -> APIRouter:
    """Everything that needs no key, because its address is the secret."""
    api = APIRouter(tags=["files"])
    kinds: dict[str, Any] = {kind: {} for kind in CONTENT_TYPES.values()}
    picture: dict[int | str, dict[str, Any]] = {
        200: {"content": kinds, "description": "The picture."},
        206: {"content": kinds, "description": "The part of it that the header Range asked for."},
        **told(404, 416),
    }

    @api.get(
        "/outputs/{prediction_id}/{attempt}/{name}",
        summary="Get a picture",
        responses=picture,
        response_class=FileResponse,
    )
    def output(prediction_id: str, attempt: str, name: str, ops: Ops) -> Response:
        """A picture or depth map of a completed prediction; ranges are served."""
        path = f"{prediction_id}/{attempt}/{name}"
        # A file counts only once the database names it.
        file = ops.outputs.path(path) if ops.store.publishes(prediction_id, path) else None
        if file is None:
            raise NotFound(_GONE)
        return Picture(file, media_type=CONTENT_TYPES[file.suffix], headers=_HEADERS)

    @api.put(
        "/uploads/ticket/{ticket}",
        summary="Upload by ticket",
        responses={200: {"model": Envelope[Redeemed]}, **told(400, 403, 413)},
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {
                    kind: {"schema": {"type": "string", "format": "binary"}}
                    for kind in CONTENT_TYPES.values()
                },
            }
        },
    )
    async def redeem(ticket: str, request: Request, ops: Ops, base: Base) -> Response:
        """Takes the file that the ticket was given for, once."""
        # Judged before the body is read: a stranger's megabytes are not gathered for nothing.
        if await run_in_threadpool(ops.uploads.owner, ticket) is None:
            raise TicketInvalid(
                "This upload address was used before, is too old, or none: ask for a new one."
            )
        kept = await run_in_threadpool(ops.uploads.redeem, ticket, await request.body())
        return success({"download_url": upload_url(base, kept.id), "size": kept.size})

    @api.get("/uploads/{upload_id}", summary="Get an upload", responses=picture, response_class=FileResponse)
    def upload(upload_id: str, ops: Ops) -> Response:
        """A picture that was uploaded."""
        kept = ops.uploads.find(upload_id)
        if kept is None or not ops.uploads.path(kept.id).is_file():
            raise NotFound(_GONE)
        return Picture(ops.uploads.path(kept.id), media_type=kept.content_type, headers=_HEADERS)

    return api
