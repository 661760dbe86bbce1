"""Depth Map: photos become depth maps."""

from typing import Any

from .. import adapter
from ..engines import EngineHandle
from ..tensors import as_outside, to_batch, to_pictures
from .load_engine import KIND


class DepthMapNode(adapter.Node):
    """Needs an engine's depth estimator alone."""

    @classmethod
    def define_schema(cls) -> Any:
        """Its inputs and outputs."""
        return adapter.schema(
            "DepthwrightDepthMap",
            "Depthwright Depth Map",
            "The depth of each photo: grey, near is bright, of the photo's size. Of the engine only its depth "
            "estimator is loaded.",
            inputs=[
                adapter.socket(KIND, "engine", "Whose depth estimator."),
                adapter.picture("image", "Photos.", required=True),
            ],
            outputs=[adapter.gives("IMAGE", "depth_map", "Depth maps; near is bright.")],
        )

    @classmethod
    def execute(cls, engine: EngineHandle, image: Any) -> Any:
        """Photo by photo."""
        photos = to_pictures(image)
        mapper = engine.mapper()
        depths = []
        for number, photo in enumerate(photos):
            adapter.show_progress(number, len(photos))
            with as_outside():
                depths.append(mapper.depth(photo.convert("RGB")))
        adapter.show_progress(len(photos), len(photos))
        return adapter.Output(to_batch(depths))
