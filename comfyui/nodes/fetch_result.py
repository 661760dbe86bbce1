"""Fetch Result: the pictures of an earlier request."""

from typing import Any

from .. import adapter, reports
from ..connections import Connection, Connections
from ..remote import fetch
from .connection import KIND
from .generate_api import results


class FetchResultNode(adapter.Node):
    """Gets what was paid for and did not arrive, or was not waited for."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its widgets and outputs."""
        return adapter.schema(
            "DepthwrightFetchResult",
            "Depthwright Fetch Result",
            "The pictures of a request that was sent before; one that is still being made is waited for.",
            inputs=[
                adapter.socket(KIND, "connection", "The server that the request was sent to."),
                adapter.text("request_id", "The request id that Depth Generate (API) told.", required=True),
            ],
            outputs=[*reports.pictures_and_depth(), *reports.told()],
        )

    @classmethod
    def validate_inputs(cls, request_id: str | None = None) -> bool | str:
        """Whether there is an id at all."""
        return request_id is None or bool(request_id.strip()) or "Give the request id of an earlier request."

    @classmethod
    async def execute(cls, connection: Connection, request_id: str) -> Any:
        """Wait if need be, fetch."""
        made = await fetch(connection, Connections.read().key(connection), request_id.strip())
        images, depth, _, *told = results(made).result
        return adapter.Output(images, depth, *told)
