"""What is multiplied in fewer bits: near enough, never stale, the reference untouched, and only where it is faster.

The narrow blocks run on any processor here, on those without units for it only slowly.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from depthwright.engine.acceleration import levels
from depthwright.engine.acceleration.decoder import fast_decoders
from depthwright.engine.acceleration.levels import Chosen, Decoding, Precision, Techniques, choose
from depthwright.engine.acceleration.narrow import NarrowBlocks, narrow_blocks
from depthwright.engine.adapter import MergedAdapter
from depthwright.engine.components import Components
from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from tests.integration.test_acceleration import (
    RENDERS,
    SCALES,
    difference,
    drawn,
    in_random_order,
    latents,
    psnr,
)
from tests.integration.test_user_loras import applied, matrices, written
from tests.support.tiny import Tiny

pytestmark = pytest.mark.usefixtures("one_thread")

IN_BFLOAT16 = Decoding(precision="bfloat16")
CPU, CUDA = torch.device("cpu"), torch.device("cuda")
# How far latents of the toy model may be from the reference after four steps, relative.
NEAR: dict[Precision, float] = {"bfloat16": 0.02, "float8": 0.2}


def narrowed(components: Components, precision: Precision) -> Components:
    """The same models, `high` in this precision and without forecasts, whatever the hardware."""
    high = Techniques(fast_walk=True, blocks=precision, decoding=IN_BFLOAT16)
    chosen = replace(components.chosen, levels={**components.chosen.levels, "high": high})
    return replace(
        components,
        chosen=chosen,
        narrow=narrow_blocks(chosen, components.transformer, components.adapter),
        decoders=fast_decoders(chosen, components.vae),
    )


@pytest.mark.parametrize("precision", NEAR)
def test_narrow_blocks_say_nearly_what_diffusers_says_at_any_scale_and_size_in_any_order(
    tiny: Tiny, precision: Precision
) -> None:
    dtype = "bfloat16" if precision == "float8" else "float32"
    components = narrowed(load_components(tiny.profile(dtype=dtype)), precision)
    for scale, render in in_random_order():
        fast = latents(components, scale, render, "high")
        assert 0 < difference(fast, latents(components, scale, render, "none")) < NEAR[precision]


@pytest.mark.parametrize("precision", NEAR)
def test_narrow_blocks_are_the_same_to_the_bit_whatever_scales_came_before(
    tiny: Tiny, precision: Precision
) -> None:
    components = load_components(tiny.profile(dtype="bfloat16"))
    fresh: dict[float, Tensor] = {}
    for scale in SCALES:
        fresh[scale] = latents(narrowed(components, precision), scale, RENDERS[0], "high")
    used = narrowed(components, precision)
    for scale in (*reversed(SCALES), 1.5, *SCALES):
        if scale in fresh:
            assert torch.equal(latents(used, scale, RENDERS[0], "high"), fresh[scale])


def test_the_reference_is_untouched_by_narrow_blocks(tiny: Tiny) -> None:
    components = narrowed(load_components(tiny.profile()), "bfloat16")
    before = latents(components, 1.0, RENDERS[0], "none")
    latents(components, 1.0, RENDERS[0], "high")
    assert torch.equal(latents(components, 1.0, RENDERS[0], "none"), before)
    assert {each.dtype for each in components.transformer.parameters()} == {torch.float32}


def test_a_change_that_failed_half_way_is_made_again(tiny: Tiny, monkeypatch: pytest.MonkeyPatch) -> None:
    """Weights of two scales must never meet in one network."""
    components = load_components(tiny.profile())
    made: list[Tensor] = []

    def at_times(weight: Tensor) -> Tensor:
        made.append(weight)
        if len(made) in failing:
            raise MemoryError("no room for this one")
        return weight.to(torch.bfloat16)

    assert isinstance(components.adapter, MergedAdapter)
    narrow = NarrowBlocks(components.transformer, components.adapter, at_times)
    failing = {3}
    for scale in (0.0, 1.0):
        components.adapter.set_scale(scale)
        with pytest.raises(MemoryError):
            narrow.follow()
        narrow.follow()
        for block, source in zip(narrow.double, components.transformer.transformer_blocks, strict=True):
            assert torch.equal(block.ff.net[2].weight, source.ff.net[2].weight.bfloat16())
            assert torch.equal(block.attn.to_out[0].weight, source.attn.to_out[0].weight.bfloat16())
        failing = {len(made) + 3}
    count = len(made)
    narrow.follow()
    assert len(made) == count


def test_the_embedded_model_keeps_its_bound_in_bfloat16_and_the_decoder_alone_keeps_regulars() -> None:
    engine = Engine.load("embedded")
    narrow = Engine(narrowed(engine.components, "bfloat16"))
    for scale in SCALES:
        [reference] = drawn(engine, control_scale=scale, acceleration="none")
        [fast] = drawn(narrow, control_scale=scale, acceleration="high")
        assert psnr(fast, reference) >= 46
    decoder = replace(
        narrow.components.chosen,
        levels={**narrow.components.chosen.levels, "high": Techniques(decoding=IN_BFLOAT16)},
    )
    [decoded] = drawn(Engine(replace(narrow.components, chosen=decoder)), acceleration="high")
    [reference] = drawn(engine, acceleration="none")
    assert psnr(decoded, reference) >= 48


@pytest.mark.parametrize("units", [True, False])
def test_a_processor_multiplies_in_bfloat16_where_it_has_units_for_it(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, units: bool
) -> None:
    monkeypatch.setattr(levels, "multiplies_bfloat16", lambda _device: units)
    chosen = choose(tiny.profile(), CPU)
    for level in ("regular", "high"):
        assert chosen.levels[level].blocks == ("bfloat16" if units else None)
    assert chosen.levels["regular"].decoding == Decoding(folded=True, precision="bfloat16" if units else None)
    assert chosen.levels["none"] == Techniques()
    word = "has units for" if units else "no units for bfloat16"
    assert sum(word in reason for reason in chosen.reasons) == 2
    faithful = choose(tiny.profile(lower_precision=False), CPU)
    assert faithful.precisions == frozenset()
    assert faithful.decodings == {Decoding(folded=True)}
    assert any("as the profile says" in reason for reason in faithful.reasons)


def on_a_gpu(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], **changes: Any
) -> Chosen:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _device: capability)
    monkeypatch.setattr(levels, "missing_compiler", lambda _device: None)
    return choose(tiny.profile(**{"dtype": "bfloat16", **changes}), CUDA)


def test_a_gpu_multiplies_in_float8_where_it_has_units_and_blocks_are_compiled(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    for capability, precision in (((9, 0), "float8"), ((8, 9), "float8"), ((8, 0), None)):
        chosen = on_a_gpu(tiny, monkeypatch, capability)
        assert chosen.levels["high"].blocks == precision
        assert chosen.levels["regular"].blocks is None
        assert ("compute capability 8.9" in " ".join(chosen.reasons)) == (precision is None)
    assert on_a_gpu(tiny, monkeypatch, (9, 0)).levels["high"].names == (
        "fast walk",
        "compiled",
        "float8 blocks",
    )
    assert not on_a_gpu(tiny, monkeypatch, (9, 0), memory="fp8").precisions
    monkeypatch.setattr(levels, "missing_compiler", lambda _device: "as there is none")
    uncompiled = choose(tiny.profile(dtype="bfloat16"), CUDA)
    assert not uncompiled.precisions
    assert any("not compiled" in reason and "float8" in reason for reason in uncompiled.reasons)


def test_without_torchao_blocks_stay_in_bfloat16_and_the_chooser_says_how_to_get_it(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    chosen = on_a_gpu(tiny, monkeypatch, (9, 0))
    assert not chosen.precisions
    assert any("pip install 'depthwright[int8]'" in reason for reason in chosen.reasons)


def test_a_users_lora_reaches_narrow_blocks(tiny: Tiny, tmp_path: Path) -> None:
    components = narrowed(load_components(tiny.profile()), "bfloat16")
    style = applied(written(tmp_path, "ink", matrices(1)), 0.7)
    plain = latents(components, 1.0, RENDERS[0], "high")
    [narrow] = components.narrow.values()
    with torch.inference_mode():
        components.adapter.set_scale(1.0, [style])
        narrow.follow()
    for block, source in zip(narrow.double, components.transformer.transformer_blocks, strict=True):
        joined = block.attn.joined_projections["to_q", "to_k", "to_v"].weight
        assert torch.equal(joined[: len(joined) // 3], source.attn.to_q.weight.bfloat16())
        assert torch.equal(block.ff.net[2].weight, source.ff.net[2].weight.bfloat16())
    assert torch.equal(latents(components, 1.0, RENDERS[0], "high"), plain)
