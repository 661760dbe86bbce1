"""Where settings become objects, and nowhere else."""

import importlib.util
import sys
from collections.abc import Callable, Collection, Mapping
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
    from depthwright.provenance.marking import Marker

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
_HEAVY = ("torch", "diffusers", "transformers", "safetensors", "numpy", "huggingface_hub")


class EngineLoader(Protocol):
    """Loads an engine: a profile's name or TOML file, a torch device, and folders or files by source name.

    `unchecked` names the profile that may do without its image checker; `policy_off` are categories of the prompt
    policy that do not act.
    """

    def __call__(
        self,
        profile: str,
        *,
        device: str | None,
        overrides: Mapping[str, Path],
        cache_dir: Path,
        compile_: Compile,
        unchecked: str | None,
        policy_off: Collection[str],
    ) -> Engine:
        """The engine, ready to generate."""
        ...


class MapperLoader(Protocol):
    """Loads what makes depth maps, and no more: the choices are those of an engine."""

    def __call__(self, profile: str, *, device: str | None, overrides: Mapping[str, Path]) -> DepthMapper:
        """The mapper, ready to work."""
        ...


def load_engine(
    profile: str,
    *,
    device: str | None,
    overrides: Mapping[str, Path],
    cache_dir: Path,
    compile_: Compile,
    unchecked: str | None,
    policy_off: Collection[str],
) -> Engine:
    """The engine of this package, with nothing on stderr but what the command says.

    Raises EngineNotInstalled, UnknownProfile, UncheckedProfile, WeightsMissing, WeightsInvalid or OutOfMemory.
    """
    engine = engine_class()
    from depthwright.engine.quiet import silence  # noqa: PLC0415 - the engine is heavy

    silence()
    return engine.load(
        profile,
        device=device,
        overrides=overrides,
        cache_dir=cache_dir,
        compile_=compile_,
        unchecked=unchecked,
        policy_off=policy_off,
    )


def load_mapper(profile: str, *, device: str | None, overrides: Mapping[str, Path]) -> DepthMapper:
    """The depth estimator of a profile. Raises as `load_engine` does."""
    require_engine()
    with quietly():
        from depthwright.engine.mapper import DepthMapper as Mapper  # noqa: PLC0415 - the engine is heavy
        from depthwright.engine.quiet import silence  # noqa: PLC0415 - the same

    silence()
    return Mapper.load(profile, device=device, overrides=overrides)


def make_marker(settings: Settings) -> "Marker":
    """What marks this installation's pictures. Raises EngineNotInstalled, InvalidParameter or OutputNotWritable."""
    from depthwright.provenance.certificates import given_certificate, own_certificate  # noqa: PLC0415 - slow to import
    from depthwright.provenance.marking import Marker  # noqa: PLC0415 - the same

    if settings.certificate and settings.certificate_key:
        identity = given_certificate(settings.certificate, settings.certificate_key)
    else:
        identity = own_certificate(settings.certificates)
    return Marker(identity, keep_prompts=settings.prompts_in_files)


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
    make_marker: "Callable[[Settings], Marker]" = make_marker
    worker_command: tuple[str, ...] = (sys.executable, "-m", "depthwright", "worker")


def _is_installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except ValueError:  # a module that was blocked or half removed has no spec
        return False
