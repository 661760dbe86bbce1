"""Servers as processes: started on loopback, halted while another is measured, ended by their ids. Linux only."""

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

from benchmarks.service_client import Address, load, wait_until

ROOT = Path(__file__).parents[1]
_GRACE_SECONDS = 30
_LISTENS = re.compile(r"listens on http://([\d.]+):(\d+);")


class Server:
    """A process with all its children, and what it writes."""

    def __init__(self, name: str, command: list[str], output: Path, **options: object) -> None:
        self.name = name
        self.address: Address = ("127.0.0.1", 0)
        self._output = output
        environment = {**os.environ, **{key: str(value) for key, value in options.items()}}
        with output.open("ab") as file:
            self._process = subprocess.Popen(  # noqa: S603 - our own command
                command,
                cwd=ROOT,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The first process."""
        return self._process.pid

    def said(self) -> str:
        """Everything it wrote. Raises RuntimeError if it ended."""
        text = self._output.read_text(errors="replace")
        if self._process.poll() is not None:
            raise RuntimeError(f"{self.name} ended with {self._process.returncode}:\n{text[-3000:]}")
        return text

    def says(self, words: str) -> None:
        """Wait until it wrote this."""
        wait_until(lambda: words in self.said(), f"{self.name} never said {words!r}")

    def answers(self, ask: bytes) -> None:
        """Wait until it answers this."""

        def answered() -> bool:
            self.said()
            with contextlib.suppress(OSError, RuntimeError, EOFError, ValueError):
                load(self.address, [ask], 1)
                return True
            return False

        wait_until(answered, f"{self.name} never answered")

    def pause(self) -> None:
        """Stop it still, so that its idle work is not in another's figures."""
        self._tell(signal.SIGSTOP)

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Let it run for a while."""
        self._tell(signal.SIGCONT)
        try:
            yield
        finally:
            self.pause()

    def end(self) -> None:
        """End it and everything it started."""
        tree = self._tree()
        self._tell(signal.SIGCONT)
        self._process.terminate()
        try:
            self._process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        for pid in tree[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def cpu_seconds(self) -> float:
        """The time on a processor that it and its children had so far."""
        ticks = 0
        for pid in self._tree():
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")

    def _tell(self, what: signal.Signals) -> None:
        for pid in self._tree():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, what)

    def _tree(self) -> list[int]:
        return _descendants(self.pid)


def listening(said: str) -> Address:
    """The address that a server says it listens on."""
    found = _LISTENS.search(said)
    assert found is not None
    return found[1], int(found[2])


def _descendants(pid: int) -> list[int]:
    found = [pid]
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _descendants(int(child))
    return found
