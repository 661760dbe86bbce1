"""Talks to a depthwright server.

>>> from depthwright.clients import Client
>>> client = Client("http://127.0.0.1:8000", key)
>>> client.generate(prompt="a red cube on a wooden floor").images[0].save("cube.png")
"""

from typing import TYPE_CHECKING, Any

from depthwright.clients.errors import (
    AnswerInvalid,
    ClientNotInstalled,
    KeyInvalid,
    PredictionFailed,
    PredictionStopped,
    ServerFailed,
    ServerRefused,
    ServerUnreachable,
    TimedOut,
)
from depthwright.clients.predictions import Generated, Page, Prediction, Progress, Update

if TYPE_CHECKING:
    from depthwright.clients.asynchronous import AsyncClient
    from depthwright.clients.blocking import Client

__all__ = [
    "AnswerInvalid",
    "AsyncClient",
    "Client",
    "ClientNotInstalled",
    "Generated",
    "KeyInvalid",
    "Page",
    "Prediction",
    "PredictionFailed",
    "PredictionStopped",
    "Progress",
    "ServerFailed",
    "ServerRefused",
    "ServerUnreachable",
    "TimedOut",
    "Update",
]


def __getattr__(name: str) -> Any:
    """The clients on first use: importing the package alone loads no HTTP library. Raises ClientNotInstalled."""
    if name not in ("AsyncClient", "Client"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        from depthwright.clients import asynchronous, blocking  # noqa: PLC0415 - the library may be missing
    except ModuleNotFoundError as error:
        if error.name != "httpx":
            raise
        raise ClientNotInstalled(
            "What talks to a server is not installed (httpx missing): pip install 'depthwright[client]'"
        ) from error
    return blocking.Client if name == "Client" else asynchronous.AsyncClient
