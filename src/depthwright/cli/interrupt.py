"""Ctrl-C that waits for the step in hand."""

import signal
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager
from types import FrameType
from typing import TypeVar

import click

_Item = TypeVar("_Item")


def until_interrupted(items: Generator[_Item, None, None]) -> Iterator[_Item]:
    """The items, until Ctrl-C: then the generator is closed where it stands, and click.Abort raised.

    A second Ctrl-C does not wait.
    """
    with closing(items), _interruption() as interrupted:
        for item in items:
            yield item
            if interrupted():
                raise click.Abort


@contextmanager
def _interruption() -> "Iterator[_Flag]":
    flag = _Flag()
    before = signal.signal(signal.SIGINT, flag.raise_)
    try:
        yield flag
    finally:
        signal.signal(signal.SIGINT, before)


class _Flag:
    def __init__(self) -> None:
        self._is_set = False

    def __call__(self) -> bool:
        return self._is_set

    def raise_(self, _signal: int, _frame: FrameType | None) -> None:
        if self._is_set:
            raise KeyboardInterrupt
        self._is_set = True
        click.echo("depthwright: stopping after this step; Ctrl-C again stops at once.", err=True)
