"""Black Forest Labs' files are read as diffusers' own converters read them, at FLUX's width and at any other."""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from diffusers.loaders.lora_conversion_utils import _convert_bfl_flux_control_lora_to_diffusers
from diffusers.loaders.single_file_utils import (
    convert_flux_transformer_checkpoint_to_diffusers,
    convert_ldm_vae_checkpoint,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor

from depthwright.engine.adapter import LiveAdapter
from depthwright.engine.bfl import lora_to_diffusers, transformer_config, transformer_to_diffusers
from depthwright.engine.bfl_vae import vae_config, vae_to_diffusers
from depthwright.engine.lora import parse_lora
from depthwright.errors import WeightsInvalid
from tests.support.bfl_writer import transformer_as_bfl, vae_as_bfl
from tests.support.tiny import Tiny

# diffusers' converters know one width and one depth; two columns are enough to tell rows apart.
WIDTH, HEAD, DOUBLE, SINGLE = 3072, 128, 19, 38
TOP = (
    "img_in", "txt_in", "time_in.in_layer", "time_in.out_layer", "vector_in.in_layer", "vector_in.out_layer",
    "guidance_in.in_layer", "guidance_in.out_layer",
)  # fmt: skip


def flux_modules(double: int = DOUBLE, single: int = SINGLE) -> Iterator[tuple[str, int]]:
    """Every module of FLUX and the rows of its matrix; of its gain, for a norm."""
    yield from ((name, WIDTH) for name in TOP)
    yield from (("final_layer.linear", 64), ("final_layer.adaLN_modulation.1", 2 * WIDTH))
    for block in (f"double_blocks.{index}" for index in range(double)):
        for side in ("img", "txt"):
            yield from ((f"{block}.{side}_mod.lin", 6 * WIDTH), (f"{block}.{side}_attn.qkv", 3 * WIDTH))
            yield from ((f"{block}.{side}_attn.proj", WIDTH), (f"{block}.{side}_mlp.0", 4 * WIDTH))
            yield f"{block}.{side}_mlp.2", WIDTH
            yield from ((f"{block}.{side}_attn.norm.{name}_norm", HEAD) for name in ("query", "key"))
    for block in (f"single_blocks.{index}" for index in range(single)):
        yield from (
            (f"{block}.modulation.lin", 3 * WIDTH),
            (f"{block}.linear1", 7 * WIDTH),
            (f"{block}.linear2", WIDTH),
        )
        yield from ((f"{block}.norm.{name}_norm", HEAD) for name in ("query", "key"))


def numbered(*shape: int, start: Iterator[int]) -> Tensor:
    """Values that no other tensor has, and that differ from row to row."""
    rows = torch.arange(shape[0], dtype=torch.float64) + 1e6 * next(start)
    return rows[:, None] + torch.arange(shape[1]) / 7 if len(shape) > 1 else rows


def assert_equal(ours: dict[str, Tensor], theirs: dict[str, Tensor]) -> None:
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if not torch.equal(ours[name], theirs[name])] == []


def test_a_transformer_of_flux_size_is_read_as_diffusers_reads_it() -> None:
    start = count(1)
    file: dict[str, Tensor] = {}
    for name, rows in flux_modules(double=2, single=2):
        if name.endswith("_norm"):
            file[f"{name}.scale"] = numbered(rows, start=start)
        else:
            file[f"{name}.weight"] = numbered(rows, 2, start=start)
            file[f"{name}.bias"] = numbered(rows, start=start)
    assert_equal(transformer_to_diffusers(file), convert_flux_transformer_checkpoint_to_diffusers(dict(file)))


def test_a_control_lora_of_flux_size_is_read_as_diffusers_reads_it() -> None:
    start = count(1)
    file: dict[str, Tensor] = {}
    for name, rows in flux_modules():
        if name.endswith("_norm"):
            file[f"{name}.scale"] = numbered(rows, start=start)
        else:
            file[f"{name}.lora_A.weight"] = numbered(2, 2, start=start)
            file[f"{name}.lora_B.weight"] = numbered(rows, 2, start=start)
            file[f"{name}.lora_B.bias"] = numbered(rows, start=start)
    theirs = {
        name.removeprefix("transformer."): tensor
        for name, tensor in _convert_bfl_flux_control_lora_to_diffusers(dict(file)).items()
    }
    # Where diffusers is wrong: see the next test.
    theirs["norm_out.linear.lora_A.weight"] = file["final_layer.adaLN_modulation.1.lora_A.weight"]
    assert_equal(lora_to_diffusers(file), theirs)


def test_the_last_modulation_gets_what_the_lora_adds_with_its_halves_exchanged(tiny: Tiny) -> None:
    """As (up @ down)'s; diffusers 0.42 exchanges the halves of `down` too, whose rows are ranks: another product."""
    file = load_file(tiny.bfl_lora)
    down, up = (file[f"final_layer.adaLN_modulation.1.lora_{letter}.weight"] for letter in "AB")
    shift, scale = (up @ down).chunk(2)
    ours = lora_to_diffusers(file)
    product = ours["norm_out.linear.lora_B.weight"] @ ours["norm_out.linear.lora_A.weight"]
    torch.testing.assert_close(product, torch.cat((scale, shift)))


def test_an_autoencoder_is_read_as_diffusers_reads_it(tiny: Tiny) -> None:
    file = load_file(tiny.single_vae)
    ours = vae_to_diffusers(file)
    assert_equal(ours, convert_ldm_vae_checkpoint(dict(file), vae_config(file)))
    assert_equal(ours, load_file(tiny.folder / "vae" / "diffusion_pytorch_model.safetensors"))


def test_a_transformer_of_any_size_is_read_back_as_it_was(tiny: Tiny) -> None:
    kept = load_file(tiny.folder / "transformer" / "diffusion_pytorch_model.safetensors")
    assert_equal(transformer_to_diffusers(load_file(tiny.bfl_transformer)), kept)


def test_comfyui_s_prefix_is_read_over(tiny: Tiny) -> None:
    file = load_file(tiny.bfl_transformer)
    prefixed = {f"model.diffusion_model.{name}": tensor for name, tensor in file.items()}
    assert_equal(transformer_to_diffusers(prefixed), transformer_to_diffusers(file))
    assert transformer_config(prefixed) == transformer_config(file)


FLUX = {
    "in_channels": 64,
    "out_channels": 64,
    "num_layers": DOUBLE,
    "num_single_layers": SINGLE,
    "attention_head_dim": HEAD,
    "num_attention_heads": 24,
    "joint_attention_dim": 4096,
    "pooled_projection_dim": 768,
    "guidance_embeds": True,
}
FLUX_VAE = {
    "in_channels": 3,
    "out_channels": 3,
    "latent_channels": 16,
    "block_out_channels": (128, 256, 512, 512),
    "down_block_types": ("DownEncoderBlock2D",) * 4,
    "up_block_types": ("UpDecoderBlock2D",) * 4,
    "layers_per_block": 2,
    "mid_block_add_attention": True,
    "use_quant_conv": False,
    "use_post_quant_conv": False,
    "norm_num_groups": 32,
    "scaling_factor": 0.3611,
    "shift_factor": 0.1159,
}


def without_memory(kind: Any, config: Mapping[str, Any]) -> Any:
    """A model of any size: its tensors have shapes alone."""
    with torch.device("meta"):
        return kind.from_config(config)


def shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}


def test_the_whole_of_flux_is_known_by_its_file() -> None:
    model = without_memory(FluxTransformer2DModel, FLUX)
    file = transformer_as_bfl(model.state_dict(), DOUBLE, SINGLE)
    assert transformer_config(file) == FLUX
    assert shapes(transformer_to_diffusers(file)) == shapes(model.state_dict())


def test_the_whole_of_flux_s_autoencoder_is_known_by_its_file() -> None:
    model = without_memory(AutoencoderKL, FLUX_VAE)
    file = vae_as_bfl(model.state_dict(), levels=4)
    assert vae_config(file) == FLUX_VAE
    assert shapes(vae_to_diffusers(file)) == shapes(model.state_dict())


def test_a_lora_of_the_published_geometry_fits_flux() -> None:
    """Rank 128 on every linear, twice the inputs at `img_in`, biases, and gains for every norm."""
    model = without_memory(FluxTransformer2DModel, FLUX)
    file: dict[str, Tensor] = {}
    for name, tensor in transformer_as_bfl(model.state_dict(), DOUBLE, SINGLE).items():
        module, _, kind = name.rpartition(".")
        if kind == "scale":
            file[name] = tensor
        elif kind == "weight":
            inputs = tensor.shape[1] * (2 if module == "img_in" else 1)
            file[f"{module}.lora_A.weight"] = tensor.new_empty(128, inputs)
            file[f"{module}.lora_B.weight"] = tensor.new_empty(tensor.shape[0], 128)
            file[f"{module}.lora_B.bias"] = tensor.new_empty(tensor.shape[0])
    lora = parse_lora(lora_to_diffusers(file), Path("lora.safetensors"))
    assert lora.layers.keys() == {n for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    assert lora.norms.keys() == {n for n, m in model.named_modules() if isinstance(m, torch.nn.RMSNorm)}
    LiveAdapter(model, lora, torch.device("meta"), torch.bfloat16).set_scale(1.0)


def test_the_sizes_of_an_autoencoder_are_read_off_its_tensors(tiny: Tiny) -> None:
    config = vae_config(load_file(tiny.single_vae))
    assert config["block_out_channels"] == (8, 8, 16, 16)
    assert config["layers_per_block"] == 1
    assert config["latent_channels"] == 4
    assert (config["scaling_factor"], config["shift_factor"]) == (0.3611, 0.1159)
    assert config["mid_block_add_attention"] is True
    assert config["use_quant_conv"] is False


def test_a_tensor_that_flux_does_not_have_is_named(tiny: Tiny) -> None:
    file = load_file(tiny.bfl_transformer) | {"double_blocks.0.img_attn.sage.weight": torch.zeros(2)}
    with pytest.raises(
        WeightsInvalid, match=r"double_blocks\.0\.img_attn\.sage\.weight is no tensor of a FLUX"
    ):
        transformer_to_diffusers(file)


@settings(max_examples=100, deadline=None)
@given(data=st.data())
def test_a_damaged_file_is_refused_and_never_crashes(data: st.DataObject, tiny: Tiny) -> None:
    file = load_file(tiny.bfl_transformer)
    for name in data.draw(st.lists(st.sampled_from(sorted(file)), min_size=1, max_size=3, unique=True)):
        if data.draw(st.booleans()):
            del file[name]
        else:
            file[name] = torch.zeros(data.draw(st.lists(st.integers(0, 4), max_size=3)))
    with suppress(WeightsInvalid):
        transformer_config(file)
    with suppress(WeightsInvalid):
        transformer_to_diffusers(file)
