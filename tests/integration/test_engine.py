"""The engine's promises, on the toy model: events, stopping, seeds, previews, errors, nothing left behind."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthwright.engine.engine import DEFAULT_CONTROL, ControlImage, Engine
from depthwright.engine.loading import load_components
from depthwright.errors import InvalidImage, InvalidParameter, OutOfMemory
from depthwright.events import (
    Event,
    Finished,
    ImageFinished,
    StageFinished,
    StageStarted,
    StepFinished,
)
from depthwright.parameters import GenerationParameters
from depthwright.result import GenerationResult
from tests.support.previews import seen
from tests.support.tiny import Tiny

PROMPT = "a red cube on sand"


@pytest.fixture(scope="module")
def engine(tiny: Tiny) -> Engine:
    return Engine(load_components(tiny.profile()))


def asked(**fields: object) -> GenerationParameters:
    quick = {"prompt": PROMPT, "size": "512*512", "num_inference_steps": 3, "seed": 11}
    return GenerationParameters.from_user(**{**quick, **fields})  # type: ignore[arg-type]


def finished(events: list[Event]) -> GenerationResult:
    last = events[-1]
    assert isinstance(last, Finished)
    return last.result


def drawn(engine: Engine, **fields: object) -> list[bytes]:
    return [image.tobytes() for image in finished(list(engine.stream(asked(**fields)))).images]


def test_every_stage_starts_and_finishes_in_order(engine: Engine) -> None:
    events = list(engine.stream(asked(num_images=2)))
    stages = [event.stage for event in events if isinstance(event, StageStarted)]
    assert stages == ["depth", "text", "control", *["denoise", "decode", "fidelity"] * 2]
    assert stages == [event.stage for event in events if isinstance(event, StageFinished)]
    steps = [(event.image, event.step) for event in events if isinstance(event, StepFinished)]
    assert steps == [(image, step) for image in range(2) for step in range(3)]
    assert [event.image for event in events if isinstance(event, ImageFinished)] == [0, 1]
    assert isinstance(events[-1], Finished)


def test_the_seconds_of_a_stage_are_the_sum_of_its_rounds(engine: Engine) -> None:
    events = list(engine.stream(asked(num_images=2)))
    told: Counter[str] = Counter()
    for event in events:
        if isinstance(event, StageFinished):
            told[event.stage] += event.seconds  # type: ignore[assignment]
    assert dict(told) == pytest.approx(dict(finished(events).seconds))


def test_the_size_is_exact(engine: Engine) -> None:
    result = finished(list(engine.stream(asked(size="513*767", num_inference_steps=1))))
    assert result.images[0].size == result.depth.size == (513, 767)
    assert result.images[0].mode == "RGB"
    assert result.depth.mode == "L"


def test_image_i_of_a_batch_is_the_single_image_of_seed_plus_i(engine: Engine) -> None:
    batch = drawn(engine, num_images=3, seed=20)
    assert batch == [drawn(engine, seed=20 + index)[0] for index in range(3)]
    assert len(set(batch)) == 3


def test_what_was_generated_before_leaves_no_trace(engine: Engine, tiny: Tiny) -> None:
    fresh = Engine(load_components(tiny.profile()))
    expected = drawn(fresh, control_scale=0.8)
    for scale in (0, 2, 0.3):
        drawn(engine, control_scale=scale, guidance_scale=9, num_images=2)
    assert drawn(engine, control_scale=0.8) == expected


def test_two_requests_in_turns_do_not_disturb_each_other(engine: Engine) -> None:
    """Steps of one between steps of the other, at other scales."""
    alone = [drawn(engine, control_scale=scale) for scale in (0.0, 1.5)]
    first, second = (engine.stream(asked(control_scale=scale)) for scale in (0.0, 1.5))
    results: list[list[Event]] = [[], []]
    for one, other in zip(first, second, strict=True):
        results[0].append(one)
        results[1].append(other)
    assert [[finished(events).images[0].tobytes()] for events in results] == alone


def test_two_threads_may_use_one_engine_at_once(engine: Engine) -> None:
    scales = (0.0, 1.5, 0.7)
    alone = [drawn(engine, control_scale=scale) for scale in scales]
    with ThreadPoolExecutor(len(scales)) as pool:
        together = list(pool.map(lambda scale: drawn(engine, control_scale=scale), scales))
    assert together == alone


def test_closing_stops_at_that_step_and_the_next_request_passes(engine: Engine) -> None:
    expected = drawn(engine)
    calls = 0

    def count(*_: object) -> None:
        nonlocal calls
        calls += 1

    handle = engine.components.transformer.proj_out.register_forward_hook(count)
    stream = engine.stream(asked(num_inference_steps=50))
    for event in stream:
        if isinstance(event, StepFinished) and event.step == 1:
            stream.close()
    handle.remove()
    assert calls == 2
    assert drawn(engine) == expected


@pytest.mark.parametrize("stage", ["depth", "text", "control", "denoise", "decode", "fidelity"])
def test_closing_at_any_stage_leaves_nothing_behind(stage: str, engine: Engine) -> None:
    expected = drawn(engine)
    stream = engine.stream(asked(control_scale=2, seed=99))
    for event in stream:
        if isinstance(event, StageStarted) and event.stage == stage:
            stream.close()
    assert not torch.is_inference_mode_enabled()
    assert drawn(engine) == expected


def test_previews_approach_the_picture_and_change_nothing(engine: Engine) -> None:
    plain = drawn(engine, num_inference_steps=6)
    previews: list[Image.Image] = []
    for event in engine.stream(asked(num_inference_steps=6)):
        if isinstance(event, StepFinished):
            previews.append(seen(event))
        if isinstance(event, Finished):
            picture = event.result.images[0]
    assert [picture.tobytes()] == plain
    distances = [np.abs(np.asarray(p, float) - np.asarray(picture, float)).mean() for p in previews]
    assert distances[-1] <= 0.5, "the last estimate is the picture"
    assert distances[0] > distances[-1]
    assert all(later <= earlier * 1.5 for earlier, later in pairwise(distances))


def test_previews_show_the_part_that_the_picture_will(engine: Engine) -> None:
    """Rendered at 528 x 784, the next multiples of sixteen."""
    sizes = {
        seen(event).size for event in engine.stream(asked(size="513*770")) if isinstance(event, StepFinished)
    }
    assert sizes == {(513, 770)}


def test_a_native_size_makes_small_previews_and_exact_pictures(tiny: Tiny) -> None:
    small = Engine(load_components(tiny.profile(native=((64, 96), (96, 64)))))
    events = list(small.stream(asked(size="512*640")))
    previews = [seen(event) for event in events if isinstance(event, StepFinished)]
    assert {max(preview.size) for preview in previews} <= set(range(78, 97))
    for preview in previews:
        assert preview.width / preview.height == pytest.approx(512 / 640, rel=0.02)
    assert finished(events).images[0].size == finished(events).depth.size == (512, 640)


def test_an_unwatched_step_decodes_nothing(engine: Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    decoded = 0
    real = type(engine.components.vae).decode

    def counted(*args: object, **options: object) -> object:
        nonlocal decoded
        decoded += 1
        return real(*args, **options)

    monkeypatch.setattr(type(engine.components.vae), "decode", counted)
    drawn(engine, num_inference_steps=4)
    assert decoded == 1


@pytest.mark.parametrize("kind", ["path", "picture", "array", "float array", "absent"])
def test_a_control_image_may_come_in_any_form(kind: str, engine: Engine) -> None:
    picture = Image.open(DEFAULT_CONTROL)
    forms: dict[str, ControlImage | None] = {
        "path": DEFAULT_CONTROL,
        "picture": picture,
        "array": np.asarray(picture),
        "float array": np.asarray(picture, dtype=np.float64) / 255,
        "absent": None,
    }
    result = engine.generate(
        prompt=PROMPT, control_image=forms[kind], size="512*512", num_inference_steps=1, seed=3
    )
    expected = engine.generate(prompt=PROMPT, size="512*512", num_inference_steps=1, seed=3)
    difference = np.abs(np.asarray(result.depth, int) - np.asarray(expected.depth, int))
    assert difference.max() <= 1


def test_bad_input_is_told_before_any_model_runs(engine: Engine, tmp_path: Path) -> None:
    def must_not_run(*_: object) -> None:
        raise AssertionError("a model ran")

    handles = [
        model.register_forward_pre_hook(must_not_run)
        for model in (engine.components.transformer, engine.components.text_encoder)
    ]
    with pytest.raises(InvalidParameter, match="control_scale"):
        engine.generate(prompt=PROMPT, control_scale=3)
    with pytest.raises(InvalidParameter, match="prompt"):
        engine.generate(prompt="  ")
    with pytest.raises(InvalidImage, match="not there"):
        engine.generate(prompt=PROMPT, control_image=tmp_path / "none.png")
    with pytest.raises(InvalidImage, match="shape"):
        engine.generate(prompt=PROMPT, control_image=np.zeros((2, 3, 4, 5)))
    for handle in handles:
        handle.remove()


def test_running_out_of_memory_is_one_clear_error_and_the_next_request_passes(engine: Engine) -> None:
    def exhausted(*_: object) -> None:
        raise RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 TB"
        )

    expected = drawn(engine)
    handle = engine.components.transformer.x_embedder.register_forward_pre_hook(exhausted)
    with pytest.raises(OutOfMemory, match=r"512\*512"):
        drawn(engine)
    handle.remove()
    assert drawn(engine) == expected


def test_denoising_that_runs_out_of_memory_begins_once_more_with_the_encoders_in_main_memory(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = engine.components.shelf
    moved: list[str] = []
    monkeypatch.setattr(
        shelf, "_home", torch.device("cpu", 0)
    )  # another name for the same place, to be told apart
    monkeypatch.setattr(
        engine.components.text_encoder_2, "to", lambda device: moved.append(str(device)), raising=False
    )
    expected = drawn(engine)

    def short_of_memory(*_: object) -> None:
        if str(shelf.device) != "cpu":
            raise torch.OutOfMemoryError("CUDA out of memory")

    handle = engine.components.transformer.x_embedder.register_forward_pre_hook(short_of_memory)
    assert drawn(engine) == expected
    assert moved == ["cpu", "cpu:0"]
    # Whoever stops in the middle leaves everything in its place.
    events = engine.stream(asked())
    next(event for event in events if isinstance(event, StepFinished))
    assert str(shelf.device) == "cpu"
    events.close()
    handle.remove()
    assert moved == ["cpu", "cpu:0"] * 2
    assert drawn(engine) == expected


def test_a_decoder_that_runs_out_of_memory_is_tried_once_more_in_tiles(
    engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    vae, tiled = engine.components.vae_of(asked().acceleration), []
    plain = vae.decode

    def short_of_memory(*latents: torch.Tensor, **options: object) -> object:
        tiled.append(vae.use_tiling)
        if not vae.use_tiling:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(*latents, **options)

    expected = drawn(engine)
    monkeypatch.setattr(vae, "decode", short_of_memory)
    picture = drawn(engine)
    monkeypatch.undo()
    assert tiled == [False, True]
    assert len(picture[0]) == len(expected[0])
    assert drawn(engine) == expected, "the next request is decoded as before"


def test_a_random_seed_is_reported_and_gives_the_same_picture_again(engine: Engine) -> None:
    result = finished(list(engine.stream(asked(seed=-1))))
    assert drawn(engine, seed=result.seed) == [result.images[0].tobytes()]


def test_the_depth_of_a_photo_has_its_size(engine: Engine) -> None:
    photo = Image.effect_noise((90, 50), 60).convert("RGB")
    depth = engine.depth(photo)
    assert depth.size == photo.size
    assert depth.mode == "L"


def test_the_callers_number_of_threads_is_left_alone(engine: Engine) -> None:
    before = torch.get_num_threads()
    torch.set_num_threads(3)
    seen = set()
    for _ in engine.stream(asked()):
        seen.add(torch.get_num_threads())
    torch.set_num_threads(before)
    assert seen == {3}
