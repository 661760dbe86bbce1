"""The command with an engine that does nothing: `python -m benchmarks.service_nothing serve`.

It yields a black picture and a black depth map through the engine's port, and writes down when it was entered and when
it left: lines of `seed entered left` in the file that BENCHMARK_LOG names, in nanoseconds of the monotonic clock, which
is one clock for all processes of a Linux machine. A prompt such as "nothing for 80 ms and for 20 ms" makes it wait so
long before and after its picture: a real engine measures the picture's depth once it is there.
"""

import os
import re
import sys
import time
from collections.abc import Generator, Sequence
from functools import lru_cache

from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.app import run
from depthwright.events import (
    DepthFinished,
    Event,
    Finished,
    ImageFinished,
    StageFinished,
    StageStarted,
    Started,
    StepFinished,
)
from depthwright.loras import LoraFile
from depthwright.parameters import GenerationParameters
from depthwright.result import Fidelity, GenerationResult, Origin
from depthwright.settings import Settings

LOG = "BENCHMARK_LOG"
COMMAND = (sys.executable, "-m", "benchmarks.service_nothing")
_WAIT = re.compile(r"for (\d+) ms")


class Nothing:
    """An engine by its port."""

    def __init__(self) -> None:
        self._log = os.open(os.environ[LOG], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def depth(self, image: Image.Image) -> Image.Image:
        """Black for every photo."""
        return Image.new("L", image.size)

    def stream(
        self,
        parameters: GenerationParameters,
        control_image: Image.Image | None = None,
        loras: Sequence[LoraFile] = (),
        *,
        checked: bool = True,
    ) -> Generator[Event, None, None]:
        """One stage, one step, no work."""
        entered = time.perf_counter_ns()
        del control_image, loras, checked
        seed = parameters.resolved_seed()
        picture, depth = _black(*parameters.size)
        origin = Origin(parameters, (seed,), "nothing", "nothing-000000000000", "nothing")
        yield Started(origin)
        yield DepthFinished(depth)
        yield StageStarted("denoise")
        before, after = (int(each) / 1000 for each in _WAIT.findall(parameters.prompt) or (0, 0))
        time.sleep(before)
        yield StepFinished(0, 1, 0, 1, picture.copy)
        yield StageFinished("denoise", 0.0)
        yield ImageFinished(0, picture)
        time.sleep(after)
        result = GenerationResult(
            images=(picture,),
            depth=depth,
            seed=seed,
            seeds=(seed,),
            seconds={"denoise": 0.0},
            fidelity=(Fidelity(rmse=0.0, residual_correlation=None),),
            parameters=parameters,
            profile="nothing",
            model_version="nothing-000000000000",
            origin=origin,
        )
        left = time.perf_counter_ns()
        os.write(self._log, f"{seed} {entered} {left}\n".encode())
        yield Finished(result)


@lru_cache
def _black(width: int, height: int) -> tuple[Image.Image, Image.Image]:
    return Image.new("RGB", (width, height)), Image.new("L", (width, height))


def _load(*_: object, **_choices: object) -> Nothing:
    return Nothing()


def main() -> None:
    """Run the command."""
    assembly = Assembly(Settings.from_environment(), load_engine=_load, worker_command=(*COMMAND, "worker"))
    sys.exit(run(sys.argv[1:], assembly))


if __name__ == "__main__":
    main()
