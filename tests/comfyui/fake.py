"""As much of ComfyUI as the pack's adapter uses, faithful to it: what a real one answers is compared in acceptance.

`Comfy.run` does with a node what ComfyUI does: judges the inputs as its `validate_inputs` does, then executes.
"""

import asyncio
import inspect
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any


class Interrupt(BaseException):
    """ComfyUI's own, raised by whatever looks whether the user wants to stop."""


class Invalid(Exception):
    """The inputs are not accepted: ComfyUI shows this at the node, and runs nothing."""


@dataclass(frozen=True)
class Link:
    """A value that another node gives: it is not known when the inputs are judged."""

    value: Any


class Blocker:
    """In the place of an output that is not there."""

    def __init__(self, message: str | None) -> None:
        self.message = message


@dataclass
class Input:
    """An input; `extra` are the settings of its kind."""

    kind: str
    id: str
    optional: bool = False
    extra: dict[str, Any] = field(default_factory=dict)

    def info(self) -> dict[str, Any]:
        """As ComfyUI's page of a node's inputs has it: absent settings are left out."""
        return {name: value for name, value in self.extra.items() if value is not None}


@dataclass
class Output:
    """An output."""

    kind: str
    id: str | None = None
    display_name: str | None = None
    tooltip: str | None = None


@dataclass
class Schema:
    """What a node is called, takes and gives."""

    node_id: str
    display_name: str
    category: str
    description: str
    inputs: list[Input]
    outputs: list[Output]


class NodeOutput:
    """What a node gives."""

    def __init__(self, *args: Any) -> None:
        self.args = args

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The outputs; None if there are none."""
        return self.args or None


class ComfyNode:
    """The base of nodes."""

    @classmethod
    def define_schema(cls) -> Schema:
        """Given by each node."""
        raise NotImplementedError


class ComfyExtension(ABC):
    """The base of packs."""

    @abstractmethod
    async def get_node_list(self) -> list[type[ComfyNode]]:
        """Given by each pack."""


def _kind(name: str, *allowed: str, input_kind: str | None = None) -> SimpleNamespace:
    def an_input(id: str, *, optional: bool = False, tooltip: str | None = None, **extra: Any) -> Input:  # noqa: A002
        unknown = set(extra) - set(allowed)
        assert not unknown, f"{name}.Input takes no {unknown}"
        renamed = {"dynamicPrompts" if key == "dynamic_prompts" else key: extra[key] for key in extra}
        return Input(input_kind or name, id, optional, {"tooltip": tooltip, **renamed})

    def an_output(
        id: str | None = None,  # noqa: A002
        *,
        display_name: str | None = None,
        tooltip: str | None = None,
    ) -> Output:
        return Output(name, id, display_name, tooltip)

    return SimpleNamespace(Input=an_input, Output=an_output)


class Comfy:
    """The process: its modules, its folders, and what it saw."""

    def __init__(self, models: Path) -> None:
        self.models = models
        self.reset()

    def reset(self) -> None:
        """As after a start."""
        self.interrupted = False
        self.progress: list[tuple[int, int, Any]] = []
        self.unloads = 0
        self.interrupt_at: int | None = None

    def interrupt(self) -> None:
        """The user presses the button."""
        self.interrupted = True

    def modules(self) -> dict[str, ModuleType]:
        """What the adapter imports, by name."""
        io = SimpleNamespace(
            ComfyNode=ComfyNode,
            NodeOutput=NodeOutput,
            Schema=Schema,
            Custom=_kind,
            Image=_kind("IMAGE"),
            Int=_kind("INT", "default", "min", "max", "control_after_generate"),
            Float=_kind("FLOAT", "default", "min", "max", "step"),
            String=_kind("STRING", "default", "multiline", "dynamic_prompts"),
            Boolean=_kind("BOOLEAN", "default"),
            Combo=_kind("COMBO", "default", "options"),
        )
        memory = _module(
            "comfy.model_management",
            InterruptProcessingException=Interrupt,
            throw_exception_if_processing_interrupted=self._throw,
            unload_all_models=self._unload,
            soft_empty_cache=lambda: None,
            get_torch_device=lambda: "cpu",
        )
        utils = _module("comfy.utils", ProgressBar=self._bar)
        return {
            "comfy": _module("comfy", model_management=memory, utils=utils),
            "comfy.model_management": memory,
            "comfy.utils": utils,
            "comfy_api": _module("comfy_api"),
            "comfy_api.latest": _module("comfy_api.latest", ComfyExtension=ComfyExtension, io=io),
            "comfy_execution": _module("comfy_execution"),
            "comfy_execution.graph_utils": _module("comfy_execution.graph_utils", ExecutionBlocker=Blocker),
            "folder_paths": _module(
                "folder_paths", get_filename_list=self._files, get_full_path=self._full_path
            ),
        }

    def run(self, node: type[Any], **inputs: Any) -> tuple[Any, ...]:
        """What a node gives. Raises Invalid, and whatever the node raises."""
        given = self.judged(node, inputs)
        schema = node.define_schema()
        clone: Any = type(node.__name__, (node,), {})
        outcome = clone.execute(**given)
        if inspect.iscoroutine(outcome):
            outcome = asyncio.run(outcome)
        assert isinstance(outcome, NodeOutput)
        assert len(outcome.args) == len(schema.outputs)
        return outcome.args

    def judged(self, node: type[Any], inputs: Mapping[str, Any]) -> dict[str, Any]:
        """The inputs, unlinked and converted. What `validate_inputs` names is judged by that alone."""
        known = {each.id: each for each in node.define_schema().inputs}
        assert not set(inputs) - set(known), f"there is no input {set(inputs) - set(known)}"
        check = getattr(node, "validate_inputs", None)
        argspec = inspect.getfullargspec(check) if check else None
        named = argspec.args if argspec else []
        assert argspec is None or argspec.varkw is None, "**kwargs would turn off every check of a range"
        given: dict[str, Any] = {}
        for name, each in known.items():
            if name not in inputs:
                if not each.optional:
                    raise Invalid(f"Required input is missing: {name}")
                continue
            value = inputs[name]
            if isinstance(value, Link):
                given[name] = value.value
                continue
            given[name] = value = _converted(each, value)
            if name not in named:
                _check_range(each, value)
        if check:
            told = {name: given[name] for name in named if name in given and not _linked(inputs[name])}
            if (verdict := check(**told)) is not True:
                raise Invalid(str(verdict))
        return given

    def _throw(self) -> None:
        if self.interrupted:
            self.interrupted = False
            raise Interrupt

    def _unload(self) -> None:
        self.unloads += 1

    def _bar(self, total: int) -> SimpleNamespace:
        def update_absolute(value: int, total_now: int | None = None, preview: Any = None) -> None:
            self._throw()
            self.progress.append((value, total_now or total, preview))
            if self.interrupt_at is not None and value >= self.interrupt_at:
                self.interrupt()

        return SimpleNamespace(update_absolute=update_absolute)

    def _files(self, folder: str) -> list[str]:
        return sorted(path.name for path in (self.models / folder).glob("*"))

    def _full_path(self, folder: str, name: str) -> str | None:
        place = self.models / folder / name
        return str(place) if place.is_file() else None


def input_page(node: type[Any]) -> dict[str, dict[str, Any]]:
    """A node's inputs as ComfyUI's `/object_info` has them."""
    page: dict[str, dict[str, Any]] = {}
    for each in node.define_schema().inputs:
        page.setdefault("optional" if each.optional else "required", {})[each.id] = [each.kind, each.info()]
    return page


def _module(name: str, **content: Any) -> ModuleType:
    module = ModuleType(name)
    for each, value in content.items():
        setattr(module, each, value)
    return module


def _linked(value: Any) -> bool:
    return isinstance(value, Link)


def _converted(each: Input, value: Any) -> Any:
    converters: dict[str, Any] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
    try:
        return converters[each.kind](value) if each.kind in converters else value
    except (TypeError, ValueError) as error:
        raise Invalid(
            f"Failed to convert an input value to a {each.kind} value: {each.id}, {value}"
        ) from error


def _check_range(each: Input, value: Any) -> None:
    extra = each.info()
    if "min" in extra and value < extra["min"]:
        raise Invalid(f"Value {value} smaller than min of {extra['min']}: {each.id}")
    if "max" in extra and value > extra["max"]:
        raise Invalid(f"Value {value} bigger than max of {extra['max']}: {each.id}")
    if "options" in extra and value not in extra["options"]:
        raise Invalid(f"Value not in list: {each.id}: {value!r}")
