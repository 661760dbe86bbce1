"""Enlarging with the depth map as guide: silhouettes as sharp as the map, nothing else changed."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from depthwright.engine.enlarge import enlarge
from depthwright.parameters import Size

SIDE, FACTOR = 64, 6
CANVAS = Size(SIDE * FACTOR, SIDE * FACTOR)
Floats = NDArray[np.float64]


@pytest.fixture
def scene() -> tuple[Floats, NDArray[np.float32]]:
    """A blue disc, near, on a striped orange ground, far: the truth at full size, and its depth."""
    rows, columns = np.mgrid[: CANVAS.height, : CANVAS.width] / CANVAS.width
    disc = (rows - 0.5) ** 2 + (columns - 0.45) ** 2 < 0.28**2
    stripes = 0.8 + 0.2 * np.sin(columns * 40)
    ground = np.stack((220 * stripes, 120 * stripes, 40 * stripes), axis=2)
    truth = np.where(disc[..., None], np.array([30.0, 60.0, 200.0]), ground)
    return truth, np.where(disc, 0.8, 0.2 + 0.1 * rows).astype(np.float32)


def small(truth: Floats) -> Image.Image:
    return Image.fromarray(truth.round().astype(np.uint8)).resize((SIDE, SIDE), Image.Resampling.BOX)


def error(picture: Image.Image, truth: Floats) -> float:
    return float(((np.asarray(picture, dtype=float) - truth) ** 2).mean())


def test_silhouettes_come_out_far_sharper_than_lanczos(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    truth, depth = scene
    guided = enlarge(small(truth), depth, CANVAS)
    plain = small(truth).resize(CANVAS, Image.Resampling.LANCZOS)
    assert guided.size == CANVAS
    assert error(guided, truth) < 0.35 * error(plain, truth)


def test_colours_come_from_inside_where_the_render_blurs_its_own_edges(
    scene: tuple[Floats, NDArray[np.float32]],
) -> None:
    """As a decoder of small latents does."""
    truth, depth = scene
    soft = small(truth).filter(ImageFilter.GaussianBlur(1.2))
    assert error(enlarge(soft, depth, CANVAS), truth) < 0.5 * error(
        soft.resize(CANVAS, Image.Resampling.LANCZOS), truth
    )


def test_an_edge_of_depth_is_as_sharp_in_the_picture(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    """Across the disc's left edge most of the change lies between two neighbours, as in the truth."""
    truth, depth = scene

    def steepest(picture: Image.Image) -> float:
        line = np.asarray(picture, dtype=float)[CANVAS.height // 2, : CANVAS.width // 3]
        steps = np.abs(np.diff(line, axis=0)).sum(axis=1)
        true_steps = np.abs(np.diff(truth[CANVAS.height // 2, : CANVAS.width // 3], axis=0)).sum(axis=1)
        return float(steps.max() / true_steps.max())

    assert steepest(enlarge(small(truth), depth, CANVAS)) > 0.8
    assert steepest(small(truth).resize(CANVAS, Image.Resampling.LANCZOS)) < 0.4


def test_no_halo_beyond_the_colours_that_are_there(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    truth, depth = scene
    guided = np.asarray(enlarge(small(truth), depth, CANVAS), dtype=float)
    for channel in range(3):
        assert guided[..., channel].min() > truth[..., channel].min() - 12
        assert guided[..., channel].max() < truth[..., channel].max() + 12


def test_where_depth_has_no_edges_the_picture_is_lanczos(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    truth, _ = scene
    flat = np.full((CANVAS.height, CANVAS.width), 0.4, dtype=np.float32)
    plain = small(truth).resize(CANVAS, Image.Resampling.LANCZOS)
    assert enlarge(small(truth), flat, CANVAS).tobytes() == plain.tobytes()


def test_a_map_of_noise_guides_nothing(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    """There is no surface whose inside could be asked."""
    truth, _ = scene
    noise = np.random.default_rng(0).random((CANVAS.height, CANVAS.width), dtype=np.float32)
    plain = small(truth).resize(CANVAS, Image.Resampling.LANCZOS)
    assert enlarge(small(truth), noise, CANVAS).tobytes() == plain.tobytes()


def test_faint_noise_on_the_map_leaves_its_silhouettes(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    truth, depth = scene
    noisy = depth + np.random.default_rng(0).normal(0, 0.008, depth.shape).astype(np.float32)
    plain = small(truth).resize(CANVAS, Image.Resampling.LANCZOS)
    assert error(enlarge(small(truth), noisy, CANVAS), truth) < 0.5 * error(plain, truth)


@pytest.mark.parametrize("side", [16, 40, 64, 65])
def test_a_canvas_may_be_smaller_than_the_render(side: int) -> None:
    depth = np.zeros((side, side), dtype=np.float32)
    depth[: side // 2] = 1
    assert enlarge(Image.new("RGB", (SIDE, SIDE), "red"), depth, Size(side, side)).size == (side, side)


def test_the_same_input_gives_the_same_bytes(scene: tuple[Floats, NDArray[np.float32]]) -> None:
    truth, depth = scene
    assert enlarge(small(truth), depth, CANVAS).tobytes() == enlarge(small(truth), depth, CANVAS).tobytes()
