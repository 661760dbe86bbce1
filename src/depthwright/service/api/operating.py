"""What operators and their machines ask: is it alive, is it ready, how does it do."""

from http import HTTPStatus

from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST

from depthwright.errors import DiskFull
from depthwright.service.api.access import Called, Ops
from depthwright.service.api.answers import failure, success
from depthwright.service.api.errors import told
from depthwright.service.api.shapes import Alive, Envelope, Ready
from depthwright.service.metrics import Metrics
from depthwright.service.queue_sqlite import image_checkers


def router() -> APIRouter:
    """Health and metrics."""
    api = APIRouter(tags=["operating"])

    @api.get("/live", summary="Is the server alive?", responses={200: {"model": Envelope[Alive]}})
    async def live() -> Response:
        """Answers at once, whatever the workers do."""
        return success({"live": True})

    @api.get("/ready", summary="Can it make pictures?", responses={200: {"model": Envelope[Ready]}, **told()})
    def ready(ops: Ops) -> Response:
        """200 once a living worker has made a real picture and outputs can be written; 503 otherwise."""
        workers = ops.reaper.ready()
        if not workers:
            return failure(
                HTTPStatus.SERVICE_UNAVAILABLE,
                "No worker is ready: none has made a picture yet, or all died.",
                {"retry-after": "2"},
            )
        try:
            ops.outputs.check()
        except (OSError, DiskFull) as error:
            return failure(
                HTTPStatus.SERVICE_UNAVAILABLE, f"Outputs cannot be written: {error}", {"retry-after": "30"}
            )
        told = {"workers": len(workers), "image_checker": image_checkers(ops.database)}
        return success({"ready": True, **told})

    @api.get(
        "/metrics",
        summary="Metrics for Prometheus",
        responses={
            200: {
                "content": {"text/plain": {"schema": {"type": "string"}}},
                "description": "Prometheus's text format.",
            },
            **told(401),
        },
        response_class=Response,
    )
    def metrics(call: Called) -> Response:
        """Needs a key like everything else: give Prometheus one as its bearer token."""
        page = Metrics(call.ops.database, lambda: len(call.ops.reaper.ready())).page()
        return Response(page, media_type=CONTENT_TYPE_LATEST)

    return api
