"""The disk, where it is waited for and where it is full."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

from depthwright.errors import DiskFull

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


@contextlib.contextmanager
def told_full() -> Iterator[None]:
    """A full disk in our words. Raises DiskFull."""
    try:
        yield
    except OSError as error:
        if error.errno in _NO_ROOM:
            raise DiskFull("The server's disk is full: its operator has to free some room.") from error
        raise


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
