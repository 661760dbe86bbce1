"""FLUX for ComfyUI's own nodes, so small that noise is all it draws; names and forms of the files are the real ones.

ComfyUI tells a model's shape from its tensors, but not that of FLUX's text encoders, which take 10 GB: a loader of one
line stands in for theirs.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

_WIDTH, _TEXT, _POOLED, _TIME, _HEAD, _LATENT = 128, 64, 768, 256, 128, 16
_RANK = 4
_LOADER = '''"""Stands in for FLUX's text encoders."""

import torch


class Clip:
    def tokenize(self, text):
        return text

    def encode_from_tokens_scheduled(self, text, **_):
        generator = torch.Generator().manual_seed(len(text))
        return [[torch.randn(1, 8, 64, generator=generator), {"pooled_output": torch.randn(1, 768)}]]


class ToyClipLoader:
    RETURN_TYPES, FUNCTION, CATEGORY = ("CLIP",), "load", "tests"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    def load(self):
        return (Clip(),)


NODE_CLASS_MAPPINGS = {"ToyClipLoader": ToyClipLoader}
'''


def write_toys(base: Path) -> None:
    """Put the files where ComfyUI looks for them."""
    generator = torch.Generator().manual_seed(1)
    files = {
        "diffusion_models/flux1-dev": dict(_transformer(generator)),
        "loras/flux1-depth-dev-lora": dict(_depth_lora(generator)),
        "vae/ae": dict(_autoencoder(generator)),
    }
    for name, tensors in files.items():
        place = base / "models" / f"{name}.safetensors"
        place.parent.mkdir(parents=True, exist_ok=True)
        save_file(tensors, place)
    loader = base / "custom_nodes" / "toy_clip"
    loader.mkdir(parents=True)
    (loader / "__init__.py").write_text(_LOADER)


def _random(generator: torch.Generator, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=generator) * 0.02


def _linear(generator: torch.Generator, name: str, out: int, into: int) -> Iterator[tuple[str, Tensor]]:
    yield f"{name}.weight", _random(generator, out, into)
    yield f"{name}.bias", torch.zeros(out)


def _transformer(generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    width = _WIDTH
    layers = {
        "img_in": (width, 4 * _LATENT),
        "txt_in": (width, _TEXT),
        "final_layer.linear": (4 * _LATENT, width),
        "final_layer.adaLN_modulation.1": (2 * width, width),
        "single_blocks.0.linear1": (7 * width, width),
        "single_blocks.0.linear2": (width, 5 * width),
        "single_blocks.0.modulation.lin": (3 * width, width),
    }
    for part, into in (("time", _TIME), ("guidance", _TIME), ("vector", _POOLED)):
        layers |= {f"{part}_in.in_layer": (width, into), f"{part}_in.out_layer": (width, width)}
    for stream in ("img", "txt"):
        block = f"double_blocks.0.{stream}"
        layers |= {
            f"{block}_mod.lin": (6 * width, width),
            f"{block}_attn.qkv": (3 * width, width),
            f"{block}_attn.proj": (width, width),
            f"{block}_mlp.0": (4 * width, width),
            f"{block}_mlp.2": (width, 4 * width),
        }
    for name, (out, into) in layers.items():
        yield from _linear(generator, name, out, into)
    for norms in ("double_blocks.0.img_attn.norm", "double_blocks.0.txt_attn.norm", "single_blocks.0.norm"):
        for kind in ("query", "key"):
            yield f"{norms}.{kind}_norm.scale", torch.ones(_HEAD)


def _depth_lora(generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """As Black Forest Labs' own: it widens the image input, and replaces norms."""
    yield "img_in.lora_A.weight", _random(generator, _RANK, 8 * _LATENT)
    yield "img_in.lora_B.weight", _random(generator, _WIDTH, _RANK)
    yield "img_in.lora_B.bias", torch.zeros(_WIDTH)
    for kind in ("query", "key"):
        yield f"single_blocks.0.norm.{kind}_norm.scale", torch.ones(_HEAD)


def _autoencoder(generator: torch.Generator) -> Iterator[tuple[str, Tensor]]:
    """TAEF1's names: convolutions at these places, blocks of three at the others."""
    places = {
        "taesd_encoder": ({0: (64, 3), 14: (_LATENT, 64)}, (2, 6, 10), (1, 3, 4, 5, 7, 8, 9, 11, 12, 13)),
        "taesd_decoder": (
            {1: (64, _LATENT), 19: (3, 64)},
            (7, 12, 17),
            (3, 4, 5, 8, 9, 10, 13, 14, 15, 18),
        ),
    }
    for half, (ends, strides, blocks) in places.items():
        for place, (out, into) in ends.items():
            yield f"{half}.{place}.weight", _random(generator, out, into, 3, 3)
            yield f"{half}.{place}.bias", torch.zeros(out)
        for place in strides:
            yield f"{half}.{place}.weight", _random(generator, 64, 64, 3, 3)
        for place in blocks:
            for layer in (0, 2, 4):
                yield f"{half}.{place}.conv.{layer}.weight", _random(generator, 64, 64, 3, 3)
                yield f"{half}.{place}.conv.{layer}.bias", torch.zeros(64)
