"""Phase `autoencoder`: a fixed linear encoder, and a decoder trained to undo it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderKL
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from training.dataset import Batch, Shards
from training.linear_codec import LinearCodec, fit, install
from training.log import Log
from training.muon import Muon, split

LATENT_CHANNELS = 32
GREY_SHARE = 0.1
# Latents that were drawn are not as clean as those that were encoded: at their faint components, which hold texture,
# the decoder would draw the error as a lattice. So it sees noise of any strength up to this.
NOISE = 0.2
FITTED_ON = (120, 160)  # batches, and the side of their crops in pixels


def build() -> AutoencoderKL:
    """An empty autoencoder of the embedded model's shape: f16, 32 channels."""
    blocks = 5
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * blocks,
        up_block_types=("UpDecoderBlock2D",) * blocks,
        block_out_channels=(16, 32, 64, 96, 128),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=8,
        sample_size=256,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )


def pixels_of(batch: Batch, rng: np.random.Generator, device: str, grey: float = GREY_SHARE) -> Tensor:
    """[B, 3, H, W] in -1..1; a share of the pictures is the depth map instead."""
    chosen = np.where(
        (rng.random(len(batch.rgb)) < grey)[:, None, None, None],
        batch.depth[..., None].repeat(3, -1),
        batch.rgb,
    )
    return torch.from_numpy(chosen).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1


def train(folder: Path, minutes: float, device: str = "cpu", batch_size: int = 8, crop: int = 128) -> None:
    """Fit the codec, train the decoder for the given time (on from the last); its running average is kept."""
    # 1. Data, the fixed encoder, and the decoder that is to undo it.
    rng = np.random.default_rng(1)
    torch.manual_seed(1)
    batches = Shards(folder / "scenes", last=50).batches(batch_size, rng)
    codec = _codec(folder / "codec.safetensors", batches, rng).to(device)
    vae = build()
    install(codec.to("cpu"), vae)
    decoder = _decoder(vae, folder / "decoder.safetensors").to(device)
    decoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = {name: value.detach().clone() for name, value in decoder.state_dict().items()}
    kernels, rest = split(decoder)
    optimisers = [
        Muon(kernels, lr=3e-3),
        torch.optim.AdamW(rest, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    log = Log(folder / "autoencoder.csv", ("seconds", "step", "loss", "psnr"))
    start, step = time.monotonic(), 0
    bar = tqdm(total=round(minutes * 60), desc="autoencoder", unit="s")
    while (spent := time.monotonic() - start) < minutes * 60:
        # 2. One step.
        _set_rates(
            optimisers, min(1.0, (step + 1) / 50) * min(1.0, max(0.02, (1 - spent / (minutes * 60)) / 0.5))
        )
        loss, psnr = _loss(decoder, codec, _crop(pixels_of(next(batches), rng, device), crop, rng))
        loss.backward()
        torch.nn.utils.clip_grad_norm_(decoder.parameters(), 1.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        step += 1
        # 3. The running average is what ships.
        decay = min(0.995, (step + 1) / (step + 20))
        for name, value in decoder.state_dict().items():
            average[name].lerp_(value, 1 - decay)
        if step % 50 == 0:
            log.row(seconds=round(spent), step=step, loss=float(loss.detach()), psnr=psnr)
            bar.set_postfix(step=step, psnr=f"{psnr:.1f}")
        if step % 200 == 0:
            keep(average, folder / "decoder.safetensors")
        bar.update(round(spent) - bar.n)
    keep(average, folder / "decoder.safetensors")
    decoder.load_state_dict(average)
    vae.to("cpu").save_pretrained(folder / "embedded" / "vae")


def _codec(path: Path, batches: Iterator[Batch], rng: np.random.Generator) -> LinearCodec:
    """Latents are what later phases learn: once fitted, the encoder never changes."""
    if not path.exists():
        count, side = FITTED_ON
        pictures = [pixels_of(next(batches), rng, "cpu")[:, :, :side, :side] for _ in range(count)]
        save_codec(fit(torch.cat(pictures)), path)
    return load_codec(path)


def _decoder(vae: AutoencoderKL, kept: Path) -> torch.nn.Module:
    """The decoder as it was kept, or with its residual branches closed."""
    decoder: torch.nn.Module = vae.decoder
    if kept.exists():
        decoder.load_state_dict(load_file(kept))
        return decoder
    for name, parameter in decoder.named_parameters():
        if name.endswith("conv2.weight"):
            torch.nn.init.zeros_(parameter)
    return decoder


def _loss(decoder: torch.nn.Module, codec: LinearCodec, target: Tensor) -> tuple[Tensor, float]:
    with torch.no_grad():
        latents = codec.encode(target)
        noise = NOISE * torch.rand(len(latents), 1, 1, 1, device=latents.device)
        latents = latents + noise * torch.randn_like(latents)
    error = decoder(latents.contiguous(memory_format=torch.channels_last)) - target
    chroma = error - error.mean(1, keepdim=True)
    loss = error.abs().mean() + 4 * error.square().mean() + chroma.abs().mean()
    return loss, float(-10 * torch.log10(error.detach().square().mean() / 4))


def _set_rates(optimisers: list[torch.optim.Optimizer], rate: float) -> None:
    for optimiser in optimisers:
        for group in optimiser.param_groups:
            group["lr"] = group.setdefault("initial_lr", group["lr"]) * rate


def keep(weights: dict[str, Tensor], path: Path) -> None:
    """Write weights as they are."""
    save_file({name: value.contiguous() for name, value in weights.items()}, path)


def _crop(pixels: Tensor, size: int, rng: np.random.Generator) -> Tensor:
    top = 16 * int(rng.integers((pixels.shape[2] - size) // 16 + 1))
    left = 16 * int(rng.integers((pixels.shape[3] - size) // 16 + 1))
    return pixels[:, :, top : top + size, left : left + size]


def save_codec(codec: LinearCodec, path: Path) -> None:
    """Keep the codec for the phases that encode many pictures: it is far cheaper than the encoder that holds it."""
    tensors = {f"level{index}": level.contiguous() for index, level in enumerate(codec.levels)}
    save_file({**tensors, "mean": codec.mean, "spread": codec.spread}, path)


def load_codec(path: Path) -> LinearCodec:
    """Read what `save_codec` wrote."""
    tensors = load_file(path)
    levels = tuple(tensors[f"level{index}"] for index in range(len(tensors) - 2))
    return LinearCodec(levels, tensors["mean"], tensors["spread"])
