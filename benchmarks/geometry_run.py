"""One technique on a FLUX of random weights, in a process of its own; prints one line of JSON.

Started by `benchmarks.flux_geometry`. Random weights have every cost of trained ones, and no picture.
"""

from __future__ import annotations

import argparse
import json
import resource
import statistics
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor, nn
from torch._dynamo.utils import counters
from torch.utils.flop_counter import FlopCounterMode

from depthwright.engine.acceleration.blocks import EAGER, join_projections
from depthwright.engine.acceleration.compilation import compiled_blocks
from depthwright.engine.acceleration.float8 import to_float8
from depthwright.engine.acceleration.forward import Conditions, FastWalk, PlainWalk
from depthwright.engine.acceleration.narrow import NarrowBlocks
from depthwright.engine.adapter import LiveAdapter, MergedAdapter
from depthwright.engine.lora import ControlLora, LoraLayer
from depthwright.engine.placing import place, place_large
from depthwright.engine.sampling import image_ids

# What FLUX.1-dev is made of, and the same in small; `tokens` are T5's.
GEOMETRIES: dict[str, dict[str, Any]] = {
    "flux": {
        "num_layers": 19, "num_single_layers": 38, "num_attention_heads": 24, "attention_head_dim": 128,
        "joint_attention_dim": 4096, "pooled_projection_dim": 768, "axes_dims_rope": (16, 56, 56),
        "rank": 128, "tokens": 512,
    },
    "small": {
        "num_layers": 2, "num_single_layers": 4, "num_attention_heads": 4, "attention_head_dim": 32,
        "joint_attention_dim": 128, "pooled_projection_dim": 64, "axes_dims_rope": (4, 14, 14),
        "rank": 8, "tokens": 64,
    },
}  # fmt: skip
CHANNELS, PIXELS = 64, 16


def main() -> None:
    """Build, walk, measure, tell."""
    options = _options()
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    if device.type == "cpu":
        torch.set_num_threads(options.threads)
    geometry = dict(GEOMETRIES[options.geometry])
    rank, tokens = geometry.pop("rank"), geometry.pop("tokens")
    rows, columns = options.height // PIXELS, options.width // PIXELS
    # 1. The same random weights whatever the technique.
    torch.manual_seed(0)
    transformer = _random(geometry, device, dtype)
    lora = _random_lora(transformer, rank, device, dtype)
    conditions, latents = _told(geometry, tokens, (rows, columns), options.steps, device, dtype)
    # 2. To the first step's end, compilation included: what a start adds to reading weights.
    with torch.inference_mode():
        started = _now(device)
        transformer, adapter = _placed(options.technique, transformer, lora, device, dtype)
        adapter.set_scale(1.0)
        walk = _walk(options.technique, transformer, adapter, conditions)
        velocity = walk.velocity(latents, 0)
        first = _now(device) - started
        # 3. Steps, and changes of the scale.
        step = _median(device, [partial(walk.velocity, latents, at) for at in range(1, options.steps)])
        change = _median(device, [partial(_change, adapter, walk, to) for to in (0.7, 1.3, 0.9)])
    # 4. Tell.
    torch.save(velocity.float().cpu(), options.velocity)
    sys.stdout.write(
        json.dumps(
            {
                "first_step_s": first,
                "step_s": step,
                "scale_change_s": change,
                "memory_gb": _peak_memory(device),
                "tflop": step_tflop(geometry, tokens, (rows, columns)),
                "matmul_tflop_s": _matmul(device, dtype),
                "compiled_anew": counters["inductor"]["fxgraph_cache_miss"],
            }
        )
        + "\n"
    )


def _random(geometry: dict[str, Any], device: torch.device, dtype: torch.dtype) -> Any:
    # The module's own `to`: diffusers' warns of a list of parts to keep in float32, which is empty for FLUX.
    transformer = nn.Module.to(_on_meta(geometry, CHANNELS), dtype).to_empty(device=device)
    with torch.no_grad():
        for name, parameter in transformer.named_parameters():
            # Norms keep their gain, everything else the spread that keeps activations in range.
            if "norm_" in name and parameter.ndim == 1 and ".linear." not in name:
                parameter.fill_(1)
            else:
                parameter.normal_(0, 0.02)
    return transformer.requires_grad_(requires_grad=False).eval()


def _on_meta(geometry: dict[str, Any], channels: int) -> Any:
    with torch.device("meta"):
        config = {"in_channels": channels, "out_channels": CHANNELS, "guidance_embeds": True}
        return FluxTransformer2DModel(**config, **geometry)


def _random_lora(transformer: Any, rank: int, device: torch.device, dtype: torch.dtype) -> ControlLora:
    """On every linear, the image input's twice as wide; and every norm of queries and keys."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype) * 0.01

    layers, norms = {}, {}
    for name, module in transformer.named_modules():
        if isinstance(module, nn.Linear):
            inputs = module.in_features * (2 if name == "x_embedder" else 1)
            layers[name] = LoraLayer(
                draw(rank, inputs), draw(module.out_features, rank), draw(module.out_features), 1.0
            )
        elif isinstance(module, nn.RMSNorm):
            norms[name] = torch.ones_like(module.weight)
    return ControlLora(layers, norms)


def _told(
    geometry: dict[str, Any],
    tokens: int,
    grid: tuple[int, int],
    steps: int,
    device: torch.device,
    dtype: torch.dtype,
) -> tuple[Conditions, Tensor]:
    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, device=device, dtype=dtype)

    latents = draw(1, grid[0] * grid[1], CHANNELS)
    conditions = Conditions(
        tokens=draw(1, tokens, geometry["joint_attention_dim"]),
        pooled=draw(1, geometry["pooled_projection_dim"]),
        text_ids=torch.zeros(tokens, 3, device=device, dtype=dtype),
        image_ids=image_ids(2 * grid[0], 2 * grid[1], latents),
        times=torch.linspace(1, 0.05, steps, device=device, dtype=dtype),
        guidance=torch.full((1,), 3.5, device=device),
        control=draw(1, grid[0] * grid[1], CHANNELS),
    )
    return conditions, latents


def _placed(
    technique: str, transformer: Any, lora: ControlLora, device: torch.device, dtype: torch.dtype
) -> tuple[Any, MergedAdapter | LiveAdapter]:
    if technique == "stored in fp8":
        transformer = place_large(transformer, "fp8", device, dtype)
        return transformer, LiveAdapter(transformer, lora, device, dtype)
    transformer = place(transformer, device)
    if technique == "diffusers, live LoRA":
        return transformer, LiveAdapter(transformer, lora, device, dtype)
    if technique in ("fast walk", "compiled", "float8 blocks"):
        join_projections(transformer)
    return transformer, MergedAdapter(transformer, lora)


def _walk(
    technique: str, transformer: Any, adapter: MergedAdapter | LiveAdapter, conditions: Conditions
) -> PlainWalk | FastWalk:
    if technique.startswith("diffusers"):
        return PlainWalk(transformer, conditions)
    narrow = None
    if technique == "float8 blocks" and isinstance(adapter, MergedAdapter):
        narrow = NarrowBlocks(transformer, adapter, to_float8)
    on_gpu = conditions.tokens.device.type == "cuda"
    compiled = technique == "compiled" or (narrow is not None and on_gpu)
    return FastWalk(transformer, conditions, blocks=compiled_blocks() if compiled else EAGER, narrow=narrow)


def _change(adapter: MergedAdapter | LiveAdapter, walk: PlainWalk | FastWalk, scale: float) -> None:
    """All that a change of the control scale costs once, before the next step."""
    adapter.set_scale(scale)
    if isinstance(walk, FastWalk):
        walk.follow()


def _median(device: torch.device, calls: list[Callable[[], object]]) -> float:
    seconds = []
    for call in calls:
        started = _now(device)
        call()
        seconds.append(_now(device) - started)
    return statistics.median(seconds)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _peak_memory(device: torch.device) -> float:
    """GB: of the device, or of this whole process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 1e9
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


def step_tflop(geometry: dict[str, Any], tokens: int, grid: tuple[int, int]) -> float:
    """What one step of the merged model multiplies and adds, counted by torch on tensors without memory."""
    meta = torch.device("meta")
    conditions, latents = _told(geometry, tokens, grid, 1, meta, torch.float32)
    transformer = _on_meta(geometry, 2 * CHANNELS)
    with FlopCounterMode(display=False) as counter:
        PlainWalk(transformer, conditions).velocity(latents, 0)
    return float(counter.get_total_flops()) / 1e12


def _matmul(device: torch.device, dtype: torch.dtype) -> float:
    """TFLOP/s of one large square product: what this device gives at best."""
    side = 8192 if device.type == "cuda" else 1024
    left, right = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    seconds = _median(device, [lambda: left @ right] * 9)
    return 2 * side**3 / seconds / 1e12


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--technique", required=True)
    parser.add_argument("--geometry", choices=GEOMETRIES, required=True)
    parser.add_argument("--width", type=int, required=True)
    parser.add_argument("--height", type=int, required=True)
    parser.add_argument("--steps", type=int, required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--dtype", required=True)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--velocity", type=Path, required=True)
    return parser.parse_args()


if __name__ == "__main__":
    main()
