"""An engine without a model: it satisfies the port, and paints the seed."""

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
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
    Started,
    StepFinished,
)
from depthwright.loras import LoraFile
from depthwright.parameters import Compile, GenerationParameters
from depthwright.provenance.pixels import pixel_hash
from depthwright.result import NO_CHECKER, OFF_BY_REQUEST, Fidelity, GenerationResult, Origin, UsedLora
from depthwright.settings import Settings


class FakeEngine:
    """Remembers what it was asked; `on_step` may do harm at a step."""

    def __init__(
        self,
        on_step: Callable[[int], None] = lambda _step: None,
        objects: Callable[[int], bool] | None = None,
    ) -> None:
        self.on_step = on_step
        self.objects = objects
        self.parameters: GenerationParameters | None = None
        self.control: Image.Image | None = None
        self.loras: tuple[LoraFile, ...] = ()
        self.loaded_with: tuple[str, str | None, Mapping[str, Path]] | None = None
        self.cache_dir: Path | None = None
        self.compile: Compile | None = None
        self.unchecked: str | None = None
        self.policy_off: tuple[str, ...] = ()
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
        unchecked: str | None,
        policy_off: Collection[str],
    ) -> "FakeEngine":
        """Stands in for `load_engine`."""
        self.loaded_with = (profile, device, overrides)
        self.cache_dir, self.compile = cache_dir, compile_
        self.unchecked, self.policy_off = unchecked, tuple(policy_off)
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
        *,
        checked: bool = True,
    ) -> Generator[Event, None, None]:
        """The events of a real generation, without its work."""
        self.parameters, self.control, self.loras = parameters, control_image, tuple(loras)
        try:
            yield from self._events(parameters, self.objects if checked else None)
        except GeneratorExit:
            self.was_closed = True
            raise

    def depth(self, image: Image.Image) -> Image.Image:
        """Grey for every photo."""
        return Image.new("L", image.size, 128)

    def _events(
        self, parameters: GenerationParameters, objects: Callable[[int], bool] | None
    ) -> Generator[Event, None, None]:
        first = parameters.resolved_seed()
        seeds = tuple(first + number for number in range(parameters.num_images))
        flags = tuple(objects(number) for number in range(len(seeds))) if objects else ()
        pictures = tuple(
            Image.new("RGB", parameters.size, (0 if any(flags[number : number + 1]) else seed % 256, 0, 0))
            for number, seed in enumerate(seeds)
        )
        stages: tuple[Stage, ...] = ("depth", "text", "control", "denoise", "decode", "fidelity")
        loras = tuple(
            UsedLora(file.path.name, sha256(file.path.read_bytes()).hexdigest(), file.scale)
            for file in self.loras
        )
        control = None if self.control is None else pixel_hash(self.control)
        origin = Origin(
            parameters, seeds, "fake", "fake-123456789abc", "fake", loras=loras, control_sha256=control
        )
        yield Started(origin)
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
            yield ImageFinished(number, picture, flags[number] if flags else None)
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
            origin=origin,
            flagged=flags,
            image_checker="fake-checker" if objects else OFF_BY_REQUEST if self.objects else NO_CHECKER,
            prompt_policy="fake",
            loras=loras,
        )
        yield Finished(result)
