"""The depth control LoRA as a file: either key style, read into one form."""

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from depthwright.engine.bfl import is_bfl, lora_to_diffusers
from depthwright.errors import WeightsInvalid

_PREFIXES = ("transformer.", "diffusion_model.", "base_model.model.")
_A, _B, _BIAS, _ALPHA = ".lora_A.weight", ".lora_B.weight", ".lora_B.bias", ".alpha"
_PEFT_METADATA = "lora_adapter_metadata"
NORMS = ("norm_q", "norm_k", "norm_added_q", "norm_added_k")


@dataclass(frozen=True)
class LoraLayer:
    """down [r, in], up [out, r], bias [out] or None; the layer adds gain * (up @ down) x + gain * bias."""

    down: Tensor
    up: Tensor
    bias: Tensor | None
    gain: float

    @property
    def shape(self) -> tuple[int, int]:
        """Outputs and inputs of the linear it belongs to."""
        return self.up.shape[0], self.down.shape[1]

    def to(self, device: torch.device, dtype: torch.dtype | None = None) -> "LoraLayer":
        """The same layer elsewhere, in another precision if one is given."""
        down, up = (matrix.to(device=device, dtype=dtype) for matrix in (self.down, self.up))
        bias = None if self.bias is None else self.bias.to(device=device, dtype=dtype)
        return LoraLayer(down, up, bias, self.gain)


@dataclass(frozen=True)
class ControlLora:
    """Layers by the diffusers name of the linear they belong to, and norm gains that replace the base's."""

    layers: Mapping[str, LoraLayer]
    norms: Mapping[str, Tensor]


@dataclass(frozen=True)
class UserLora:
    """Layers by the diffusers name of the linear they belong to. `text_layers` of text encoders are left out."""

    name: str
    digest: str
    layers: Mapping[str, LoraLayer]
    text_layers: int = 0


def read_lora(path: Path) -> ControlLora:
    """Read a LoRA file in Black Forest Labs' keys or in diffusers'. Raises WeightsInvalid."""
    tensors, metadata = read_tensors(path)
    if is_bfl(tensors):
        tensors = lora_to_diffusers(tensors)
    return parse_lora(tensors, path, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """All tensors of a safetensors file, and its metadata. Raises WeightsInvalid."""
    if path.suffix != ".safetensors":
        raise WeightsInvalid(
            f"{path} is no safetensors file: pickled weights are never read, convert it first."
        )
    try:
        with safe_open(path, framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a mapping
            return tensors, file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path} cannot be read as safetensors: {error}.") from error


def parse_lora(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> ControlLora:
    """Sort diffusers-keyed tensors into layers and norms. Raises WeightsInvalid for any that is neither.

    `metadata` is the file's own: PEFT writes there what its layers are scaled by, where no `.alpha` tensor says it.
    """
    layers, others = split_layers(tensors, path, metadata)
    norms: dict[str, Tensor] = {}
    for name, tensor in others.items():
        module = name.rpartition(".")[0]
        if module.rpartition(".")[2] not in NORMS:
            raise WeightsInvalid(f"{path} is no depth control LoRA: {name} has no place in one.")
        norms[module] = tensor
    if "x_embedder" not in layers:
        raise WeightsInvalid(f"{path} is no control LoRA: it does not widen the image input (x_embedder).")
    return ControlLora(layers, norms)


def split_layers(
    tensors: Mapping[str, Tensor], path: Path, metadata: Mapping[str, str] | None = None
) -> tuple[dict[str, LoraLayer], dict[str, Tensor]]:
    """Diffusers-keyed tensors as layers by the name of their linear, and what is left. Raises WeightsInvalid."""
    settings = _peft_settings(metadata or {}, path)
    # Memory of their own: slices of fused matrices lie where other kernels, with another last bit, would work on them.
    plain = {_without_prefix(name): tensor.clone() for name, tensor in tensors.items()}
    layers = {
        name.removesuffix(_A): _layer(name.removesuffix(_A), plain, settings, path)
        for name in plain
        if name.endswith(_A)
    }
    belonging = {module + end for module in layers for end in (_A, _B, _BIAS, _ALPHA)}
    return layers, {name: tensor for name, tensor in plain.items() if name not in belonging}


def _layer(module: str, tensors: Mapping[str, Tensor], settings: Mapping[str, Any], path: Path) -> LoraLayer:
    down, up = tensors[module + _A], tensors.get(module + _B)
    if up is None or (down.ndim, up.ndim) != (2, 2) or up.shape[1] != down.shape[0]:
        raise WeightsInvalid(f"{path} is broken: {module} lacks a lora_B that fits its lora_A.")
    alpha = tensors.get(module + _ALPHA)
    gain = _gain(module, down.shape[0], settings) if alpha is None else float(alpha) / down.shape[0]
    return LoraLayer(down, up, tensors.get(module + _BIAS), gain)


def _gain(module: str, rank: int, settings: Mapping[str, Any]) -> float:
    """PEFT's rule: alpha / rank, or alpha / sqrt(rank); without settings alpha is the rank."""
    if "lora_alpha" not in settings:
        return 1.0
    patterns = settings.get("alpha_pattern") or {}
    named = next((key for key in patterns if re.match(rf"(.*\.)?({key})$", module)), None)
    alpha = patterns[named] if named else settings["lora_alpha"]
    return float(alpha / (math.sqrt(rank) if settings.get("use_rslora") else rank))


def _peft_settings(metadata: Mapping[str, str], path: Path) -> dict[str, Any]:
    """The adapter's settings that diffusers writes into a file, those of the transformer."""
    try:
        written = json.loads(metadata.get(_PEFT_METADATA, "{}"))
    except json.JSONDecodeError as error:
        raise WeightsInvalid(f"{path} is broken: its {_PEFT_METADATA} is no JSON ({error}).") from error
    return {key.removeprefix("transformer."): value for key, value in written.items()}


def _without_prefix(name: str) -> str:
    return next((name.removeprefix(prefix) for prefix in _PREFIXES if name.startswith(prefix)), name)
