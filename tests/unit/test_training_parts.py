"""Parts of training by themselves: scenes in memory, the judge's features, what the command line plans."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

pytest.importorskip("tqdm")

from training import __main__ as command
from training import judge
from training.dataset import render_shards
from training.flow import Plan
from training.flow_data import FlowData


def letters(texts: Sequence[str]) -> tuple[Tensor, Tensor]:
    """Token ids of 16 letters, so that each caption has its own."""
    ids = torch.tensor([[ord(letter) for letter in text.ljust(16)[:16]] for text in texts])
    return ids, ids + 1


def test_scenes_that_come_later_stand_beside_those_there_and_keep_what_is_theirs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.dataset.FRAMES", {(32, 32): 1.0})
    render_shards(tmp_path / "all", 0, 2)
    early, late = sorted((tmp_path / "all").glob("*.npz"))
    (tmp_path / "some").mkdir()
    shutil.copy(early, tmp_path / "some")
    data = FlowData(tmp_path / "some", letters, "cpu")
    first = len(data)
    shutil.copy(late, tmp_path / "some")
    data.refresh()
    data.refresh()
    assert len(data) == 2 * first
    [later], [at_once] = data.frames.values(), FlowData(tmp_path / "all", letters, "cpu").frames.values()
    assert later.keys() == at_once.keys()
    assert all(torch.equal(later[name], at_once[name]) for name in at_once)


def test_the_judge_tells_pictures_as_a_whole_apart() -> None:
    torch.manual_seed(0)
    pictures = np.zeros((2, 64, 96, 3), np.uint8)
    pictures[1, ::8] = 255
    with torch.no_grad():
        features = judge.Judge().features(judge.prepare(pictures))
    assert features.shape == (2, 2 * sum(judge.WIDTHS))
    assert features.isfinite().all()
    assert float((features[0] - features[1]).abs().max()) > 0.01


@pytest.mark.parametrize(
    ("words", "steps"), [([], 150), (["--from-shipped"], 0), (["--from-shipped", "--binding", "40"], 40)]
)
def test_what_ships_is_not_asked_for_names_alone_again(
    words: list[str], steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plans: list[Plan] = []
    monkeypatch.setattr("sys.argv", ["training", "flow", "--folder", str(tmp_path), *words])
    monkeypatch.setattr(
        "training.parallel.launch", lambda _train, _workers, _folder, plan: plans.append(plan)
    )
    monkeypatch.setattr("training.shipped.unpack", lambda *_: None)
    for name in ("set_num_threads", "set_float32_matmul_precision"):
        monkeypatch.setattr(torch, name, lambda _value: None)
    command.main()
    assert [plan.binding for plan in plans] == [steps]
