"""A LoRA that a user brings acts as in diffusers, beside the depth LoRA, and leaves nothing behind."""

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import FluxTransformer2DModel
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor

from depthwright.engine.adapter import LiveAdapter, MergedAdapter
from depthwright.engine.engine import Engine
from depthwright.engine.fitting import matched_user_layers
from depthwright.engine.loading import load_components
from depthwright.engine.lora import ControlLora, UserLora, read_lora
from depthwright.engine.user_lora import Applied, read_user_lora
from depthwright.errors import InvalidParameter, WeightsInvalid, WeightsMissing
from depthwright.events import Finished
from depthwright.loras import LoraFile
from depthwright.parameters import GenerationParameters
from depthwright.result import GenerationResult
from tests.support.adapting import adapted, bare_pipeline, forward, load
from tests.support.tiny import TOKEN, WIDTH, Tiny

pytestmark = pytest.mark.usefixtures("one_thread")

RANK = 2
# One linear of each kind, the image input at the base's own width among them.
LINEARS = {
    "x_embedder": (WIDTH, TOKEN),
    "transformer_blocks.0.attn.to_q": (WIDTH, WIDTH),
    "transformer_blocks.1.ff.net.2": (WIDTH, 4 * WIDTH),
    "single_transformer_blocks.1.proj_out": (WIDTH, 5 * WIDTH),
}


def matrices(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {}
    for name, (outputs, inputs) in LINEARS.items():
        tensors[f"transformer.{name}.lora_A.weight"] = torch.randn(RANK, inputs, generator=generator) / 4
        tensors[f"transformer.{name}.lora_B.weight"] = torch.randn(outputs, RANK, generator=generator) / 4
    return tensors


def written(folder: Path, name: str, tensors: dict[str, Tensor]) -> Path:
    file = folder / f"{name}.safetensors"
    save_file(tensors, file, metadata={"format": "pt"})
    return file


@pytest.fixture(scope="module")
def styles(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    folder = tmp_path_factory.mktemp("styles")
    return written(folder, "ink", matrices(1)), written(folder, "clay", matrices(2))


def applied(path: Path, scale: float) -> Applied:
    return Applied(read_user_lora(path, path.name, WIDTH), scale)


@pytest.mark.parametrize("kind", ["merged", "live"])
@pytest.mark.parametrize("control_scale", [0.5, 1.0])
def test_two_loras_act_beside_the_depth_lora_as_in_diffusers(
    kind: str, control_scale: float, tiny: Tiny, styles: tuple[Path, Path]
) -> None:
    pipeline = bare_pipeline(tiny)
    pipeline.load_lora_weights(tiny.folder, weight_name=tiny.lora.name, adapter_name="depth")
    for style in styles:
        pipeline.load_lora_weights(style.parent, weight_name=style.name, adapter_name=style.stem)
    pipeline.set_adapters(["depth", "ink", "clay"], [control_scale, 0.7, 1.9])
    theirs = forward(pipeline.transformer, control=True)
    transformer, adapter = adapted(kind, tiny)
    adapter.set_scale(control_scale, (applied(styles[0], 0.7), applied(styles[1], 1.9)))
    ours = forward(transformer, control=True)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


@pytest.mark.parametrize("kind", ["merged", "live"])
def test_without_control_a_lora_acts_on_the_plain_base(
    kind: str, tiny: Tiny, styles: tuple[Path, Path]
) -> None:
    pipeline = bare_pipeline(tiny)
    pipeline.load_lora_weights(styles[0].parent, weight_name=styles[0].name, adapter_name="ink")
    theirs = forward(pipeline.transformer, control=False)
    transformer, adapter = adapted(kind, tiny)
    adapter.set_scale(1.0)
    adapter.set_scale(0.0, (applied(styles[0], 1.0),))
    ours = forward(transformer, control=False)
    assert (ours - theirs).abs().max() < 1e-5 * theirs.abs().max()


Moment = tuple[float, float, float]
MOMENTS = st.tuples(
    st.sampled_from([0.0, 0.4, 1.0]), st.sampled_from([0.0, 0.5, 4.0]), st.sampled_from([0.0, 1.0])
)


@settings(max_examples=12, deadline=None)
@given(before=st.lists(MOMENTS, max_size=3), last=MOMENTS)
def test_what_ran_before_leaves_no_trace(
    before: list[Moment], last: Moment, tiny: Tiny, styles: tuple[Path, Path]
) -> None:
    def be(adapter: MergedAdapter | LiveAdapter, moment: Moment) -> None:
        control, *scales = moment
        pairs = zip(styles, scales, strict=True)
        adapter.set_scale(control, tuple(applied(style, scale) for style, scale in pairs if scale))

    for kind in ("merged", "live"):
        used, adapter = adapted(kind, tiny)
        for moment in before:
            be(adapter, moment)
        be(adapter, last)
        fresh, other = adapted(kind, tiny)
        be(other, last)
        assert torch.equal(forward(used, control=last[0] > 0), forward(fresh, control=last[0] > 0))


def test_keys_of_other_trainers_are_the_same_lora(tiny: Tiny, tmp_path: Path) -> None:
    """Kohya's underscored names with their alpha, and the bare names of ComfyUI's exports."""
    full = FluxTransformer2DModel.from_config(
        dict(load(tiny).config) | {"num_layers": 19, "num_single_layers": 38}
    )
    down, up = torch.randn(RANK, WIDTH), torch.randn(WIDTH, RANK)
    kohya = {
        f"lora_unet_double_blocks_3_img_attn_proj.{name}": tensor
        for name, tensor in (("lora_down.weight", down), ("lora_up.weight", up), ("alpha", torch.tensor(1.0)))
    }
    bare = {
        "diffusion_model.transformer_blocks.3.attn.to_out.0.lora_A.weight": down,
        "diffusion_model.transformer_blocks.3.attn.to_out.0.lora_B.weight": up / RANK,
    }
    merged = []
    for name, tensors in (("kohya", kohya), ("bare", bare)):
        lora = read_user_lora(written(tmp_path, name, tensors), name, WIDTH)
        assert lora.layers.keys() == {"transformer_blocks.3.attn.to_out.0"}
        assert len(list(matched_user_layers(full, lora))) == 1
        layer = lora.layers["transformer_blocks.3.attn.to_out.0"]
        merged.append(layer.gain * layer.up @ layer.down)
    assert torch.allclose(merged[0], merged[1], atol=1e-5)
    assert torch.allclose(merged[0], up @ down / RANK, atol=1e-5)


@pytest.mark.parametrize("odd", ["diff", "diff_b", "position_embedding.lora_up.weight", "w_norm.diff"])
def test_what_diffusers_would_leave_out_of_a_kohya_file_is_an_error(odd: str, tmp_path: Path) -> None:
    module = "lora_unet_double_blocks_3_img_attn_proj"
    good = {
        f"{module}.lora_down.weight": torch.randn(RANK, WIDTH),
        f"{module}.lora_up.weight": torch.randn(WIDTH, RANK),
        f"{module}.alpha": torch.tensor(1.0),
    }
    assert read_user_lora(written(tmp_path, "good", good), "good", WIDTH).layers
    both = written(tmp_path, "odd", {**good, f"{module}.{odd}": torch.ones(3)})
    with pytest.raises(WeightsInvalid, match=f"{odd} has no place in one"):
        read_user_lora(both, "odd", WIDTH)


def test_keys_of_xlabs_are_read(tmp_path: Path) -> None:
    down, up = torch.randn(RANK, WIDTH), torch.randn(3 * WIDTH, RANK)
    name = "double_blocks.0.processor.qkv_lora1"
    file = written(tmp_path, "xlabs", {f"{name}.down.weight": down, f"{name}.up.weight": up})
    lora = read_user_lora(file, "xlabs", WIDTH)
    parts = [lora.layers[f"transformer_blocks.0.attn.to_{part}"] for part in "qkv"]
    assert torch.equal(torch.cat([part.up @ part.down for part in parts]), up @ down)


def test_a_linear_that_only_a_users_lora_reaches_is_restored_to_the_bit(
    tiny: Tiny, styles: tuple[Path, Path]
) -> None:
    """A control LoRA need not touch every linear; FLUX's own does."""
    whole = read_lora(tiny.lora)
    few = ControlLora({"x_embedder": whole.layers["x_embedder"]}, {})
    used, fresh = load(tiny), load(tiny)
    adapter, other = MergedAdapter(used, few), MergedAdapter(fresh, few)
    adapter.set_scale(1.0, (applied(styles[0], 2.0),))
    touched = used.transformer_blocks[0].attn.to_q.weight
    assert not torch.equal(touched, load(tiny).transformer_blocks[0].attn.to_q.weight)
    for scale in (1.0, 0.0):
        adapter.set_scale(scale)
        other.set_scale(scale)
        theirs = fresh.state_dict()
        assert all(torch.equal(value, theirs[name]) for name, value in used.state_dict().items())


def test_biases_of_a_users_lora_act_merged_as_beside(tiny: Tiny, tmp_path: Path) -> None:
    biases = {f"transformer.{name}.lora_B.bias": torch.randn(shape[0]) for name, shape in LINEARS.items()}
    style = applied(written(tmp_path, "biased", {**matrices(1), **biases}), 0.7)
    outputs = []
    for kind in ("merged", "live"):
        transformer, adapter = adapted(kind, tiny)
        adapter.set_scale(1.0, (style,))
        outputs.append(forward(transformer, control=True))
        adapter.set_scale(1.0, (applied(written(tmp_path, "plain", matrices(1)), 0.7),))
        assert (forward(transformer, control=True) - outputs[-1]).abs().max() > 1e-2
    assert (outputs[0] - outputs[1]).abs().max() < 1e-5 * outputs[0].abs().max()


def test_of_threads_that_bring_loras_at_once_one_reads_at_a_time(
    engine: Engine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was read is kept in an order that two threads at once would break."""
    files = [written(tmp_path, f"style-{number}", matrices(number)) for number in range(8)]
    inside, most = [], []

    def slowly(*arguments: Any) -> UserLora:
        inside.append(1)
        most.append(len(inside))
        time.sleep(0.02)
        inside.pop()
        return read_user_lora(*arguments)

    monkeypatch.setattr("depthwright.engine.user_lora.read_user_lora", slowly)
    with ThreadPoolExecutor(8) as pool:
        got = list(pool.map(lambda file: engine.components.loras.get([LoraFile(file)]), files))
    assert [each[0].lora.name for each in got] == [file.stem for file in files]
    assert most == [1] * 8


def test_black_forest_labs_keys_are_read_as_their_makers_mean_them(tmp_path: Path) -> None:
    """One fused product there, three linears here."""
    down, up = torch.randn(RANK, WIDTH), torch.randn(3 * WIDTH, RANK)
    fused = {
        "double_blocks.0.img_attn.qkv.lora_A.weight": down,
        "double_blocks.0.img_attn.qkv.lora_B.weight": up,
    }
    lora = read_user_lora(written(tmp_path, "bfl", fused), "bfl", WIDTH)
    parts = [lora.layers[f"transformer_blocks.0.attn.to_{part}"] for part in "qkv"]
    assert torch.equal(torch.cat([part.up @ part.down for part in parts]), up @ down)


@pytest.fixture(scope="module")
def engine(tiny: Tiny) -> Engine:
    return Engine(load_components(tiny.profile()))


def asked(**fields: object) -> GenerationParameters:
    quick = {"prompt": "a red cube on sand", "size": "512*512", "num_inference_steps": 3, "seed": 11}
    return GenerationParameters.from_user(**{**quick, **fields})  # type: ignore[arg-type]


def last_of(events: Any) -> GenerationResult:
    *_, last = events
    assert isinstance(last, Finished)
    return last.result


def test_requests_with_different_loras_that_take_turns_get_what_each_gets_alone(
    engine: Engine, styles: tuple[Path, Path]
) -> None:
    wanted = ((), (LoraFile(styles[0], 2.0),), (LoraFile(styles[1], 2.0), LoraFile(styles[0], 0.5)))
    alone = [last_of(engine.stream(asked(), None, loras)).images[0] for loras in wanted]
    assert len({image.tobytes() for image in alone}) == len(wanted)
    streams = [engine.stream(asked(), None, loras) for loras in wanted]
    ended: dict[int, Image.Image] = {}
    while len(ended) < len(streams):
        for number, stream in enumerate(streams):
            event = next(stream, None)
            if isinstance(event, Finished):
                ended[number] = event.result.images[0]
    assert [ended[number].tobytes() for number in range(len(wanted))] == [each.tobytes() for each in alone]


def test_the_result_tells_which_loras_acted(engine: Engine, styles: tuple[Path, Path]) -> None:
    result = engine.generate(
        prompt="a cube", size="512*512", num_inference_steps=1, seed=3,
        loras=[LoraFile(styles[0], 0.5), LoraFile(styles[1], 0)],
    )  # fmt: skip
    assert [(used.name, used.scale) for used in result.loras] == [("ink", 0.5)]
    assert len(result.loras[0].digest) == 64
    assert result.warnings == ()


def test_layers_for_text_encoders_are_left_out_with_a_word(engine: Engine, tmp_path: Path) -> None:
    text, t5 = (
        "text_encoder.text_model.encoder.layers.0.self_attn.q_proj",
        "text_encoders.t5xxl.transformer.block",
    )
    both = {
        **matrices(1),
        f"{text}.lora_A.weight": torch.ones(1, 4),
        f"{text}.lora_B.weight": torch.ones(4, 1),
        f"{t5}.lora_A.weight": torch.ones(1, 4),
        f"{t5}.lora_B.weight": torch.ones(4, 1),
    }
    result = engine.generate(
        prompt="a cube", size="512*512", num_inference_steps=1, seed=3,
        loras=[LoraFile(written(tmp_path, "both", both))],
    )  # fmt: skip
    assert result.warnings == (
        "both: only its layers for the transformer act, its 2 for text encoders were left out.",
    )


def test_a_file_that_was_replaced_is_read_anew(engine: Engine, tmp_path: Path) -> None:
    def draw() -> bytes:
        return last_of(engine.stream(asked(), None, [LoraFile(file, 2.0)])).images[0].tobytes()

    file = written(tmp_path, "mine", matrices(1))
    first = draw()
    written(tmp_path, "mine", matrices(2))
    assert draw() != first
    written(tmp_path, "mine", matrices(1))
    assert draw() == first


BROKEN: dict[str, tuple[dict[str, Tensor], str]] = {
    "of another size": (
        {
            "transformer.proj_out.lora_A.weight": torch.ones(1, 7),
            "transformer.proj_out.lora_B.weight": torch.ones(5, 1),
        },
        "does not fit this transformer: proj_out is",
    ),
    "of another model": (
        {"unet.down.lora_A.weight": torch.ones(1, 7), "unet.down.lora_B.weight": torch.ones(5, 1)},
        "The LoRA wrong does not fit this transformer, which has no unet.down",
    ),
    "half": ({"transformer.proj_out.lora_A.weight": torch.ones(1, 7)}, "lacks a lora_B"),
    "no LoRA": ({"weights": torch.ones(3)}, "is no LoRA for FLUX"),
    "empty": ({}, "is no LoRA for FLUX"),
    "poisoned": (
        {"transformer.proj_out.lora_A.weight": torch.full((1, 7), float("nan"))},
        "no finite numbers",
    ),
    "a DoRA": ({**matrices(1), "transformer.x_embedder.dora_scale": torch.ones(3)}, "is a DoRA"),
    "odd kohya": ({"lora_unet_nothing.lora_down.weight": torch.ones(1, 7)}, "Incompatible keys"),
    "a full norm": (
        {**matrices(1), "transformer.norm_out.linear.weight": torch.ones(3)},
        "has no place in one",
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_a_wrong_file_is_refused_before_any_event(kind: str, engine: Engine, tmp_path: Path) -> None:
    tensors, said = BROKEN[kind]
    file = written(tmp_path, "wrong", tensors)
    with pytest.raises(WeightsInvalid, match=said):
        engine.stream(asked(), None, [LoraFile(file)])


def test_a_control_lora_is_no_style(engine: Engine, tiny: Tiny) -> None:
    for file in (tiny.lora, tiny.bfl_lora):
        with pytest.raises(WeightsInvalid, match="is a control LoRA"):
            engine.stream(asked(), None, [LoraFile(file)])


@settings(max_examples=60, deadline=None)
@given(content=st.binary(max_size=300))
def test_no_bytes_are_read_as_a_lora_by_accident(
    content: bytes, engine: Engine, tmp_path_factory: pytest.TempPathFactory
) -> None:
    file = tmp_path_factory.mktemp("bytes") / "any.safetensors"
    file.write_bytes(content)
    with pytest.raises(WeightsInvalid):
        engine.stream(asked(), None, [LoraFile(file)])


def test_pickles_missing_files_and_values_out_of_range_are_refused(
    engine: Engine, styles: tuple[Path, Path], tmp_path: Path
) -> None:
    pickle = tmp_path / "style.pt"
    torch.save(matrices(1), pickle)
    with pytest.raises(WeightsInvalid, match="never read"):
        engine.stream(asked(), None, [LoraFile(pickle)])
    with pytest.raises(WeightsMissing, match="There is no LoRA at"):
        engine.stream(asked(), None, [LoraFile(tmp_path / "nothing.safetensors")])
    for scale in (-0.1, 4.1, float("nan")):
        with pytest.raises(InvalidParameter, match="a number from 0 to 4"):
            engine.stream(asked(), None, [LoraFile(styles[0], scale)])
    with pytest.raises(InvalidParameter, match="at most 5"):
        engine.stream(asked(), None, [LoraFile(styles[0])] * 6)


def test_a_name_with_an_equals_sign_is_a_name_unless_a_number_follows() -> None:
    assert LoraFile.parse("a.safetensors") == LoraFile(Path("a.safetensors"), 1.0)
    assert LoraFile.parse("a=b.safetensors=0.5") == LoraFile(Path("a=b.safetensors"), 0.5)
    assert LoraFile.parse("a=b.safetensors") == LoraFile(Path("a=b.safetensors"), 1.0)
