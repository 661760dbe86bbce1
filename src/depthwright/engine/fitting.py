"""Which layer of a LoRA belongs to which linear of a transformer, and what is said where one does not fit."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from depthwright.engine.lora import ControlLora, LoraLayer, UserLora
from depthwright.errors import WeightsInvalid

INPUT = "x_embedder"
_CONTROL = "The control LoRA"


def matched_layers(transformer: Any, lora: ControlLora) -> Iterator[tuple[str, Any, LoraLayer]]:
    """Each LoRA layer with its name and the linear it belongs to. Raises WeightsInvalid where one does not fit."""
    for name, layer in lora.layers.items():
        module: Any = _submodule(transformer, name, nn.Linear, _CONTROL)
        if name == INPUT and layer.shape[1] == module.in_features:
            raise _not_widened(transformer, module.in_features)
        inputs = 2 * module.in_features if name == INPUT else module.in_features
        _check_shape(name, layer, module, inputs, _CONTROL)
        yield name, module, layer


def matched_norms(transformer: Any, lora: ControlLora) -> Iterator[tuple[Any, Tensor]]:
    """Each norm that the LoRA replaces, with the LoRA's gain. Raises WeightsInvalid where one does not fit."""
    for name, gain in lora.norms.items():
        module: Any = _submodule(transformer, name, nn.RMSNorm, _CONTROL)
        if module.weight.shape != gain.shape:
            raise _misfit(name, gain.shape, module.weight.shape, _CONTROL)
        yield module, gain


def matched_user_layers(transformer: Any, lora: UserLora) -> Iterator[tuple[str, Any, LoraLayer]]:
    """Each layer of a user's LoRA with its linear, before any image input is widened. Raises WeightsInvalid."""
    whose = f"The LoRA {lora.name}"
    for name, layer in lora.layers.items():
        module: Any = _submodule(transformer, name, nn.Linear, whose)
        inputs = transformer.config.in_channels if name == INPUT else module.in_features
        if name == INPUT and layer.shape[1] == 2 * inputs:
            raise WeightsInvalid(
                f"{whose} is a control LoRA: it takes a control image of its own. The profile's stays in its place; to "
                "use another, name it as the profile's control_lora."
            )
        _check_shape(name, layer, module, inputs, whose)
        yield name, module, layer


def _submodule(transformer: Any, name: str, kind: type[nn.Module], whose: str) -> nn.Module:
    try:
        module: nn.Module | None = transformer.get_submodule(name)
    except AttributeError:
        module = None
    if not isinstance(module, kind):
        raise WeightsInvalid(f"{whose} does not fit this transformer, which has no {name} for it.")
    return module


def _check_shape(name: str, layer: LoraLayer, module: Any, inputs: int, whose: str) -> None:
    if layer.shape != (module.out_features, inputs):
        raise _misfit(name, layer.shape, (module.out_features, inputs), whose)
    if layer.bias is not None and (module.bias is None or layer.bias.shape != module.bias.shape):
        raise _misfit(f"{name}'s bias", layer.bias.shape, (module.out_features,), whose)


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


def _misfit(name: str, theirs: tuple[int, ...], ours: tuple[int, ...], whose: str) -> WeightsInvalid:
    return WeightsInvalid(
        f"{whose} does not fit this transformer: {name} is {tuple(theirs)} in the LoRA, "
        f"and {tuple(ours)} is what the transformer takes."
    )
