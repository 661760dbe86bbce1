"""Pictures go into ComfyUI's tensors and come back as they were."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from depthwright.errors import InvalidImage
from tests.comfyui.pack import Pack


def all_bytes() -> Image.Image:
    values = np.arange(256 * 3, dtype=np.int64).reshape(16, 16, 3) % 256
    return Image.fromarray(values.astype(np.uint8))


def test_every_byte_comes_back(pack: Pack) -> None:
    tensors: Any = pack.module("tensors")
    batch = tensors.to_batch([all_bytes()])
    assert (batch.shape, batch.dtype) == ((1, 16, 16, 3), torch.float32)
    assert tensors.to_pictures(batch)[0].tobytes() == all_bytes().tobytes()


def test_comfyui_saves_every_byte_as_it_was(pack: Pack) -> None:
    """Its node Save Image multiplies by 255 and cuts off."""
    batch = pack.module("tensors").to_batch([all_bytes()])
    saved = np.clip(255.0 * batch[0].numpy(), 0, 255).astype(np.uint8)
    assert saved.tobytes() == all_bytes().tobytes()


def test_a_depth_map_comes_back_grey(pack: Pack) -> None:
    tensors: Any = pack.module("tensors")
    (picture,) = tensors.to_pictures(tensors.to_batch([Image.linear_gradient("L")]))
    assert picture.mode == "L"
    assert picture.tobytes() == Image.linear_gradient("L").tobytes()


def test_alpha_is_left_out_and_values_out_of_range_are_cut(pack: Pack) -> None:
    batch = torch.tensor([2.0, -1.0, 0.5, 0.0]).expand(1, 8, 8, 4)
    (picture,) = pack.module("tensors").to_pictures(batch)
    assert (picture.mode, picture.getpixel((0, 0))) == ("RGB", (255, 0, 128))


@pytest.mark.parametrize("shape", [(8, 8, 3), (1, 8, 8, 2), (0, 8, 8, 3)])
def test_what_is_no_picture_is_told(pack: Pack, shape: tuple[int, ...]) -> None:
    with pytest.raises(InvalidImage, match="must be \\[B, H, W, 3\\]"):
        pack.module("tensors").to_pictures(torch.zeros(shape))


def test_pictures_of_different_sizes_make_no_batch(pack: Pack) -> None:
    with pytest.raises(InvalidImage, match=r"8\*8, 9\*9|9\*9, 8\*8"):
        pack.module("tensors").to_batch([Image.new("RGB", (8, 8)), Image.new("RGB", (9, 9))])


def test_the_engine_works_outside_of_comfyuis_inference_mode(pack: Pack) -> None:
    with torch.inference_mode(), pack.module("tensors").as_outside():
        assert not torch.ones(1).is_inference()
