"""Where things are in the folder of data."""

from pathlib import Path
from typing import NamedTuple


class Places(NamedTuple):
    """The folder that holds everything the server keeps."""

    folder: Path

    @property
    def database(self) -> Path:
        """The SQLite file."""
        return self.folder / "depthwright.sqlite3"

    @property
    def outputs(self) -> Path:
        """The pictures that were made."""
        return self.folder / "outputs"

    @property
    def loras(self) -> Path:
        """The LoRAs that the operator put here: requests name them."""
        return self.folder / "loras"

    @property
    def lora_cache(self) -> Path:
        """Those that were fetched."""
        return self.folder / "lora-cache"

    @property
    def uploads(self) -> Path:
        """The pictures that clients sent."""
        return self.folder / "uploads"
