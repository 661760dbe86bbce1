"""The command with an engine that obeys words in the prompt: `python -m tests.support.fake_server serve`.

fail: raises; bug: raises what nobody expects; crash: the process kills itself; hang: stops for good; slow: 0.05 s
a step; memory: out of memory at the first try.
"""

import os
import signal
import sys
import time
from collections.abc import Generator

from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.app import run
from depthwright.errors import DepthwrightError, OutOfMemory
from depthwright.events import Event
from depthwright.parameters import GenerationParameters
from depthwright.settings import Settings
from tests.support.fake_engine import FakeEngine


class ObedientEngine(FakeEngine):
    """A fake engine for a process of its own."""

    def __init__(self) -> None:
        super().__init__()
        self._tried: set[str] = set()

    def stream(
        self, parameters: GenerationParameters, control_image: Image.Image | None = None
    ) -> Generator[Event, None, None]:
        """Obey the prompt, else do as the fake engine does."""
        words = parameters.prompt.split()
        self.on_step = lambda _step: time.sleep(0.05 if "slow" in words else 0)
        for event in super().stream(parameters, control_image):
            if "fail" in words:
                raise DepthwrightError("The fake engine was told to fail.")
            if "bug" in words:
                raise ZeroDivisionError("a bug")
            if "memory" in words and parameters.prompt not in self._tried:
                self._tried.add(parameters.prompt)
                raise OutOfMemory("The accelerator has too little memory.")
            if "crash" in words:
                os.kill(os.getpid(), signal.SIGKILL)
            if "hang" in words:
                time.sleep(3600)
            yield event


def main() -> None:
    """Run the command."""
    engine = ObedientEngine()
    command = (sys.executable, "-m", "tests.support.fake_server", "worker")
    sys.exit(
        run(
            sys.argv[1:],
            Assembly(Settings.from_environment(), load_engine=engine.load, worker_command=command),
        )
    )


if __name__ == "__main__":
    main()
