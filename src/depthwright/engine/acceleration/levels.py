"""The chooser: which techniques each level uses on this machine, and why."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch

from depthwright.engine.acceleration.compilation import missing_compiler
from depthwright.engine.acceleration.float8 import missing_float8
from depthwright.engine.hardware import multiplies_bfloat16
from depthwright.engine.profiles import Profile, StepCacheSettings
from depthwright.parameters import Compile, Level

Precision = Literal["bfloat16", "float8"]


@dataclass(frozen=True)
class Decoding:
    """How pictures are decoded, where not as the model does: upsampling folded into convolutions, a lower precision."""

    folded: bool = False
    precision: Literal["bfloat16"] | None = None


@dataclass(frozen=True)
class Techniques:
    """What a level does: the fast walk or diffusers' own forward; forecasts of steps; blocks compiled, or in a lower
    precision than the model's; another decoder than the model's.
    """

    fast_walk: bool = False
    step_cache: StepCacheSettings | None = None
    compiled: bool = False
    blocks: Precision | None = None
    decoding: Decoding | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """As answers tell them."""
        decoding = self.decoding or Decoding()
        told = {
            "fast walk": self.fast_walk,
            "step cache": self.step_cache,
            "compiled": self.compiled,
            f"{self.blocks} blocks": self.blocks,
            "folded upsampling": decoding.folded,
            f"{decoding.precision} decoder": decoding.precision,
        }
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

    @property
    def precisions(self) -> frozenset[Precision]:
        """The lower precisions that levels' blocks multiply in."""
        return frozenset(each.blocks for each in self.levels.values() if each.blocks)

    @property
    def decodings(self) -> frozenset[Decoding]:
        """The ways in which levels decode, but the model's own."""
        return frozenset(each.decoding for each in self.levels.values() if each.decoding)


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
    blocks, why = _blocks(profile, device, compiled=compiled)
    # Half the bits go unseen, a quarter of them does not.
    unseen = blocks if blocks == "bfloat16" else None
    reasons.append(f"{'high' if blocks == 'float8' else 'regular and high'}: {why}")
    decoding, whys = _decoding(profile, device)
    reasons += [f"regular and high: {why}" for why in whys]
    for level in ("regular", "high"):
        cache = profile.step_cache.get(level)
        levels[level] = Techniques(
            fast_walk=True,
            step_cache=cache,
            compiled=compiled,
            blocks=blocks if level == "high" else unseen,
            decoding=decoding,
        )
        reasons.append(
            f"{level}: steps are forecast, {cache.longest_run} in a row at most, where the first block's share "
            f"strays from its line by less than {cache.threshold:g}"
            if cache
            else f"{level}: no step is forecast, since the profile names no threshold for that"
        )
    return Chosen(levels, joined, tuple(reasons))


def _compiled(device: torch.device, compile_: Compile) -> tuple[bool, str]:
    if compile_ == "never":
        return False, "blocks are not compiled, as DEPTHWRIGHT_COMPILE says"
    if compile_ == "auto" and device.type != "cuda":
        return False, (
            "blocks are not compiled, which takes half a minute or more on a CPU and gains little there "
            "(DEPTHWRIGHT_COMPILE=always does it)"
        )
    if missing := missing_compiler(device):
        return False, f"blocks are not compiled, {missing}"
    return True, "each kind of block is compiled once, for all sizes and scales"


def _blocks(profile: Profile, device: torch.device, *, compiled: bool) -> tuple[Precision | None, str]:
    """What blocks multiply in at most, where it is not the model's own precision, and why."""
    stays = f"blocks multiply in {profile.dtype}"
    if not profile.lower_precision:
        return None, f"{stays}, as the profile says"
    if profile.memory != "resident":
        return None, f"{stays}, since weights are cast under way"
    if profile.dtype == "float32" and device.type == "cpu":
        if multiplies_bfloat16(device):
            return "bfloat16", "blocks multiply in bfloat16, which this processor has units for"
        return None, f"{stays}, as this processor has no units for bfloat16"
    if profile.dtype == "bfloat16":
        if missing := missing_float8(device):
            return None, f"{stays}, as {missing}"
        if not compiled:
            return (
                None,
                f"{stays}, as scaling to float8 costs more than it gains where blocks are not compiled",
            )
        return "float8", "blocks multiply in float8, scaled row by row"
    return None, f"{stays}: nothing lower is there for it"


def _decoding(profile: Profile, device: torch.device) -> tuple[Decoding | None, list[str]]:
    """How pictures are decoded: either technique changes them far less than any step does."""
    precision, why = _decoder_precision(profile, device)
    if device.type != "cpu":
        return None, [
            why,
            "upsampling and the convolution after it stay two, as one was measured on CPUs only",
        ]
    return Decoding(folded=True, precision=precision), [
        why,
        "upsampling and the convolution after it are one",
    ]


def _decoder_precision(profile: Profile, device: torch.device) -> tuple[Literal["bfloat16"] | None, str]:
    if not profile.lower_precision:
        return None, f"pictures are decoded in {profile.dtype}, as the profile says"
    if profile.dtype != "float32" or device.type != "cpu":
        return None, f"pictures are decoded in {profile.dtype}"
    if not multiplies_bfloat16(device):
        return None, "pictures are decoded in float32, as this processor has no units for bfloat16"
    return "bfloat16", "pictures are decoded in bfloat16, which this processor has units for"
