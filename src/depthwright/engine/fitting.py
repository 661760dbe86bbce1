"""Which layer of a LoRA belongs to which linear of a transformer, and what is said where one does not fit."""

from collections.abc import Iterator
from typing import Any

from torch import Tensor, nn

from depthwright.engine.lora import ControlLora, LoraLayer
from depthwright.engine.user_lora import UserLora
from depthwright.errors import WeightsInvalid

INPUT = "x_embedder"


def matched_layers(transformer: Any, lora: ControlLora) -> Iterator[tuple[str, Any, LoraLayer]]:
    """Each LoRA layer with its name and the linear it belongs to. Raises WeightsInvalid where one does not fit."""
    for name, layer in lora.layers.items():
        module: Any = _submodule(transformer, name, nn.Linear)
        if name == INPUT and layer.shape[1] == module.in_features:
            raise _not_widened(transformer, module.in_features)
        inputs = 2 * module.in_features if name == INPUT else module.in_features
        if layer.shape != (module.out_features, inputs):
            raise _misfit(name, layer.shape, (module.out_features, inputs))
        if layer.bias is not None and (module.bias is None or layer.bias.shape != module.bias.shape):
            raise _misfit(f"{name}'s bias", layer.bias.shape, (module.out_features,))
        yield name, module, layer


def matched_norms(transformer: Any, lora: ControlLora) -> Iterator[tuple[Any, Tensor]]:
    """Each norm that the LoRA replaces, with the LoRA's gain. Raises WeightsInvalid where one does not fit."""
    for name, gain in lora.norms.items():
        module: Any = _submodule(transformer, name, nn.RMSNorm)
        if module.weight.shape != gain.shape:
            raise _misfit(name, gain.shape, module.weight.shape)
        yield module, gain


def matched_user_layers(transformer: Any, lora: UserLora) -> Iterator[tuple[str, Any, LoraLayer]]:
    """Each layer of a user's LoRA with its linear, before any image input is widened. Raises WeightsInvalid."""
    for name, layer in lora.layers.items():
        module: Any = _found(transformer, name, nn.Linear)
        if module is None:
            raise WeightsInvalid(
                f"The LoRA {lora.name} does not fit this model, which has no {name}: it was made for another."
            )
        own = transformer.config.in_channels if name == INPUT else module.in_features
        if name == INPUT and layer.shape[1] == 2 * own:
            raise WeightsInvalid(
                f"The LoRA {lora.name} is a control LoRA: it takes a control image of its own. The profile's stays in "
                "its place; to use another, name it as the profile's control_lora."
            )
        if layer.shape != (module.out_features, own):
            raise WeightsInvalid(
                f"The LoRA {lora.name} does not fit this model: {name} is {layer.shape} in the LoRA, and "
                f"{(module.out_features, own)} is what the model takes."
            )
        if layer.bias is not None and (module.bias is None or layer.bias.shape != module.bias.shape):
            raise WeightsInvalid(
                f"The LoRA {lora.name} does not fit this model: {name} has another bias there."
            )
        yield name, module, layer


def _submodule(transformer: Any, name: str, kind: type[nn.Module]) -> nn.Module:
    module = _found(transformer, name, kind)
    if module is None:
        raise WeightsInvalid(f"The control LoRA does not fit this transformer, which has no {name} for it.")
    return module


def _found(transformer: Any, name: str, kind: type[nn.Module]) -> nn.Module | None:
    try:
        module: nn.Module = transformer.get_submodule(name)
    except AttributeError:
        return None
    return module if isinstance(module, kind) else None


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
