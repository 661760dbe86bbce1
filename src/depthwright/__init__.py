"""A prompt and a depth map become a picture.

>>> from depthwright import Engine
>>> engine = Engine.load("embedded")
>>> result = engine.generate(prompt="a red cube on a wooden floor", control_image="depth.png")
"""

from typing import TYPE_CHECKING, Any

from depthwright.loras import LoraFile

if TYPE_CHECKING:
    from depthwright.engine.engine import Engine

__all__ = ["Engine", "LoraFile", "__version__"]

__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    """`Engine` on first use: importing depthwright alone loads no torch."""
    if name == "Engine":
        from depthwright.assembly import engine_class  # noqa: PLC0415 - the engine is heavy

        return engine_class()
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
