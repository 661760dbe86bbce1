"""Depth-guided generation as ComfyUI's nodes, by a server or in ComfyUI's own process.

The folder is a custom node as it stands: copied or linked into `custom_nodes`, under any name.
"""

from .adapter import Extension
from .extension import DepthwrightExtension

WEB_DIRECTORY = "./web"

__all__ = ["WEB_DIRECTORY", "comfy_entrypoint"]


async def comfy_entrypoint() -> Extension:
    """What ComfyUI asks for the nodes."""
    return DepthwrightExtension()
