"""The chooser: which techniques each level uses on this machine, and why."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch

from depthwright.engine.acceleration.compilation import missing_compiler
from depthwright.engine.profiles import Profile, StepCacheSettings
from depthwright.parameters import Compile, Level


@dataclass(frozen=True)
class Techniques:
    """What a level does: the fast walk or diffusers' own forward; forecasts of steps; blocks compiled."""

    fast_walk: bool = False
    step_cache: StepCacheSettings | None = None
    compiled: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """As answers tell them."""
        told = {"fast walk": self.fast_walk, "step cache": self.step_cache, "compiled": self.compiled}
        return tuple(name for name, used in told.items() if used)


@dataclass(frozen=True)
class Chosen:
    """The techniques of every level, and the reasons in sentences for people."""

    levels: Mapping[Level, Techniques]
    joined: bool
    reasons: tuple[str, ...]

    @property
    def compiles(self) -> bool:
        """Whether any level uses compiled blocks."""
        return any(techniques.compiled for techniques in self.levels.values())


def choose(profile: Profile, device: torch.device, compile_: Compile = "auto") -> Chosen:
    """Decide for a profile on a device. It depends on nothing else, so that a level means the same in every process."""
    reasons = ["none: diffusers' own forward at every step, the reference"]
    levels: dict[Level, Techniques] = {"none": Techniques()}
    if profile.gpus > 1:
        reasons.append(
            f"regular and high: as none, since diffusers' forward deals each step out to {profile.gpus} GPUs"
        )
        return Chosen(
            {**levels, "regular": Techniques(), "high": Techniques()}, joined=False, reasons=tuple(reasons)
        )
    # 1. Where the whole model's forward brings the weights, no other may stand in for it.
    if profile.memory == "group_offload":
        reasons.append(
            "regular and high: as none, since diffusers' forward brings the weights from main memory"
        )
        return Chosen(
            {**levels, "regular": Techniques(), "high": Techniques()}, joined=False, reasons=tuple(reasons)
        )
    # 2. What both fast levels do.
    compiled, why = _compiled(device, compile_)
    joined = profile.memory == "resident"
    reasons += [
        "regular and high: what no step changes is computed once, before the first",
        "regular and high: query, key and value are one product"
        if joined
        else "regular and high: query, key and value stay three products, since weights are cast under way",
        f"regular and high: {why}",
    ]
    # 3. How far each goes.
    for level in ("regular", "high"):
        cache = profile.step_cache.get(level)
        levels[level] = Techniques(fast_walk=True, step_cache=cache, compiled=compiled)
        reasons.append(
            f"{level}: steps are forecast, {cache.longest_run} in a row at most, where the first block's share "
            f"changes by less than {cache.threshold:g}"
            if cache
            else f"{level}: no step is forecast, since the profile names no threshold for that"
        )
    return Chosen(levels, joined, tuple(reasons))


def _compiled(device: torch.device, compile_: Compile) -> tuple[bool, str]:
    if compile_ == "never":
        return False, "blocks are not compiled, as DEPTHWRIGHT_COMPILE says"
    if compile_ == "auto" and device.type != "cuda":
        return False, (
            "blocks are not compiled, which takes minutes on a CPU and gains little there "
            "(DEPTHWRIGHT_COMPILE=always does it)"
        )
    if missing := missing_compiler(device):
        return False, f"blocks are not compiled, {missing}"
    return True, "each kind of block is compiled once, for all sizes and scales"
