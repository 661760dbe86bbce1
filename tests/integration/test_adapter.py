"""The control LoRA acts as diffusers' does at every scale, and leaves no trace."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from depthwright.engine import adapter as adapter_module
from depthwright.engine.adapter import LiveAdapter, MergedAdapter
from depthwright.engine.lora import ControlLora, parse_lora, read_lora
from depthwright.errors import WeightsInvalid
from tests.support.adapting import adapted, bare_pipeline, forward, load
from tests.support.tiny import RANK, TOKEN, Tiny


@pytest.fixture(scope="module")
def reference(tiny: Tiny) -> dict[float, Tensor]:
    """What diffusers' own loader and scaling give, on the same weights."""
    pipeline = bare_pipeline(tiny)
    pipeline.load_lora_weights(tiny.folder, weight_name=tiny.lora.name, adapter_name="depth")
    outputs = {}
    for scale in (0.5, 1.0, 2.0):
        pipeline.set_adapters("depth", scale)
        outputs[scale] = forward(pipeline.transformer, control=True)
    return outputs


@pytest.mark.parametrize("kind", ["merged", "live"])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.0])
def test_a_scale_acts_as_in_diffusers(
    kind: str, scale: float, tiny: Tiny, reference: dict[float, Tensor]
) -> None:
    transformer, adapter = adapted(kind, tiny)
    adapter.set_scale(scale)
    ours = forward(transformer, control=True)
    assert (ours - reference[scale]).abs().max() < 1e-5 * reference[scale].abs().max()


@pytest.mark.parametrize("kind", ["merged", "live"])
def test_a_scale_of_zero_is_the_base_model_to_the_bit(kind: str, tiny: Tiny) -> None:
    """Norms included: the LoRA's replace the base's at any other scale."""
    transformer, adapter = adapted(kind, tiny)
    adapter.set_scale(1.0)
    assert not torch.equal(forward(transformer, control=True), forward(load(tiny), control=False))
    adapter.set_scale(0.0)
    assert not adapter.uses_control
    assert torch.equal(forward(transformer, control=False), forward(load(tiny), control=False))


@settings(max_examples=15, deadline=None)
@given(before=st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]), max_size=4), last=st.floats(0, 2))
def test_what_ran_before_leaves_no_trace_in_the_weights(before: list[float], last: float, tiny: Tiny) -> None:
    used, adapter = adapted("merged", tiny)
    for scale in before:
        adapter.set_scale(scale)
    adapter.set_scale(last)
    fresh, other = adapted("merged", tiny)
    other.set_scale(last)
    theirs = fresh.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in used.state_dict().items())


def test_both_key_styles_give_the_same_lora(tiny: Tiny) -> None:
    ours, theirs = read_lora(tiny.lora), read_lora(tiny.bfl_lora)
    assert ours.layers.keys() == theirs.layers.keys()
    assert ours.norms.keys() == theirs.norms.keys()
    for name, layer in ours.layers.items():
        other = theirs.layers[name]
        assert torch.equal(layer.down, other.down), name
        assert torch.equal(layer.up, other.up), name
        assert layer.bias is not None
        assert other.bias is not None
        assert torch.equal(layer.bias, other.bias), name


def test_alpha_over_rank_scales_a_layer(tiny: Tiny) -> None:
    lora = read_lora(tiny.lora)
    layer = lora.layers["x_embedder"]
    parsed = parse_lora(
        {
            "x_embedder.lora_A.weight": layer.down,
            "x_embedder.lora_B.weight": layer.up,
            "x_embedder.alpha": torch.tensor(layer.down.shape[0] / 2),
        },
        tiny.lora,
    )
    assert parsed.layers["x_embedder"].gain == 0.5


def test_a_depth_checkpoint_under_the_depth_lora_is_refused(tiny: Tiny) -> None:
    config = dict(load(tiny).config) | {"in_channels": 2 * TOKEN, "out_channels": TOKEN}
    depth_checkpoint = FluxTransformer2DModel.from_config(config)
    with pytest.raises(WeightsInvalid, match="belongs on the plain base"):
        MergedAdapter(depth_checkpoint, read_lora(tiny.lora))


def test_a_lora_of_another_shape_is_refused(tiny: Tiny) -> None:
    wider = FluxTransformer2DModel.from_config(dict(load(tiny).config) | {"num_attention_heads": 4})
    with pytest.raises(WeightsInvalid, match="does not fit"):
        MergedAdapter(wider, read_lora(tiny.lora))


def test_a_style_lora_is_no_control_lora(tiny: Tiny) -> None:
    with pytest.raises(WeightsInvalid, match="widen the image input"):
        parse_lora(
            {"proj_out.lora_A.weight": torch.ones(1, 2), "proj_out.lora_B.weight": torch.ones(2, 1)},
            tiny.lora,
        )


def test_a_lora_of_style_in_the_place_of_the_control_lora_is_named_as_such(tiny: Tiny) -> None:
    """It touches the image input too, but at the base's own width."""
    lora = read_lora(tiny.lora)
    layer = lora.layers["x_embedder"]
    narrow = replace(layer, down=layer.down[:, :TOKEN])
    with pytest.raises(WeightsInvalid, match="takes no control image"):
        MergedAdapter(load(tiny), ControlLora({**lora.layers, "x_embedder": narrow}, lora.norms))


@pytest.mark.parametrize("name", ["transformer_blocks.0", "transformer_blocks.7.attn.to_q", "nothing"])
def test_a_lora_for_a_layer_that_the_transformer_lacks_is_refused(name: str, tiny: Tiny) -> None:
    lora = read_lora(tiny.lora)
    with pytest.raises(WeightsInvalid, match=f"has no {name}"):
        MergedAdapter(load(tiny), ControlLora({**lora.layers, name: lora.layers["x_embedder"]}, lora.norms))


def test_a_norm_of_another_size_is_refused(tiny: Tiny) -> None:
    lora = read_lora(tiny.lora)
    norms = dict.fromkeys(lora.norms, torch.ones(3))
    with pytest.raises(WeightsInvalid, match="does not fit"):
        MergedAdapter(load(tiny), ControlLora(lora.layers, norms))


def test_the_live_adapter_never_writes_to_the_transformer(tiny: Tiny) -> None:
    transformer, adapter = adapted("live", tiny)
    before = {name: value.clone() for name, value in transformer.state_dict().items()}
    for scale in (1.0, 0.3, 0.0, 2.0):
        adapter.set_scale(scale)
        forward(transformer, control=scale > 0)
    assert all(torch.equal(value, before[name]) for name, value in transformer.state_dict().items())


@settings(max_examples=10, deadline=None)
@given(
    before=st.lists(st.sampled_from([0.0, 0.1, 0.7, 1.0, 2.0]), max_size=3),
    last=st.sampled_from([0.0, 0.4, 1.3]),
)
def test_what_ran_before_leaves_no_trace_in_what_comes_out(
    before: list[float], last: float, tiny: Tiny
) -> None:
    for kind in ("merged", "live"):
        used, adapter = adapted(kind, tiny)
        for scale in before:
            adapter.set_scale(scale)
            forward(used, control=scale > 0)
        adapter.set_scale(last)
        fresh, other = adapted(kind, tiny)
        other.set_scale(last)
        assert torch.equal(forward(used, control=last > 0), forward(fresh, control=last > 0))


def test_a_failure_half_way_through_a_change_of_scale_is_made_good_by_the_next(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer, adapter = adapted("merged", tiny)
    adapter.set_scale(1.0)
    whole = forward(transformer, control=True)
    calls = iter(range(1000))

    def exhausted(*args: Any) -> Tensor:
        if next(calls) == 5:
            raise torch.OutOfMemoryError("out of memory")
        return merged_weight(*args)

    merged_weight = adapter_module._merged_weight
    monkeypatch.setattr(adapter_module, "_merged_weight", exhausted)
    with pytest.raises(torch.OutOfMemoryError):
        adapter.set_scale(2.0)
    assert not adapter.uses_control
    adapter.set_scale(1.0)
    assert torch.equal(forward(transformer, control=True), whole)


@pytest.mark.parametrize("kind", ["merged", "live"])
def test_peft_s_own_scale_in_a_file_acts_as_in_diffusers(kind: str, tiny: Tiny, tmp_path: Path) -> None:
    """The file says alpha 6 at rank 3: everything it adds counts twice."""
    file = tmp_path / "scaled.safetensors"
    peft = {
        "r": RANK,
        "lora_alpha": 2 * RANK,
        "lora_bias": True,
        "target_modules": sorted(read_lora(tiny.lora).layers),
    }
    written = json.dumps({f"transformer.{name}": value for name, value in peft.items()})
    save_file(load_file(tiny.lora), file, metadata={"format": "pt", "lora_adapter_metadata": written})
    pipeline = bare_pipeline(tiny)
    pipeline.load_lora_weights(tmp_path, weight_name=file.name, adapter_name="depth")
    theirs = forward(pipeline.transformer, control=True)

    transformer, lora = load(tiny), read_lora(file)
    adapter: MergedAdapter | LiveAdapter = (
        MergedAdapter(transformer, lora)
        if kind == "merged"
        else LiveAdapter(transformer, lora, torch.device("cpu"), torch.float32)
    )
    adapter.set_scale(1.0)
    assert (forward(transformer, control=True) - theirs).abs().max() < 1e-5 * theirs.abs().max()
