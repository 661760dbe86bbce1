"""Depth Generate (Local): our engine makes the pictures in ComfyUI's process."""

import logging
from contextlib import closing
from pathlib import Path
from typing import Any

from PIL import Image

from depthwright.errors import WeightsMissing, echo
from depthwright.events import Finished, StepFinished
from depthwright.loras import LoraFile, check
from depthwright.parameters import GenerationParameters
from depthwright.ports import Engine
from depthwright.result import GenerationResult
from depthwright.settings import Settings

from .. import adapter, reports
from ..engines import EngineHandle
from ..previews import Pace
from ..tensors import as_outside, only_picture, to_batch
from ..widgets import GENERATION, fields, lora_files, loras, newness, verdict, widgets
from .load_engine import KIND

_LOG = logging.getLogger(__name__)
_KEEP, _UNLOAD = "keep", "unload"


class GenerateLocallyNode(adapter.Node):
    """Every parameter of a generation. It can be interrupted at every step."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its widgets and outputs, from the table of parameters."""
        return adapter.schema(
            "DepthwrightGenerateLocal",
            "Depth Generate (Local)",
            "A prompt and the depth of a control image become pictures, made in ComfyUI's own process.",
            inputs=[
                adapter.socket(KIND, "engine", "Which model makes them."),
                *widgets(GENERATION),
                lora_files(),
                adapter.picture(
                    "control_image",
                    "A photo or a ready depth map with near bright, one picture. Absent: our own example.",
                ),
                adapter.switch(
                    "previews",
                    "Whether steps show the picture in the making; together that takes a third of the time at most.",
                    default=True,
                ),
                adapter.choice(
                    "after_run",
                    "Whether the model stays in memory for the next run, or leaves it to ComfyUI's own models.",
                    (_KEEP, _UNLOAD),
                    _KEEP,
                ),
            ],
            outputs=[
                *reports.pictures_and_depth(),
                *reports.told(),
                adapter.gives("STRING", "model_version", "The weights that made them."),
            ],
        )

    @classmethod
    def validate_inputs(
        cls, prompt: str | None = None, size: str | None = None, loras: str | None = None
    ) -> bool | str:
        """What the form of a text tells; ComfyUI itself checks ranges and choices."""
        return verdict(Settings.from_environment().size_bounds, prompt, size, loras)

    @classmethod
    def fingerprint_inputs(cls, seed: int | None = None, **_others: Any) -> float | str:
        """A random seed makes another picture each time."""
        return newness(seed)

    @classmethod
    def execute(
        cls,
        engine: EngineHandle,
        loras: str = "",
        control_image: Any = None,
        previews: bool = True,
        after_run: str = _KEEP,
        **given: Any,
    ) -> Any:
        """Check, load, generate."""
        # 1. Everything that can be judged before a model is loaded.
        parameters = GenerationParameters.from_user(size_bounds=engine.settings.size_bounds, **fields(given))
        control = None if control_image is None else only_picture(control_image, "control_image")
        files = _lora_files(loras)
        # 2. Generate, step by step.
        try:
            result = _generated(engine.engine(), parameters, control, files, previews=previews)
        finally:
            if after_run == _UNLOAD:
                engine.unload()
        for warning in result.warnings:
            _LOG.warning("depthwright: %s", warning)
        # 3. The pictures, and what is told of them.
        return adapter.Output(
            to_batch(result.images),
            to_batch([result.depth]),
            reports.flags(result.flagged),
            result.seed,
            reports.timings(result.seconds),
            result.model_version,
        )


def _generated(
    engine: Engine,
    parameters: GenerationParameters,
    control: Image.Image | None,
    files: tuple[LoraFile, ...],
    *,
    previews: bool,
) -> GenerationResult:
    pace = Pace()
    with as_outside(), closing(engine.stream(parameters, control, files)) as events:
        for event in events:
            adapter.raise_if_interrupted()
            if isinstance(event, StepFinished):
                done = event.image * event.steps + event.step + 1
                preview = pace.take(event.preview) if previews else None
                adapter.show_progress(done, event.num_images * event.steps, preview)
            elif isinstance(event, Finished):
                return event.result
    raise RuntimeError("the engine ended without a result")


def _lora_files(lines: str) -> tuple[LoraFile, ...]:
    files = tuple(LoraFile(_lora_file(name), scale) for name, scale in loras(lines))
    check(files)
    return files


def _lora_file(name: str) -> Path:
    place = adapter.model_file("loras", name)
    if place is None:
        raise WeightsMissing(f"There is no LoRA {echo(name)} in ComfyUI's folder models/loras.")
    return place
