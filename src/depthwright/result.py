"""What a generation gives back."""

from collections.abc import Mapping
from dataclasses import dataclass

from PIL import Image

from depthwright.parameters import GenerationParameters, Level

# Who looked at the pictures, where it was no checker.
NO_CHECKER, OFF_BY_OPERATOR, OFF_BY_REQUEST = "none", "off by the operator", "off by request"
# The category of what an image checker objects to; the prompt policy has categories of its own.
IMAGE = "image"


@dataclass(frozen=True)
class Fidelity:
    """How closely a picture keeps to its control image: depth estimated on it, against the depth given.

    `rmse` is on 0-255, as ControlNet++ (arXiv 2404.07987) reports it; lower is better. `residual_correlation` is
    Pearson's after each row's mean is taken from both maps, so that the ground's own gradient, which any picture of a
    floor shares, scores nothing; None where the control image has no such structure.
    """

    rmse: float
    residual_correlation: float | None


@dataclass(frozen=True)
class Acceleration:
    """The level that ran, the techniques that made it, and how many steps of all pictures were forecast."""

    level: Level
    techniques: tuple[str, ...]
    steps_forecast: int


@dataclass(frozen=True)
class UsedLora:
    """A user's LoRA that acted: its file's name, SHA-256 and scale."""

    name: str
    digest: str
    scale: float


@dataclass(frozen=True)
class Origin:
    """What the pictures of a request come from, all of it known before the first one is made.

    Image i has the seed `seeds[i]`. `techniques` are those of the level of acceleration; bytes depend on the kind of
    `hardware`. `control_sha256` is a digest of the control image's pixels; None for our own example.
    """

    parameters: GenerationParameters
    seeds: tuple[int, ...]
    profile: str
    model_version: str
    hardware: str
    techniques: tuple[str, ...] = ()
    loras: tuple[UsedLora, ...] = ()
    control_sha256: str | None = None


@dataclass(frozen=True)
class GenerationResult:
    """The pictures of one request, and everything needed to make or judge them again.

    `images` are RGB at exactly the requested size; `depth` is the depth map that was followed, mode "L", near bright,
    at the same size. Image i was made with `seeds[i]` = `seed` + i and measured as `fidelity[i]`. `seconds` is the work
    by stage, summed over images. `loras` acted in this order, after the depth LoRA; `warnings` are for people.
    `image_checker` says who looked at the pictures; where somebody did, image i is black if `flagged[i]`.
    `prompt_policy` is the version of the policy that the prompt passed. `origin` is what receipts are made from.
    """

    images: tuple[Image.Image, ...]
    depth: Image.Image
    seed: int
    seeds: tuple[int, ...]
    seconds: Mapping[str, float]
    fidelity: tuple[Fidelity, ...]
    parameters: GenerationParameters
    profile: str
    model_version: str
    origin: Origin
    acceleration: Acceleration = Acceleration("none", (), 0)
    loras: tuple[UsedLora, ...] = ()
    warnings: tuple[str, ...] = ()
    flagged: tuple[bool, ...] = ()
    image_checker: str = NO_CHECKER
    prompt_policy: str = ""
