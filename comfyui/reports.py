"""What is told beside the pictures, as text that other nodes can show or read."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from . import adapter

FLAGS = "For each picture, whether the image checker took it for unsafe, as JSON: such a picture is black."
TIMINGS = "Seconds by stage, as JSON."
SEED = "The seed of the first picture; picture i of the batch has seed + i."
DEPTH = "The depth map that all pictures follow: grey, near is bright."
IMAGES = "All pictures, in the order of their seeds."


def pictures_and_depth() -> list[Any]:
    """The outputs that every node with pictures begins with."""
    return [adapter.gives("IMAGE", "images", IMAGES), adapter.gives("IMAGE", "depth_map", DEPTH)]


def told() -> list[Any]:
    """The outputs that it ends with."""
    return [
        adapter.gives("STRING", "flags", FLAGS),
        adapter.gives("INT", "first_seed", SEED),
        adapter.gives("STRING", "timings", TIMINGS),
    ]


def flags(values: Sequence[bool]) -> str:
    """The flags as JSON."""
    return json.dumps(list(values))


def timings(seconds: Mapping[str, float]) -> str:
    """The seconds as JSON."""
    return json.dumps({stage: round(spent, 3) for stage, spent in seconds.items()})
