"""A LoRA that a user brings, of a style or a subject: any trainer's keys are read into one form."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import torch
from diffusers.loaders.lora_pipeline import FluxLoraLoaderMixin
from torch import Tensor

from depthwright.engine.acceleration.once import Once
from depthwright.engine.bfl import is_bfl, lora_to_diffusers
from depthwright.engine.digests import Digests
from depthwright.engine.fitting import matched_user_layers
from depthwright.engine.lora import NORMS, UserLora, read_tensors, split_layers
from depthwright.errors import WeightsInvalid
from depthwright.loras import LoraFile, check
from depthwright.result import UsedLora

_TEXT = ("text_encoder", "lora_te", "text_model")
_DOWN = (".lora_A.weight", ".lora_down.weight", ".lora.down.weight")
# What diffusers' converter of kohya's keys understands; anything else in such a file it would leave out.
_KOHYA = re.compile(
    r"(lora_unet_|lora_transformer_|diffusion_model\.)(?!.*position_embedding).*\.(lora_(down|up)\.weight|alpha)"
)
# What diffusers' converters raise where a file is not of the trainer that its names promise.
_UNREADABLE = (ValueError, KeyError, IndexError, AttributeError, TypeError, NotImplementedError, RuntimeError)


@dataclass(frozen=True)
class Applied:
    """A user's LoRA at a scale."""

    lora: UserLora
    scale: float

    @property
    def key(self) -> tuple[str, float]:
        """What tells this from every other."""
        return self.lora.digest, self.scale

    @property
    def told(self) -> UsedLora:
        """As results tell it."""
        return UsedLora(self.lora.name, self.lora.digest, self.scale)

    @property
    def warning(self) -> str | None:
        """What of the file does not act, in words."""
        if not self.lora.text_layers:
            return None
        return (
            f"{self.lora.name}: only its layers for the transformer act, its {self.lora.text_layers} for text encoders "
            "were left out."
        )


class UserLoras:
    """Reads LoRAs, and keeps those used last: by content, so that a file replaced is read anew."""

    def __init__(self, transformer: Any, most: int = 4) -> None:
        self._transformer = transformer
        self._digests = Digests(None)
        self._read: Once[UserLora] = Once(most)
        # Files are read before a request takes its first turn, so several threads may be here.
        self._turn = Lock()

    def get(self, files: Sequence[LoraFile]) -> tuple[Applied, ...]:
        """All that act, read and found to fit. Raises InvalidParameter, WeightsMissing or WeightsInvalid."""
        # 1. What can be told without reading.
        check(files)
        # 2. Read each that acts, once for its content.
        with self._turn:
            applied = tuple(Applied(self._lora(file.path), file.scale) for file in files if file.scale > 0)
        # 3. All of them are for this model, or none is used.
        for each in applied:
            list(matched_user_layers(self._transformer, each.lora))
        return applied

    def clear(self) -> None:
        """Let go of what could be read again."""
        with self._turn:
            self._read.clear()

    def _lora(self, path: Path) -> UserLora:
        digest = self._digests.measured(path)
        return self._read.get(
            (digest, path.name), lambda: read_user_lora(path, digest, self._transformer.inner_dim)
        )


def read_user_lora(path: Path, digest: str, width: int) -> UserLora:
    """Read a LoRA in diffusers', PEFT's, kohya's, XLabs' or Black Forest Labs' keys, for a model of this width.

    Raises WeightsInvalid.
    """
    tensors, metadata = read_tensors(path)
    # 1. What would be read wrongly or not at all is refused by name.
    if any("dora_scale" in name for name in tensors):
        raise WeightsInvalid(f"{path} is a DoRA: its magnitudes cannot be merged yet. Use a plain LoRA.")
    if odd := next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None):
        raise WeightsInvalid(f"{path} is broken: {odd} holds values that are no finite numbers.")
    # 2. One style of keys, for the transformer alone.
    text = {name for name in tensors if name.startswith(_TEXT)}
    own = {name: tensor for name, tensor in tensors.items() if name not in text}
    layers, others = split_layers(_as_diffusers(own, path, width), path, metadata)
    # 3. Nothing is dropped in silence.
    if any(name.rpartition(".")[0].rpartition(".")[2] in NORMS for name in others):
        raise WeightsInvalid(
            f"{path} is a control LoRA, which brings norms of its own. The profile's stays in its place; to use "
            "another, name it as the profile's control_lora."
        )
    if others:
        raise WeightsInvalid(f"{path} is no LoRA for FLUX: {min(others)} has no place in one.")
    if not layers:
        raise WeightsInvalid(f"{path} is no LoRA for FLUX: nothing in it belongs to a transformer.")
    return UserLora(path.stem, digest, layers, sum(name.endswith(_DOWN) for name in text))


def _as_diffusers(tensors: Mapping[str, Tensor], path: Path, width: int) -> dict[str, Tensor]:
    # Black Forest Labs' keys with PEFT's endings are converted here: diffusers knows them in control LoRAs only.
    if is_bfl(tensors) and any(name.endswith(".lora_A.weight") for name in tensors):
        return lora_to_diffusers(tensors, width)
    if any(name.endswith(".lora_down.weight") for name in tensors):
        for name in tensors:
            if not _KOHYA.fullmatch(name):
                raise WeightsInvalid(
                    f"{path} is no LoRA for FLUX that can be read: {name} has no place in one."
                )
    try:
        # The converters take their input apart as they go.
        state, alphas = FluxLoraLoaderMixin.lora_state_dict(dict(tensors), return_alphas=True)
    except _UNREADABLE as error:
        raise WeightsInvalid(f"{path} is no LoRA for FLUX that can be read: {error}.") from error
    return {name: torch.as_tensor(value) for name, value in {**state, **(alphas or {})}.items()}
