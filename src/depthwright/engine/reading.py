"""Files become models in main memory: diffusers folders, and Black Forest Labs' single files."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from depthwright.engine.bfl import is_bfl, transformer_config, transformer_to_diffusers
from depthwright.engine.bfl_vae import is_bfl_vae, vae_config, vae_to_diffusers
from depthwright.engine.memory import is_out_of_memory
from depthwright.engine.profiles import Part, Profile
from depthwright.engine.sources import locate
from depthwright.errors import WeightsInvalid

# Rotary axes that go with FLUX's heads of 128; a single file does not tell them.
_FLUX_AXES = {128: (16, 56, 56)}


def read_folder(profile: Profile, part: Part, kind: Any) -> Any:
    """A tokenizer, scheduler or image processor from its folder. Raises WeightsMissing or WeightsInvalid."""
    return _from_folder(profile, part, locate(profile, part), kind)


def read_model(profile: Profile, part: Part, kind: Any, dtype: torch.dtype) -> Any:
    """A model of transformers from its folder. Raises WeightsMissing or WeightsInvalid."""
    return _model(profile, part, locate(profile, part), kind, dtype=dtype)


def read_transformer(profile: Profile, dtype: torch.dtype) -> Any:
    """The FLUX transformer from a folder or a single file. Raises WeightsMissing or WeightsInvalid."""
    place = locate(profile, "transformer")
    if place.is_dir():
        return _model(profile, "transformer", place, FluxTransformer2DModel, torch_dtype=dtype)
    tensors, given = _tensors(place), profile.sources["transformer"].config
    native = is_bfl(tensors)
    if given:
        config = FluxTransformer2DModel.load_config(given)
    elif native:
        config = _with_axes(transformer_config(tensors), place)
    else:
        raise _without_config(place)
    state = transformer_to_diffusers(tensors) if native else tensors
    return _filled(FluxTransformer2DModel, config, state, place).to(dtype)


def read_vae(profile: Profile, dtype: torch.dtype) -> Any:
    """The autoencoder from a folder or a single file. Raises WeightsMissing or WeightsInvalid."""
    place = locate(profile, "vae")
    if place.is_dir():
        return _model(profile, "vae", place, AutoencoderKL, torch_dtype=dtype)
    tensors, given = _tensors(place), profile.sources["vae"].config
    native = is_bfl_vae(tensors)
    if given:
        config = AutoencoderKL.load_config(given)
    elif native:
        config = vae_config(tensors)
    else:
        raise _without_config(place)
    state = vae_to_diffusers(tensors) if native else tensors
    return _filled(AutoencoderKL, config, state, place).to(dtype)


def _model(profile: Profile, part: Part, place: Path, kind: Any, **precision: torch.dtype) -> Any:
    model, told = _from_folder(
        profile, part, place, kind, use_safetensors=True, output_loading_info=True, **precision
    )
    # transformers would fill them with random numbers.
    if told["missing_keys"]:
        lacking = ", ".join(sorted(told["missing_keys"])[:3])
        raise WeightsInvalid(f"The {part} of {profile.name} in {place} is not whole: it lacks {lacking}.")
    return model


def _from_folder(profile: Profile, part: Part, place: Path, kind: Any, **options: Any) -> Any:
    try:
        return kind.from_pretrained(place, local_files_only=True, **options)
    except (OSError, ValueError, LookupError, TypeError, RuntimeError, SafetensorError) as error:
        if is_out_of_memory(error):
            raise
        raise WeightsInvalid(
            f"The {part} of {profile.name} in {place} does not load: {_brief(error)}"
        ) from error


def _filled(kind: Any, config: Mapping[str, Any], state: Mapping[str, Tensor], place: Path) -> nn.Module:
    """A model made without memory of its own, which then takes over the tensors that were read."""
    with torch.device("meta"):
        model: nn.Module = kind.from_config(config)
    try:
        model.load_state_dict(state, strict=True, assign=True)
    except RuntimeError as error:
        raise WeightsInvalid(
            f"{place} is not the {kind.__name__} that the profile needs: {_brief(error)}"
        ) from error
    return model


def _tensors(path: Path) -> dict[str, Tensor]:
    try:
        tensors: dict[str, Tensor] = load_file(path)
    except (SafetensorError, OSError) as error:
        raise WeightsInvalid(f"{path} cannot be read as safetensors: {_brief(error)}") from error
    return tensors


def _with_axes(config: dict[str, Any], place: Path) -> dict[str, Any]:
    axes = _FLUX_AXES.get(config["attention_head_dim"])
    if axes is None:
        raise WeightsInvalid(
            f"{place} does not tell its rotary axes, and its heads are not FLUX's: name a folder with its "
            "config.json as `config` in the profile."
        )
    return {**config, "axes_dims_rope": axes}


def _without_config(place: Path) -> WeightsInvalid:
    return WeightsInvalid(
        f"{place} alone does not tell what model it is: name the folder that holds it beside its config.json."
    )


def _brief(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return " ".join(lines[:2])[:300]
