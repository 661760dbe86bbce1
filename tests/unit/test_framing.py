"""Exactly the requested size, never stretched."""

import math

from hypothesis import given
from hypothesis import strategies as st

from depthwright.engine.framing import frame
from depthwright.parameters import Size

SIDES = st.integers(16, 4096)
SIZES = st.builds(Size, SIDES, SIDES)
NATIVE = ((256, 256), (192, 352), (352, 192), (224, 288), (288, 224), (160, 416), (416, 160))


@given(size=SIZES)
def test_the_box_has_exactly_the_wanted_size_and_lies_in_the_canvas(size: Size) -> None:
    for native in ((), NATIVE):
        framed = frame(size, 16, native)
        left, upper, right, lower = framed.box
        assert (right - left, lower - upper) == size
        assert left >= 0
        assert upper >= 0
        assert right <= framed.canvas.width
        assert lower <= framed.canvas.height


@given(size=SIZES)
def test_the_box_on_the_render_is_the_same_part_of_it(size: Size) -> None:
    for native in ((), NATIVE):
        framed = frame(size, 16, native)
        sides = zip(framed.box, framed.render_box, (*framed.canvas,) * 2, (*framed.render,) * 2, strict=True)
        for on_canvas, on_render, canvas, render in sides:
            assert 0 <= on_render <= render
            assert abs(on_canvas / canvas - on_render / render) <= 0.5 / render + 1e-9


@given(size=SIZES)
def test_without_a_native_area_the_next_multiple_is_rendered_at_its_own_size(size: Size) -> None:
    framed = frame(size, 16)
    assert framed.render == framed.canvas
    assert all(0 <= side - wanted < 16 for side, wanted in zip(framed.render, size, strict=True))
    assert all(side % 16 == 0 for side in framed.render)


@given(size=SIZES)
def test_a_native_render_is_enlarged_alike_along_both_sides(size: Size) -> None:
    framed = frame(size, 32, NATIVE)
    assert tuple(framed.render) in NATIVE
    across, down = (c / r for c, r in zip(framed.canvas, framed.render, strict=True))
    rounding = 0.5 / min(framed.render) + 1e-9
    assert abs(across - down) <= rounding


@given(size=SIZES)
def test_no_trained_size_is_nearer_in_aspect_than_the_one_taken(size: Size) -> None:
    framed = frame(size, 32, NATIVE)

    def distance(width: int, height: int) -> float:
        return abs(math.log(width / height) - math.log(size.width / size.height))

    assert distance(*framed.render) == min(distance(*native) for native in NATIVE)


def test_the_contracts_default_is_cut_from_the_next_multiple_of_sixteen() -> None:
    framed = frame(Size(864, 1636), 16)
    assert framed.render == (864, 1648)
    assert framed.box == (0, 6, 864, 1642)
