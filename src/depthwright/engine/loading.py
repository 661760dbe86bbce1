"""A profile becomes models in memory. One path for all: the embedded model loads by the very lines that load FLUX."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from transformers import (
    AutoImageProcessor,
    AutoModelForDepthEstimation,
    AutoTokenizer,
    CLIPTextModel,
    T5EncoderModel,
)

from depthwright.engine.acceleration.blocks import join_projections
from depthwright.engine.acceleration.compilation import compiled_blocks
from depthwright.engine.acceleration.decoder import fast_decoders
from depthwright.engine.acceleration.levels import choose
from depthwright.engine.acceleration.narrow import narrow_blocks
from depthwright.engine.acceleration.silent import leave_out_silent
from depthwright.engine.adapter import ControlAdapter, LiveAdapter, MergedAdapter
from depthwright.engine.components import Components
from depthwright.engine.depth import DepthEstimator
from depthwright.engine.lora import ControlLora, read_lora
from depthwright.engine.memory import memory_guard
from depthwright.engine.placing import choose_device, place, place_large
from depthwright.engine.profiles import Profile
from depthwright.engine.reading import read_folder, read_model, read_transformer, read_vae
from depthwright.engine.safety import load_image_checker, load_prompt_guard
from depthwright.engine.shelf import Shelf
from depthwright.engine.sources import locate, model_version
from depthwright.engine.together import Together
from depthwright.engine.together import check as check_gpus
from depthwright.engine.user_lora import UserLoras
from depthwright.errors import WeightsInvalid
from depthwright.parameters import Compile
from depthwright.result import NO_CHECKER, OFF_BY_OPERATOR


def load_components(
    profile: Profile,
    *,
    device: str | None = None,
    overrides: Mapping[str, Path] | None = None,
    cache_dir: Path | None = None,
    compile_: Compile = "auto",
    unchecked: str | None = None,
) -> Components:
    """Load every part of a profile; `overrides` takes parts from files or folders of this machine instead.

    `cache_dir` is a folder that remembers digests of weights. `unchecked` names the profile that may do without its
    image checker. Raises UncheckedProfile, WeightsMissing, WeightsInvalid, InvalidParameter or OutOfMemory.
    """
    profile = profile.with_overrides(overrides or {})
    where = choose_device(device)
    check_gpus(profile, where)
    dtype: torch.dtype = getattr(torch, profile.dtype)
    with memory_guard(f"loading {profile.name}"):
        # 1. The small parts first: what is missing is known before 24 GB are read.
        version = model_version(profile, cache_dir)
        checker, guard = load_image_checker(profile, where, unchecked), load_prompt_guard(profile, where)
        tokenizer = read_folder(profile, "tokenizer", AutoTokenizer)
        tokenizer_2 = read_folder(profile, "tokenizer_2", AutoTokenizer)
        scheduler = read_folder(profile, "scheduler", FlowMatchEulerDiscreteScheduler)
        # 2. Then model by model, each to its place before the next is read: main memory holds one at a time.
        together = Together(profile, where, partial(load_denoiser, profile)) if profile.gpus > 1 else None
        transformer, adapter = (
            (together.transformer, together.adapter) if together else load_denoiser(profile, where, compile_)
        )
        t5 = read_model(profile, "text_encoder_2", T5EncoderModel, dtype)
        text_encoder_2 = place_large(t5, profile.memory, where, dtype)
        text_encoder = place(read_model(profile, "text_encoder", CLIPTextModel, dtype), where)
        # Convolutions read their channels together: the autoencoder is a fifth faster on a CPU when they lie so.
        vae = place(read_vae(profile, dtype), where).to(memory_format=torch.channels_last)
        leave_out_silent(vae.encoder)
        depth_estimator = load_depth_estimator(profile, where)
        # 3. How each level of acceleration works here.
        chosen = choose(profile, where, compile_)
        compiled = compiled_blocks() if chosen.compiles else None
        narrow = narrow_blocks(chosen, transformer, adapter)
        decoders = fast_decoders(chosen, vae)
        # 4. What may leave the device where memory is short; what visits it block by block leaves by itself.
        resting = [text_encoder, depth_estimator.model]
        if profile.memory != "group_offload":
            resting.append(text_encoder_2)
    return Components(
        profile=profile,
        device=where,
        dtype=dtype,
        model_version=version,
        transformer=transformer,
        adapter=adapter,
        loras=UserLoras(transformer),
        vae=vae,
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        scheduler=scheduler,
        depth_estimator=depth_estimator,
        chosen=chosen,
        compiled=compiled,
        narrow=narrow,
        decoders=decoders,
        shelf=Shelf(resting, where),
        checker=checker,
        checking=checker.name if checker else OFF_BY_OPERATOR if profile.image_checker else NO_CHECKER,
        guard=guard,
        together=together,
    )


def load_denoiser(
    profile: Profile, device: torch.device, compile_: Compile = "auto"
) -> tuple[Any, ControlAdapter]:
    """The transformer and the control LoRA on it: merged where the weights lie still, else beside them."""
    dtype: torch.dtype = getattr(torch, profile.dtype)
    lora = read_lora(_single_file(locate(profile, "control_lora")))
    transformer = place_large(read_transformer(profile, dtype), profile.memory, device, dtype)
    if choose(profile, device, compile_).joined:
        join_projections(transformer)
    return transformer, _adapter(profile, transformer, lora, device, dtype)


def load_depth_estimator(profile: Profile, device: torch.device) -> DepthEstimator:
    """The depth estimator alone, always in float32: it is small. Raises WeightsMissing or WeightsInvalid."""
    processor = read_folder(profile, "depth_estimator", AutoImageProcessor)
    model = read_model(profile, "depth_estimator", AutoModelForDepthEstimation, torch.float32)
    model = place(model, device).to(memory_format=torch.channels_last)
    return DepthEstimator(model, processor, profile.depth_near)


def _adapter(
    profile: Profile, transformer: Any, lora: ControlLora, device: torch.device, dtype: torch.dtype
) -> ControlAdapter:
    if profile.memory == "resident":
        return MergedAdapter(transformer, lora)
    return LiveAdapter(transformer, lora, device, dtype)


def _single_file(place: Path) -> Path:
    """A LoRA may be named by its folder, if it is the only safetensors file there."""
    if place.is_file():
        return place
    candidates = sorted(place.glob("*.safetensors"))
    if len(candidates) != 1:
        raise WeightsInvalid(f"{place} holds {len(candidates)} safetensors files: name the control LoRA's.")
    return candidates[0]
