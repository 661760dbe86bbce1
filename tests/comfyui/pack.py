"""The pack in a process, as the tests hold it."""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.comfyui.fake import Comfy

SOURCE = Path(__file__).parents[2] / "comfyui"


@dataclass(frozen=True)
class Pack:
    """The fake ComfyUI, the name that the pack was loaded under, and its nodes by id."""

    comfy: Comfy
    name: str
    nodes: dict[str, type[Any]]

    def module(self, name: str) -> Any:
        """One of the pack's modules."""
        return sys.modules[f"{self.name}.{name}"]

    def run(self, node_id: str, **inputs: Any) -> tuple[Any, ...]:
        """What a node gives."""
        return self.comfy.run(self.nodes[node_id], **inputs)

    def outputs(self, node_id: str, **inputs: Any) -> dict[str, Any]:
        """What a node gives, by the outputs' names."""
        names = [each.id for each in self.nodes[node_id].define_schema().outputs]
        return dict(zip(names, self.run(node_id, **inputs), strict=True))
