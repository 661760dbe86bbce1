"""The nodes, and the one thing that outlives a run of theirs."""

from .adapter import Extension, Node
from .engines import EngineHolder
from .nodes.connection import ConnectionNode
from .nodes.depth_map import DepthMapNode
from .nodes.fetch_result import FetchResultNode
from .nodes.generate_api import GenerateByServerNode
from .nodes.generate_local import GenerateLocallyNode
from .nodes.load_engine import load_engine_node


class DepthwrightExtension(Extension):
    """Made once by ComfyUI. It holds what knows which engine has its weights in memory."""

    def __init__(self) -> None:
        super().__init__()
        self._holder = EngineHolder()

    async def get_node_list(self) -> list[type[Node]]:
        """The six nodes."""
        return [
            ConnectionNode,
            GenerateByServerNode,
            FetchResultNode,
            load_engine_node(self._holder),
            DepthMapNode,
            GenerateLocallyNode,
        ]
