"""What can go wrong, as one tree. `str(error)` is a clear sentence for the person who can act on it.

    DepthwrightError               1
    |- UserError                   1   the caller can mend it
    |  |- InvalidParameter         2   a value out of its range
    |  |  `- UnknownParameter      2   a name that is no parameter
    |  |- UnknownProfile           2
    |  |- InvalidImage             3   unreadable, missing, too large
    |  |- WeightsMissing           4
    |  |- WeightsInvalid           4
    |  |- EngineNotInstalled       4   the light package alone cannot generate
    |  |- UncheckedProfile         4   draws people, and nobody would look at the pictures
    |  |- Refused                  7   what was asked for is not made here; knows the category
    |  `- OutputNotWritable        6
    `- ServiceError                1   ours, or the machine's
       |- OutOfMemory              5
       |- EngineLost               1   the model has to be loaded again
       `- DiskFull                 6

The numbers are the command's exit codes.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import ClassVar

_LONGEST_ECHO = 60


class DepthwrightError(Exception):
    """The root of every error that depthwright raises on purpose."""

    exit_code: ClassVar[int] = 1


class UserError(DepthwrightError):
    """The caller can mend it."""


class ServiceError(DepthwrightError):
    """Ours or the machine's: the same request may work later or elsewhere."""


class InvalidParameter(UserError):
    """A parameter has a value that is not allowed: `field`, what was `got`, and what is `allowed`."""

    exit_code: ClassVar[int] = 2

    def __init__(self, field: str, got: object, allowed: str) -> None:
        self.field = field
        self.got = got
        self.allowed = allowed
        super().__init__(self.worded(field))

    def worded(self, name: str) -> str:
        """The sentence with the field called `name`, as the command calls it by its flag."""
        if self.got is None:
            return f"{name} is missing: it must be {self.allowed}."
        return f"{name} is {echo(self.got)}: it must be {self.allowed}."


class UnknownParameter(InvalidParameter):
    """There is no parameter of that name among `known`."""

    def __init__(self, field: str, got: object, known: Iterable[str]) -> None:
        self.known = tuple(known)
        super().__init__(field, got, f"one of {', '.join(self.known)}")

    def worded(self, name: str) -> str:
        """The sentence, with the nearest known name if there is one."""
        return f"{echo(name)} is no parameter{_suggestion(name, self.known)}"


class UnknownProfile(UserError):
    """There is no profile of that name among `known`, nor a TOML file at that path."""

    exit_code: ClassVar[int] = 2

    def __init__(self, name: str, known: Iterable[str]) -> None:
        self.name = name
        self.known = tuple(known)
        super().__init__(f"There is no profile {echo(name)}{_suggestion(name, self.known)}")


class InvalidImage(UserError):
    """A picture is missing, unreadable, too large or of a format that is not read."""

    exit_code: ClassVar[int] = 3


class WeightsMissing(UserError):
    """Weights are not on this machine; the message says which, and the steps that get them."""

    exit_code: ClassVar[int] = 4


class WeightsInvalid(UserError):
    """A weight file is there but is not what the profile needs: a shape, a key or a hash differs."""

    exit_code: ClassVar[int] = 4


class EngineNotInstalled(UserError, ImportError):
    """The light package is installed without the libraries that generate pictures."""

    exit_code: ClassVar[int] = 4


class UncheckedProfile(UserError):
    """A profile can depict people and has no image checker, and the operator has not let it go without one."""

    exit_code: ClassVar[int] = 4

    def __init__(self, profile: str) -> None:
        super().__init__(
            f"The profile {profile} can depict people and names no image checker, so it does not start: give it an "
            f"[image_checker] and a source for it, or set DEPTHWRIGHT_UNCHECKED={profile} and look at every picture "
            "yourself."
        )


class Refused(UserError):
    """What was asked for is not made here, by a rule of the policy or by the image checker: `category` says which."""

    exit_code: ClassVar[int] = 7

    def __init__(self, category: str, message: str) -> None:
        self.category = category
        super().__init__(message)


class OutputNotWritable(UserError):
    """A picture cannot be written where it was asked for."""

    exit_code: ClassVar[int] = 6


class OutOfMemory(ServiceError):
    """The machine or its accelerator has too little memory for this model and size."""

    exit_code: ClassVar[int] = 5


class EngineLost(ServiceError):
    """The loaded model can make no more pictures, this one or others: it has to be loaded again."""


class DiskFull(ServiceError):
    """The disk has no room left for the output."""

    exit_code: ClassVar[int] = 6


def echo(value: object) -> str:
    """A value as a message repeats it: text in quotes, cut when long, control characters escaped."""
    text = repr(value) if isinstance(value, str) else str(value)
    if len(text) <= _LONGEST_ECHO:
        return text
    return f"{text[:_LONGEST_ECHO]}... ({len(text)} characters)"


def _suggestion(name: str, known: tuple[str, ...]) -> str:
    near = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]}?" if near else f"; there are {', '.join(known)}."
