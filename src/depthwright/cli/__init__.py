"""The command: one file a sub-command, one boundary where errors become sentences and exit codes."""

from depthwright.cli.app import main, run

__all__ = ["main", "run"]
