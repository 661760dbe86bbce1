import inspect

import pytest

from depthwright import errors
from depthwright.errors import (
    DepthwrightError,
    InvalidParameter,
    ServiceError,
    UnknownParameter,
    UnknownProfile,
    UserError,
)

TREE = [
    kind
    for _, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, DepthwrightError) and kind not in (DepthwrightError, UserError, ServiceError)
]


@pytest.mark.parametrize("kind", TREE)
def test_every_error_is_somebodys_to_mend(kind: type[DepthwrightError]) -> None:
    assert issubclass(kind, UserError) != issubclass(kind, ServiceError)


@pytest.mark.parametrize("kind", TREE)
def test_every_error_stands_in_the_drawn_tree_with_its_exit_code(kind: type[DepthwrightError]) -> None:
    drawing = errors.__doc__ or ""
    line = next(line for line in drawing.splitlines() if kind.__name__ in line.split())
    assert str(kind.exit_code) in line.split()


def test_no_deliberate_error_exits_as_success_or_as_an_interrupt() -> None:
    assert {kind.exit_code for kind in TREE} <= set(range(1, 8))


def test_an_invalid_parameter_says_what_it_is_and_what_is_allowed() -> None:
    error = InvalidParameter("control_scale", 3, "a number from 0 to 2")
    assert str(error) == "control_scale is 3: it must be a number from 0 to 2."
    assert (error.field, error.got, error.allowed) == ("control_scale", 3, "a number from 0 to 2")


def test_an_invalid_parameter_can_be_told_by_its_flag() -> None:
    error = InvalidParameter("num_inference_steps", 60, "a whole number from 1 to 50")
    assert error.worded("--steps") == "--steps is 60: it must be a whole number from 1 to 50."


def test_an_absent_parameter_is_called_missing() -> None:
    assert str(InvalidParameter("prompt", None, "text")) == "prompt is missing: it must be text."


def test_a_long_value_is_cut_and_control_characters_are_escaped() -> None:
    message = str(InvalidParameter("size", "1*1\x1b[31m" * 100, "W*H"))
    assert len(message) < 200
    assert "\x1b" not in message


def test_a_mistyped_parameter_is_answered_with_the_nearest_one() -> None:
    error = UnknownParameter("num_image", 2, ["prompt", "num_images"])
    assert str(error) == "'num_image' is no parameter; did you mean num_images?"


def test_a_profile_like_no_other_is_answered_with_all_of_them() -> None:
    assert str(UnknownProfile("xyz", ["embedded", "flux-dev"])) == (
        "There is no profile 'xyz'; there are embedded, flux-dev."
    )
