"""Load Engine, Depth Map and Depth Generate (Local): with a fake engine, and with the embedded one."""

import gc
import json
import struct
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from click.testing import CliRunner
from PIL import Image

from depthwright.assembly import Assembly
from depthwright.cli.generate import generate as generate_command
from depthwright.engine.engine import DEFAULT_CONTROL
from depthwright.errors import (
    InvalidParameter,
    OutOfMemory,
    UncheckedProfile,
    WeightsInvalid,
    WeightsMissing,
)
from depthwright.settings import Settings
from tests.comfyui.fake import Interrupt, Link
from tests.comfyui.pack import Pack
from tests.support.fake_engine import FakeEngine

LOAD, DEPTH, GENERATE = "DepthwrightLoadEngine", "DepthwrightDepthMap", "DepthwrightGenerateLocal"
ROOM = Path(__file__).parents[1] / "golden" / "room.png"
SMALL = {"prompt": "a red sphere", "size": "512*512", "num_inference_steps": 4}


class Loader:
    """Holders of a fake engine, and how often it was loaded."""

    def __init__(self, pack: Pack, engine: FakeEngine | None = None) -> None:
        self.fake = engine or FakeEngine()
        self.loads = self.mapper_loads = 0
        self.holder = pack.module("engines").EngineHolder(self._assemble)
        self.recipe = pack.module("engines").Recipe("embedded", "cpu", {})

    def handle(self) -> Any:
        """A new handle of the one holder."""
        return self.holder.handle(self.recipe)

    def _assemble(self) -> Assembly:
        return Assembly(Settings(), load_engine=self._load, load_mapper=self._load_mapper)

    def _load(self, profile: str, **options: Any) -> FakeEngine:
        self.loads += 1
        return self.fake.load(profile, **options)

    def _load_mapper(self, profile: str, **options: Any) -> FakeEngine:
        self.mapper_loads += 1
        return self.fake.load_mapper(profile, **options)


def run(pack: Pack, handle: Any, **widgets: Any) -> dict[str, Any]:
    return pack.outputs(GENERATE, engine=Link(handle), **{**SMALL, **widgets})


def file_with_shapes(place: Path, shapes: dict[str, list[int]]) -> Path:
    """A safetensors file's head, which is all that is read of it."""
    head = json.dumps(
        {name: {"dtype": "BF16", "shape": shape, "data_offsets": [0, 0]} for name, shape in shapes.items()}
    )
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_bytes(struct.pack("<Q", len(head)) + head.encode())
    return place


def test_all_that_was_made_is_given(pack: Pack) -> None:
    made = run(pack, Loader(pack).handle(), num_images=3, seed=7)
    pictures = pack.module("tensors").to_pictures(made["images"])
    assert [each.convert("RGB").getpixel((0, 0)) for each in pictures] == [(7, 0, 0), (8, 0, 0), (9, 0, 0)]
    assert tuple(made["depth_map"].shape) == (1, 512, 512, 3)
    assert (made["first_seed"], made["model_version"]) == (7, "fake-123456789abc")
    assert json.loads(made["timings"])["denoise"] == 0.5


def test_the_image_checkers_flags_are_given(pack: Pack) -> None:
    made = run(pack, Loader(pack, FakeEngine(objects=lambda number: number == 1)).handle(), num_images=2)
    assert json.loads(made["flags"]) == [False, True]


def test_every_widget_reaches_the_engine(pack: Pack) -> None:
    loader = Loader(pack)
    file_with_shapes(pack.comfy.models / "loras" / "style.safetensors", {})
    control = pack.module("tensors").to_batch([Image.linear_gradient("L")])
    run(
        pack,
        loader.handle(),
        control_scale=0.5,
        seed=3,
        guidance_scale=9.5,
        preprocess_depth="false",
        acceleration="high",
        loras="style.safetensors=0.8\n",
        control_image=Link(control),
    )
    said = loader.fake.parameters
    assert said is not None
    assert (said.control_scale, said.seed, said.guidance_scale) == (0.5, 3, 9.5)
    assert (said.preprocess_depth, said.acceleration) == ("false", "high")
    assert [(file.path.name, file.scale) for file in loader.fake.loras] == [("style.safetensors", 0.8)]
    assert loader.fake.control is not None
    assert loader.fake.control.mode == "L"


def test_each_step_is_shown_with_the_picture_in_the_making(pack: Pack) -> None:
    run(pack, Loader(pack).handle(), num_images=2)
    assert [(done, of) for done, of, _ in pack.comfy.progress] == [(step, 8) for step in range(1, 9)]
    previews = [shown for _, _, shown in pack.comfy.progress if shown]
    assert previews
    assert all(shown[0] == "JPEG" and shown[1].size == (512, 512) for shown in previews)


def test_previews_take_a_third_of_the_time_at_most(pack: Pack) -> None:
    now = 0.0

    def decode() -> Image.Image:
        nonlocal now
        now += 1.0
        return Image.new("RGB", (8, 8))

    pace = pack.module("previews").Pace(lambda: now)
    shown = []
    for _ in range(100):
        now += 0.1
        shown.append(pace.take(decode) is not None)
    assert now == pytest.approx(10 + sum(shown))
    assert sum(shown) <= 5


def test_previews_cost_nothing_where_they_are_not_wanted(pack: Pack) -> None:
    run(pack, Loader(pack).handle(), previews=False)
    assert [shown for _, _, shown in pack.comfy.progress] == [None] * 4


def test_an_interrupt_stops_at_that_step(pack: Pack) -> None:
    loader = Loader(pack)
    pack.comfy.interrupt_at = 2
    with pytest.raises(Interrupt):
        run(pack, loader.handle(), num_inference_steps=50)
    assert loader.fake.steps_done <= 3
    assert loader.fake.was_closed


def test_an_error_of_the_engine_is_raised_in_its_words_and_the_generator_closed(pack: Pack) -> None:
    def short(_step: int) -> None:
        raise OutOfMemory("The accelerator has too little memory.")

    with pytest.raises(OutOfMemory, match="too little memory"):
        run(pack, Loader(pack, FakeEngine(on_step=short)).handle())


def test_comfyuis_models_leave_before_ours_comes_and_ours_stays(pack: Pack) -> None:
    loader = Loader(pack)
    handle = loader.handle()
    run(pack, handle)
    run(pack, handle)
    assert (pack.comfy.unloads, loader.loads) == (1, 1)
    assert handle.is_loaded


def test_it_is_unloaded_where_that_is_wanted_also_after_an_interrupt(pack: Pack) -> None:
    loader = Loader(pack)
    handle = loader.handle()
    run(pack, handle, after_run="unload")
    assert not handle.is_loaded
    pack.comfy.interrupt_at = 1
    with pytest.raises(Interrupt):
        run(pack, handle, after_run="unload")
    assert not handle.is_loaded
    assert loader.loads == 2


def test_a_second_engine_takes_the_place_of_the_first(pack: Pack) -> None:
    loader = Loader(pack)
    first, second = loader.handle(), loader.handle()
    run(pack, first)
    run(pack, second)
    assert (first.is_loaded, second.is_loaded) == (False, True)


def test_an_engine_goes_with_what_comfyui_drops(pack: Pack) -> None:
    """Its button that frees memory drops the outputs that it keeps, and nobody else holds ours."""
    loader = Loader(pack)
    handle = loader.handle()
    run(pack, handle)
    gone = weakref.ref(handle)
    del handle
    gc.collect()
    assert gone() is None


def test_a_depth_map_needs_the_depth_estimator_alone(pack: Pack) -> None:
    loader = Loader(pack)
    photos = torch.rand(2, 40, 30, 3)
    (depth,) = pack.run(DEPTH, engine=Link(loader.handle()), image=Link(photos))
    assert tuple(depth.shape) == (2, 40, 30, 3)
    assert (loader.loads, loader.mapper_loads) == (0, 1)


def test_a_depth_map_uses_the_engine_that_is_there(pack: Pack) -> None:
    loader = Loader(pack)
    handle = loader.handle()
    run(pack, handle)
    pack.run(DEPTH, engine=Link(handle), image=Link(torch.rand(1, 40, 30, 3)))
    assert loader.mapper_loads == 0


def test_loading_judges_and_loads_nothing(pack: Pack) -> None:
    (handle,) = pack.run(LOAD)
    assert (handle.recipe.profile, handle.recipe.device) == ("embedded", "cpu")
    assert not handle.is_loaded
    assert pack.comfy.unloads == 0


def test_missing_weights_are_told_with_the_steps_that_get_them(pack: Pack) -> None:
    with pytest.raises(WeightsMissing, match="depthwright models pull flux-dev"):
        pack.run(LOAD, profile="flux-dev")


@pytest.mark.parametrize(
    "names",
    [
        ("img_in.weight", "final_layer.linear.weight"),
        ("model.diffusion_model.img_in.weight", "model.diffusion_model.final_layer.linear.weight"),
        ("x_embedder.weight", "proj_out.weight"),
    ],
)
def test_a_depth_checkpoint_under_the_depth_lora_is_refused_by_its_head(
    pack: Pack, names: tuple[str, str]
) -> None:
    folder = pack.comfy.models / "diffusion_models"
    file_with_shapes(folder / "flux1-depth-dev.safetensors", {names[0]: [3072, 128], names[1]: [64, 3072]})
    with pytest.raises(WeightsInvalid, match=r"takes a control image already .*FLUX.1-Depth-dev"):
        pack.run(LOAD, model="flux1-depth-dev.safetensors")


def test_a_depth_checkpoint_in_a_folder_is_refused_too(pack: Pack, tmp_path: Path) -> None:
    folder = tmp_path / "transformer"
    folder.mkdir()
    (folder / "config.json").write_text('{"in_channels": 128, "out_channels": 64}')
    with pytest.raises(WeightsInvalid, match="transformer takes a control image already"):
        pack.run(LOAD, path=str(tmp_path))


def test_a_plain_model_and_the_lora_of_comfyuis_folders_take_the_profiles_place(pack: Pack) -> None:
    model = file_with_shapes(
        pack.comfy.models / "diffusion_models" / "flux1-dev.safetensors",
        {"img_in.weight": [3072, 64], "final_layer.linear.weight": [64, 3072]},
    )
    lora = file_with_shapes(pack.comfy.models / "loras" / "flux1-depth-dev-lora.safetensors", {})
    (handle,) = pack.run(LOAD, model=model.name, depth_lora=lora.name)
    assert handle.recipe.overrides == {"transformer": model, "control_lora": lora}


def test_a_model_that_draws_people_without_a_checker_is_refused_when_it_is_needed(pack: Pack) -> None:
    model = file_with_shapes(
        pack.comfy.models / "diffusion_models" / "flux1-dev.safetensors",
        {"img_in.weight": [3072, 64], "final_layer.linear.weight": [64, 3072]},
    )
    (handle,) = pack.run(LOAD, model=model.name)
    with pytest.raises(UncheckedProfile):
        run(pack, handle)


@pytest.mark.parametrize(
    ("widgets", "error", "words"),
    [
        ({"path": "/nowhere/at/all"}, WeightsMissing, "nothing at '/nowhere/at/all'"),
        ({"path": "/nowhere.toml"}, Exception, "no profile '/nowhere.toml'"),
    ],
)
def test_a_wrong_place_is_told(
    pack: Pack, widgets: dict[str, str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        pack.run(LOAD, **widgets)


def test_a_lora_that_is_not_there_is_told_before_a_model_is_loaded(pack: Pack) -> None:
    loader = Loader(pack)
    with pytest.raises(
        WeightsMissing, match=r"no LoRA 'absent.safetensors' in ComfyUI's folder models/loras"
    ):
        run(pack, loader.handle(), loras="absent.safetensors")
    assert loader.loads == 0


def test_a_value_that_another_node_gives_is_judged_when_it_comes(pack: Pack) -> None:
    with pytest.raises(InvalidParameter, match="num_images is 9"):
        run(pack, Loader(pack).handle(), num_images=Link(9))


@pytest.fixture
def by_command(tmp_path: Path) -> Callable[..., list[Image.Image]]:
    """What `depthwright generate` makes."""

    def made(count: int, *options: str) -> list[Image.Image]:
        output = tmp_path / "out.png"
        done = CliRunner().invoke(
            generate_command, [*options, "--output", str(output)], obj=Assembly(Settings())
        )
        assert done.exit_code == 0, done.output
        files = [output] if count == 1 else [tmp_path / f"out-{n}.png" for n in range(1, count + 1)]
        return [Image.open(file).convert("RGB") for file in files]

    return made


@pytest.mark.parametrize("control", ["depth map", "photo", "none"])
def test_the_pictures_are_those_of_the_command_to_the_byte(
    pack: Pack, by_command: Callable[..., list[Image.Image]], tmp_path: Path, control: str
) -> None:
    (handle,) = pack.run(LOAD)
    file = tmp_path / "control.png"
    if control == "photo":
        Image.open(ROOM).convert("RGB").save(file)
    else:
        Image.open(DEFAULT_CONTROL).save(file)
    given = {
        "prompt": "a red sphere left of a blue cube on a wooden floor outdoors, in daylight",
        "size": "512*640",
        "seed": 11,
        "num_inference_steps": 3,
        "num_images": 2,
    }
    options = [
        "--prompt", str(given["prompt"]), "--size", "512*640", "--seed", "11", "--steps", "3",
        "--num-images", "2", "--device", "cpu",
    ]  # fmt: skip
    tensors = pack.module("tensors")
    if control != "none":
        options += ["--control-image", str(file)]
        given["control_image"] = Link(tensors.to_batch([Image.open(file)]))
    expected = by_command(2, *options)
    # ComfyUI runs nodes in inference mode.
    with torch.inference_mode():
        made = pack.outputs(GENERATE, engine=Link(handle), **given)
    found = [each.convert("RGB") for each in tensors.to_pictures(made["images"])]
    assert [each.tobytes() for each in found] == [each.tobytes() for each in expected]
