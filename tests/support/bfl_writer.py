"""Writes tensors the way Black Forest Labs' files hold them: the inverse of what the engine reads.

Told from their side, so that a mistake in the engine's tables does not hide behind the same mistake here.
"""

from collections.abc import Iterator, Mapping

import torch
from torch import Tensor

_TOP = {
    "x_embedder": "img_in",
    "context_embedder": "txt_in",
    "time_text_embed.timestep_embedder.linear_1": "time_in.in_layer",
    "time_text_embed.timestep_embedder.linear_2": "time_in.out_layer",
    "time_text_embed.text_embedder.linear_1": "vector_in.in_layer",
    "time_text_embed.text_embedder.linear_2": "vector_in.out_layer",
    "time_text_embed.guidance_embedder.linear_1": "guidance_in.in_layer",
    "time_text_embed.guidance_embedder.linear_2": "guidance_in.out_layer",
    "norm_out.linear": "final_layer.adaLN_modulation.1",
    "proj_out": "final_layer.linear",
}
_DOUBLE = {
    ("norm1.linear",): "img_mod.lin",
    ("norm1_context.linear",): "txt_mod.lin",
    ("attn.to_q", "attn.to_k", "attn.to_v"): "img_attn.qkv",
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"): "txt_attn.qkv",
    ("attn.to_out.0",): "img_attn.proj",
    ("attn.to_add_out",): "txt_attn.proj",
    ("attn.norm_q",): "img_attn.norm.query_norm",
    ("attn.norm_k",): "img_attn.norm.key_norm",
    ("attn.norm_added_q",): "txt_attn.norm.query_norm",
    ("attn.norm_added_k",): "txt_attn.norm.key_norm",
    ("ff.net.0.proj",): "img_mlp.0",
    ("ff.net.2",): "img_mlp.2",
    ("ff_context.net.0.proj",): "txt_mlp.0",
    ("ff_context.net.2",): "txt_mlp.2",
}
_SINGLE = {
    ("norm.linear",): "modulation.lin",
    ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"): "linear1",
    ("proj_out",): "linear2",
    ("attn.norm_q",): "norm.query_norm",
    ("attn.norm_k",): "norm.key_norm",
}
_KINDS = ("lora_A.weight", "lora_B.weight", "lora_B.bias", "weight", "bias")


def fused_groups(double_blocks: int, single_blocks: int) -> Iterator[tuple[tuple[str, ...], str]]:
    """Which modules of diffusers' make up which one of theirs: (our names, their name)."""
    for ours, theirs in _TOP.items():
        yield (ours,), theirs
    for index in range(double_blocks):
        for group, theirs in _DOUBLE.items():
            yield (
                tuple(f"transformer_blocks.{index}.{ours}" for ours in group),
                f"double_blocks.{index}.{theirs}",
            )
    for index in range(single_blocks):
        for group, theirs in _SINGLE.items():
            yield (
                tuple(f"single_transformer_blocks.{index}.{ours}" for ours in group),
                f"single_blocks.{index}.{theirs}",
            )


def transformer_as_bfl(
    state: Mapping[str, Tensor], double_blocks: int, single_blocks: int
) -> dict[str, Tensor]:
    """A diffusers transformer's state, or a LoRA under the same module names, in their form."""
    written: dict[str, Tensor] = {}
    for ours, theirs in fused_groups(double_blocks, single_blocks):
        for kind in _KINDS:
            parts = [state[f"{name}.{kind}"] for name in ours if f"{name}.{kind}" in state]
            if not parts:
                continue
            assert len(parts) == len(ours)
            if kind == "lora_A.weight":
                assert all(torch.equal(part, parts[0]) for part in parts), "a fused layer has one lora_A"
                whole = parts[0]
            else:
                whole = torch.cat(parts)
            if ours == ("norm_out.linear",) and kind != "lora_A.weight":
                scale, shift = whole.chunk(2)
                whole = torch.cat((shift, scale))
            is_norm = theirs.endswith("_norm")
            written[f"{theirs}.{'scale' if is_norm else kind}"] = whole.contiguous().clone()
    return written


def vae_as_bfl(state: Mapping[str, Tensor], levels: int) -> dict[str, Tensor]:
    """A diffusers AutoencoderKL's state under the names of their ae.safetensors."""
    written: dict[str, Tensor] = {}
    for name, tensor in state.items():
        half, _, inner = name.partition(".")
        where = inner.split(".")
        match where:
            case ["conv_norm_out", kind]:
                new = f"norm_out.{kind}"
            case ["down_blocks", level, "resnets", block, *rest]:
                new = f"down.{level}.block.{block}.{'.'.join(rest)}"
            case ["down_blocks", level, "downsamplers", "0", *rest]:
                new = f"down.{level}.downsample.{'.'.join(rest)}"
            case ["up_blocks", level, "resnets", block, *rest]:
                new = f"up.{levels - 1 - int(level)}.block.{block}.{'.'.join(rest)}"
            case ["up_blocks", level, "upsamplers", "0", *rest]:
                new = f"up.{levels - 1 - int(level)}.upsample.{'.'.join(rest)}"
            case ["mid_block", "resnets", block, *rest]:
                new = f"mid.block_{int(block) + 1}.{'.'.join(rest)}"
            case ["mid_block", "attentions", "0", *rest]:
                new = f"mid.attn_1.{_attention('.'.join(rest))}"
            case _:
                new = inner
        written[f"{half}.{new.replace('conv_shortcut', 'nin_shortcut')}"] = _as_convolution(new, tensor)
    return written


def _attention(name: str) -> str:
    for ours, theirs in (
        ("group_norm", "norm"),
        ("to_out.0", "proj_out"),
        ("to_q", "q"),
        ("to_k", "k"),
        ("to_v", "v"),
    ):
        name = name.replace(ours, theirs)
    return name


def _as_convolution(name: str, tensor: Tensor) -> Tensor:
    """Their attention is made of 1 x 1 convolutions."""
    is_matrix = "mid.attn_1" in name and tensor.ndim == 2
    return (tensor[:, :, None, None] if is_matrix else tensor).contiguous().clone()
