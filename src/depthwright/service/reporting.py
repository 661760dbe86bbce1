"""What a worker tells about a prediction while it makes it: often enough to watch, seldom enough to cost nothing."""

import io
import time
from collections.abc import Callable
from typing import Any

from PIL import Image

from depthwright.events import Event, StageStarted, StepFinished
from depthwright.ports import Queue
from depthwright.prediction import Claim, Lost

WRITES_PER_SECOND = 4
PREVIEW_SECONDS = 1.0
PREVIEW_SIZE = (256, 256)


class Report:
    """The progress of one prediction."""

    def __init__(self, queue: Queue, claim: Claim, clock: Callable[[], float] = time.monotonic) -> None:
        self._queue = queue
        self._claim = claim
        self._clock = clock
        self._written = self._previewed = -float("inf")
        self._told: dict[str, Any] = {}

    def show(self, event: Event) -> None:
        """Tell an event. Raises Lost if the prediction is no longer ours, or is to be cancelled."""
        cancel, watched = self._queue.wishes(self._claim)
        if cancel:
            raise Lost
        match event:
            case StageStarted(stage):
                self._told["stage"] = stage
            case StepFinished(image=image, num_images=num_images, step=step, steps=steps):
                self._told |= {"image": image + 1, "num_images": num_images, "step": step + 1, "steps": steps}
            case _:
                return
        now = self._clock()
        if now - self._written < 1 / WRITES_PER_SECOND:
            return
        # A preview costs a decoding: only for what is written, and only while somebody watches.
        preview = None
        if watched and isinstance(event, StepFinished) and now - self._previewed >= PREVIEW_SECONDS:
            seen = event.preview()
            preview = thumbnail(seen) if seen else None
            self._previewed = now
        self._queue.progress(self._claim, self._told, preview)
        self._written = self._clock()


def thumbnail(image: Image.Image) -> bytes:
    """A picture as a small JPEG."""
    small = image.convert("RGB")
    small.thumbnail(PREVIEW_SIZE)
    with io.BytesIO() as file:
        small.save(file, "JPEG", quality=70)
        return file.getvalue()
