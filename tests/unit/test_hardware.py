"""The kind of hardware that bytes depend on is told, and what it is quick at is asked of it."""

import pytest
import torch

from depthwright.engine.hardware import hardware, multiplies_bfloat16

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("capabilities", "quick"),
    [
        ({"avx2": True, "avx512_f": True, "avx512_bf16": False}, False),
        ({"avx512_bf16": True}, True),
        ({"amx_bf16": True}, True),
        ({"bf16": True}, True),
        ({}, False),
    ],
)
def test_a_processor_is_asked_whether_it_has_units_for_bfloat16_and_its_kind_says_so(
    capabilities: dict[str, bool], quick: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities, raising=False)
    assert multiplies_bfloat16(CPU) is quick
    told = hardware(CPU).split()
    assert told[0] == "cpu"
    assert torch.backends.cpu.get_cpu_capability() in told
    assert ("bfloat16" in told) is quick


def test_where_torch_cannot_tell_nothing_is_assumed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(torch.cpu, "get_capabilities", raising=False)
    assert not multiplies_bfloat16(CPU)
