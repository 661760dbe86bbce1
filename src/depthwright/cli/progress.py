"""The progress of a generation on stderr: a bar by stage and step on a terminal, plain lines elsewhere."""

from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from depthwright.events import Event, StageFinished, StageStarted, StepFinished

TITLES = {
    "safety": "Safety",
    "depth": "Depth map",
    "text": "Prompt",
    "control": "Control latents",
    "denoise": "Denoising",
    "decode": "Decoding",
    "fidelity": "Fidelity",
}
PER_IMAGE = ("denoise", "decode", "fidelity")


class StageBars:
    """A bar for each stage while it is a context manager's body; whoever shows something adds the tasks."""

    def __init__(self, num_images: int, console: Console | None = None) -> None:
        self._console = console or Console(stderr=True)
        self._num_images = num_images
        self._tasks: dict[str, TaskID] = {}
        self._progress = Progress(
            TextColumn("{task.description:<16}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=self._console,
            disable=not self._console.is_terminal,
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def _rounds(self, stage: str) -> int:
        # The control image is looked at too.
        return self._num_images + 1 if stage == "safety" else self._num_images if stage in PER_IMAGE else 1


class GenerationProgress(StageBars):
    """Shows events as they come; use it as a context manager around them."""

    def show(self, event: Event) -> None:
        """Bring the display up to date with one event."""
        match event:
            case StageStarted(stage):
                if stage not in self._tasks:
                    self._tasks[stage] = self._progress.add_task(TITLES[stage], total=self._rounds(stage))
            case StepFinished(image=image, step=step, steps=steps):
                self._progress.update(
                    self._tasks["denoise"],
                    total=steps * self._num_images,
                    completed=image * steps + step + 1,
                )
            case StageFinished(stage, seconds):
                if stage != "denoise":
                    self._progress.advance(self._tasks[stage])
                if not self._console.is_terminal:
                    self._console.print(f"{TITLES[stage]}: {seconds:.1f} s", highlight=False)
