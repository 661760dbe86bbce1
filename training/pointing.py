"""Teaches where to look: an object's tokens attend to the word that says its colour. No part of what ships.

Velocity and naming ask for an object's colour without showing the way to it, and from pure noise the network kept
guessing among the colours that the caption names. The way is known here: colours of a scene differ, so each object has
one word of its own. Two heads of two blocks are asked to find it, by the very queries and keys that they attend with.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from diffusers.models.embeddings import apply_rotary_emb
from torch import Tensor, nn
from torch.nn import functional

BLOCKS, HEADS = (1, 2), 2


class Pointing(nn.Module):
    """Keeps what the chosen blocks attend with, and measures where it points. It has no weights."""

    def __init__(self, transformer: FluxTransformer2DModel) -> None:
        super().__init__()
        self._listens = False
        self._seen: dict[int, tuple[Any, Tensor, tuple[Tensor, Tensor]]] = {}
        for number in BLOCKS:
            attention = transformer.single_transformer_blocks[number].attn
            attention.register_forward_pre_hook(self._keeper(number), with_kwargs=True)

    def listen(self, wanted: bool) -> None:
        """Whether what the next pass attends with is kept: `loss` asks for it, and nothing else needs the memory."""
        self._listens = wanted
        self._seen.clear()

    def _keeper(self, number: int) -> Any:
        def keep(attention: nn.Module, _args: tuple[Any, ...], told: dict[str, Any]) -> None:
            if self._listens:
                self._seen[number] = (attention, told["hidden_states"], told["image_rotary_emb"])

        # A compiled block drops the guards of its hooks, and would be deaf for ever if nobody listened at first.
        return torch.compiler.disable(keep)

    def loss(self, words: Tensor, shares: Tensor, text_length: int) -> Tensor:
        """Mean cross-entropy of the attention among the words, over tokens that an object fills half.

        `words` [B, MOST_THINGS] are places in T5's tokens, -1 where the caption has none; `shares` [B, MOST_THINGS, N].
        """
        share, index = shares.max(1)
        target = torch.where(share > 0.5, words.gather(1, index), -1)
        losses = [self._one(*seen, target, text_length) for seen in self._seen.values()]
        self._seen.clear()
        return torch.stack(losses).mean()

    def _one(
        self,
        attention: Any,
        states: Tensor,
        rotary: tuple[Tensor, Tensor],
        target: Tensor,
        text_length: int,
    ) -> Tensor:
        def heads(linear: nn.Module, norm: nn.Module, part: slice) -> Tensor:
            split = norm(linear(states[:, part].float()).unflatten(-1, (attention.heads, -1)))[:, :, :HEADS]
            turned: Tensor = apply_rotary_emb(split, tuple(each[part] for each in rotary), sequence_dim=1)
            return turned

        asking = heads(attention.to_q, attention.norm_q, slice(text_length, None))
        asked = heads(attention.to_k, attention.norm_k, slice(0, text_length))
        logits = torch.einsum("bnhd,blhd->bhnl", asking, asked) / asking.shape[-1] ** 0.5
        every = target[:, None].expand(-1, HEADS, -1)
        total = functional.cross_entropy(
            logits.flatten(0, 2), every.flatten(), ignore_index=-1, reduction="sum"
        )
        return total / (every >= 0).sum().clamp_min(1)


def colour_words(t5: Tensor, colours: Tensor, ids: Tensor) -> Tensor:
    """Where each thing's colour stands in the caption [B, MOST_THINGS]: the first such word, or -1.

    `t5` [B, L] are token ids, `colours` [B, MOST_THINGS] indices of colours, -1 for none, `ids` their token ids.
    """
    stands = t5[:, None] == ids[colours.clamp_min(0)][..., None]
    found = stands.any(2) & (colours >= 0)
    return torch.where(found, stands.float().argmax(2), -1)
