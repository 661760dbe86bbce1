"""The loaded parts of one model, whichever profile they come from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from depthwright.engine.acceleration.blocks import Blocks
from depthwright.engine.acceleration.levels import Chosen, Decoding, Precision
from depthwright.engine.acceleration.narrow import NarrowBlocks
from depthwright.engine.acceleration.once import Once
from depthwright.engine.adapter import ControlAdapter
from depthwright.engine.depth import DepthEstimator
from depthwright.engine.fidelity import DepthMap
from depthwright.engine.profiles import Profile
from depthwright.engine.safety import ImageChecker, TextClassifier
from depthwright.engine.shelf import Shelf
from depthwright.engine.together import Together
from depthwright.engine.user_lora import UserLoras
from depthwright.parameters import Level
from depthwright.result import NO_CHECKER


@dataclass(frozen=True)
class TextEmbeddings:
    """`tokens` [1, L, D] from T5, L the profile's sequence length; `pooled` [1, P] from CLIP."""

    tokens: Tensor
    pooled: Tensor


@dataclass(frozen=True)
class Components:
    """Models are diffusers' and transformers' own classes; `scheduler` is a template that no run writes to.

    `checking` is who looks at the pictures: the `checker`'s name, or why there is none.
    """

    profile: Profile
    device: torch.device
    dtype: torch.dtype
    model_version: str
    transformer: Any
    adapter: ControlAdapter
    loras: UserLoras
    vae: Any
    text_encoder: Any
    text_encoder_2: Any
    tokenizer: Any
    tokenizer_2: Any
    scheduler: Any
    depth_estimator: DepthEstimator
    chosen: Chosen
    compiled: Blocks | None
    narrow: Mapping[Precision, NarrowBlocks]
    decoders: Mapping[Decoding, Any]
    shelf: Shelf
    checker: ImageChecker | None = None
    checking: str = NO_CHECKER
    guard: TextClassifier | None = None
    together: Together | None = None
    # Found again under their content: a prompt's embeddings, and depth maps and control latents of control images.
    prompts: Once[TextEmbeddings] = field(default_factory=lambda: Once(16))
    depths: Once[DepthMap] = field(default_factory=lambda: Once(16))
    controls: Once[Tensor] = field(default_factory=lambda: Once(16))

    def forget(self) -> None:
        """Let go of what could be computed again."""
        for kept in (self.prompts, self.depths, self.controls, self.loras):
            kept.clear()

    def vae_of(self, level: Level) -> Any:
        """The autoencoder that decodes at a level."""
        decoding = self.chosen.levels[level].decoding
        return self.decoders[decoding] if decoding else self.vae

    @property
    def vae_scale(self) -> int:
        """Pixels to a latent, along each side."""
        return int(2 ** (len(self.vae.config.block_out_channels) - 1))

    @property
    def multiple(self) -> int:
        """A picture's sides must be multiples of this many pixels: one token's width, for each GPU that shares it."""
        return 2 * self.vae_scale * self.profile.gpus

    @property
    def latent_channels(self) -> int:
        """Channels of a latent before packing."""
        return int(self.vae.config.latent_channels)
