"""Control images of every kind become depth maps in 0..1, near bright, unstretched."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from depthwright.engine.depth import DepthEstimator, extend, fit, is_depth_map, prepare_depth, to_array
from depthwright.engine.framing import frame
from depthwright.parameters import Size


class Model:
    """A depth model that answers with the picture's red channel."""

    device, dtype = torch.device("cpu"), torch.float32

    def __call__(self, pixels: torch.Tensor) -> Any:
        return SimpleNamespace(predicted_depth=pixels[:, :, :, 0])


class Processor:
    """Puts the picture's values into the model's inputs."""

    def __call__(self, images: Image.Image, return_tensors: str) -> Any:
        assert return_tensors == "pt"
        pixels = torch.from_numpy(np.asarray(images, dtype=np.float32) / 255)[None]

        class Inputs(dict[str, torch.Tensor]):
            def to(self, *_place: Any) -> "Inputs":
                return self

        return Inputs(pixels=pixels)


def estimator(near: Any = "large") -> DepthEstimator:
    return DepthEstimator(Model(), Processor(), near)


def ramp(width: int = 64, height: int = 48) -> np.ndarray[Any, Any]:
    return np.tile(np.linspace(0, 255, width), (height, 1)).astype(np.uint8)


@pytest.mark.parametrize("mode", ["L", "LA", "I;16", "F", "1"])
def test_one_channel_is_a_depth_map(mode: str) -> None:
    assert is_depth_map(Image.new(mode, (8, 8)))


def test_a_grey_rgb_picture_is_a_depth_map_even_after_jpeg(tmp_path: Any) -> None:
    Image.fromarray(ramp()).convert("RGB").save(tmp_path / "grey.jpg", quality=40)
    assert is_depth_map(Image.open(tmp_path / "grey.jpg"))


def test_a_pale_photo_is_no_depth_map() -> None:
    pale = np.stack((ramp(), ramp(), ramp() * 0.9), axis=2).astype(np.uint8)
    assert not is_depth_map(Image.fromarray(pale))


def test_a_grey_photo_with_one_coloured_thing_is_no_depth_map() -> None:
    photo = np.stack((ramp(),) * 3, axis=2)
    photo[10:16, 20:28] = (220, 30, 30)
    assert not is_depth_map(Image.fromarray(photo))


def test_faint_noise_of_colour_leaves_a_depth_map_what_it_is() -> None:
    noise = np.random.default_rng(0).normal(0, 2, (300, 400, 3))
    grey = np.asarray(Image.fromarray(ramp()).resize((400, 300)), dtype=float)[..., None]
    assert is_depth_map(Image.fromarray((grey + noise).clip(0, 255).astype(np.uint8)))


def test_sixteen_bit_maps_keep_their_precision() -> None:
    fine = np.array([[30000, 30001]], dtype=np.uint16)
    values = to_array(Image.fromarray(fine))
    assert values[0, 1] > values[0, 0]
    assert values[0, 0] == pytest.approx(30000 / 65535)


def test_a_32_bit_picture_of_16_bit_values_is_read_as_such() -> None:
    """Pillow opens some 16-bit PNGs in mode I."""
    assert to_array(Image.fromarray(np.array([[65535, 0]], dtype=np.int32)))[0, 0] == 1


def test_what_is_not_a_number_is_far() -> None:
    values = to_array(Image.fromarray(np.array([[np.nan, 1.0]], dtype=np.float32)))
    assert values.tolist() == [[0.0, 1.0]]


@given(st.integers(1, 90), st.integers(1, 90), st.integers(1, 90), st.integers(1, 90))
def test_fitting_gives_exactly_the_size_within_bounds(width: int, height: int, to_w: int, to_h: int) -> None:
    depth = np.random.default_rng(0).random((height, width), dtype=np.float32)
    fitted = fit(depth, Size(to_w, to_h))
    assert fitted.shape == (to_h, to_w)
    assert fitted.min() >= 0
    assert fitted.max() <= 1


def test_fitting_crops_and_never_stretches() -> None:
    """A disc stays a disc."""
    rows, columns = np.mgrid[:200, :100]
    disc = ((rows - 100) ** 2 + (columns - 50) ** 2 < 30**2).astype(np.float32)
    inside = fit(disc, Size(80, 80)) > 0.5
    assert abs(int(inside.any(axis=0).sum()) - int(inside.any(axis=1).sum())) <= 1
    assert inside.any(axis=0).sum() == pytest.approx(60 * 0.8, abs=2)


@pytest.mark.parametrize("shape", [(1, 40_000), (40_000, 1), (2, 30_000), (1, 1)])
def test_the_thinnest_map_needs_no_more_memory_than_any(shape: tuple[int, int]) -> None:
    """Resized as a whole before it is cut, the second would have 100 billion pixels."""
    assert fit(np.full(shape, 0.5, dtype=np.float32), Size(864, 1636)).shape == (1636, 864)


def test_a_map_of_the_right_size_is_left_as_it_is() -> None:
    depth = np.random.default_rng(0).random((20, 30), dtype=np.float32)
    assert np.array_equal(fit(depth, Size(30, 20)), depth)
    assert np.array_equal(fit(depth, Size(25, 20)), depth[:, 2:27]), "cut, not blurred by half a pixel"


def test_shrinking_casts_no_halos() -> None:
    step = np.full((300, 300), 0.3, dtype=np.float32)
    step[:, 150:] = 0.7
    fitted = fit(step, Size(130, 130))
    assert fitted.min() >= 0.3 - 1e-6
    assert fitted.max() <= 0.7 + 1e-6


def test_the_canvas_repeats_the_edges() -> None:
    framed = frame(Size(30, 20), 16)
    depth = np.random.default_rng(1).random((20, 30), dtype=np.float32)
    grown = extend(depth, framed)
    left, upper, right, lower = framed.box
    assert grown.shape == (framed.canvas.height, framed.canvas.width)
    assert np.array_equal(grown[upper:lower, left:right], depth)
    assert np.array_equal(grown[0, left:right], depth[0])


@pytest.mark.parametrize(("near", "rising"), [("large", True), ("small", False)])
def test_near_is_bright_whichever_way_the_model_counts(near: str, rising: bool) -> None:
    seen = estimator(near).estimate(Image.fromarray(ramp()).convert("RGB"))
    assert (seen[0, -1] > seen[0, 0]) == rising
    assert seen.min() == pytest.approx(0, abs=1e-6)
    assert seen.max() == pytest.approx(1, abs=1e-6)


def test_a_flat_scene_divides_by_nothing() -> None:
    assert (estimator().estimate(Image.new("RGB", (9, 7), "red")) == 0.5).all()


@pytest.mark.parametrize("size", [(4000, 1), (1, 2000), (9, 300), (30, 10)])
def test_a_strip_is_squeezed_to_what_models_take_and_answered_at_its_own_size(size: tuple[int, int]) -> None:
    seen: list[tuple[int, int]] = []

    class Watching(Processor):
        def __call__(self, images: Image.Image, return_tensors: str) -> Any:
            seen.append(images.size)
            return super().__call__(images, return_tensors)

    answer = DepthEstimator(Model(), Watching(), "large").estimate(Image.new("RGB", size, "red"))
    assert answer.shape == size[::-1]
    assert max(seen[0]) <= 4 * min(seen[0])


def test_auto_reads_maps_and_estimates_photos() -> None:
    grey = Image.fromarray((ramp() // 2).astype(np.uint8))
    photo = Image.merge("RGB", (grey, Image.new("L", grey.size, 255), Image.new("L", grey.size, 0)))
    size = Size(*grey.size)
    assert prepare_depth(grey, "auto", size, estimator()).max() < 0.51, "a map is taken as it is"
    assert prepare_depth(photo, "auto", size, estimator()).max() == pytest.approx(1), (
        "a photo's depth is estimated"
    )
    assert prepare_depth(grey, "true", size, estimator()).max() == pytest.approx(1)
    assert prepare_depth(photo, "false", size, estimator()).max() < 1


def test_exif_orientation_is_honoured() -> None:
    picture = Image.fromarray(ramp(40, 20))
    picture.getexif()[0x0112] = 3
    picture.info["exif"] = picture.getexif().tobytes()
    turned = prepare_depth(picture, "false", Size(40, 20), estimator())
    assert turned[0, 0] > turned[0, -1]


def test_what_is_transparent_is_far() -> None:
    ghost = Image.new("RGBA", (4, 4), (255, 255, 255, 0))
    assert to_array(ghost).max() == 0
