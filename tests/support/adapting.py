"""The toy transformer under an adapter, and one pass through it."""

from typing import Any

import torch
from diffusers import FluxControlPipeline, FluxTransformer2DModel
from torch import Tensor

from depthwright.engine.adapter import LiveAdapter, MergedAdapter
from depthwright.engine.lora import read_lora
from tests.support.tiny import JOINT, LENGTH, POOLED, TOKEN, Tiny

TOKENS = 6


def load(tiny: Tiny) -> FluxTransformer2DModel:
    return FluxTransformer2DModel.from_pretrained(tiny.folder / "transformer").eval().requires_grad_(False)


@torch.inference_mode()
def forward(transformer: FluxTransformer2DModel, control: bool) -> Tensor:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    latents, beside = draw(1, TOKENS, TOKEN), draw(1, TOKENS, TOKEN)
    ids = torch.zeros(TOKENS, 3)
    ids[:, 2] = torch.arange(TOKENS)
    output: Tensor = transformer(
        hidden_states=torch.cat((latents, beside), 2) if control else latents,
        timestep=torch.tensor([0.6]),
        guidance=torch.tensor([3.5]),
        encoder_hidden_states=draw(1, LENGTH, JOINT),
        pooled_projections=draw(1, POOLED),
        img_ids=ids,
        txt_ids=torch.zeros(LENGTH, 3),
        return_dict=False,
    )[0]
    return output


def adapted(kind: str, tiny: Tiny) -> tuple[FluxTransformer2DModel, MergedAdapter | LiveAdapter]:
    transformer, lora = load(tiny), read_lora(tiny.lora)
    if kind == "merged":
        return transformer, MergedAdapter(transformer, lora)
    return transformer, LiveAdapter(transformer, lora, torch.device("cpu"), torch.float32)


def bare_pipeline(tiny: Tiny) -> Any:
    """Enough of a pipeline to load a LoRA into its transformer."""
    nothing = dict.fromkeys(
        ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2"), None
    )
    return FluxControlPipeline(**nothing, transformer=load(tiny))
