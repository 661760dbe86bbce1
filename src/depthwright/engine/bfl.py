"""Black Forest Labs' names for FLUX weights, turned into diffusers'. Every size is read off the tensors.

Their files fuse what diffusers keeps apart: q, k and v (and, in single blocks, the MLP's entrance) are one matrix,
and the last modulation has its halves the other way round.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from depthwright.errors import WeightsInvalid

_PREFIX = "model.diffusion_model."
_SUFFIX = re.compile(r"\.(weight|bias|scale|lora_A\.weight|lora_B\.weight|lora_B\.bias)$")
_TOP = {
    "img_in": "x_embedder",
    "txt_in": "context_embedder",
    "time_in.in_layer": "time_text_embed.timestep_embedder.linear_1",
    "time_in.out_layer": "time_text_embed.timestep_embedder.linear_2",
    "vector_in.in_layer": "time_text_embed.text_embedder.linear_1",
    "vector_in.out_layer": "time_text_embed.text_embedder.linear_2",
    "guidance_in.in_layer": "time_text_embed.guidance_embedder.linear_1",
    "guidance_in.out_layer": "time_text_embed.guidance_embedder.linear_2",
    "final_layer.linear": "proj_out",
    "final_layer.adaLN_modulation.1": "norm_out.linear",
}
_HALVES = (_TOP["final_layer.adaLN_modulation.1"],)
_DOUBLE = {
    "img_mod.lin": ("norm1.linear",),
    "txt_mod.lin": ("norm1_context.linear",),
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.proj": ("attn.to_add_out",),
    "img_attn.norm.query_norm": ("attn.norm_q",),
    "img_attn.norm.key_norm": ("attn.norm_k",),
    "txt_attn.norm.query_norm": ("attn.norm_added_q",),
    "txt_attn.norm.key_norm": ("attn.norm_added_k",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
}
_SINGLE = {
    "modulation.lin": ("norm.linear",),
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "norm.query_norm": ("attn.norm_q",),
    "norm.key_norm": ("attn.norm_k",),
}


def is_bfl(names: Mapping[str, object]) -> bool:
    """Whether a file's tensors bear Black Forest Labs' names."""
    return any(
        name.removeprefix(_PREFIX).startswith(("double_blocks.", "single_blocks.", "img_in."))
        for name in names
    )


def transformer_to_diffusers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A transformer's state under diffusers' names. Raises WeightsInvalid for a tensor that FLUX does not have."""
    return _converted(tensors)


def lora_to_diffusers(tensors: Mapping[str, Tensor], width: int | None = None) -> dict[str, Tensor]:
    """A LoRA under diffusers' names, each fused matrix's `lora_A` shared by the parts it splits into.

    A control LoRA tells the model's width by its image input; for any other, `width` is what it must fit.
    """
    return _converted(tensors, width)


def transformer_config(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """What the tensors tell of a transformer's configuration (all but the axes of its rotary embedding).

    Raises WeightsInvalid where one is missing that tells it.
    """
    plain = {name.removeprefix(_PREFIX): tensor for name, tensor in tensors.items()}
    try:
        width, in_channels = plain["img_in.weight"].shape
        (head,) = plain["double_blocks.0.img_attn.norm.query_norm.scale"].shape
        return {
            "in_channels": in_channels,
            "out_channels": plain["final_layer.linear.weight"].shape[0],
            "num_layers": _count(plain, "double_blocks"),
            "num_single_layers": _count(plain, "single_blocks"),
            "attention_head_dim": head,
            "num_attention_heads": width // head,
            "joint_attention_dim": plain["txt_in.weight"].shape[1],
            "pooled_projection_dim": plain["vector_in.in_layer.weight"].shape[1],
            "guidance_embeds": "guidance_in.in_layer.weight" in plain,
        }
    except (LookupError, ValueError, ZeroDivisionError) as error:
        raise WeightsInvalid(
            f"The file is no whole FLUX transformer: {error} is missing or misshapen."
        ) from error


def _count(tensors: Mapping[str, Tensor], blocks: str) -> int:
    return len({name.split(".")[1] for name in tensors if name.startswith(blocks + ".")})


def _converted(tensors: Mapping[str, Tensor], width: int | None = None) -> dict[str, Tensor]:
    width = width or _width(tensors)
    return {
        new: part
        for name, tensor in tensors.items()
        for new, part in _parts(name.removeprefix(_PREFIX), tensor, width)
    }


def _parts(name: str, tensor: Tensor, width: int) -> Iterator[tuple[str, Tensor]]:
    match = _SUFFIX.search(name)
    targets = _targets(name[: match.start()]) if match else None
    if match is None or targets is None:
        raise WeightsInvalid(f"{name} is no tensor of a FLUX transformer or of its control LoRA.")
    kind = "weight" if match[1] == "scale" else match[1]
    if not _fits(tensor, targets, kind, width):
        raise WeightsInvalid(f"{name} is {tuple(tensor.shape)}, which is no shape for a model {width} wide.")
    if kind == "lora_A.weight":
        # Its rows are ranks, which no part splits and no half of a modulation owns. diffusers 0.42 exchanges them in
        # the last modulation all the same, and so changes what the LoRA does there.
        parts: tuple[Tensor, ...] = (tensor,) * len(targets)
    elif targets == _HALVES:
        shift, scale = tensor.chunk(2)
        parts = (torch.cat((scale, shift)),)
    elif len(targets) > 1:
        sizes = [width] * 3 + (
            [tensor.shape[0] - 3 * width] if len(targets) == len(_SINGLE["linear1"]) else []
        )
        parts = tensor.split(sizes)
    else:
        parts = (tensor,)
    yield from ((f"{target}.{kind}", part) for target, part in zip(targets, parts, strict=True))


def _fits(tensor: Tensor, targets: tuple[str, ...], kind: str, width: int) -> bool:
    """Whether a tensor that is to be split has the rows for it."""
    if tensor.ndim == 0 or kind == "lora_A.weight":
        return tensor.ndim > 0
    rows = tensor.shape[0]
    if targets == _HALVES:
        return rows == 2 * width
    if len(targets) == len(_SINGLE["linear1"]):  # q, k, v, and what is left for the MLP
        return rows > 3 * width
    return len(targets) == 1 or rows == 3 * width


def _targets(module: str) -> tuple[str, ...] | None:
    if module in _TOP:
        return (_TOP[module],)
    blocks, _, rest = module.partition(".")
    index, _, inner = rest.partition(".")
    table, prefix = {
        "double_blocks": (_DOUBLE, "transformer_blocks"),
        "single_blocks": (_SINGLE, "single_transformer_blocks"),
    }.get(blocks, ({}, ""))
    found = table.get(inner)
    return tuple(f"{prefix}.{index}.{target}" for target in found) if found else None


def _width(tensors: Mapping[str, Tensor]) -> int:
    """The model's width: rows of its image input's matrix."""
    for name, tensor in tensors.items():
        if name.removeprefix(_PREFIX) in ("img_in.weight", "img_in.lora_B.weight") and tensor.ndim == 2:
            return tensor.shape[0]
    raise WeightsInvalid(
        "The file has no image input (img_in): it is no FLUX transformer and no control LoRA."
    )
