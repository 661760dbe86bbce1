"""A control LoRA's file is read as PEFT means it, or refused in words."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from peft import LoraConfig
from peft.tuners.lora import Linear
from safetensors.torch import save_file
from torch import Tensor, nn

from depthwright.engine.lora import parse_lora, read_lora
from depthwright.errors import WeightsInvalid
from tests.support.tiny import Tiny

RANK, INPUTS, OUTPUTS = 4, 6, 5
FILE = Path("lora.safetensors")


def tensors(**extra: Tensor) -> dict[str, Tensor]:
    return {
        "transformer.x_embedder.lora_A.weight": torch.ones(RANK, INPUTS),
        "transformer.x_embedder.lora_B.weight": torch.ones(OUTPUTS, RANK),
        **{f"transformer.x_embedder.{name}": tensor for name, tensor in extra.items()},
    }


def metadata(**peft: object) -> dict[str, str]:
    written = {f"transformer.{name}": value for name, value in peft.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(written)}


def gain_in_peft(**config: object) -> float:
    layer = Linear(
        nn.Linear(INPUTS, OUTPUTS), adapter_name="depth", config=LoraConfig(r=RANK, **config), r=RANK
    )  # fmt: skip
    return float(layer.scaling["depth"])


def test_without_a_word_about_scale_a_layer_counts_as_it_is() -> None:
    assert parse_lora(tensors(), FILE).layers["x_embedder"].gain == 1


def test_an_alpha_tensor_scales_by_alpha_over_rank() -> None:
    assert parse_lora(tensors(alpha=torch.tensor(2.0)), FILE).layers["x_embedder"].gain == 2 / RANK


@pytest.mark.parametrize(
    ("peft", "gain"),
    [
        ({"lora_alpha": 8}, 8 / RANK),
        ({"lora_alpha": 8, "use_rslora": True}, 8 / RANK**0.5),
        ({"lora_alpha": 8, "alpha_pattern": {"x_embedder": 2}}, 2 / RANK),
        ({"lora_alpha": 8, "alpha_pattern": {"proj_out": 2}}, 8 / RANK),
        ({"lora_alpha": 8, "alpha_pattern": None}, 8 / RANK),
    ],
)
def test_peft_s_metadata_scales_a_layer(peft: dict[str, object], gain: float) -> None:
    assert parse_lora(tensors(), FILE, metadata(**peft)).layers["x_embedder"].gain == gain


def test_an_alpha_tensor_outranks_metadata() -> None:
    lora = parse_lora(tensors(alpha=torch.tensor(1.0)), FILE, metadata(lora_alpha=8))
    assert lora.layers["x_embedder"].gain == 1 / RANK


def test_metadata_travels_in_the_file(tmp_path: Path) -> None:
    save_file(tensors(), tmp_path / "lora.safetensors", metadata=metadata(lora_alpha=2))
    assert read_lora(tmp_path / "lora.safetensors").layers["x_embedder"].gain == 0.5


def test_metadata_of_other_writers_says_nothing() -> None:
    other = {"format": "pt", "ss_network_alpha": "1"}
    assert parse_lora(tensors(), FILE, other).layers["x_embedder"].gain == 1


def test_metadata_that_is_no_json_is_refused() -> None:
    with pytest.raises(WeightsInvalid, match="no JSON"):
        parse_lora(tensors(), FILE, {"lora_adapter_metadata": "{"})


@pytest.mark.parametrize("prefix", ["", "transformer.", "diffusion_model.", "base_model.model."])
def test_prefixes_of_other_writers_are_read_over(prefix: str) -> None:
    renamed = {prefix + name.removeprefix("transformer."): tensor for name, tensor in tensors().items()}
    assert parse_lora(renamed, FILE).layers.keys() == {"x_embedder"}


@pytest.mark.parametrize(
    ("extra", "told"),
    [
        ({"transformer.proj_out.lora_B.weight": torch.ones(2, 2)}, "proj_out.lora_B.weight has no place"),
        ({"transformer.proj_out.alpha": torch.tensor(1.0)}, "proj_out.alpha has no place"),
        ({"text_encoder.q_proj.lora_A.weight": torch.ones(2, 2)}, "lacks a lora_B"),
        ({"transformer.proj_out.lora_A.weight": torch.ones(2, 2)}, "proj_out lacks a lora_B"),
        ({"transformer.x_embedder.dora_scale": torch.ones(2)}, "dora_scale has no place"),
    ],
)
def test_a_tensor_that_belongs_to_no_layer_is_named(extra: dict[str, Tensor], told: str) -> None:
    with pytest.raises(WeightsInvalid, match=told):
        parse_lora({**tensors(), **extra}, FILE)


def test_norm_gains_of_both_key_styles_are_the_same(tiny: Tiny) -> None:
    ours, theirs = read_lora(tiny.lora), read_lora(tiny.bfl_lora)
    assert ours.norms.keys() == theirs.norms.keys()
    assert all(torch.equal(ours.norms[name], theirs.norms[name]) for name in ours.norms)
    assert len(ours.norms) == 2 * 4 + 2 * 2


shapes = st.lists(st.integers(0, 3), max_size=3)


@settings(max_examples=60, deadline=None)
@given(down=shapes, up=shapes)
def test_matrices_of_any_shape_are_read_or_refused(down: list[int], up: list[int]) -> None:
    odd = {"x_embedder.lora_A.weight": torch.zeros(down), "x_embedder.lora_B.weight": torch.zeros(up)}
    if len(down) == len(up) == 2 and down[0] == up[1]:
        assert parse_lora(odd, FILE).layers["x_embedder"].shape == (up[0], down[1])
    else:
        with pytest.raises(WeightsInvalid, match="broken"):
            parse_lora(odd, FILE)
