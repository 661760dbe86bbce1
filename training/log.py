"""Training logs: small CSV files, one row a while, readable by eye and by the plots."""

from __future__ import annotations

import csv
from pathlib import Path


class Log:
    """Appends rows to a CSV file; the header is written once, so a resumed phase goes on in the same file."""

    def __init__(self, path: Path, columns: tuple[str, ...]) -> None:
        self.path, self.columns = path, columns
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("w", newline="") as file:
                csv.writer(file).writerow(columns)

    def row(self, **values: float) -> None:
        """Write one row."""
        with self.path.open("a", newline="") as file:
            csv.writer(file).writerow([f"{values[column]:.6g}" for column in self.columns])
