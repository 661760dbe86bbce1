"""The model that ships, taken apart again into what the phases of a run leave, so that training can go on from it."""

from __future__ import annotations

import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from safetensors.torch import load_file
from torch import Tensor, nn
from transformers import CLIPTextModel, GLPNForDepthEstimation, T5EncoderModel

from training.autoencoder import keep, save_codec
from training.depth_estimator import save as save_depth
from training.linear_codec import read
from training.model import EmbeddedModel
from training.words import build


def unpack(source: Path, folder: Path) -> None:
    """Lay out tokenizers (with today's words appended), codec, decoder and depth estimator as their phases would."""
    target = folder / "embedded"
    if (folder / "codec.safetensors").exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    build(target, onto=source)
    vae = AutoencoderKL.from_pretrained(source / "vae", torch_dtype=torch.float32)
    save_codec(read(vae), folder / "codec.safetensors")
    keep(vae.decoder.state_dict(), folder / "decoder.safetensors")
    vae.save_pretrained(target / "vae")
    depth = GLPNForDepthEstimation.from_pretrained(source / "depth_estimator", dtype=torch.float32)
    keep(depth.state_dict(), folder / "depth.safetensors")
    save_depth(depth, target / "depth_estimator")
    shutil.copy(
        source / "depth_estimator" / "preprocessor_config.json",
        target / "depth_estimator" / "preprocessor_config.json",
    )


@torch.no_grad()
def load(model: EmbeddedModel, source: Path) -> None:
    """Fill base, LoRA and text encoders; words the shipped model does not know start as the mean of those it knows."""
    base = FluxTransformer2DModel.from_pretrained(
        source / "transformer", torch_dtype=torch.float32
    ).state_dict()
    lora = load_file(source / "control_lora.safetensors")
    for name, parameter in model.transformer.named_parameters():
        parameter.copy_(lora[_lora_key(name)] if "lora_" in name else base[name.replace(".base.", ".")])
    _fill(model.text_encoder, CLIPTextModel.from_pretrained(source / "text_encoder", dtype=torch.float32))
    _fill(
        model.text_encoder_2, T5EncoderModel.from_pretrained(source / "text_encoder_2", dtype=torch.float32)
    )


def _lora_key(name: str) -> str:
    """The key under which `EmbeddedModel.save` writes a LoRA parameter."""
    if name.endswith(".lora_bias"):
        return f"transformer.{name.removesuffix('.lora_bias')}.lora_B.bias"
    return f"transformer.{name.removesuffix('.lora_weight')}.weight"


def _fill(encoder: nn.Module, shipped: nn.Module) -> None:
    held: dict[str, Tensor] = shipped.state_dict()
    for name, value in encoder.state_dict().items():
        known = held[name]
        value[: len(known)] = known
        if len(value) > len(known):
            value[len(known) :] = known.mean(0)
