"""The protocols at which the parts meet, so that each can stand in for another."""

from collections.abc import Generator
from typing import TYPE_CHECKING, Protocol

from depthwright.parameters import GenerationParameters

if TYPE_CHECKING:
    from PIL import Image

    from depthwright.engine.events import Event


class DepthMapper(Protocol):
    """What makes depth maps."""

    def depth(self, image: "Image.Image") -> "Image.Image":
        """The depth map of a photo: grey, near bright, of the photo's own size. Raises DepthwrightError."""
        ...


class Engine(DepthMapper, Protocol):
    """What makes pictures. The command and the service know it by this alone."""

    def stream(
        self, parameters: GenerationParameters, control_image: "Image.Image | None" = None
    ) -> "Generator[Event, None, None]":
        """Generate step by step: every stage and step is an event, the last one carries the result.

        Closing the generator stops the work at that step. Raises DepthwrightError.
        """
        ...
