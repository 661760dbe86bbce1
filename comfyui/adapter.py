"""ComfyUI as this pack uses it. No other module imports it, so a change of its interface is met here.

Written for the V3 interface, from ComfyUI 0.3.64 on.
"""

from pathlib import Path
from typing import Any

import comfy.model_management as memory
import comfy.utils
import folder_paths
from comfy_api.latest import ComfyExtension, io
from comfy_execution.graph_utils import ExecutionBlocker
from PIL import Image

# ComfyUI publishes no types, so its classes are bases of type Any; ours are what the other modules know.
Interrupted: type[BaseException] = memory.InterruptProcessingException
Output = io.NodeOutput
_CATEGORY = "depthwright"
_PREVIEW_SIDE = 512


class Node(io.ComfyNode):  # type: ignore[misc]
    """A node: `define_schema`, `execute`, and `validate_inputs` that names the inputs it checks and no others.

    A `validate_inputs` with keywords of any name would turn off ComfyUI's checks of ranges and choices.
    """


class Extension(ComfyExtension):  # type: ignore[misc]
    """A pack of nodes."""


def schema(node_id: str, title: str, description: str, inputs: list[Any], outputs: list[Any]) -> Any:
    """What a node is called, takes and gives."""
    return io.Schema(
        node_id=node_id,
        display_name=title,
        category=_CATEGORY,
        description=description,
        inputs=inputs,
        outputs=outputs,
    )


def text(name: str, help_: str, default: str = "", *, lines: bool = False, required: bool = False) -> Any:
    """A widget for text, of one line or several."""
    return io.String.Input(
        name, optional=not required, tooltip=help_, default=default, multiline=lines, dynamic_prompts=False
    )


def whole(name: str, help_: str, default: int, minimum: int, maximum: int, *, is_seed: bool = False) -> Any:
    """A widget for a whole number; a seed may be changed by ComfyUI after each run."""
    return io.Int.Input(
        name,
        optional=True,
        tooltip=help_,
        default=default,
        min=minimum,
        max=maximum,
        control_after_generate=is_seed or None,
    )


def number(name: str, help_: str, default: float, minimum: float, maximum: float, step: float) -> Any:
    """A widget for a number."""
    return io.Float.Input(
        name, optional=True, tooltip=help_, default=default, min=minimum, max=maximum, step=step
    )


def choice(name: str, help_: str, choices: tuple[str, ...], default: str) -> Any:
    """A widget for one of several words."""
    return io.Combo.Input(name, options=list(choices), optional=True, tooltip=help_, default=default)


def switch(name: str, help_: str, default: bool) -> Any:
    """A widget for yes or no."""
    return io.Boolean.Input(name, optional=True, tooltip=help_, default=default)


def picture(name: str, help_: str, *, required: bool = False) -> Any:
    """A socket for pictures [B, H, W, C]."""
    return io.Image.Input(name, optional=not required, tooltip=help_)


def socket(kind: str, name: str, help_: str) -> Any:
    """A socket for values of this pack's own."""
    return io.Custom(kind).Input(name, tooltip=help_)


def gives(kind: str, name: str, help_: str) -> Any:
    """An output: IMAGE, INT, STRING, or a kind of this pack's own."""
    kinds = {"IMAGE": io.Image, "INT": io.Int, "STRING": io.String}
    return kinds.get(kind, io.Custom(kind)).Output(name, display_name=name, tooltip=help_)


def blocked(why: str) -> Any:
    """An output that is not there: a node that needs it stops with these words, the others go on."""
    return ExecutionBlocker(why)


def raise_if_interrupted() -> None:
    """Raise Interrupted, once, when the user wants to stop."""
    memory.throw_exception_if_processing_interrupted()


def show_progress(done: int, of: int, preview: Image.Image | None = None) -> None:
    """Move the running node's bar, with a picture in the making. Raises Interrupted."""
    shown = ("JPEG", preview, _PREVIEW_SIDE) if preview else None
    comfy.utils.ProgressBar(of).update_absolute(done, of, shown)


def make_room() -> None:
    """Have ComfyUI's own models leave the device."""
    memory.unload_all_models()
    memory.soft_empty_cache()


def give_back() -> None:
    """Hand memory that nobody uses back to the device."""
    memory.soft_empty_cache()


def device() -> str:
    """The device that ComfyUI works on, by its torch name."""
    return str(memory.get_torch_device())


def model_files(folder: str) -> tuple[str, ...]:
    """The safetensors files in one of ComfyUI's model folders, such as loras."""
    return tuple(name for name in folder_paths.get_filename_list(folder) if name.endswith(".safetensors"))


def model_file(folder: str, name: str) -> Path | None:
    """Where such a file is; None if it is not there."""
    found = folder_paths.get_full_path(folder, name)
    return Path(found) if found else None
