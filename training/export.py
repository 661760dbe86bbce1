"""Phase `export`: the trained parts become the files that ship, half-precision safetensors of at most 16 MiB each."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import CLIPTextModel, GLPNForDepthEstimation, T5EncoderModel

from training.render import render
from training.scenes import Camera, Scene, Thing

SHARD_SIZE = "14MB"
# float16 keeps three more bits of these small weights than bfloat16 does; nothing here comes near its range.
STORED = torch.float16

DEFAULT_CONTROL = Scene(
    things=(
        Thing("sphere", "red", False, -0.62, 3.7, 0.62, 1.24, 0.0),
        Thing("cube", "blue", False, 0.72, 4.6, 0.72, 1.15, 0.6),
        Thing("cone", "yellow", False, 0.05, 6.0, 0.70, 1.75, 0.0),
    ),
    floor="wood",
    wall="white",
    wall_z=7.6,
    side_walls=None,
    light="studio",
    sun_azimuth=-0.9,
    sun_elevation=0.95,
    camera=Camera(height=1.55, pitch=0.17, fov=0.80),
    seed=5,
)


def export(trained: Path, target: Path) -> None:
    """Write every part of the embedded model from `trained` (a run's folder) into `target`."""
    source = trained / "embedded"
    for name, kind in (
        ("transformer", FluxTransformer2DModel),
        ("vae", AutoencoderKL),
        ("text_encoder", CLIPTextModel),
        ("text_encoder_2", T5EncoderModel),
        ("depth_estimator", GLPNForDepthEstimation),
    ):
        shutil.rmtree(target / name, ignore_errors=True)
        part = kind.from_pretrained(source / name).to(STORED)
        part.save_pretrained(target / name, max_shard_size=SHARD_SIZE)
        _forget_place(target / name / "config.json")
    shutil.copy(source / "depth_estimator" / "preprocessor_config.json", target / "depth_estimator")
    _prefix(target / "text_encoder" / "model.safetensors", "text_model.")
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(source / name, target / name, dirs_exist_ok=True)
        _rename_backend(target / name / "tokenizer_config.json")
    lora = load_file(source / "control_lora.safetensors")
    lora = {name: value.to(STORED).contiguous() for name, value in lora.items()}
    save_file(lora, target / "control_lora.safetensors", metadata={"format": "pt"})
    scheduler().save_pretrained(target / "scheduler")


def _forget_place(path: Path) -> None:
    """Where a part was loaded from is no property of the model."""
    config = json.loads(path.read_text())
    config.pop("_name_or_path", None)
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def _prefix(path: Path, prefix: str) -> None:
    """CLIP's keys as FLUX's own files have them: newer transformers drop a prefix that older ones cannot do without."""
    tensors = {prefix + name.removeprefix(prefix): value for name, value in load_file(path).items()}
    save_file(tensors, path, metadata={"format": "pt"})


def _rename_backend(path: Path) -> None:
    """A tokenizer class that older transformers know too."""
    path.write_text(path.read_text().replace('"TokenizersBackend"', '"PreTrainedTokenizerFast"'))


def scheduler() -> FlowMatchEulerDiscreteScheduler:
    """FLUX's scheduler, its dynamic shift moved to our token counts: a shift of two at 64 tokens."""
    return FlowMatchEulerDiscreteScheduler(
        use_dynamic_shifting=True,
        base_image_seq_len=64,
        max_image_seq_len=256,
        base_shift=0.70,
        max_shift=1.15,
    )


def default_control(path: Path) -> None:
    """Draw the control image that is used where a request brings none: a depth map of our own scene."""
    depth = render(DEFAULT_CONTROL, 864, 1636).depth
    Image.fromarray((depth * 255).round().astype("uint8")).save(path, optimize=True)
