"""Depth Generate (API): a server makes the pictures."""

from typing import Any

from depthwright.errors import InvalidParameter

from .. import adapter, reports
from ..connections import Connection, Connections
from ..remote import Made, generate
from ..tensors import only_picture, to_batch
from ..widgets import ANY_SIZE, REQUEST, fields, newness, verdict, widgets
from .connection import KIND

_NO_DEPTH = "This server does not give back the depth map that it used."


class GenerateByServerNode(adapter.Node):
    """Every parameter of the API. It runs beside other nodes."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its widgets and outputs, from the table of parameters."""
        return adapter.schema(
            "DepthwrightGenerateAPI",
            "Depth Generate (API)",
            "A prompt and the depth of a control image become pictures, made by the server of the connection.",
            inputs=[
                adapter.socket(KIND, "connection", "Which server makes them."),
                *widgets(REQUEST),
                adapter.picture(
                    "control_image",
                    "A photo or a ready depth map with near bright, one picture. Absent, and without a URL: the "
                    "server's own example.",
                ),
                adapter.text(
                    "control_image_url", "The control image's http(s) URL, where no picture is linked."
                ),
            ],
            outputs=[
                *reports.pictures_and_depth(),
                adapter.gives("STRING", "request_id", "By this Fetch Result finds the pictures again."),
                *reports.told(),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, prompt: str | None = None, size: str | None = None, loras: str | None = None
    ) -> bool | str:
        """What the form of a text tells; ComfyUI itself checks ranges and choices."""
        return verdict(ANY_SIZE, prompt, size, loras)

    @classmethod
    def fingerprint_inputs(cls, seed: int | None = None, **_others: Any) -> float | str:
        """A random seed makes another picture each time."""
        return newness(seed)

    @classmethod
    async def execute(
        cls,
        connection: Connection,
        control_image: Any = None,
        control_image_url: str = "",
        **given: Any,
    ) -> Any:
        """Send, wait, fetch."""
        # 1. The request, as the widgets say it.
        request = fields(given)
        if control_image is not None and control_image_url.strip():
            raise InvalidParameter("control_image_url", control_image_url, "empty where a picture is linked")
        if control_image_url.strip():
            request["control_image"] = control_image_url.strip()
        control = None if control_image is None else only_picture(control_image, "control_image")
        # 2. The server's work.
        key = Connections.read().key(connection)
        made = await generate(connection, key, request, control)
        # 3. The pictures, and what is told of them.
        return results(made)


def results(made: Made) -> Any:
    """A completed prediction as a node's outputs."""
    prediction = made.generated.prediction
    return adapter.Output(
        to_batch(made.generated.images),
        adapter.blocked(_NO_DEPTH) if made.depth is None else to_batch([made.depth]),
        prediction.id,
        reports.flags(prediction.nsfw),
        -1 if prediction.seed is None else prediction.seed,
        reports.timings({stage: spent / 1000 for stage, spent in prediction.timings.items()}),
    )
