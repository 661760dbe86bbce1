"""What the image checker objects to leaves the engine as black, and nothing of it before that."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch.nn.functional import cross_entropy
from transformers import BertConfig, BertForSequenceClassification, PreTrainedTokenizerFast

from depthwright.engine.engine import Engine
from depthwright.engine.loading import load_components
from depthwright.engine.profiles import ImageCheck, Profile, PromptGuard, Source, load_profile
from depthwright.engine.safety import ImageClassifier, load_image_checker, load_prompt_guard
from depthwright.errors import Refused, UncheckedProfile, WeightsInvalid, WeightsMissing
from depthwright.events import DepthFinished, Event, Finished, ImageFinished, StepFinished
from depthwright.parameters import GenerationParameters
from depthwright.result import IMAGE, NO_CHECKER, OFF_BY_OPERATOR, OFF_BY_REQUEST
from depthwright.safety.policy import load_policy
from tests.support.checking import LABEL, examples, save_checker

pytestmark = pytest.mark.usefixtures("one_thread")
PAD, UNKNOWN = "[PAD]", "[UNK]"
RED, BLUE = ("a large red sphere on a grey floor", "a large blue sphere on a grey floor")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_checker(tmp_path_factory.mktemp("checker"))


def checked(folder: Path, threshold: float = 0.5, label: str = LABEL, **changes: object) -> Profile:
    """The embedded profile with the checker that was trained for these tests."""
    plain = load_profile("embedded")
    sources = {**plain.sources, "image_checker": Source(path=folder)}
    check = ImageCheck(label=label, threshold=threshold)
    return plain.model_copy(update={"sources": sources, "image_checker": check, **changes})


@pytest.fixture(scope="module")
def engine(folder: Path) -> Engine:
    return Engine(load_components(checked(folder)))


@pytest.fixture(scope="module")
def checker(folder: Path) -> ImageClassifier:
    found = load_image_checker(checked(folder), torch.device("cpu"), None)
    assert found is not None
    return found


def disc(red: float, green: float, blue: float) -> Image.Image:
    rows, columns = np.mgrid[0:96, 0:96]
    picture = np.full((96, 96, 3), 110, np.uint8)
    picture[np.hypot(rows - 48, columns - 48) < 28] = (red, green, blue)
    return Image.fromarray(picture)


def parameters(prompt: str, **more: object) -> GenerationParameters:
    fields = {"num_inference_steps": 6, "size": "512*512", "seed": 5, "preprocess_depth": "true", **more}
    return GenerationParameters.from_user(prompt=prompt, **fields)  # type: ignore[arg-type]


def test_the_trained_checker_tells_marked_pictures_from_others(checker: ImageClassifier) -> None:
    pixels, labels = examples(np.random.default_rng(1), 100)
    pictures = ((pixels.permute(0, 2, 3, 1) + 1) * 127.5).round().to(torch.uint8).numpy()
    said = [checker.objects(Image.fromarray(each)) for each in pictures]
    assert sum(bool(a) == bool(b) for a, b in zip(said, labels, strict=True)) >= 90


def test_the_threshold_itself_objects_and_anything_below_does_not(
    folder: Path, checker: ImageClassifier
) -> None:
    picture = disc(200, 20, 20)
    likely = checker.probability(picture)
    assert 0.5 < likely < 1
    for threshold, objects in ((likely, True), (float(np.nextafter(likely, 2)), False)):
        found = load_image_checker(checked(folder, threshold), torch.device("cpu"), None)
        assert found is not None
        assert found.objects(picture) is objects


def test_a_checker_that_computes_no_number_objects(
    checker: ImageClassifier, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checker, "probability", lambda _image: float("nan"))
    assert checker.objects(disc(0, 0, 200))


def test_a_flagged_picture_is_black_in_every_event_and_in_the_result(engine: Engine) -> None:
    events = list(engine.stream(parameters(RED), disc(0, 0, 200)))
    [shown] = [event for event in events if isinstance(event, ImageFinished)]
    [end] = [event for event in events if isinstance(event, Finished)]
    assert shown.flagged is True
    assert end.result.flagged == (True,)
    assert {picture.getextrema() for picture in (shown.picture, end.result.images[0])} == {((0, 0),) * 3}
    assert shown.picture.size == (512, 512)
    assert end.result.seconds["safety"] > 0


def test_a_picture_that_passes_is_the_one_that_an_unchecked_engine_makes(engine: Engine) -> None:
    control = disc(0, 0, 200)
    made = finished(engine.stream(parameters(BLUE), control))
    plain = Engine(replace(engine.components, checker=None, checking=NO_CHECKER))
    same = finished(plain.stream(parameters(BLUE), control))
    assert (made.result.flagged, made.result.image_checker) == ((False,), engine.components.checking)
    assert (same.result.flagged, same.result.image_checker) == ((), NO_CHECKER)
    assert made.result.images[0].tobytes() == same.result.images[0].tobytes()


def test_who_asks_for_no_check_gets_the_picture_and_is_told_so(engine: Engine) -> None:
    made = finished(engine.stream(parameters(RED), disc(200, 20, 20), checked=False))
    assert made.result.images[0].getextrema() != ((0, 0),) * 3
    assert (made.result.flagged, made.result.image_checker) == ((), OFF_BY_REQUEST)


def test_a_flagged_control_image_is_refused_before_its_depth_map_leaves_the_engine(engine: Engine) -> None:
    seen: list[Event] = []
    with pytest.raises(Refused) as refused:
        seen.extend(engine.stream(parameters(BLUE), disc(200, 20, 20)))
    assert refused.value.category == IMAGE
    assert not any(isinstance(event, DepthFinished) for event in seen)


def test_a_preview_is_shown_only_where_the_checker_does_not_object(engine: Engine) -> None:
    def last_preview(prompt: str) -> Image.Image | None:
        events = engine.stream(parameters(prompt), disc(0, 0, 200))
        shown = [event.preview() for event in events if isinstance(event, StepFinished)]
        return shown[-1]

    assert last_preview(RED) is None
    assert last_preview(BLUE) is not None


def test_a_profile_that_depicts_people_does_not_load_without_a_checker_unless_it_is_named(
    folder: Path,
) -> None:
    people = load_profile("embedded").model_copy(update={"depicts_people": True})
    with pytest.raises(UncheckedProfile, match="DEPTHWRIGHT_UNCHECKED=embedded"):
        load_components(people)
    with pytest.raises(UncheckedProfile):
        load_components(people, unchecked="flux-dev")
    assert load_components(people, unchecked="embedded").checking == NO_CHECKER
    assert load_components(checked(folder), unchecked="embedded").checking == OFF_BY_OPERATOR


def test_another_transformer_may_draw_anything(folder: Path) -> None:
    transformer = Path(str(load_profile("embedded").sources["transformer"].package))
    assert not load_profile("embedded").depicts_people
    assert load_profile("embedded").with_overrides({"transformer": transformer}).depicts_people


@pytest.mark.parametrize(
    ("change", "error", "words"),
    [
        (lambda profile: profile, None, ""),
        (
            lambda profile: profile.model_copy(
                update={"image_checker": ImageCheck(label="nsfw", threshold=0.5)}
            ),
            WeightsInvalid,
            "knows no label 'nsfw': the profile has to name one of plain, marked",
        ),
        (
            lambda profile: profile.model_copy(
                update={"sources": {**profile.sources, "image_checker": Source(path=Path("nowhere"))}}
            ),
            WeightsMissing,
            "image_checker of embedded is missing",
        ),
    ],
)
def test_a_checker_that_cannot_look_stops_the_load(
    folder: Path, change: Callable[[Profile], Profile], error: type[Exception] | None, words: str
) -> None:
    profile = change(checked(folder))
    if error is None:
        assert load_components(profile).checker is not None
        return
    with pytest.raises(error, match=words):
        load_components(profile)


@pytest.mark.parametrize("name", ["flux-dev", "flux-dev-fp8", "flux-dev-int8", "flux-dev-offload"])
def test_every_profile_of_flux_depicts_people_and_has_a_checker(name: str) -> None:
    profile = load_profile(name)
    assert profile.depicts_people
    assert profile.image_checker == ImageCheck(label="nsfw", threshold=0.85)
    assert profile.sources["image_checker"].repo == "Falconsai/nsfw_image_detection"


def finished(events: Iterable[Event]) -> Finished:
    """The last event."""
    last = list(events)[-1]
    assert isinstance(last, Finished)
    return last


@pytest.fixture(scope="module")
def guard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of text in transformers' format, of which only one word's embedding tells anything."""
    folder = tmp_path_factory.mktemp("guard")
    vocabulary = {PAD: 0, UNKNOWN: 1, "threat": 2, "cube": 3}
    words = Tokenizer(WordLevel(vocabulary, unk_token=UNKNOWN))
    words.pre_tokenizer = Whitespace()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token=PAD, unk_token=UNKNOWN)
    tokenizer.save_pretrained(folder)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = BertConfig(
            vocab_size=4,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
            id2label={0: "safe", 1: "s10"},
            label2id={"safe": 0, "s10": 1},
        )
        model = BertForSequenceClassification(config)
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        for _ in range(60):
            texts = [["cube"] * 8 for _ in range(16)]
            for row in range(1, 16, 2):
                texts[row][row % 8] = "threat"
            ids = torch.tensor([[vocabulary[word] for word in text] for text in texts])
            labels = torch.tensor([row % 2 for row in range(16)])
            cross_entropy(model(input_ids=ids).logits, labels).backward()
            optimiser.step()
            optimiser.zero_grad()
    model.eval().save_pretrained(folder)
    return folder


def guarded(guard: Path) -> Profile:
    plain = load_profile("embedded")
    sources = {**plain.sources, "prompt_guard": Source(path=guard)}
    return plain.model_copy(update={"sources": sources, "prompt_guard": PromptGuard(threshold=0.5)})


def test_a_guard_refuses_what_the_rules_cannot_read_under_the_category_of_its_label(guard: Path) -> None:
    engine = Engine(load_components(guarded(guard)))
    with pytest.raises(Refused) as refused:
        engine.stream(parameters("cube cube threat"))
    assert refused.value.category == "harassment"
    assert next(engine.stream(parameters("cube cube cube"))) is not None


def test_a_guard_reads_a_prompt_that_is_longer_than_its_window_to_the_end(guard: Path) -> None:
    found = load_prompt_guard(guarded(guard), torch.device("cpu"))
    assert found is not None
    assert "s10" in found.labels("cube " * 60 + "threat")
    assert found.labels("cube " * 60) == ("safe",)


def test_a_category_that_is_switched_off_is_not_refused_by_the_guard_either(guard: Path) -> None:
    components = load_components(guarded(guard))
    engine = Engine(components, load_policy(("harassment",)))
    assert next(engine.stream(parameters("cube threat"))) is not None
