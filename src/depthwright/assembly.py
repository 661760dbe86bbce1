"""Where settings become objects, and nowhere else."""

import importlib.util
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from depthwright.errors import EngineNotInstalled
from depthwright.parameters import Compile
from depthwright.ports import DepthMapper, Engine
from depthwright.quietly import quietly
from depthwright.settings import Settings

if TYPE_CHECKING:
    from depthwright.engine.engine import Engine as DepthEngine

_SERVING = (
    "alembic",
    "fastapi",
    "fastapi_offline",
    "httpx",
    "httpx_secure",
    "limits",
    "sqlalchemy",
    "uvicorn",
)
_HEAVY = ("torch", "diffusers", "transformers", "safetensors", "scipy", "numpy", "huggingface_hub")


class EngineLoader(Protocol):
    """Loads an engine: a profile's name or TOML file, a torch device, and folders or files by source name."""

    def __call__(
        self,
        profile: str,
        *,
        device: str | None,
        overrides: Mapping[str, Path],
        cache_dir: Path,
        compile_: Compile,
    ) -> Engine:
        """The engine, ready to generate."""
        ...


class MapperLoader(Protocol):
    """Loads what makes depth maps, and no more: the choices are those of an engine."""

    def __call__(self, profile: str, *, device: str | None, overrides: Mapping[str, Path]) -> DepthMapper:
        """The mapper, ready to work."""
        ...


def load_engine(
    profile: str, *, device: str | None, overrides: Mapping[str, Path], cache_dir: Path, compile_: Compile
) -> Engine:
    """The engine of this package, with nothing on stderr but what the command says.

    Raises EngineNotInstalled, UnknownProfile, WeightsMissing, WeightsInvalid or OutOfMemory.
    """
    engine = engine_class()
    from depthwright.engine.quiet import silence  # noqa: PLC0415 - the engine is heavy

    silence()
    return engine.load(profile, device=device, overrides=overrides, cache_dir=cache_dir, compile_=compile_)


def load_mapper(profile: str, *, device: str | None, overrides: Mapping[str, Path]) -> DepthMapper:
    """The depth estimator of a profile. Raises as `load_engine` does."""
    require_engine()
    with quietly():
        from depthwright.engine.mapper import DepthMapper as Mapper  # noqa: PLC0415 - the engine is heavy
        from depthwright.engine.quiet import silence  # noqa: PLC0415 - the same

    silence()
    return Mapper.load(profile, device=device, overrides=overrides)


def engine_class() -> "type[DepthEngine]":
    """The class itself, imported on first use. Raises EngineNotInstalled."""
    require_engine()
    with quietly():
        from depthwright.engine.engine import Engine as DepthEngine  # noqa: PLC0415 - the engine is heavy

    return DepthEngine


def require_engine() -> None:
    """Make sure that the engine's libraries are there, without importing them. Raises EngineNotInstalled."""
    missing = [name for name in _HEAVY if not _is_installed(name)]
    if missing:
        raise EngineNotInstalled(
            f"The engine is not installed ({', '.join(missing)} missing): pip install 'depthwright[engine]'"
        )


def require_server() -> None:
    """Make sure that the service's libraries are there, without importing them. Raises EngineNotInstalled."""
    missing = [name for name in _SERVING if not _is_installed(name)]
    if missing:
        raise EngineNotInstalled(
            f"The server is not installed ({', '.join(missing)} missing): pip install 'depthwright[server]'"
        )


@dataclass(frozen=True)
class Assembly:
    """The parts that a command works with."""

    settings: Settings
    load_engine: EngineLoader = load_engine
    load_mapper: MapperLoader = load_mapper
    worker_command: tuple[str, ...] = (sys.executable, "-m", "depthwright", "worker")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was blocked or half removed has no spec
        return False
