"""From the size that was asked for to the size that is rendered, and back to exactly that size. Pure arithmetic."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from depthwright.parameters import Size

Box = tuple[int, int, int, int]


@dataclass(frozen=True)
class Frame:
    """`wanted` is what the caller gets. The depth map is extended by its own edges to `canvas`, which has the shape of
    `render`, the size the model draws; the drawing is enlarged to the canvas and `box` cut out of it.

    Without a native area, canvas and render are one: the next multiple that the model can draw.
    """

    wanted: Size
    canvas: Size
    render: Size

    @property
    def box(self) -> Box:
        """The wanted picture inside the canvas: left, upper, right, lower."""
        left = (self.canvas.width - self.wanted.width) // 2
        upper = (self.canvas.height - self.wanted.height) // 2
        return left, upper, left + self.wanted.width, upper + self.wanted.height

    @property
    def render_box(self) -> Box:
        """What `box` is on the render itself, to the nearest pixel."""
        across, down = (r / c for r, c in zip(self.render, self.canvas, strict=True))
        left, upper, right, lower = self.box
        return round(left * across), round(upper * down), round(right * across), round(lower * down)


def frame(wanted: Size, multiple: int, native: Sequence[tuple[int, int]] = ()) -> Frame:
    """Choose what to render. `native` lists the sizes a small model was trained on: the nearest in aspect is taken."""
    if not native:
        canvas = Size(*(math.ceil(side / multiple) * multiple for side in wanted))
        return Frame(wanted, canvas, canvas)
    aspect = math.log(wanted.width / wanted.height)
    width, height = min(native, key=lambda size: abs(math.log(size[0] / size[1]) - aspect))
    # The canvas covers the wanted frame and keeps the render's aspect: nothing is ever stretched.
    scale = max(wanted.width / width, wanted.height / height)
    canvas = Size(max(wanted.width, round(width * scale)), max(wanted.height, round(height * scale)))
    return Frame(wanted, canvas, Size(width, height))
