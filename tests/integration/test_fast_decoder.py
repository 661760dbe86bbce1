"""The decoder with less to do: the same picture, borders and tiles included, and the reference untouched."""

from dataclasses import replace

import pytest
import torch
from diffusers.models.upsampling import Upsample2D

from depthwright.engine.acceleration.decoder import fast_decoders, fold_upsampling
from depthwright.engine.acceleration.levels import Decoding, Techniques, choose
from depthwright.engine.components import Components
from depthwright.engine.decode import decode
from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from depthwright.parameters import Size
from tests.support.tiny import Tiny

pytestmark = pytest.mark.usefixtures("one_thread")
FOLDED = Decoding(folded=True)


def with_folding(components: Components) -> Components:
    """The same models, `high` with upsampling folded and nothing else."""
    chosen = replace(components.chosen, levels={"none": Techniques(), "high": Techniques(decoding=FOLDED)})
    return replace(components, chosen=chosen, decoders=fast_decoders(chosen, components.vae))


@pytest.mark.parametrize(("inputs", "outputs", "height", "width"), [(8, 8, 5, 7), (8, 4, 1, 1), (3, 6, 2, 9)])
def test_a_folded_layer_says_what_the_two_say_of_any_size_at_the_borders_too(
    inputs: int, outputs: int, height: int, width: int
) -> None:
    torch.manual_seed(0)
    layer = Upsample2D(inputs, use_conv=True, out_channels=outputs)
    x = torch.randn(2, inputs, height, width)
    with torch.inference_mode():
        expected, folded = layer(x), fold_upsampling(layer)(x)
    assert folded.shape == (2, outputs, 2 * height, 2 * width)
    torch.testing.assert_close(folded, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("tiled", [False, True])
def test_pictures_are_the_same_but_for_rounding(tiled: bool) -> None:
    components = with_folding(Engine.load("embedded").components)
    render = Size(352, 192)
    latents = torch.randn(1, 66, 128, generator=torch.Generator().manual_seed(3))
    for vae in (components.vae, components.vae_of("high")):
        vae.use_tiling = tiled
    reference, fast = (decode(components, latents, render, level) for level in ("none", "high"))
    pairs = zip(reference.tobytes(), fast.tobytes(), strict=True)
    assert max(abs(one - other) for one, other in pairs) <= 1
    assert any("ConvTranspose2d" in str(type(each)) for each in components.vae_of("high").modules())


def test_what_is_not_folded_takes_no_memory_again(tiny: Tiny) -> None:
    components = with_folding(load_components(tiny.profile()))
    held = {each.data_ptr() for each in components.vae.parameters()}
    own = [name for name, each in components.vae_of("high").named_parameters() if each.data_ptr() not in held]
    assert own
    assert all(name.endswith("conv.weight") and ".upsamplers." in name for name in own)


def test_on_a_gpu_nothing_is_folded_and_the_chooser_says_so(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: (9, 0))
    chosen = choose(tiny.profile(dtype="bfloat16"), torch.device("cuda"), "never")
    assert not chosen.decodings
    assert any("stay two" in reason for reason in chosen.reasons)
