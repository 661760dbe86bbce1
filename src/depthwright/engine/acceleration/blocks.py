"""FLUX's two kinds of block as functions, with their modulations given instead of computed.

The layers are those of diffusers' blocks and so are the sums, but for their order; hooks on the layers run.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from diffusers.models.attention_dispatch import dispatch_attention_fn
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor
from torch.nn.functional import linear

Rotary = tuple[Tensor, Tensor]
_FLOAT16_MOST = 65504
_IMAGE = ("to_q", "to_k", "to_v")
_WORDS = ("add_q_proj", "add_k_proj", "add_v_proj")
JOINED = "joined_projections"


class Modulation(NamedTuple):
    """normed(x) * `scale` + `shift` goes into a layer, and x + `gate` * what comes out goes on; [D] each."""

    shift: Tensor
    scale: Tensor
    gate: Tensor


def modulations(made: Tensor, layers: int) -> Tensor:
    """What a block's own linear makes for S steps, [S, 3 * layers * D], as [S, 3 * layers, D].

    Shift, scale and gate of each layer, in this order; the 1 of diffusers' (1 + scale) is in the scale.
    """
    parts: Tensor = made.unflatten(1, (3 * layers, -1)).clone()
    parts[:, 1::3] += 1
    return parts


def double_block(
    block: Any,
    image: Tensor,
    words: Tensor,
    image_modulations: Tensor,
    words_modulations: Tensor,
    rotary: Rotary,
) -> tuple[Tensor, Tensor]:
    """Image [B, N, D] and words [B, L, D], each with weights and modulations [1, 6, D] of its own, see each other."""
    around, within = _of_layers(image_modulations)
    words_around, words_within = _of_layers(words_modulations)
    attention = block.attn
    # 1. Attention over both.
    q, k, v = _projected(attention, _IMAGE, _modulated(block.norm1.norm, image, around))
    words_q, words_k, words_v = _projected(
        attention, _WORDS, _modulated(block.norm1_context.norm, words, words_around)
    )
    heads = attention.heads
    seen = _attended(
        attention,
        torch.cat(
            (attention.norm_added_q(_split(words_q, heads)), attention.norm_q(_split(q, heads))), dim=1
        ),
        torch.cat(
            (attention.norm_added_k(_split(words_k, heads)), attention.norm_k(_split(k, heads))), dim=1
        ),
        torch.cat((_split(words_v, heads), _split(v, heads)), dim=1),
        rotary,
    )
    length = words.shape[1]
    image = torch.addcmul(image, around.gate, attention.to_out[0](seen[:, length:]))
    words = torch.addcmul(words, words_around.gate, attention.to_add_out(seen[:, :length]))
    # 2. Each on its own.
    image = torch.addcmul(image, within.gate, block.ff(_modulated(block.norm2, image, within)))
    words = torch.addcmul(
        words, words_within.gate, block.ff_context(_modulated(block.norm2_context, words, words_within))
    )
    return image, _bounded(words)


def single_block(block: Any, both: Tensor, own_modulations: Tensor, rotary: Rotary) -> Tensor:
    """Words and image as one sequence [B, L + N, D], modulations [1, 3, D]: attention, and a layer beside it."""
    [modulation] = _of_layers(own_modulations)
    attention, heads = block.attn, block.attn.heads
    x = _modulated(block.norm.norm, both, modulation)
    q, k, v = _projected(attention, _IMAGE, x)
    seen = _attended(
        attention,
        attention.norm_q(_split(q, heads)),
        attention.norm_k(_split(k, heads)),
        _split(v, heads),
        rotary,
    )
    beside = block.act_mlp(block.proj_mlp(x))
    return _bounded(torch.addcmul(both, modulation.gate, block.proj_out(torch.cat((seen, beside), dim=2))))


class Blocks(NamedTuple):
    """The two functions above, as they are or compiled."""

    double: Callable[..., tuple[Tensor, Tensor]]
    single: Callable[..., Tensor]


EAGER = Blocks(double_block, single_block)


def join_projections(transformer: Any) -> None:
    """Make query, key and value of every attention one matrix: one product instead of three.

    The matrix is no copy: the three weights become views of it, so what is written into them, as a change of the
    control scale does, is in the whole as well. For weights that stay where they are.
    """
    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        joined = {
            names: Joined(*_join([getattr(block.attn, name) for name in names]))
            for names in (_IMAGE, _WORDS)
            if getattr(block.attn, names[0], None) is not None
        }
        setattr(block.attn, JOINED, joined)


class Joined(NamedTuple):
    """Several linears of one input as one."""

    weight: Tensor
    bias: Tensor

    def __call__(self, x: Tensor) -> Tensor:
        """[..., in] -> [..., all their outputs, in order]."""
        return linear(x, self.weight, self.bias)


def _join(layers: list[Any]) -> tuple[Tensor, Tensor]:
    weight = torch.cat([layer.weight.detach() for layer in layers])
    bias = torch.cat([layer.bias.detach() for layer in layers])
    start = 0
    for layer in layers:
        end = start + layer.out_features
        layer.weight.data, layer.bias.data = weight[start:end], bias[start:end]
        start = end
    return weight, bias


def _projected(attention: Any, names: tuple[str, ...], x: Tensor) -> tuple[Tensor, ...]:
    joined = getattr(attention, JOINED, None)
    if joined is None:
        return tuple(getattr(attention, name)(x) for name in names)
    together: Tensor = joined[names](x)
    return together.chunk(3, dim=-1)


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`x @ weight.T + bias`, multiplied in the weight's type where that is not x's own."""
    if x.dtype == weight.dtype:
        return linear(x, weight, bias)
    return linear(x.to(weight.dtype), weight, bias).to(x.dtype)


def _attended(attention: Any, query: Tensor, key: Tensor, value: Tensor, rotary: Rotary) -> Tensor:
    seen: Tensor = dispatch_attention_fn(
        apply_rotary_emb(query, rotary, sequence_dim=1),
        apply_rotary_emb(key, rotary, sequence_dim=1),
        value,
        backend=attention.processor._attention_backend,  # noqa: SLF001 - how diffusers keeps the user's choice
        parallel_config=attention.processor._parallel_config,  # noqa: SLF001 - the same
    )
    flat: Tensor = seen.flatten(2, 3).to(query.dtype)
    return flat


def _of_layers(made: Tensor) -> list[Modulation]:
    return [Modulation(*made[0, first : first + 3].unbind()) for first in range(0, made.shape[1], 3)]


def _split(x: Tensor, heads: int) -> Tensor:
    apart: Tensor = x.unflatten(-1, (heads, -1))
    return apart


def _modulated(norm: Any, x: Tensor, modulation: Modulation) -> Tensor:
    return torch.addcmul(modulation.shift, norm(x), modulation.scale)


def _bounded(x: Tensor) -> Tensor:
    return x.clip(-_FLOAT16_MOST, _FLOAT16_MOST) if x.dtype == torch.float16 else x
