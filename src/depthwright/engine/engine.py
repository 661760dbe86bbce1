"""The engine as its users hold it: load once, generate as often as you like."""

from collections.abc import Collection, Generator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from depthwright.engine.components import Components
from depthwright.engine.loading import load_components
from depthwright.engine.mapper import DepthMapper
from depthwright.engine.pipeline import run
from depthwright.engine.profiles import load_profile
from depthwright.errors import InvalidImage, Refused
from depthwright.events import Event, Finished
from depthwright.images import open_image
from depthwright.loras import LoraFile
from depthwright.parameters import Compile, GenerationParameters, SizeBounds
from depthwright.provenance.pixels import pixel_hash
from depthwright.result import GenerationResult
from depthwright.safety.policy import Policy, load_policy

DEFAULT_CONTROL = Path(__file__).with_name("default_control.png")

ControlImage = Image.Image | str | PathLike[str] | NDArray[np.generic]


class Engine:
    """Depth-guided generation with one loaded model. Several threads may use it: they take turns step by step.

    >>> engine = Engine.load("embedded")
    >>> result = engine.generate(prompt="a red sphere on a wooden floor", control_image="depth.png", seed=7)
    >>> result.images[0].save("out.png")
    """

    def __init__(self, components: Components, policy: Policy | None = None) -> None:
        self.components = components
        self._policy = policy or load_policy()

    @classmethod
    def load(
        cls,
        profile: str | Path = "embedded",
        *,
        device: str | None = None,
        overrides: Mapping[str, Path] | None = None,
        cache_dir: Path | None = None,
        compile_: Compile = "auto",
        unchecked: str | None = None,
        policy_off: Collection[str] = (),
    ) -> Self:
        """Load a profile by name or TOML file onto a torch device (the best there is when absent).

        `overrides` takes parts from this machine, such as {"control_lora": Path("lora.safetensors")}; `cache_dir`
        remembers digests of large weights; `compile_` says whether blocks are compiled (auto: on GPUs). `unchecked` is
        the name of the profile that may do without its image checker, for whoever looks at the pictures instead;
        `policy_off` are categories of the prompt policy that are not to act.
        Raises UnknownProfile, UncheckedProfile, WeightsMissing, WeightsInvalid or OutOfMemory.
        """
        policy = load_policy(policy_off)
        return cls(
            load_components(
                load_profile(profile),
                device=device,
                overrides=overrides,
                cache_dir=cache_dir,
                compile_=compile_,
                unchecked=unchecked,
            ),
            policy,
        )

    @property
    def model_version(self) -> str:
        """The profile's name and the first digits of a digest over all its weights."""
        return self.components.model_version

    def generate(
        self,
        *,
        prompt: str,
        control_image: ControlImage | None = None,
        loras: Sequence[LoraFile] = (),
        size_bounds: SizeBounds | None = None,
        **fields: object,
    ) -> GenerationResult:
        """Generate and wait. `fields` are those of `GenerationParameters`; all are checked before a model runs.

        `control_image` is a photo or depth map: a PIL picture, a file, or an array [H, W] or [H, W, 3] of uint8 or of
        floats in 0..1. Absent: our own example. `loras` are safetensors files for FLUX, five at most, that act after
        the depth LoRA in this order, such as LoraFile(Path("style.safetensors"), scale=0.8).
        Raises InvalidParameter, Refused, InvalidImage, WeightsMissing, WeightsInvalid or OutOfMemory.
        """
        bounds = {"size_bounds": size_bounds} if size_bounds else {}
        parameters = GenerationParameters.from_user(**bounds, prompt=prompt, **fields)  # type: ignore[arg-type]
        for event in self.stream(parameters, control_image, loras):
            if isinstance(event, Finished):
                return event.result
        raise RuntimeError("the pipeline ended without a result")

    def stream(
        self,
        parameters: GenerationParameters,
        control_image: ControlImage | None = None,
        loras: Sequence[LoraFile] = (),
        *,
        checked: bool = True,
    ) -> Generator[Event, None, None]:
        """Generate step by step: every stage and step is an event, the last carries the result.

        Closing the generator stops the work at that step. The prompt is judged, and control image and LoRAs are read,
        at once, before the first event. Not `checked`, pictures are not shown to the image checker.
        """
        self._judge(parameters.prompt)
        picture = as_picture(DEFAULT_CONTROL if control_image is None else control_image)
        return run(
            self.components,
            parameters,
            picture,
            self.components.loras.get(loras),
            checked=checked,
            policy=self._policy.version,
            control_sha256=None if control_image is None else pixel_hash(picture),
        )

    def depth(self, image: ControlImage) -> Image.Image:
        """The depth map of a photo: mode "L", near bright, of the photo's size. Raises InvalidImage or OutOfMemory."""
        mapper = DepthMapper(self.components.depth_estimator, self.components.device)
        return mapper.depth(as_picture(image))

    def _judge(self, prompt: str) -> None:
        """Rules first, then the profile's guard. Raises Refused."""
        if refusal := self._policy.judge(prompt):
            raise Refused(refusal.category, refusal.message)
        guard = self.components.guard
        for label in guard.labels(prompt) if guard else ():
            if category := self._policy.of_label(label):
                raise Refused(category.name, category.message)


def as_picture(image: ControlImage) -> Image.Image:
    """A control image in any of its forms as a PIL picture. Raises InvalidImage."""
    if isinstance(image, Image.Image):
        return image
    if not isinstance(image, np.ndarray):
        return open_image(image)
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (1, 3, 4)) or not image.size:
        raise InvalidImage(
            f"The control image is an array of shape {image.shape}: it must be [H, W] or [H, W, 3]."
        )
    squeezed = image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image
    if squeezed.dtype == np.uint8:
        return Image.fromarray(squeezed)
    if squeezed.dtype == np.uint16 and squeezed.ndim == 2:
        return Image.fromarray(squeezed)
    if not np.issubdtype(squeezed.dtype, np.floating) or not np.isfinite(squeezed).all():
        raise InvalidImage(
            f"The control image is an array of {image.dtype}: it must be uint8, or finite floats in 0..1."
        )
    bounded = squeezed.clip(0, 1)
    if bounded.ndim == 2:
        return Image.fromarray(bounded.astype(np.float32))
    return Image.fromarray((bounded * 255).round().astype(np.uint8))
