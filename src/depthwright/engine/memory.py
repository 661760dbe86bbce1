"""Out of memory, in whichever words torch says it, becomes one error of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from depthwright.errors import OutOfMemory

_WORDS = ("out of memory", "can't allocate memory", "cannot allocate memory")


@contextmanager
def memory_guard(doing: str) -> Iterator[None]:
    """Turn running out of memory while `doing` something into OutOfMemory."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if is_out_of_memory(error):
            raise _told(doing) from error
        raise


def is_out_of_memory(error: BaseException) -> bool:
    """Whether this is memory running out, of the machine or of its accelerator."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU allocator has no exception of its own.
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _WORDS)


def free_memory() -> None:
    """Give an accelerator's unused memory back, where there is one."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _told(doing: str) -> OutOfMemory:
    free_memory()
    return OutOfMemory(
        f"There is not enough memory for {doing}. Ask for a smaller size or fewer images, close other programs, or "
        "use a profile that needs less, such as flux-dev-offload."
    )
