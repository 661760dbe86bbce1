"""The control LoRA at work on a transformer, at any scale.

The semantics are diffusers': every layer's part is scaled, biases and image input included; norm gains are replaced as
a whole wherever the scale is above 0. At 0 the transformer IS the base model, to the bit: its own weights, its
own norms, its own narrower image input.
"""

from collections.abc import Callable, Iterator
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.functional import linear, pad, rms_norm

from depthwright.engine.lora import ControlLora, LoraLayer
from depthwright.errors import WeightsInvalid

_INPUT = "x_embedder"


class ControlAdapter(Protocol):
    """Sets how strongly the control image acts."""

    scale: float

    @property
    def uses_control(self) -> bool:
        """Whether the transformer now expects control latents beside its own."""
        return self.scale > 0

    def set_scale(self, scale: float) -> None:
        """Make the transformer act at this scale, whatever it was before."""
        ...


class MergedAdapter(ControlAdapter):
    """Writes W = W0 + scale * up @ down into the transformer, always from the kept W0: no drift, no cost per step."""

    def __init__(self, transformer: Any, lora: ControlLora) -> None:
        self.scale = 0.0
        # The LoRA moves to the weights' device once: a change of scale never waits for the bus.
        self._layers = [
            (module, layer.to(module.weight.device), _kept(module.weight), _kept(module.bias))
            for _, module, layer in _matched_layers(transformer, lora)
        ]
        self._norms = [
            (module, gain.to(module.weight), _kept(module.weight))
            for module, gain in _matched_norms(transformer, lora)
        ]

    @torch.no_grad()
    def set_scale(self, scale: float) -> None:
        """Rebuild every merged weight, unless the scale is the same as last time."""
        if scale == self.scale:
            return
        # A failure half-way must not pass for either scale.
        self.scale = float("nan")
        for module, layer, weight, bias in self._layers:
            _write(module, _merged_weight(weight, layer, scale) if scale > 0 else weight)
            module.bias.copy_(_merged_bias(bias, layer, scale) if scale > 0 else bias)
        for module, gain, base in self._norms:
            module.weight.copy_(gain if scale > 0 else base)
        self.scale = scale


class LiveAdapter(ControlAdapter):
    """Adds scale * up(down(x)) beside each layer: a little at every step, but no second copy of the base.

    For weights that are stored in eight bits or lie in main memory. It never writes to the transformer, whose tensors
    are cast and moved under way by others.
    """

    def __init__(self, transformer: Any, lora: ControlLora, device: torch.device, dtype: torch.dtype) -> None:
        self.scale = 0.0
        self._whole_input: Tensor | None = None
        for name, module, layer in _matched_layers(transformer, lora):
            if name == _INPUT:
                module.register_forward_pre_hook(self._narrowed(module.in_features))
            module.register_forward_hook(self._beside(layer.to(device, dtype), whole_input=name == _INPUT))
        for module, gain in _matched_norms(transformer, lora):
            module.register_forward_hook(self._instead(gain.to(device, dtype)))

    def set_scale(self, scale: float) -> None:
        """The layers read the scale as they run."""
        self.scale = scale

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


def _matched_layers(transformer: Any, lora: ControlLora) -> Iterator[tuple[str, Any, LoraLayer]]:
    """Each LoRA layer with its name and the linear it belongs to. Raises WeightsInvalid where one does not fit."""
    for name, layer in lora.layers.items():
        module: Any = _submodule(transformer, name, nn.Linear)
        if name == _INPUT and layer.shape[1] == module.in_features:
            raise _not_widened(transformer, module.in_features)
        inputs = 2 * module.in_features if name == _INPUT else module.in_features
        if layer.shape != (module.out_features, inputs):
            raise _misfit(name, layer.shape, (module.out_features, inputs))
        if layer.bias is not None and (module.bias is None or layer.bias.shape != module.bias.shape):
            raise _misfit(f"{name}'s bias", layer.bias.shape, (module.out_features,))
        yield name, module, layer


def _matched_norms(transformer: Any, lora: ControlLora) -> Iterator[tuple[Any, Tensor]]:
    """Each norm that the LoRA replaces, with the LoRA's gain. Raises WeightsInvalid where one does not fit."""
    for name, gain in lora.norms.items():
        module: Any = _submodule(transformer, name, nn.RMSNorm)
        if module.weight.shape != gain.shape:
            raise _misfit(name, gain.shape, module.weight.shape)
        yield module, gain


def _submodule(transformer: Any, name: str, kind: type[nn.Module]) -> nn.Module:
    try:
        module: nn.Module | None = transformer.get_submodule(name)
    except AttributeError:
        module = None
    if not isinstance(module, kind):
        raise WeightsInvalid(f"The control LoRA does not fit this transformer, which has no {name} for it.")
    return module


def _not_widened(transformer: Any, width: int) -> WeightsInvalid:
    if transformer.out_channels < width:
        return WeightsInvalid(
            f"The base's image input is {width} wide already, as in a depth checkpoint such as FLUX.1-Depth-dev. "
            "The depth LoRA belongs on the plain base, FLUX.1-dev."
        )
    return WeightsInvalid(
        f"The LoRA takes no control image: its image input is {width} wide, as the base's own. It may be a LoRA of "
        "style; what is needed is a control LoRA such as FLUX.1-Depth-dev-lora."
    )


def _misfit(name: str, theirs: tuple[int, ...], ours: tuple[int, ...]) -> WeightsInvalid:
    return WeightsInvalid(
        f"The control LoRA does not fit this transformer: {name} is {tuple(theirs)} in the LoRA, "
        f"and {tuple(ours)} is what the transformer takes."
    )


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().clone()


def _write(module: Any, weight: Tensor) -> None:
    """Into the same memory, unless the image input changes its width."""
    if module.weight.shape == weight.shape:
        module.weight.copy_(weight)
    else:
        module.weight = nn.Parameter(weight.clone(), requires_grad=False)
        module.in_features = weight.shape[1]


def _merged_weight(weight: Tensor, layer: LoraLayer, scale: float) -> Tensor:
    """W0 (widened by zeros where the LoRA takes more inputs) + scale * gain * up @ down, summed in float32."""
    down, up = layer.down.float(), layer.up.float()
    base = pad(weight.float(), (0, down.shape[1] - weight.shape[1]))
    return torch.addmm(base, up, down, alpha=scale * layer.gain).to(weight.dtype)


def _merged_bias(bias: Tensor, layer: LoraLayer, scale: float) -> Tensor:
    if layer.bias is None:
        return bias
    return (bias.float() + scale * layer.gain * layer.bias.float()).to(bias.dtype)
