"""The embedded model can be made again: every phase runs, goes on from its own checkpoint, and feeds the next."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("tqdm")

from safetensors.torch import load_file

from training import autoencoder, depth_estimator, flow, judge, words
from training.dataset import FRAMES, Shards, render_shards, scenes_of
from training.export import export
from training.linear_codec import fit, fold, install, unfold

BLINK = 0.02


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One tiny run of all phases, in order."""
    folder = tmp_path_factory.mktemp("run")
    torch.set_num_threads(1)  # several threads on a busy machine wait for each other longer than they work
    patch = pytest.MonkeyPatch()
    patch.setattr("training.dataset.FRAMES", {(64, 64): 1.0})
    patch.setattr("training.dataset.SHARD", 4)
    patch.setattr("training.autoencoder.FITTED_ON", (4, 64))
    patch.setattr("training.judge.FIRST_SHARD", 0)
    render_shards(folder / "scenes", 0, 2)
    render_shards(folder / "heldout", 9, 1)
    words.build(folder / "embedded")
    autoencoder.train(folder, minutes=BLINK, batch_size=2, crop=32)
    flow.train(folder, minutes=BLINK)
    depth_estimator.train(folder, minutes=BLINK, batch_size=2)
    judge.train(folder, folder / "judge.safetensors", minutes=BLINK, batch_size=2)
    export(folder, folder / "shipped")
    patch.undo()
    return folder


def test_every_phase_leaves_the_files_that_ship(run: Path) -> None:
    parts = {path.parent.name for path in (run / "shipped").rglob("*.safetensors")}
    assert parts == {"transformer", "vae", "text_encoder", "text_encoder_2", "depth_estimator", "shipped"}
    assert (run / "shipped" / "scheduler" / "scheduler_config.json").exists()


def test_a_phase_goes_on_from_its_checkpoint(run: Path) -> None:
    before = torch.load(run / "flow.pt", weights_only=True)["step"]
    flow.train(run, minutes=BLINK)
    assert torch.load(run / "flow.pt", weights_only=True)["step"] > before


def test_the_lora_is_keyed_as_the_real_one_with_biases_and_norms(run: Path) -> None:
    lora = load_file(run / "shipped" / "control_lora.safetensors")
    assert lora["transformer.x_embedder.lora_A.weight"].shape[1] == 256, (
        "latents and control latents side by side"
    )
    assert "transformer.transformer_blocks.0.attn.to_q.lora_B.bias" in lora
    assert "transformer.single_transformer_blocks.0.attn.norm_q.weight" in lora
    assert len({value.shape[0] for name, value in lora.items() if name.endswith("lora_A.weight")}) == 1


def test_folding_loses_nothing() -> None:
    pictures = torch.randn(2, 3, 8, 12)
    assert torch.equal(unfold(fold(pictures)), pictures)


def test_the_encoder_in_the_autoencoder_is_the_linear_codec() -> None:
    """The GroupNorm and SiLU tail must not bend the latents, whatever the picture's contrast."""
    pictures = torch.rand(8, 3, 64, 64) * 2 - 1
    codec = fit(pictures)
    vae = autoencoder.build()
    install(codec, vae)
    with torch.no_grad():
        for contrast in (0.1, 1.0):
            encoded = vae.encode(pictures * contrast).latent_dist.mode()
            assert (encoded - codec.encode(pictures * contrast)).abs().max() < 0.05


def test_a_scene_is_the_same_for_ever_given_its_seed() -> None:
    frame = next(iter(FRAMES))
    assert scenes_of(17, frame, 3) == scenes_of(17, frame, 5)[:3]


def test_a_mirrored_scene_is_told_mirrored(run: Path) -> None:
    shards = Shards(run / "scenes")
    batch = next(shards.batches(16, np.random.default_rng(0)))
    for scene, ids in zip(batch.scenes, batch.ids, strict=True):
        columns = np.nonzero(ids == 0)[1]
        if len(columns) > 40 and abs(scene.things[0].x) > 1:
            assert (columns.mean() > 31.5) == (scene.things[0].x > 0)
