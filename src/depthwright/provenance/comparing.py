"""How far two pictures differ, in numbers and in a sentence."""

import math
from dataclasses import dataclass
from functools import reduce

from PIL import Image, ImageChops


@dataclass(frozen=True)
class Difference:
    """`different` is the share of pixels that differ at all, `largest` the greatest difference of one channel, of 255.

    `psnr` is in dB, infinite for equal pictures. Pictures of unlike size have no pixel in common.
    """

    equal: bool
    different: float
    largest: int
    psnr: float
    sizes: tuple[tuple[int, int], tuple[int, int]]

    @property
    def sentence(self) -> str:
        """All that, for people."""
        (width, height), (other_width, other_height) = self.sizes
        if self.equal:
            return "the two are equal to the pixel."
        if self.sizes[0] != self.sizes[1]:
            return f"one has {width} x {height} pixels, the other {other_width} x {other_height}."
        share = "under 0.01 %" if self.different < 0.0001 else f"{self.different:.2%}".replace("%", " %")
        return f"{share} of its pixels differ, by {self.largest} of 255 at most; PSNR {self.psnr:.1f} dB."


def compare(one: Image.Image, other: Image.Image) -> Difference:
    """Compare two pictures as RGB."""
    sizes = (one.size, other.size)
    if one.size != other.size:
        return Difference(equal=False, different=1.0, largest=255, psnr=0.0, sizes=sizes)
    channels = ImageChops.difference(one.convert("RGB"), other.convert("RGB")).split()
    # A pixel differs by its worst channel; noise is of all channels alike.
    worst = reduce(ImageChops.lighter, channels).histogram()
    squares = sum(count * value**2 for each in channels for value, count in enumerate(each.histogram()))
    pixels = one.width * one.height
    return Difference(
        equal=not squares,
        different=1 - worst[0] / pixels,
        largest=max(value for value, count in enumerate(worst) if count),
        psnr=10 * math.log10(255**2 * 3 * pixels / squares) if squares else math.inf,
        sizes=sizes,
    )
