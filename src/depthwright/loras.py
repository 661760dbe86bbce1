"""Which LoRAs a request brings: what can be judged of them before anything is fetched or read."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthwright.errors import InvalidParameter, WeightsInvalid, WeightsMissing

MOST, SCALE_MAX = 5, 4
PATH_MAX = 2048
SUFFIX = ".safetensors"
_PART = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,95}"
_REPOSITORY, _FILE = rf"{_PART}/{_PART}", rf"({_PART}/)*{_PART}\.safetensors"
# What a server takes: a URL; a repository of the hub, with a file in it where it has several; a name of its own folder.
URL = re.compile(r"[hH][tT][tT][pP][sS]?://[!-~]+")
HUB = re.compile(rf"(?P<repository>{_REPOSITORY})(/(?P<file>{_FILE}))?")
NAME = re.compile(_PART)
FORM = f"^({URL.pattern}|{_REPOSITORY}(/{_FILE})?|{_PART})$"
ALLOWED = (
    f'a list of at most {MOST}, each {{"path": ..., "scale": 0 to {SCALE_MAX}}} with an https URL, a repository of '
    "the hub such as user/name, or the name of one on this server"
)


@dataclass(frozen=True)
class LoraFile:
    """A safetensors file of this machine, and how strongly it acts: 0 not at all, 1 as trained, 4 at most."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "LoraFile":
        """Read `FILE` or `FILE=SCALE`."""
        place, scale = parted(text)
        return cls(Path(place).expanduser(), scale)


def parted(text: str) -> tuple[str, float]:
    """Read `PLACE` or `PLACE=SCALE`: where a LoRA is, and how strongly it acts."""
    place, separator, scale = text.rpartition("=")
    try:
        return (place, float(scale)) if separator else (text, 1.0)
    except ValueError:  # the sign belongs to the place
        return text, 1.0


def check(files: Sequence[LoraFile]) -> None:
    """Raises InvalidParameter for too many or a scale out of range, WeightsMissing or WeightsInvalid for a file."""
    if len(files) > MOST:
        raise InvalidParameter("loras", f"a list of {len(files)}", f"a list of at most {MOST}")
    for file in files:
        # A scale that is no number fails this comparison too.
        if not 0 <= file.scale <= SCALE_MAX:
            raise InvalidParameter("the scale of a LoRA", file.scale, f"a number from 0 to {SCALE_MAX}")
        if not file.path.is_file():
            raise WeightsMissing(f"There is no LoRA at {file.path}.")
        if file.path.suffix != SUFFIX:
            raise WeightsInvalid(
                f"{file.path} is no safetensors file: pickled weights are never read, convert it first."
            )
