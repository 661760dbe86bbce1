"""A spinner on a terminal, a line elsewhere."""

from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def waiting(what: str) -> Iterator[None]:
    """A spinner while one thing takes its time."""
    from rich.console import Console  # noqa: PLC0415 - the help needs no rich

    console = Console(stderr=True)
    if not console.is_terminal:
        console.print(f"{what} ...", highlight=False)
        yield
        return
    with console.status(f"{what} ..."):
        yield
