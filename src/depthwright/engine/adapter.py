"""The control LoRA at work on a transformer, at any scale.

The semantics are diffusers': every layer's part is scaled, biases and image input included; norm gains are replaced as
a whole wherever the scale is above 0. At 0 the transformer IS the base model, to the bit: its own weights, its
own norms, its own narrower image input.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, rms_norm
from torch.utils.hooks import RemovableHandle

from depthwright.engine.fitting import INPUT, matched_layers, matched_norms, matched_user_layers
from depthwright.engine.lora import ControlLora, LoraLayer
from depthwright.engine.user_lora import Applied


class ControlAdapter(Protocol):
    """Sets how strongly the control image acts."""

    scale: float

    @property
    def uses_control(self) -> bool:
        """Whether the transformer now expects control latents beside its own."""
        return self.scale > 0

    def set_scale(self, scale: float, loras: Sequence[Applied] = ()) -> None:
        """Make the transformer act at this scale and under these LoRAs of a user, whatever it was before."""
        ...


@dataclass(frozen=True)
class _Kept:
    """A linear and its own weight and bias, from which every merged one is built."""

    module: Any
    weight: Tensor
    bias: Tensor | None

    @classmethod
    def of(cls, module: Any) -> "_Kept":
        return cls(module, _copy(module.weight), None if module.bias is None else _copy(module.bias))


class MergedAdapter(ControlAdapter):
    """Writes W = W0 + scale * up @ down + ... into the transformer, always from the kept W0.

    That costs nothing per step, and never drifts. The depth LoRA comes first, then a user's in the order given: sums in
    another order end in another last bit.
    """

    def __init__(self, transformer: Any, lora: ControlLora) -> None:
        self.scale = 0.0
        # Grows with every change of the weights: whoever made something of them sees whether it still holds.
        self.revision = 0
        self._transformer = transformer
        self._set: tuple[object, ...] | None = (0.0,)
        # The LoRA moves to the weights' device once: a change of scale never waits for the bus.
        self._kept: dict[str, _Kept] = {}
        self._control: dict[str, LoraLayer] = {}
        for name, module, layer in matched_layers(transformer, lora):
            self._kept[name] = _Kept.of(module)
            self._control[name] = layer.to(module.weight.device)
        self._norms = [
            (module, gain.to(module.weight), _copy(module.weight))
            for module, gain in matched_norms(transformer, lora)
        ]

    @torch.no_grad()
    def set_scale(self, scale: float, loras: Sequence[Applied] = ()) -> None:
        """Rebuild every merged weight, unless scale and LoRAs are the same as last time."""
        wanted = (scale, *(applied.key for applied in loras))
        if wanted == self._set:
            return
        # A failure half-way must not pass for what was, nor for what was wanted.
        self._set, self.scale = None, float("nan")
        self.revision += 1
        parts = self._parts(scale, loras)
        for name, kept in self._kept.items():
            _write(kept.module, _merged_weight(kept.weight, parts.get(name, [])))
            if kept.bias is not None:
                kept.module.bias.copy_(_merged_bias(kept.bias, parts.get(name, [])))
        for module, gain, base in self._norms:
            module.weight.copy_(gain if scale > 0 else base)
        self._set, self.scale = wanted, scale

    def _parts(self, scale: float, loras: Sequence[Applied]) -> "dict[str, list[tuple[LoraLayer, float]]]":
        """What is added to each linear, in order; a linear that only a user's LoRA reaches is kept from now on."""
        parts = {name: [(layer, scale)] for name, layer in self._control.items()} if scale > 0 else {}
        for applied in loras:
            for name, module, layer in matched_user_layers(self._transformer, applied.lora):
                if name not in self._kept:
                    self._kept[name] = _Kept.of(module)
                parts.setdefault(name, []).append((layer.to(module.weight.device), applied.scale))
        return parts


class LiveAdapter(ControlAdapter):
    """Adds scale * up(down(x)) beside each layer: a little at every step, but no second copy of the base.

    For weights that are stored in eight bits or lie in main memory. It never writes to the transformer, whose tensors
    are cast and moved under way by others.
    """

    def __init__(self, transformer: Any, lora: ControlLora, device: torch.device, dtype: torch.dtype) -> None:
        self.scale = 0.0
        self._transformer, self._device, self._dtype = transformer, device, dtype
        self._set: tuple[object, ...] = ()
        self._users: list[RemovableHandle] = []
        self._whole_input: Tensor | None = None
        for name, module, layer in matched_layers(transformer, lora):
            if name == INPUT:
                module.register_forward_pre_hook(self._narrowed(module.in_features))
            module.register_forward_hook(self._beside(layer.to(device, dtype), whole_input=name == INPUT))
        for module, gain in matched_norms(transformer, lora):
            module.register_forward_hook(self._instead(gain.to(device, dtype)))

    def set_scale(self, scale: float, loras: Sequence[Applied] = ()) -> None:
        """The control layers read the scale as they run; a user's layers are hung beside them, and taken down again."""
        self.scale = scale
        wanted = tuple(applied.key for applied in loras)
        if wanted == self._set:
            return
        self._set = ()
        while self._users:
            self._users.pop().remove()
        for applied in loras:
            for _, module, layer in matched_user_layers(self._transformer, applied.lora):
                hook = _added(layer.to(self._device, self._dtype), applied.scale)
                self._users.append(module.register_forward_hook(hook))
        self._set = wanted

    def _narrowed(self, width: int) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
        """The base's own linear sees its own latents; the LoRA beside it sees the control latents too."""

        def hook(_module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
            self._whole_input = args[0]
            return (args[0][..., :width], *args[1:])

        return hook

    def _beside(
        self, layer: LoraLayer, *, whole_input: bool
    ) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor | None:
            x = args[0]
            if whole_input:
                x, self._whole_input = self._whole_input, None
            if self.scale == 0:
                return None
            added = linear(linear(x, layer.down), layer.up, layer.bias)
            return output + self.scale * layer.gain * added

        return hook

    def _instead(self, gain: Tensor) -> Callable[[Any, tuple[Any, ...], Tensor], Tensor | None]:
        def hook(module: Any, args: tuple[Any, ...], _output: Tensor) -> Tensor | None:
            return rms_norm(args[0], gain.shape, gain, module.eps) if self.scale > 0 else None

        return hook


def _added(layer: LoraLayer, scale: float) -> Callable[[nn.Module, tuple[Any, ...], Tensor], Tensor]:
    def hook(_module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return output + scale * layer.gain * linear(linear(args[0], layer.down), layer.up, layer.bias)

    return hook


def _copy(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _write(module: Any, weight: Tensor) -> None:
    """Into the same memory, unless the image input changes its width."""
    if module.weight.shape == weight.shape:
        module.weight.copy_(weight)
    else:
        module.weight = nn.Parameter(weight.clone(), requires_grad=False)
        module.in_features = weight.shape[1]


def _merged_weight(weight: Tensor, parts: Sequence[tuple[LoraLayer, float]]) -> Tensor:
    """W0 plus each part's scale * gain * up @ down, summed in float32, as wide as the widest part."""
    if not parts:
        return weight
    width = max(weight.shape[1], *(layer.down.shape[1] for layer, _ in parts))
    merged = pad(weight.float(), (0, width - weight.shape[1]))
    for layer, scale in parts:
        down = pad(layer.down.float(), (0, width - layer.down.shape[1]))
        merged = torch.addmm(merged, layer.up.float(), down, alpha=scale * layer.gain)
    return merged.to(weight.dtype)


def _merged_bias(bias: Tensor, parts: Sequence[tuple[LoraLayer, float]]) -> Tensor:
    merged = bias.float()
    for layer, scale in parts:
        if layer.bias is not None:
            merged = merged + scale * layer.gain * layer.bias.float()
    return merged.to(bias.dtype)
