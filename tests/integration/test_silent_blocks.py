"""Blocks that add nothing are left out of the encoder: the same latents to the last bit, and no other block touched."""

import pytest
import torch
from diffusers.models.resnet import ResnetBlock2D

from depthwright.engine.acceleration.silent import Shortcut, leave_out_silent
from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from depthwright.engine.reading import read_vae
from tests.support.tiny import Tiny

pytestmark = pytest.mark.usefixtures("one_thread")


def blocks(model: torch.nn.Module) -> int:
    return sum(isinstance(each, ResnetBlock2D) for each in model.modules())


@pytest.mark.parametrize(("height", "width"), [(256, 256), (192, 352), (16, 48)])
def test_the_embedded_encoder_gives_the_same_latents_without_any_of_its_blocks(
    height: int, width: int
) -> None:
    components = Engine.load("embedded").components
    whole = read_vae(components.profile, torch.float32).to(memory_format=torch.channels_last)
    assert blocks(whole.encoder) == 7
    assert blocks(components.vae.encoder) == 0
    pixels = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(height)) * 2 - 1
    with torch.inference_mode():
        expected, found = (vae.encode(pixels).latent_dist.parameters for vae in (whole, components.vae))
    assert torch.equal(expected, found)


def test_an_encoder_whose_blocks_speak_keeps_them(tiny: Tiny) -> None:
    assert blocks(load_components(tiny.profile()).vae.encoder) > 0


@pytest.mark.parametrize("speaks", ["conv2.weight", "conv2.bias"])
def test_one_number_that_is_not_zero_keeps_a_block(speaks: str) -> None:
    holder = torch.nn.Sequential(block := ResnetBlock2D(in_channels=8, groups=4, temb_channels=None))
    torch.nn.init.zeros_(block.conv2.weight)
    torch.nn.init.zeros_(block.conv2.bias)
    with torch.no_grad():
        block.get_parameter(speaks).view(-1)[-1] = 1e-30
    assert leave_out_silent(holder) == 0
    with torch.no_grad():
        block.get_parameter(speaks).zero_()
    assert leave_out_silent(holder) == 1
    assert isinstance(holder[0], Shortcut)
