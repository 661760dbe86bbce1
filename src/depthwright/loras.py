"""Which LoRAs a request brings, as files: what can be judged of them before anything is read."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from depthwright.errors import InvalidParameter, WeightsInvalid, WeightsMissing

MOST, SCALE_MAX = 5, 4


@dataclass(frozen=True)
class LoraFile:
    """A safetensors file of this machine, and how strongly it acts: 0 not at all, 1 as trained, 4 at most."""

    path: Path
    scale: float = 1.0

    @classmethod
    def parse(cls, text: str) -> "LoraFile":
        """Read `FILE` or `FILE=SCALE`."""
        place, separator, scale = text.rpartition("=")
        try:
            return cls(Path(place).expanduser(), float(scale)) if separator else cls(Path(text).expanduser())
        except ValueError:  # the sign belongs to the file's name
            return cls(Path(text).expanduser())


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
        if file.path.suffix != ".safetensors":
            raise WeightsInvalid(
                f"{file.path} is no safetensors file: pickled weights are never read, convert it first."
            )
