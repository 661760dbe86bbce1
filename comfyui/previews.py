"""When a picture in the making is worth showing."""

import math
import time
from collections.abc import Callable

from PIL import Image

# After a preview, the work goes on for at least so many times as long as the preview took.
_WORK_FOR_A_PREVIEW = 2


class Pace:
    """Lets previews take a third of the time at most.

    On a GPU each costs a fraction of a step, so every step has one; the embedded model's steps on a CPU are much
    quicker than a decoding.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = -math.inf

    def take(self, make: Callable[[], Image.Image | None]) -> Image.Image | None:
        """The preview, or None where the last one is too short a time ago."""
        began = self._clock()
        if began < self._next:
            return None
        picture = make()
        ended = self._clock()
        self._next = ended + _WORK_FOR_A_PREVIEW * (ended - began)
        return picture
