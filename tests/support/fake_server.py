"""The command with an engine that obeys words in the prompt: `python -m tests.support.fake_server serve`.

fail: raises; objectionable: refuses as an image checker does; bug: raises what nobody expects; crash: the process
kills itself; hang: stops for good; slow: 0.05 s a step; memory: out of memory at the first try; die:POINT: the process
kills itself there, the first time that it gets there (a stage, `writing` in the middle of a picture's file,
`publishing` with a file safe on the disk).
"""

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path

from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.app import run
from depthwright.errors import DepthwrightError, OutOfMemory, Refused
from depthwright.events import Event, Finished, ImageFinished, StageStarted
from depthwright.loras import LoraFile
from depthwright.parameters import GenerationParameters
from depthwright.result import IMAGE
from depthwright.settings import Settings
from tests.support.fake_engine import FakeEngine


def _warning(event: Finished) -> Finished:
    return Finished(replace(event.result, warnings=("The fake engine was told to warn.",)))


class ObedientEngine(FakeEngine):
    """A fake engine for a process of its own."""

    def __init__(self, marks: Path) -> None:
        super().__init__()
        self._tried: set[str] = set()
        self._marks = marks

    def stream(
        self,
        parameters: GenerationParameters,
        control_image: Image.Image | None = None,
        loras: Sequence[LoraFile] = (),
        *,
        checked: bool = True,
    ) -> Generator[Event, None, None]:
        """Obey the prompt, else do as the fake engine does."""
        words = parameters.prompt.split()
        self.on_step = lambda _step: time.sleep(0.05 if "slow" in words else 0)
        for told in super().stream(parameters, control_image, loras, checked=checked):
            event = _warning(told) if "warn" in words and isinstance(told, Finished) else told
            if "objectionable" in words:
                raise Refused(IMAGE, "The fake checker was told to object.")
            if "fail" in words:
                raise DepthwrightError("The fake engine was told to fail.")
            if "bug" in words:
                raise ZeroDivisionError("a bug")
            if "memory" in words and parameters.prompt not in self._tried:
                self._tried.add(parameters.prompt)
                raise OutOfMemory("The accelerator has too little memory.")
            if "crash" in words:
                _die()
            self._die_once(words, event)
            if "hang" in words:
                time.sleep(3600)
            yield event

    def _die_once(self, words: list[str], event: Event) -> None:
        point = next((word.removeprefix("die:") for word in words if word.startswith("die:")), None)
        mark = self._marks / f"died-{point}"
        if point is None or mark.exists():
            return
        match event:
            case StageStarted(stage) if stage == point:
                mark.touch()
                _die()
            case ImageFinished() if point in ("writing", "publishing"):
                mark.touch()
                _die_at_the_next_file(half=point == "writing")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _die_at_the_next_file(*, half: bool) -> None:
    """Whoever makes a picture's file durable dies of it, with half of it written or with all of it safe."""
    fsync = os.fsync

    def deadly(handle: int) -> None:
        if Path(f"/proc/self/fd/{handle}").readlink().suffix != ".png":
            return fsync(handle)
        if half:
            os.ftruncate(handle, os.fstat(handle).st_size // 2)
        else:
            fsync(handle)
        return _die()

    os.fsync = deadly  # type: ignore[assignment]


def main() -> None:
    """Run the command."""
    settings = Settings.from_environment()
    engine = ObedientEngine(settings.data_dir)
    command = (sys.executable, "-m", "tests.support.fake_server", "worker")
    sys.exit(
        run(
            sys.argv[1:],
            Assembly(settings, load_engine=engine.load, worker_command=command),
        )
    )


if __name__ == "__main__":
    main()
