"""The embedded model can be made again: every phase runs, goes on from its own checkpoint, and feeds the next."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("tqdm")

from diffusers import AutoencoderKL
from safetensors.torch import load_file
from transformers import AutoTokenizer

from training import __main__ as command
from training import (
    autoencoder,
    checkpoint,
    depth_estimator,
    flow,
    guide,
    judge,
    parallel,
    shipped,
    text,
    words,
)
from training.captions import caption, from_left
from training.dataset import FRAMES, Shards, render_shards, scenes_of
from training.export import export
from training.linear_codec import fit, fold, install, unfold
from training.model import EmbeddedModel
from training.muon import Muon
from training.pointing import colour_words
from training.render import RELIEF, render
from training.scenes import COLOURS, RELIEFS, STYLES, random_scene

BLINK = 0.02
EMBEDDED = Path(autoencoder.__file__).parents[1] / "src" / "depthwright" / "engine" / "embedded"
LORA = "control_lora.safetensors"
PLAN = flow.Plan(steps=3, decay=1, batch=4, binding=1)


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
    patch.setattr("training.text.CAPTIONS", 16)
    patch.setattr("training.text.HELD_OUT", 4)
    text.train(folder, 2)
    flow.train(folder, PLAN)
    guide.train(folder, PLAN)
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
    before = int(checkpoint.load(run / "flow")["progress"]["step"])
    flow.train(run, replace(PLAN, steps=4))
    assert int(checkpoint.load(run / "flow")["progress"]["step"]) == before + 1


def test_no_file_of_a_checkpoint_is_too_large_for_any_channel(run: Path) -> None:
    for phase in ("flow", "guide"):
        files = list((run / phase).iterdir())
        assert len(files) > 1
        assert max(path.stat().st_size for path in files) < 16 * 2**20


def test_the_losses_of_all_phases_are_plotted(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["training", "plot", "--folder", str(run)])
    command.main()
    assert (run / "losses.png").stat().st_size > 1000


def test_training_goes_on_from_the_model_that_ships(tmp_path: Path) -> None:
    """Taken apart and put together, it is the same model; words that are new leave those it knows alone."""
    shipped.unpack(EMBEDDED, tmp_path)
    model = EmbeddedModel(tmp_path / "embedded")
    shipped.load(model, EMBEDDED)
    model.save(tmp_path / "embedded")
    before, after = load_file(EMBEDDED / LORA), load_file(tmp_path / "embedded" / LORA)
    assert all(torch.equal(before[name].float(), after[name]) for name in before)
    text = "a shiny red cube left of a green ball on a wooden floor with a brick wall, in daylight"
    ours, theirs = (
        AutoTokenizer.from_pretrained(folder / "tokenizer_2")(text).input_ids
        for folder in (tmp_path / "embedded", EMBEDDED)
    )
    assert ours == theirs
    vae = AutoencoderKL.from_pretrained(EMBEDDED / "vae", torch_dtype=torch.float32)
    pictures = torch.rand(1, 3, 64, 64) * 2 - 1
    encoded = vae.encode(pictures).latent_dist.mode()
    assert (
        autoencoder.load_codec(tmp_path / "codec.safetensors").encode(pictures) - encoded
    ).abs().max() < 0.05


@pytest.mark.usefixtures("one_thread")
def test_text_teaches_a_colour_which_noun_it_belongs_to_and_flow_begins_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On captions that it never saw; naming all six shapes alike would cost 1.79."""
    monkeypatch.setattr(text, "CAPTIONS", 900)
    monkeypatch.setattr(text, "BATCH", 48)
    words.build(tmp_path / "embedded", onto=EMBEDDED)
    text.train(tmp_path, 80, EMBEDDED)
    learned = checkpoint.load(tmp_path / "text")["encoder"]
    model = flow.begin(tmp_path, flow.Plan(shipped=EMBEDDED)).model
    assert all(torch.equal(value, learned[name]) for name, value in model.text_encoder_2.state_dict().items())
    t5, places, shapes, _ = text.examples(model, 900)
    with torch.no_grad():
        states = model.text_encoder_2(t5).last_hidden_state
    index = places.clamp_min(0)[..., None].expand(-1, -1, states.shape[-1])
    seen, asked = ((places >= 0) & (torch.arange(900)[:, None] < 400) == told for told in (True, False))
    known, new = (states.gather(1, index)[which & (places >= 0)] for which in (seen, asked))
    names = torch.nn.functional.one_hot(shapes[seen & (places >= 0)]).float()
    readout = torch.linalg.lstsq(known, names).solution
    right = (new @ readout).argmax(1) == shapes[asked & (places >= 0)]
    assert right.float().mean() > 0.9


def test_two_processes_train_as_one(tmp_path: Path) -> None:
    parallel.launch(_meet, 2, tmp_path)
    first, second = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    assert torch.equal(first, second)
    assert not torch.equal(first, torch.zeros_like(first))


def _meet(folder: Path) -> None:
    """One process of two: its own gradients, the common step."""
    weights: list[torch.Tensor] = [torch.nn.Parameter(torch.zeros(4, 4)) for _ in range(3)]
    for index, weight in enumerate(weights):
        weight.grad = torch.randn(4, 4, generator=torch.Generator().manual_seed(10 * index + parallel.rank()))
    parallel.average_gradients(weights)
    Muon(weights, lr=1.0).step()
    torch.save(torch.stack(weights).detach(), folder / f"{parallel.rank()}.pt")


def test_guidance_of_one_is_the_caption_alone_and_more_goes_further_without_burning_out() -> None:
    noisy, with_words, without = torch.randn(3, 2, 16, 128).unbind(0)
    t = torch.tensor([0.9, 0.4])
    one, six = (guide.caption_weight(torch.full((2,), told), 1.0) for told in (1.0, 6.0))
    assert (six < guide.caption_weight(torch.full((2,), 6.0), 0.0)).all()
    told = guide.draw_guidance(500, "cpu")
    assert told.min() >= 1
    assert 15 < told.max() <= 30, "all that a request may ask for"
    assert guide.caption_weight(told, 1.0).max() == guide.caption_weight(torch.tensor([8.0]), 1.0)
    alone = guide.guided(noisy, with_words, without, t, one)
    assert torch.allclose(alone, with_words, atol=1e-5)
    pushed = guide.guided(noisy, with_words, without, t, six)
    away = with_words - without
    assert ((pushed - with_words) * away).sum() > 0
    unheld = torch.lerp(without, with_words, six[:, None, None])
    plain, held, free = (
        (noisy - t[:, None, None] * velocity).std() for velocity in (with_words, pushed, unheld)
    )
    assert held - plain < 0.5 * (free - plain)


def test_words_and_depth_tell_which_object_has_which_colour() -> None:
    """Objects in a row are named from left to right; another order needs a relation or shapes that all differ."""
    rng = np.random.default_rng(0)
    for _ in range(300):
        scene = random_scene(rng)
        text = caption(scene, rng)
        row = from_left(scene)
        places = [text.index(f"{thing.colour} ") for thing in row]
        related = any(
            f" {word} " in text for word in ("left of", "right of", "in front of", "behind", "between")
        )
        assert places == sorted(places) or related


def test_every_caption_fits_the_text_encoders(run: Path) -> None:
    model = EmbeddedModel(run / "embedded")
    rng = np.random.default_rng(1)
    texts = [caption(random_scene(rng), rng) for _ in range(500)]
    assert max(len(ids) for ids in model.tokenizer_2(texts).input_ids) <= words.T5_LENGTH
    assert max(len(ids) for ids in model.tokenizer(texts).input_ids) <= words.CLIP_LENGTH


@pytest.mark.parametrize("style", STYLES)
def test_a_style_changes_the_picture_and_not_its_depth(style: str) -> None:
    scene = replace(random_scene(np.random.default_rng(2)), style="plain")
    plain, styled = render(scene, 64, 64), render(replace(scene, style=style), 64, 64)
    assert np.array_equal(plain.depth, styled.depth)
    changed = np.abs(plain.rgb.astype(int) - styled.rgb).mean()
    assert changed == 0 if style == "plain" else changed > 10


@pytest.mark.parametrize("relief", RELIEFS)
def test_relief_stands_behind_every_object_and_before_the_sky(relief: str) -> None:
    rng = np.random.default_rng(3)
    scene = next(one for one in (random_scene(rng) for _ in range(99)) if one.relief)
    drawn = render(replace(scene, relief=relief), 96, 96)
    far = drawn.disparity[drawn.ids == RELIEF]
    assert far.size > 96
    assert (
        0
        < far.min()
        <= far.max()
        < min(drawn.disparity[drawn.ids == index].min() for index in np.unique(drawn.ids[drawn.ids >= 0]))
    )


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


def test_each_object_is_taught_to_look_at_the_word_of_its_colour(run: Path) -> None:
    model = EmbeddedModel(run / "embedded")
    captions = ["a red cube and a blue sphere on sand with a blue wall", ""]
    t5, _ = model.tokenise(captions)
    table = list(COLOURS)
    colours = torch.tensor([[table.index("red"), table.index("blue"), table.index("green"), -1]] * 2)
    words = colour_words(t5, colours, model.colour_ids)
    told = model.tokenizer_2.convert_ids_to_tokens(t5[0].tolist())
    assert [told[place].strip("▁") for place in words[0, :2]] == ["red", "blue"]
    assert words[0, 1] < len(told) - 1 - told[::-1].index(
        told[words[0, 1]]
    )  # the object's word, not the wall's
    assert words[0, 2:].tolist() == [-1, -1]
    assert words[1].tolist() == [-1] * 4


def test_where_heads_point_is_learned_from_its_loss_alone(run: Path) -> None:
    """The gradient reaches queries and keys; what listens to nobody keeps nothing."""
    torch.manual_seed(0)
    model = EmbeddedModel(run / "embedded")
    t5, clip = model.tokenise(["a red cube and a blue sphere on sand"])
    words = colour_words(
        t5,
        torch.tensor([[list(COLOURS).index("red"), list(COLOURS).index("blue"), -1, -1]]),
        model.colour_ids,
    )
    shares = torch.zeros(1, 4, 16)
    shares[0, 0, :8], shares[0, 1, 8:] = 1, 1
    tokens = torch.randn(1, 16, 128)
    told = (torch.tensor([0.9]), (t5, clip), torch.tensor([3.5]), (4, 4), 1.0)
    optimiser = torch.optim.Adam(model.transformer.single_transformer_blocks.parameters(), lr=3e-3)
    losses = []
    for _ in range(25):
        model.pointing.listen(True)
        model.velocity(tokens, tokens, *told)
        loss = model.pointing.loss(words, shares, t5.shape[1])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    # Below what picking either colour gives, ln 2: each object finds its own.
    assert losses[0] > 2
    assert losses[-1] < 0.3
    model.pointing.listen(False)
    model.velocity(tokens, tokens, *told)
    assert not model.pointing._seen


def test_blocks_that_were_compiled_while_nobody_listened_point_all_the_same(run: Path) -> None:
    model = EmbeddedModel(run / "embedded")
    model.transformer.compile_repeated_blocks(backend="eager")
    t5, clip = model.tokenise(["a red cube on sand"])
    words = colour_words(t5, torch.tensor([[list(COLOURS).index("red"), -1, -1, -1]]), model.colour_ids)
    tokens, shares = torch.randn(1, 16, 128), torch.ones(1, 4, 16)
    for listens in (False, True):
        model.pointing.listen(listens)
        model.velocity(tokens, tokens, torch.tensor([0.9]), (t5, clip), torch.tensor([3.5]), (4, 4), 1.0)
    assert model.pointing.loss(words, shares, t5.shape[1]).item() > 0


def test_before_guidance_is_taught_it_changes_nothing_whatever_is_told(run: Path) -> None:
    model = EmbeddedModel(run / "embedded")
    model.load_state_dict(checkpoint.load(run / "flow")["average"])
    for layer in ("linear_1", "linear_2"):
        getattr(model.transformer.time_text_embed.guidance_embedder, layer).lora_B.data.normal_()
    words, tokens = model.tokenise(["a red cube on sand"]), torch.randn(1, 16, 128)

    def said(guidance: float, scale: float) -> torch.Tensor:
        told = (torch.tensor([0.9]), words, torch.tensor([guidance]), (4, 4), scale)
        with torch.no_grad():
            return model.velocity(tokens, tokens, *told)

    embedder, proj = (
        getattr(model.transformer.time_text_embed, name) for name in ("guidance_embedder", "time_proj")
    )

    def embedded(scale: float) -> torch.Tensor:
        model.scale.set(scale, tokens.device)
        with torch.no_grad():
            made: torch.Tensor = embedder(proj(torch.linspace(1, 8, 200) * 1000)).mean(0)
        return made

    assert not torch.equal(said(30, 1.0), said(1, 1.0))
    before = {scale: embedded(scale) for scale in (0.0, 1.0)}
    guide.make_deaf(model)
    for scale in (0.0, 0.5, 1.0):
        assert torch.equal(said(30, scale), said(1, scale))
    for scale, usual in before.items():
        assert torch.allclose(embedded(scale), usual, atol=1e-5), "what it made of usual guidance stays"
    model.scale.set(0.0, tokens.device)
    hidden = embedder.act(embedder.linear_1(proj(torch.tensor([1000.0, 3500.0]))))
    assert float((hidden[0] - hidden[1]).abs().mean().detach()) > 0.05, "it can be taught"


def test_in_bfloat16_words_are_found_by_nearly_the_same_loss(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """States come in bfloat16 there, and are asked for their words in float32."""
    torch.manual_seed(0)
    model = EmbeddedModel(run / "embedded")
    t5, clip = model.tokenise(["a red cube on sand"])
    words = colour_words(t5, torch.tensor([[list(COLOURS).index("red"), -1, -1, -1]]), model.colour_ids)
    tokens, shares = torch.randn(1, 16, 128), torch.ones(1, 4, 16)
    losses = []
    for narrow in (False, True):
        monkeypatch.setattr("training.model.multiplies_bfloat16", lambda _device, narrow=narrow: narrow)
        model.pointing.listen(True)
        model.velocity(tokens, tokens, torch.tensor([0.9]), (t5, clip), torch.tensor([3.5]), (4, 4), 1.0)
        loss = model.pointing.loss(words, shares, t5.shape[1])
        loss.backward()
        losses.append(loss.item())
    assert losses[1] == pytest.approx(losses[0], rel=0.03)
    assert losses[1] != losses[0]
