import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from depthwright.errors import InvalidParameter, UnknownParameter
from depthwright.parameters import (
    DEFAULT_SIZE,
    PARAMETER,
    PARAMETERS,
    PROMPT_MAX,
    SEED_MAX,
    GenerationParameters,
    Size,
    SizeBounds,
)

NUMBERS = [row for row in PARAMETERS if row.kind in ("number", "whole number")]
SIDES = st.integers(512, 1536)
NOT_NUMBERS = st.one_of(
    st.booleans(),
    st.text(),
    st.sampled_from([math.nan, math.inf, -math.inf, "1", "nan", b"1"]),
    st.lists(st.integers()),
)


def make(**fields: Any) -> GenerationParameters:
    return GenerationParameters.from_user(**{"prompt": "a red cube", **fields})


def refusal(**fields: Any) -> InvalidParameter:
    with pytest.raises(InvalidParameter) as caught:
        make(**fields)
    return caught.value


def test_a_prompt_alone_gets_the_contracts_defaults() -> None:
    parameters = make()
    assert parameters.model_dump() == {
        "prompt": "a red cube",
        "control_scale": 1.0,
        "seed": None,
        "num_images": 1,
        "size": (864, 1636),
        "num_inference_steps": 28,
        "guidance_scale": 3.5,
        "preprocess_depth": "auto",
        "acceleration": "regular",
    }


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
@given(data=st.data())
def test_every_number_within_its_range_is_accepted_as_it_is(row: Any, data: st.DataObject) -> None:
    whole = st.integers(row.minimum, row.maximum)
    value = data.draw(whole if row.kind == "whole number" else whole | st.floats(row.minimum, row.maximum))
    assert getattr(make(**{row.name: value}), row.name) == value


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
@given(data=st.data())
def test_every_number_beyond_its_range_is_refused_with_the_range(row: Any, data: st.DataObject) -> None:
    lowest = -1 if row.name == "seed" else row.minimum
    beyond = data.draw(st.integers(max_value=lowest - 1) | st.integers(min_value=row.maximum + 1))
    error = refusal(**{row.name: beyond})
    assert error.field == row.name
    assert f"from {row.minimum} to {row.maximum}" in str(error)


@pytest.mark.parametrize("row", NUMBERS, ids=lambda row: row.name)
@given(value=NOT_NUMBERS)
def test_what_is_no_finite_number_is_refused(row: Any, value: object) -> None:
    assert refusal(**{row.name: value}).field == row.name


@given(value=st.floats(1, 4).filter(lambda value: not value.is_integer()))
def test_a_fraction_is_no_number_of_images(value: float) -> None:
    assert refusal(num_images=value).field == "num_images"


def test_numpys_numbers_are_numbers() -> None:
    parameters = make(num_images=np.int64(2), control_scale=np.float32(0.5), seed=3.0)
    assert (parameters.num_images, parameters.control_scale, parameters.seed) == (2, 0.5, 3)


@given(width=SIDES, height=SIDES, by=st.sampled_from("*xX"), space=st.sampled_from(["", " ", "  "]))
def test_a_size_is_read_however_it_is_written(width: int, height: int, by: str, space: str) -> None:
    text = f"{space}{width}{space}{by}{space}{height}{space}"
    assert make(size=text).size == Size(width, height)


@given(width=SIDES, height=SIDES)
def test_a_size_survives_being_written_and_read(width: int, height: int) -> None:
    size = Size(width, height)
    assert Size.parse(str(size)) == size
    assert make(size=size).size == make(size=[width, height]).size == size


@given(side=st.integers(0, 511) | st.integers(1537, 99_999), other=SIDES, swap=st.booleans())
def test_a_side_out_of_bounds_is_refused_with_the_bounds(side: int, other: int, swap: bool) -> None:
    width, height = (other, side) if swap else (side, other)
    if (width, height) == DEFAULT_SIZE:
        return
    assert "from 512 to 1536" in str(refusal(size=f"{width}*{height}"))


@given(
    text=st.text()
    | st.sampled_from(
        ["512", "512*", "*512", "512*512*512", "-512*512", "5e2*512", "512.0*512", "\u0665\u0661\u0662*512"]
    )
)
def test_any_other_text_is_no_size(text: str) -> None:
    try:
        Size.parse(text)
    except ValueError:
        assert refusal(size=text).field == "size"


@pytest.mark.parametrize(
    "value", [512, True, (512,), (512, 512, 512), ("512", "512"), (512, math.nan), {}, b"512*512"]
)
def test_what_is_neither_text_nor_a_pair_is_no_size(value: object) -> None:
    assert refusal(size=value).field == "size"


def test_the_contracts_default_size_is_accepted_whatever_the_bounds() -> None:
    bounds = SizeBounds(512, 768)
    assert make(size="864*1636", size_bounds=bounds).size == DEFAULT_SIZE
    assert "from 512 to 768" in str(refusal(size="512*1024", size_bounds=bounds))


@given(seed=st.integers(0, SEED_MAX))
def test_a_seed_given_is_the_seed_used(seed: int) -> None:
    assert make(seed=seed).resolved_seed() == seed


@pytest.mark.parametrize("seed", [None, -1])
def test_without_a_seed_each_draw_is_new_and_within_range(seed: int | None) -> None:
    parameters = make(seed=seed)
    assert parameters.seed is None
    drawn = {parameters.resolved_seed() for _ in range(20)}
    assert len(drawn) == 20
    assert all(0 <= one <= SEED_MAX for one in drawn)


@pytest.mark.parametrize("prompt", [None, "", " \n", 7, b"a cube", "x" * (PROMPT_MAX + 1), "caf\udce9"])
def test_a_prompt_is_text_with_something_in_it(prompt: object) -> None:
    assert refusal(prompt=prompt).field == "prompt"


def test_a_prompt_in_any_script_stays_as_it_is() -> None:
    prompt = " ein Würfel, 立方体, 🎲 "
    assert make(prompt=prompt).prompt == prompt
    assert len(make(prompt="x" * PROMPT_MAX).prompt) == PROMPT_MAX


@pytest.mark.parametrize(
    ("given_as", "meaning"),
    [("auto", "auto"), (True, "true"), (False, "false"), ("TRUE", "true"), (" false ", "false")],
)
def test_preprocess_depth_accepts_booleans_and_words(given_as: object, meaning: str) -> None:
    assert make(preprocess_depth=given_as).preprocess_depth == meaning


@pytest.mark.parametrize("value", ["yes", "", 1, 0.0, []])
def test_preprocess_depth_refuses_everything_else(value: object) -> None:
    assert "auto, true or false" in str(refusal(preprocess_depth=value))


def test_null_counts_as_not_given() -> None:
    assert make(**dict.fromkeys(set(GenerationParameters.model_fields) - {"prompt"})) == make()


def test_a_name_that_is_no_parameter_is_refused_and_the_nearest_named() -> None:
    error = refusal(num_image=2)
    assert isinstance(error, UnknownParameter)
    assert "did you mean num_images?" in str(error)


def test_checked_parameters_do_not_change() -> None:
    with pytest.raises(ValueError, match="frozen"):
        make().num_images = 2  # type: ignore[misc]


def test_parameters_survive_json() -> None:
    parameters = make(size="512*640", seed=7)
    assert '"size":"512*640"' in parameters.model_dump_json()
    assert GenerationParameters.model_validate_json(parameters.model_dump_json()) == parameters


def test_the_table_has_a_row_for_every_field_and_the_control_image() -> None:
    assert set(PARAMETER) == {*GenerationParameters.model_fields, "control_image"}
    assert all(row.help.endswith(".") and row.flag.startswith("--") for row in PARAMETERS)
    assert [row.name for row in PARAMETERS if row.required] == ["prompt"]


def test_the_tables_default_is_the_models() -> None:
    for name, field in GenerationParameters.model_fields.items():
        if not field.is_required():
            shown = PARAMETER[name].shown_default
            assert shown == ("" if field.default is None else str(field.default))
