"""An engine without a model: it satisfies the port, and paints the seed."""

from collections.abc import Callable, Generator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path

from PIL import Image

from depthwright.assembly import Assembly
from depthwright.events import (
    DepthFinished,
    Event,
    Finished,
    ImageFinished,
    Stage,
    StageFinished,
    StageStarted,
    StepFinished,
)
from depthwright.loras import LoraFile
from depthwright.parameters import Compile, GenerationParameters
from depthwright.result import Fidelity, GenerationResult, UsedLora
from depthwright.settings import Settings


class FakeEngine:
    """Remembers what it was asked; `on_step` may do harm at a step."""

    def __init__(self, on_step: Callable[[int], None] = lambda _step: None) -> None:
        self.on_step = on_step
        self.parameters: GenerationParameters | None = None
        self.control: Image.Image | None = None
        self.loras: tuple[LoraFile, ...] = ()
        self.loaded_with: tuple[str, str | None, Mapping[str, Path]] | None = None
        self.cache_dir: Path | None = None
        self.compile: Compile | None = None
        self.steps_done = 0
        self.was_closed = False

    def load(
        self,
        profile: str,
        *,
        device: str | None,
        overrides: Mapping[str, Path],
        cache_dir: Path,
        compile_: Compile,
    ) -> "FakeEngine":
        """Stands in for `load_engine`."""
        self.loaded_with = (profile, device, overrides)
        self.cache_dir, self.compile = cache_dir, compile_
        return self

    def load_mapper(self, profile: str, *, device: str | None, overrides: Mapping[str, Path]) -> "FakeEngine":
        """Stands in for `load_mapper`."""
        self.loaded_with = (profile, device, overrides)
        return self

    def assembly(self, settings: Settings | None = None) -> Assembly:
        """The parts of a command, with this engine among them."""
        return Assembly(settings or Settings(), load_engine=self.load, load_mapper=self.load_mapper)

    def stream(
        self,
        parameters: GenerationParameters,
        control_image: Image.Image | None = None,
        loras: Sequence[LoraFile] = (),
    ) -> Generator[Event, None, None]:
        """The events of a real generation, without its work."""
        self.parameters, self.control, self.loras = parameters, control_image, tuple(loras)
        try:
            yield from self._events(parameters)
        except GeneratorExit:
            self.was_closed = True
            raise

    def depth(self, image: Image.Image) -> Image.Image:
        """Grey for every photo."""
        return Image.new("L", image.size, 128)

    def _events(self, parameters: GenerationParameters) -> Generator[Event, None, None]:
        first = parameters.resolved_seed()
        seeds = tuple(first + number for number in range(parameters.num_images))
        pictures = tuple(Image.new("RGB", parameters.size, (seed % 256, 0, 0)) for seed in seeds)
        stages: tuple[Stage, ...] = ("depth", "text", "control", "denoise", "decode", "fidelity")
        for stage in stages[:3]:
            yield from (StageStarted(stage), StageFinished(stage, 0.25))
        depth = Image.new("L", parameters.size, 128)
        yield DepthFinished(depth)
        for number, picture in enumerate(pictures):
            yield StageStarted("denoise")
            for step in range(parameters.num_inference_steps):
                self.on_step(step)
                self.steps_done += 1
                yield StepFinished(
                    number, parameters.num_images, step, parameters.num_inference_steps, picture.copy
                )
            yield StageFinished("denoise", 2.0)
            for stage in stages[4:]:
                yield from (StageStarted(stage), StageFinished(stage, 0.25))
            yield ImageFinished(number, picture)
        result = GenerationResult(
            images=pictures,
            depth=depth,
            seed=first,
            seeds=seeds,
            seconds=dict.fromkeys(stages, 0.5),
            fidelity=tuple(
                Fidelity(rmse=20.0 + number, residual_correlation=0.5) for number in range(len(seeds))
            ),
            parameters=parameters,
            profile="fake",
            model_version="fake-123456789abc",
            loras=tuple(
                UsedLora(file.path.name, sha256(file.path.read_bytes()).hexdigest(), file.scale)
                for file in self.loras
            ),
        )
        yield Finished(result)
