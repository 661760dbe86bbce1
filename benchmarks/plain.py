"""The peer: the script that anybody would write with diffusers, on the embedded weights."""

from __future__ import annotations

import time
from typing import Any

from diffusers import FluxControlPipeline
from PIL import Image

from benchmarks.pictures import Asked
from depthwright.engine.loading import load_components
from depthwright.engine.profiles import load_profile
from depthwright.engine.sources import locate
from depthwright.parameters import Size

_PARTS = ("scheduler", "vae", "text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2", "transformer")


class Plain:
    """`FluxControlPipeline` with the control LoRA loaded by PEFT, at scale 1."""

    def __init__(self) -> None:
        profile = load_profile("embedded")
        parts = load_components(profile)
        self._length = profile.max_sequence_length
        self._pipeline: Any = FluxControlPipeline(**{name: getattr(parts, name) for name in _PARTS})
        lora = locate(profile, "control_lora")
        self._pipeline.load_lora_weights(lora.parent, weight_name=lora.name, adapter_name="depth")
        self._pipeline.set_adapters("depth", 1.0)
        self._pipeline.set_progress_bar_config(disable=True)

    def draw(self, picture: Asked, size: Size, steps: int, stages: dict[str, list[float]]) -> Image.Image:
        """One picture; the seconds before, in and after the steps are added to `stages`."""
        marks = [time.perf_counter()]

        def mark(_pipeline: Any, _step: int, _timestep: Any, told: dict[str, Any]) -> dict[str, Any]:
            marks.append(time.perf_counter())
            return told

        # The pipeline rounds down to its own multiple; what it draws is brought to the size.
        drawn: Image.Image = self._pipeline(
            prompt=picture.prompt,
            control_image=picture.depth.convert("RGB").resize(size),
            width=size.width,
            height=size.height,
            num_inference_steps=steps,
            guidance_scale=3.5,
            max_sequence_length=self._length,
            callback_on_step_end=mark,
        ).images[0]
        end = time.perf_counter()
        # The first step's own time is that of the others.
        step = (marks[-1] - marks[1]) / max(1, len(marks) - 2)
        for stage, seconds in (
            ("before", marks[1] - marks[0] - step),
            ("denoise", marks[-1] - marks[1] + step),
            ("after", end - marks[-1]),
        ):
            stages.setdefault(stage, []).append(seconds)
        return drawn.resize(size)
