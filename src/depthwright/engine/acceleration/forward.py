"""FLUX's transformer along one walk, with everything that no step changes computed once, before the first.

Equal to diffusers' `FluxTransformer2DModel.forward` but for the order of some sums. There every step projects the
words, lays out the positions, embeds time, guidance and prompt, and makes each block's modulations from one row; here
that is done for all steps at once.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import silu

from depthwright.engine.acceleration.blocks import EAGER, Blocks, Rotary, modulations
from depthwright.engine.acceleration.narrow import NarrowBlocks
from depthwright.engine.acceleration.step_cache import StepCache


@dataclass(frozen=True)
class Conditions:
    """What a walk is told: `tokens` [1, L, T] and `pooled` [1, P] of the prompt, `text_ids` [L, 3], `image_ids` [N, 3].

    `times` [S] are its steps' noise shares, 1 to 0, in the model's type; `guidance` [1] is None where the model knows
    none. `control` [1, N, C] lies beside the latents; None at scale 0.
    """

    tokens: Tensor
    pooled: Tensor
    text_ids: Tensor
    image_ids: Tensor
    times: Tensor
    guidance: Tensor | None
    control: Tensor | None

    def beside(self, latents: Tensor) -> Tensor:
        """The transformer's input."""
        return latents if self.control is None else torch.cat((latents, self.control), dim=2)


class PlainWalk:
    """The reference: diffusers' own forward at every step."""

    def __init__(self, transformer: Any, conditions: Conditions) -> None:
        self._transformer = transformer
        self._conditions = conditions

    def velocity(self, latents: Tensor, step: int) -> Tensor:
        """What the model says at a step, [1, N, C], of latents [1, N, C]."""
        told = self._conditions
        velocity: Tensor = self._transformer(
            hidden_states=told.beside(latents),
            timestep=told.times[step].expand(1),
            guidance=told.guidance,
            pooled_projections=told.pooled,
            encoder_hidden_states=told.tokens,
            txt_ids=told.text_ids,
            img_ids=told.image_ids,
            return_dict=False,
        )[0]
        return velocity

    def end(self) -> None:
        """No step follows."""


class FastWalk:
    """The same velocities, sooner. The control scale must be set before it is made, and before each step.

    With `narrow` blocks instead of the transformer's own, nearly the same.
    """

    def __init__(
        self,
        transformer: Any,
        conditions: Conditions,
        cache: StepCache | None = None,
        blocks: Blocks = EAGER,
        narrow: NarrowBlocks | None = None,
    ) -> None:
        self._transformer = transformer
        self._blocks = blocks
        self._narrow = narrow
        self._double_blocks = narrow.double if narrow else transformer.transformer_blocks
        self._single_blocks = narrow.single if narrow else transformer.single_transformer_blocks
        self._conditions = conditions
        self._cache = cache
        self._words = transformer.context_embedder(conditions.tokens)
        positions = torch.cat((conditions.text_ids, conditions.image_ids))
        self._rotary: Rotary = transformer.pos_embed(positions)
        told = silu(_embedded(transformer, conditions))
        self._double = [
            (modulations(block.norm1.linear(told), 2), modulations(block.norm1_context.linear(told), 2))
            for block in transformer.transformer_blocks
        ]
        self._single = [
            modulations(block.norm.linear(told), 1) for block in transformer.single_transformer_blocks
        ]
        scale, shift = transformer.norm_out.linear(told).chunk(2, dim=1)
        self._last_scale, self._last_shift = 1 + scale, shift
        self._steps = torch.arange(len(told), device=told.device).unsqueeze(1)

    def velocity(self, latents: Tensor, step: int) -> Tensor:
        """What the model says at a step, [1, N, C], of latents [1, N, C]."""
        transformer = self._transformer
        self.follow()
        # 1. The first block, always.
        image = transformer.x_embedder(self._conditions.beside(latents))
        first, words = self._double_block(0, image, self._words, step)

        def others() -> Tensor:
            return self._others(first, words, step)

        # 2. The others, or what they added last time.
        last = others() if self._cache is None else self._cache.after(image, first, others)
        # 3. Back to latents.
        normed = transformer.norm_out.norm(last)
        velocity: Tensor = transformer.proj_out(
            torch.addcmul(self._last_shift[step], normed, self._last_scale[step])
        )
        return velocity

    def follow(self) -> None:
        """Take over what became of the transformer's weights: every step does, before anything else."""
        if self._narrow:
            self._narrow.follow()

    def _others(self, image: Tensor, words: Tensor, step: int) -> Tensor:
        for index in range(1, len(self._double)):
            image, words = self._double_block(index, image, words, step)
        both = torch.cat((words, image), dim=1)
        for block, made in zip(self._single_blocks, self._single, strict=True):
            both = self._blocks.single(block, both, self._at(step, made), self._rotary)
        return both[:, words.shape[1] :]

    def _double_block(self, index: int, image: Tensor, words: Tensor, step: int) -> tuple[Tensor, Tensor]:
        of_image, of_words = (self._at(step, made) for made in self._double[index])
        return self._blocks.double(self._double_blocks[index], image, words, of_image, of_words, self._rotary)

    def _at(self, step: int, made: Tensor) -> Tensor:
        """A step's modulations, in memory of their own: a view's offset would have blocks compiled for every step."""
        return made.index_select(0, self._steps[step])

    def end(self) -> None:
        """No step follows."""


def _embedded(transformer: Any, told: Conditions) -> Tensor:
    """Time, guidance and prompt of every step, [S, D]."""
    times = told.times * 1000
    pooled = told.pooled.expand(len(times), -1)
    if told.guidance is None:
        embedded: Tensor = transformer.time_text_embed(times, pooled)
    else:
        guidance = told.guidance.to(told.times.dtype).expand(len(times)) * 1000
        embedded = transformer.time_text_embed(times, guidance, pooled)
    return embedded
