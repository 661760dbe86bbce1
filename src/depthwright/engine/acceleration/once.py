"""What was computed once and is asked for again: prompts' embeddings, depth maps, control latents.

Everything is kept under its whole content, so what is found equals what would be computed: no request sees another's.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Generic, TypeVar

from PIL import Image

from depthwright.provenance.pixels import pixel_hash

_Value = TypeVar("_Value")
_ORIENTATION = 0x0112


class Once(Generic[_Value]):
    """The values used last, `most` of them. Whoever calls holds the device's turn, so nobody else does meanwhile."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._held: OrderedDict[Hashable, _Value] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], _Value]) -> _Value:
        """The value kept under the key, or one that is made now."""
        if key not in self._held:
            self._held[key] = make()
            if len(self._held) > self._most:
                self._held.popitem(last=False)
        self._held.move_to_end(key)
        return self._held[key]

    def clear(self) -> None:
        """Let go of everything, as when memory is short."""
        self._held.clear()


def digest(image: Image.Image) -> Hashable:
    """What tells a picture from every other: its pixels, and what decides how they are read."""
    return pixel_hash(image), image.getexif().get(_ORIENTATION), image.info.get("transparency")
