"""The profiles for smaller cards compute what the large one computes, as far as their weights allow."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from depthwright.engine.components import Components
from depthwright.engine.loading import load_components
from depthwright.engine.text import encode_prompt
from depthwright.errors import EngineNotInstalled
from tests.support.tiny import JOINT, LENGTH, POOLED, TOKEN, Tiny

TOKENS = 6
SCALES = (0.0, 0.5, 1.0, 2.0)
EIGHT_BITS = ("fp8", "int8")


@torch.inference_mode()
def velocity(components: Components, scale: float) -> Tensor:
    generator = torch.Generator().manual_seed(3)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator).to(components.dtype)

    components.adapter.set_scale(scale)
    latents, control = draw(1, TOKENS, TOKEN), draw(1, TOKENS, TOKEN)
    positions = torch.zeros(TOKENS, 3)
    positions[:, 2] = torch.arange(TOKENS)
    output: Tensor = components.transformer(
        hidden_states=torch.cat((latents, control), 2) if components.adapter.uses_control else latents,
        timestep=torch.tensor([0.5]),
        guidance=torch.tensor([4.0]),
        encoder_hidden_states=draw(1, LENGTH, JOINT),
        pooled_projections=draw(1, POOLED),
        img_ids=positions,
        txt_ids=torch.zeros(LENGTH, 3),
        return_dict=False,
    )[0]
    return output.float()


def load(tiny: Tiny, memory: str, dtype: str) -> Components:
    return load_components(tiny.profile(memory=memory, dtype=dtype))


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Root mean square of the difference, as a share of what is compared with."""
    return float((ours - theirs).square().mean().sqrt() / theirs.square().mean().sqrt())


@pytest.fixture(scope="module")
def resident(tiny: Tiny) -> dict[str, Components]:
    return {dtype: load(tiny, "resident", dtype) for dtype in ("float32", "bfloat16")}


@pytest.mark.parametrize("scale", SCALES)
def test_offloaded_weights_give_what_resident_ones_give(
    scale: float, tiny: Tiny, resident: dict[str, Components]
) -> None:
    offloaded = velocity(load(tiny, "group_offload", "float32"), scale)
    assert difference(offloaded, velocity(resident["float32"], scale)) < (1e-5 if scale else 1e-12)


def test_offloaded_at_scale_zero_is_the_base_model_to_the_bit_whatever_ran_before(
    tiny: Tiny, resident: dict[str, Components]
) -> None:
    offloaded = load(tiny, "group_offload", "bfloat16")
    velocity(offloaded, 2.0)
    velocity(offloaded, 0.7)
    assert torch.equal(velocity(offloaded, 0.0), velocity(resident["bfloat16"], 0.0))


@pytest.mark.parametrize("scale", SCALES)
def test_eight_bits_stay_near_the_full_weights(
    scale: float, tiny: Tiny, resident: dict[str, Components]
) -> None:
    """A float8 is off by up to 1/16, an int8 by a 254th of its row's largest; the control's part is exact."""
    full = velocity(resident["float32"], scale)
    float8, int8 = (difference(velocity(load(tiny, memory, "float32"), scale), full) for memory in EIGHT_BITS)
    assert float8 < 0.1
    assert int8 < float8 / 2


@pytest.mark.parametrize("memory", EIGHT_BITS)
def test_eight_bits_at_scale_zero_leave_no_trace_of_the_control(memory: str, tiny: Tiny) -> None:
    used, fresh = load(tiny, memory, "bfloat16"), load(tiny, memory, "bfloat16")
    velocity(used, 2.0)
    assert torch.equal(velocity(used, 0.0), velocity(fresh, 0.0))


def test_eight_bits_hold_the_blocks_and_spare_norms_and_embeddings(tiny: Tiny) -> None:
    components = load(tiny, "fp8", "bfloat16")
    eight, full = torch.float8_e4m3fn, torch.bfloat16
    transformer: Any = components.transformer
    block = transformer.single_transformer_blocks[0]
    assert {module.weight.dtype for module in (block.attn.to_q, block.proj_mlp)} == {eight}
    spared = (block.attn.norm_q, block.norm.linear, transformer.x_embedder, transformer.proj_out)
    assert {module.weight.dtype for module in spared} == {full}
    t5 = components.text_encoder_2.encoder.block[0].layer[1].DenseReluDense
    assert (t5.wi.weight.dtype, t5.wo.weight.dtype) == (eight, full)


def test_int8_holds_the_blocks_and_spares_norms_and_embeddings(tiny: Tiny) -> None:
    components = load(tiny, "int8", "bfloat16")
    transformer: Any = components.transformer
    block = transformer.single_transformer_blocks[0]
    t5 = components.text_encoder_2.encoder.block[0].layer[1].DenseReluDense
    held = (block.attn.to_q, block.proj_mlp, t5.wi, t5.wo)
    assert all(module.weight.qdata.dtype == torch.int8 for module in held)
    spared = (block.attn.norm_q, block.norm.linear, transformer.x_embedder, transformer.proj_out)
    assert {type(module.weight) for module in spared} == {torch.nn.Parameter}


def test_without_torchao_an_int8_profile_says_what_to_install(
    tiny: Tiny, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torchao.quantization", None)
    with pytest.raises(EngineNotInstalled, match=r"depthwright\[int8\]"):
        load(tiny, "int8", "float32")


@pytest.mark.parametrize("memory", EIGHT_BITS)
def test_the_prompt_reads_nearly_the_same_in_eight_bits(
    memory: str, tiny: Tiny, resident: dict[str, Components]
) -> None:
    prompt = "a red cube on sand"
    eight = encode_prompt(load(tiny, memory, "bfloat16"), prompt)
    full = encode_prompt(resident["float32"], prompt)
    assert difference(eight.tokens.float(), full.tokens) < 0.1
    assert difference(eight.pooled.float(), full.pooled) < 0.05


@pytest.mark.parametrize("memory", [*EIGHT_BITS, "group_offload"])
def test_the_scale_acts_on_weights_that_are_cast_or_moved(memory: str, tiny: Tiny) -> None:
    components = load(tiny, memory, "bfloat16")
    half, whole = velocity(components, 0.5), velocity(components, 1.0)
    assert difference(half, whole) > 0.05
    assert torch.equal(velocity(components, 0.5), half)
