"""Inputs of nodes, made from the one table of parameters, and what is in them as a request."""

from collections.abc import Iterable, Mapping
from typing import Any

from depthwright.errors import InvalidParameter
from depthwright.loras import ALLOWED, MOST, SCALE_MAX, parted
from depthwright.parameters import PARAMETERS, GenerationParameters, Parameter, SizeBounds
from depthwright.request import REQUEST_PARAMETERS

from . import adapter

# Control images come by sockets and widgets of their own, pictures as files; a node that waits needs no sync mode.
NOT_WIDGETS = ("control_image", "enable_base64_output", "enable_sync_mode")
GENERATION = tuple(row for row in PARAMETERS if row.name not in NOT_WIDGETS)
REQUEST = tuple(row for row in REQUEST_PARAMETERS if row.name not in NOT_WIDGETS)
# A server has bounds of its own, and tells them.
ANY_SIZE = SizeBounds(1, 99_999)
# Text with a widget of several lines.
_LINES = ("prompt", "loras")
_STEP = 0.05
_LORAS = "One a line, each NAME or NAME=SCALE: "


def widgets(rows: Iterable[Parameter]) -> list[Any]:
    """An input for every row, in the table's order."""
    return [_widget(row) for row in rows]


def lora_files() -> Any:
    """The input for LoRAs that lie in ComfyUI's own folder."""
    return adapter.text(
        "loras",
        f"LoRAs for FLUX, of a style or a subject, that act after the depth LoRA. {_LORAS}files of ComfyUI's folder "
        f"models/loras, {MOST} at most, with a scale from 0 to {SCALE_MAX}.",
        lines=True,
    )


def fields(given: Mapping[str, Any]) -> dict[str, Any]:
    """What the widgets say as a request's fields; an empty text says nothing."""
    said = {
        name: value
        for name, value in given.items()
        if not (isinstance(value, str) and not value.strip() and name != "prompt")
    }
    if "loras" in said:
        said["loras"] = [{"path": path, "scale": scale} for path, scale in loras(said["loras"])]
    return said


def loras(lines: str) -> list[tuple[str, float]]:
    """Places and scales. Raises InvalidParameter for too many, or a scale out of range."""
    found = [parted(line.strip()) for line in lines.splitlines() if line.strip()]
    if len(found) > MOST:
        raise InvalidParameter("loras", f"a list of {len(found)}", ALLOWED)
    for place, scale in found:
        # A scale that is no number fails this comparison too.
        if not 0 <= scale <= SCALE_MAX:
            raise InvalidParameter(f"the scale of {place}", scale, f"a number from 0 to {SCALE_MAX}")
    return found


def verdict(bounds: SizeBounds, prompt: str | None, size: str | None, lines: str | None) -> bool | str:
    """True, or what is wrong. None stands for what another node will give, when it is too early to judge."""
    try:
        GenerationParameters.from_user(
            size_bounds=bounds, prompt="later" if prompt is None else prompt, size=size
        )
        loras(lines or "")
    except InvalidParameter as error:
        return str(error)
    return True


def newness(seed: int | None) -> float | str:
    """What ComfyUI compares to know whether a node must run again: a random seed equals nothing, not even itself."""
    return float("nan") if seed in (None, -1) else ""


def _widget(row: Parameter) -> Any:
    help_ = _help(row)
    match row.kind:
        case "number":
            low, high = _range(row)
            return adapter.number(row.name, help_, float(str(row.default)), low, high, _STEP)
        case "whole number":
            low, high = _range(row)
            is_seed = row.name == "seed"
            default = -1 if row.default is None else int(str(row.default))
            return adapter.whole(
                row.name, help_, default, -1 if is_seed else int(low), int(high), is_seed=is_seed
            )
        case "choice":
            return adapter.choice(row.name, help_, row.choices, row.shown_default)
        case "switch":
            return adapter.switch(row.name, help_, default=row.default is True)
        case "text" | "words" | "size":
            default_text = row.shown_default if row.kind == "size" else ""
            return adapter.text(
                row.name, help_, default_text, lines=row.name in _LINES, required=row.required
            )
        case _:
            raise TypeError(f"no widget is known for {row.name}, a {row.kind}")


def _help(row: Parameter) -> str:
    if row.name == "loras":
        return f"{row.help} {_LORAS}an https URL, a repository of the hub such as user/name, or a name on the server."
    return row.help if row.kind in ("text", "choice", "switch") else f"{row.help} It must be {row.allowed}."


def _range(row: Parameter) -> tuple[float, float]:
    if row.minimum is None or row.maximum is None:
        raise TypeError(f"{row.name} is a number without a range")
    return row.minimum, row.maximum
