"""The benchmark of FLUX's geometry runs end to end in small, and measures techniques that compute the same."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from benchmarks import geometry_run
from depthwright.engine.acceleration.compilation import missing_compiler

CPU = torch.device("cpu")
REFERENCE = "diffusers, live LoRA"


def ran(technique: str, folder: Path, kept: Path | None = None) -> tuple[dict[str, Any], Tensor]:
    velocity = folder / "velocity.pt"
    command = [
        sys.executable, "-m", "benchmarks.geometry_run", "--technique", technique, "--geometry", "small",
        "--width", "64", "--height", "96", "--steps", "3", "--device", "cpu", "--dtype", "float32",
        "--velocity", str(velocity),
    ]  # fmt: skip
    environment = os.environ | ({"TORCHINDUCTOR_CACHE_DIR": str(kept)} if kept else {})
    ended = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    return json.loads(ended.stdout.splitlines()[-1]), torch.load(velocity, weights_only=True)


@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], Tensor]:
    return ran(REFERENCE, tmp_path_factory.mktemp("reference"))


# Eight bits hold a weight to three binary digits: what comes out is near, and far from equal.
@pytest.mark.parametrize(
    ("technique", "most"),
    [
        ("diffusers, merged LoRA", 1e-4),
        ("fast walk", 1e-4),
        ("float8 blocks", 0.02),
        ("stored in fp8", 0.01),
    ],
)
def test_techniques_say_what_diffusers_says(
    technique: str, most: float, reference: tuple[dict[str, Any], Tensor], tmp_path: Path
) -> None:
    figures, velocity = ran(technique, tmp_path)
    assert float((velocity - reference[1]).norm() / reference[1].norm()) < most
    assert figures.keys() == reference[0].keys()
    assert all(value > 0 for name, value in figures.items() if name != "compiled_anew")
    assert figures["compiled_anew"] == 0
    assert figures["tflop"] == reference[0]["tflop"]


@pytest.mark.parametrize(("size", "tflop"), [((1024, 1024), 74.4), ((864, 1632), 103.1)])
def test_a_step_of_flux_is_counted_as_others_count_it(size: tuple[int, int], tflop: float) -> None:
    geometry = dict(geometry_run.GEOMETRIES["flux"])
    del geometry["rank"]
    tokens = geometry.pop("tokens")
    grid = (size[1] // geometry_run.PIXELS, size[0] // geometry_run.PIXELS)
    assert geometry_run.step_tflop(geometry, tokens, grid) == pytest.approx(tflop, abs=0.05)


@pytest.mark.skipif(missing_compiler(CPU) is not None, reason="no C++ compiler here: nothing can be compiled")
def test_a_second_process_compiles_nothing_that_the_first_one_kept(
    reference: tuple[dict[str, Any], Tensor], tmp_path: Path
) -> None:
    runs = [ran("compiled", tmp_path, kept=tmp_path / "kept") for _ in range(2)]
    assert runs[0][0]["compiled_anew"] > 0
    assert runs[1][0]["compiled_anew"] == 0
    assert torch.equal(runs[0][1], runs[1][1])
    assert float((runs[0][1] - reference[1]).norm() / reference[1].norm()) < 1e-4
