"""Workflows as ComfyUI's page saves them, made into what its server takes."""

import json
from typing import Any

from tests.comfyui.pack import SOURCE

EXAMPLES = SOURCE / "example_workflows"
_AFTER_GENERATE = ("fixed", "increment", "decrement", "randomize")
# Widgets and nodes of the page alone.
_BUTTONS = ("upload",)
_NOTES = ("Note", "MarkdownNote")

Prompt = dict[str, dict[str, Any]]


def prompt_of(name: str) -> Prompt:
    """An example workflow as a prompt."""
    workflow = json.loads((EXAMPLES / f"{name}.json").read_text("utf-8"))
    links = {link[0]: [str(link[1]), link[2]] for link in workflow["links"]}
    return {
        str(node["id"]): {"class_type": node["type"], "inputs": _inputs(node, links)}
        for node in workflow["nodes"]
        if node["type"] not in _NOTES
    }


def node_of(prompt: Prompt, kind: str) -> dict[str, Any]:
    """The inputs of the one node of a kind."""
    (inputs,) = (node["inputs"] for node in prompt.values() if node["class_type"] == kind)
    found: dict[str, Any] = inputs
    return found


def id_of(prompt: Prompt, kind: str) -> str:
    """The id of the one node of a kind."""
    (found,) = (name for name, node in prompt.items() if node["class_type"] == kind)
    return found


def _inputs(node: dict[str, Any], links: dict[int, list[Any]]) -> dict[str, Any]:
    values = list(node.get("widgets_values") or [])
    inputs: dict[str, Any] = {}
    for each in node.get("inputs", []):
        name, is_widget = each["name"], "widget" in each
        value = values.pop(0) if is_widget and values else None
        if name.endswith("seed") and values and values[0] in _AFTER_GENERATE:
            values.pop(0)
        if each.get("link") is not None:
            inputs[name] = links[each["link"]]
        elif is_widget and name not in _BUTTONS:
            inputs[name] = value
    return inputs
