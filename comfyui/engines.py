"""Which engine has its weights in memory, and how they get there and away.

ComfyUI keeps what Load Engine gives, an EngineHandle, as long as that node stands unchanged in the graph, and drops it
when it is changed, or when the user frees memory. The handle owns the weights, so they go with it. The holder, which
the extension owns, remembers the last handle that loaded, weakly: a second one takes its place, so that never two
engines are in memory.
"""

import gc
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from depthwright.assembly import Assembly
from depthwright.ports import DepthMapper, Engine
from depthwright.settings import Settings

from . import adapter
from .tensors import as_outside


@dataclass(frozen=True)
class Recipe:
    """Which engine: a profile's name or TOML file, a device, and parts taken from this machine."""

    profile: str
    device: str
    overrides: Mapping[str, Path]


def from_environment() -> Assembly:
    """The parts of this installation, as its settings have them."""
    return Assembly(Settings.from_environment())


class EngineHolder:
    """Lets one handle at a time have weights in memory."""

    def __init__(self, assemble: Callable[[], Assembly] = from_environment) -> None:
        self.assemble = assemble
        self._latest: weakref.ref[EngineHandle] | None = None

    def handle(self, recipe: Recipe) -> "EngineHandle":
        """A handle without weights yet."""
        return EngineHandle(recipe, self)

    def make_room_for(self, handle: "EngineHandle") -> None:
        """Have whatever else has weights on the device leave it: another handle's, and ComfyUI's own models."""
        latest = self._latest() if self._latest else None
        if latest is not None and latest is not handle:
            latest.unload()
        self._latest = weakref.ref(handle)
        adapter.make_room()


class EngineHandle:
    """An engine, loaded when it is first needed and again after it was unloaded."""

    def __init__(self, recipe: Recipe, holder: EngineHolder) -> None:
        self.recipe = recipe
        self._holder = holder
        self._engine: Engine | None = None
        self._mapper: DepthMapper | None = None

    @property
    def settings(self) -> Settings:
        """The settings it is loaded with."""
        return self._holder.assemble().settings

    @property
    def is_loaded(self) -> bool:
        """Whether any of its weights are in memory."""
        return self._engine is not None or self._mapper is not None

    def engine(self) -> Engine:
        """The engine. Raises EngineNotInstalled, WeightsMissing, WeightsInvalid, UncheckedProfile or OutOfMemory."""
        if self._engine is None:
            self.unload()
            self._holder.make_room_for(self)
            assembly = self._holder.assemble()
            assembly.settings.keep_compiled()
            with as_outside():
                self._engine = assembly.load_engine(
                    self.recipe.profile,
                    device=self.recipe.device,
                    overrides=self.recipe.overrides,
                    cache_dir=assembly.settings.cache,
                    compile_=assembly.settings.compile,
                    unchecked=assembly.settings.unchecked,
                    policy_off=assembly.settings.categories_off,
                )
        return self._engine

    def mapper(self) -> DepthMapper:
        """What makes depth maps: the engine where it is loaded, else its depth estimator alone. Raises as `engine`."""
        if self._engine is not None:
            return self._engine
        if self._mapper is None:
            self._holder.make_room_for(self)
            with as_outside():
                self._mapper = self._holder.assemble().load_mapper(
                    self.recipe.profile, device=self.recipe.device, overrides=self.recipe.overrides
                )
        return self._mapper

    def unload(self) -> None:
        """Let the weights go, and tell the device."""
        if self.is_loaded:
            self._engine = self._mapper = None
            gc.collect()
            adapter.give_back()
