"""The protocols at which the parts meet, so that each can stand in for another."""

from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from depthwright.loras import LoraFile
from depthwright.parameters import GenerationParameters
from depthwright.prediction import Claim, Fault, Outcome, Work

if TYPE_CHECKING:
    from PIL import Image

    from depthwright.events import Event
    from depthwright.provenance.encoding import OutputFormat
    from depthwright.provenance.receipt import Receipt


class DepthMapper(Protocol):
    """What makes depth maps."""

    def depth(self, image: "Image.Image") -> "Image.Image":
        """The depth map of a photo: grey, near bright, of the photo's own size. Raises DepthwrightError."""
        ...


class Engine(DepthMapper, Protocol):
    """What makes pictures. The command and the service know it by this alone."""

    def stream(
        self,
        parameters: GenerationParameters,
        control_image: "Image.Image | None" = None,
        loras: Sequence[LoraFile] = (),
        *,
        checked: bool = True,
    ) -> "Generator[Event, None, None]":
        """Generate step by step: every stage and step is an event, and what is made comes as soon as it is.

        The depth map comes first, then image after image; the last event carries the whole result. What an image
        checker objects to is black in all of them, unless pictures are not to be `checked`.

        Closing the generator stops the work at that step. Raises DepthwrightError, Refused among them.
        """
        ...


class Queue(Protocol):
    """The waiting predictions as one worker sees them; a write under an older claim changes nothing.

    `start`, `progress` and `wishes` raise `depthwright.prediction.Lost` when the claim is no longer the worker's;
    `finish`, `fail` and `cancelled` answer False.
    """

    def register(self, state: str, model_version: str = "", image_checker: str = "") -> None:
        """Appear among the workers, or tell a new state."""
        ...

    def beat(self) -> bool:
        """Tell that the worker lives; False if it was taken for dead."""
        ...

    def leave(self) -> None:
        """Hand everything back and disappear."""
        ...

    def claim(self, *, idle: bool = False) -> Work | None:
        """Take the oldest prediction that waits, if one does; an idle worker starts at once what needs no picture."""
        ...

    def start(self, claim: Claim) -> None:
        """The model begins with it."""
        ...

    def progress(self, claim: Claim, progress: Mapping[str, Any], preview: bytes | None = None) -> None:
        """Tell how far it is."""
        ...

    def wishes(self, claim: Claim) -> tuple[bool, bool]:
        """Whether its owner wants it cancelled, and wants previews."""
        ...

    def finish(self, claim: Claim, outcome: Outcome) -> bool:
        """Publish what was made."""
        ...

    def fail(self, claim: Claim, fault: Fault) -> bool:
        """End it with a fault."""
        ...

    def cancelled(self, claim: Claim) -> bool:
        """End it as its owner wished."""
        ...

    def release(self, claim: Claim) -> None:
        """Hand it back, with no fault of its own."""
        ...


class Staging(Protocol):
    """What one attempt makes, written while it goes on: on leaving, everything that was not kept is removed."""

    def __enter__(self) -> Self: ...

    def __exit__(self, *_: object) -> None: ...

    def add(
        self,
        image: "Image.Image",
        output_format: "OutputFormat",
        receipt: "Callable[[], Receipt] | None" = None,
    ) -> None:
        """Begin to write a picture in a format, marked where it has a receipt, and return at once."""
        ...

    def settle(self) -> tuple[str, ...]:
        """Wait until all is durable; paths under the store, in the order of adding. Raises DiskFull."""
        ...

    @property
    def pixels(self) -> tuple[str, ...]:
        """The hashes of the marked pictures, as their receipts have them, once all is settled."""
        ...

    def clear(self) -> None:
        """Remove what was written so far: the attempt begins again."""
        ...

    def keep(self) -> None:
        """It is published: nothing is removed any more."""
        ...


class OutputStore(Protocol):
    """Where pictures are kept until they are swept."""

    def stage(self, claim: Claim) -> Staging:
        """A place for what an attempt makes."""
        ...

    def path(self, name: str) -> Path | None:
        """The file of that name, if there is one."""
        ...

    def remove(self, prediction_id: str) -> None:
        """Remove everything of a prediction."""
        ...
