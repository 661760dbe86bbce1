"""Waiting in a node that runs beside others: the user can stop it at any moment."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from . import adapter

_Value = TypeVar("_Value")
_TICK_SECONDS = 0.25


async def interruptible(work: Coroutine[Any, Any, _Value]) -> _Value:
    """What the work gives. Raises adapter.Interrupted, with the work ended, when the user wants to stop."""
    task = asyncio.ensure_future(work)
    try:
        while True:
            done, _ = await asyncio.wait({task}, timeout=_TICK_SECONDS)
            if done:
                return task.result()
            adapter.raise_if_interrupted()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task})
