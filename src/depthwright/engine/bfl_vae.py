"""FLUX's autoencoder as Black Forest Labs publish it (ae.safetensors): its names, and what its tensors tell of it."""

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from depthwright.errors import WeightsInvalid

# What the file cannot tell: latents are (mean - shift) * scale, and its norms have groups.
_SCALE, _SHIFT, _NORM_GROUPS = 0.3611, 0.1159, 32

_RENAMED = (
    (re.compile(r"^(encoder|decoder)\.norm_out\."), r"\1.conv_norm_out."),
    (re.compile(r"\.mid\.attn_1\.norm\."), ".mid_block.attentions.0.group_norm."),
    (re.compile(r"\.mid\.attn_1\.([qkv])\."), r".mid_block.attentions.0.to_\1."),
    (re.compile(r"\.mid\.attn_1\.proj_out\."), ".mid_block.attentions.0.to_out.0."),
    (re.compile(r"\.mid\.block_1\."), ".mid_block.resnets.0."),
    (re.compile(r"\.mid\.block_2\."), ".mid_block.resnets.1."),
    (re.compile(r"\.(down|up)\.(\d+)\.block\."), r".\1_blocks.\2.resnets."),
    (re.compile(r"\.(down|up)\.(\d+)\.(down|up)sample\."), r".\1_blocks.\2.\3samplers.0."),
    (re.compile(r"\.nin_shortcut\."), ".conv_shortcut."),
)
_UP_BLOCK = re.compile(r"(?<=\.up_blocks\.)\d+")


def is_bfl_vae(names: Mapping[str, object]) -> bool:
    """Whether a file's tensors bear Black Forest Labs' names."""
    return any(name.startswith("encoder.down.") for name in names)


def vae_to_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """An autoencoder's state under diffusers' names."""
    levels = _levels(tensors)
    return {_renamed(name, levels): _as_matrix(name, tensor) for name, tensor in tensors.items()}


def vae_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """The autoencoder's configuration, its sizes read off the tensors. Raises WeightsInvalid."""
    levels = _levels(tensors)
    try:
        return {
            "in_channels": tensors["encoder.conv_in.weight"].shape[1],
            "out_channels": tensors["decoder.conv_out.weight"].shape[0],
            "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
            "block_out_channels": tuple(
                tensors[f"encoder.down.{level}.block.0.conv1.weight"].shape[0] for level in range(levels)
            ),
            "down_block_types": ("DownEncoderBlock2D",) * levels,
            "up_block_types": ("UpDecoderBlock2D",) * levels,
            "layers_per_block": _count(tensors, r"^encoder\.down\.0\.block\.(\d+)\."),
            "mid_block_add_attention": "encoder.mid.attn_1.q.weight" in tensors,
            "use_quant_conv": "quant_conv.weight" in tensors,
            "use_post_quant_conv": "post_quant_conv.weight" in tensors,
            "norm_num_groups": _NORM_GROUPS,
            "scaling_factor": _SCALE,
            "shift_factor": _SHIFT,
        }
    except (KeyError, IndexError) as error:
        raise WeightsInvalid(f"The file is no whole FLUX autoencoder: {error} is missing.") from error


def _renamed(name: str, levels: int) -> str:
    for pattern, new in _RENAMED:
        name = pattern.sub(new, name)
    # They count the decoder's levels from the latent's far end.
    return _UP_BLOCK.sub(lambda level: str(levels - 1 - int(level[0])), name)


def _as_matrix(name: str, tensor: Tensor) -> Tensor:
    """Their attention is made of 1 x 1 convolutions, diffusers' of linears."""
    return tensor[:, :, 0, 0] if ".mid.attn_1." in name and tensor.ndim == 4 else tensor


def _levels(tensors: Mapping[str, Tensor]) -> int:
    return _count(tensors, r"^encoder\.down\.(\d+)\.")


def _count(tensors: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for name in tensors if (match := re.match(pattern, name))})
