"""What the engine says while it works; the callers own progress bars, previews and cancellation."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from PIL import Image

from depthwright.result import GenerationResult, Origin

Stage = Literal["safety", "depth", "text", "control", "denoise", "decode", "fidelity"]


@dataclass(frozen=True)
class Started:
    """The request was accepted; this is what its pictures will come from."""

    origin: Origin


@dataclass(frozen=True)
class StageStarted:
    """A stage begins. Denoise, decode and fidelity come once for each image; safety, where there is an image checker,
    for the control image and then for each image.
    """

    stage: Stage


@dataclass(frozen=True)
class StageFinished:
    """A stage ended after so many seconds of its own work (time spent in the caller is not counted)."""

    stage: Stage
    seconds: float


@dataclass(frozen=True)
class DepthFinished:
    """The depth map that all images follow is there, grey, near bright, at exactly the requested size."""

    depth: Image.Image


@dataclass(frozen=True)
class StepFinished:
    """Denoising step `step` (from 0) of `steps` is done for image `image` (from 0) of `num_images`.

    `preview()` decodes the picture as the model expects it to end. It costs one decoding, and only when called; it is
    None where the image checker objects to what is seen so far.
    """

    image: int
    num_images: int
    step: int
    steps: int
    preview: Callable[[], Image.Image | None]


@dataclass(frozen=True)
class ImageFinished:
    """Image `image` (from 0) is there, RGB at exactly the requested size.

    `flagged` if the image checker objected to it: then it is black. None if nobody looked.
    """

    image: int
    picture: Image.Image
    flagged: bool | None = None


@dataclass(frozen=True)
class Finished:
    """All is done; no event follows."""

    result: GenerationResult


Event = Started | StageStarted | StageFinished | DepthFinished | StepFinished | ImageFinished | Finished
