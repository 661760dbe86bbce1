"""The command with an engine that obeys words in the prompt: `python -m tests.support.fake_server serve`.

fail: raises; bug: raises what nobody expects; crash: the process kills itself; hang: stops for good; slow: 0.05 s
a step; memory: out of memory at the first try; die:POINT: the process kills itself there, the first time that it gets
there (a stage, `writing` in the middle of a picture's file, `publishing` with all files written).
"""

import os
import signal
import sys
import time
from collections.abc import Generator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import IO, Any

from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.app import run
from depthwright.errors import DepthwrightError, OutOfMemory
from depthwright.events import Event, Finished, ImageFinished, StageStarted
from depthwright.loras import LoraFile
from depthwright.parameters import GenerationParameters
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
    ) -> Generator[Event, None, None]:
        """Obey the prompt, else do as the fake engine does."""
        words = parameters.prompt.split()
        self.on_step = lambda _step: time.sleep(0.05 if "slow" in words else 0)
        for told in super().stream(parameters, control_image, loras):
            event = _warning(told) if "warn" in words and isinstance(told, Finished) else told
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
            case ImageFinished(picture=picture) if point in ("writing", "publishing"):
                mark.touch()
                _deadly(picture, half=point == "writing")


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _deadly(picture: Image.Image, *, half: bool) -> None:
    """Whoever saves this picture dies of it, in the middle of the file or with all of it written."""
    save = picture.save

    def saved(file: IO[bytes], **options: Any) -> None:
        if half:
            file.write(b"half a picture")
        else:
            save(file, **options)
        file.flush()
        _die()

    picture.save = saved  # type: ignore[assignment, method-assign]


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
