"""What a checkpoint's head tells before its gigabytes are read."""

import json
from pathlib import Path

from depthwright.errors import WeightsInvalid

# The same layers under Black Forest Labs' names and diffusers', whatever stands before them.
_IMAGE_INPUT = ("img_in.weight", "x_embedder.weight")
_OUTPUT = ("final_layer.linear.weight", "proj_out.weight")
_LONGEST_HEAD = 100_000_000


def require_plain(model: Path) -> None:
    """Refuse a transformer that takes a control image already, such as FLUX.1-Depth-dev. Raises WeightsInvalid.

    The depth LoRA widens the image input of a plain one; on a wide one it would not fit.
    """
    inputs, outputs = _widths(model)
    if inputs and outputs and inputs > outputs:
        raise WeightsInvalid(
            f"{model.name} takes a control image already (its image input is {inputs} wide, its output {outputs}), as "
            "a depth checkpoint such as FLUX.1-Depth-dev does. The depth LoRA is made for the plain FLUX.1-dev: "
            "choose that one."
        )


def _widths(model: Path) -> tuple[int | None, int | None]:
    if model.is_dir():
        return _of_folder(model / "config.json")
    shapes = _shapes(model)
    return (
        next((shape[1] for name, shape in shapes if name.endswith(_IMAGE_INPUT) and len(shape) > 1), None),
        next((shape[0] for name, shape in shapes if name.endswith(_OUTPUT) and shape), None),
    )


def _of_folder(config: Path) -> tuple[int | None, int | None]:
    try:
        told = json.loads(config.read_text("utf-8"))
        inputs = int(told["in_channels"])
        return inputs, int(told.get("out_channels") or inputs)
    except (OSError, ValueError, LookupError, TypeError):  # whoever reads the folder whole says what is wrong
        return None, None


def _shapes(file: Path) -> list[tuple[str, list[int]]]:
    """The names and shapes in a safetensors file's head: eight bytes of its length, then JSON."""
    try:
        with file.open("rb") as opened:
            length = int.from_bytes(opened.read(8), "little")
            head = json.loads(opened.read(min(length, _LONGEST_HEAD)))
        return [(name, entry["shape"]) for name, entry in head.items() if name != "__metadata__"]
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise WeightsInvalid(f"{file} is no safetensors file that can be read.") from error
