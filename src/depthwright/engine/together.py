"""Several GPUs draw one picture: each holds the whole transformer and attends to its share of the heads (Ulysses).

The engine's own process leads. Each further GPU has a process that holds transformer and control LoRA alone, and takes
every step that the leader takes: diffusers' hooks deal the tokens out and gather them. What leads and what follows run
in step or not at all, so a failure of one ends them all.
"""

from __future__ import annotations

import contextlib
import itertools
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from datetime import timedelta
from multiprocessing.connection import Connection
from typing import Any

import torch
from diffusers import ContextParallelConfig
from torch import Tensor, distributed, multiprocessing

from depthwright.engine.acceleration.forward import Conditions, PlainWalk
from depthwright.engine.adapter import ControlAdapter
from depthwright.engine.profiles import Profile
from depthwright.engine.user_lora import Applied
from depthwright.errors import EngineLost, InvalidParameter

_PATIENCE = timedelta(seconds=180)
Denoiser = tuple[Any, ControlAdapter]


@dataclass(frozen=True)
class Place:
    """One process of the group, and where it meets the others."""

    rank: int
    size: int
    port: int
    device: torch.device


def check(profile: Profile, device: torch.device) -> None:
    """Whether so many GPUs can share this profile's work here. Raises InvalidParameter."""
    if profile.gpus == 1:
        return
    refusals = {
        "memory resident: weights that are cast or moved stay on one GPU": profile.memory == "resident",
        f"a max_sequence_length that {profile.gpus} divides": profile.max_sequence_length % profile.gpus == 0,
        f"a machine with {profile.gpus} GPUs: this one has {torch.cuda.device_count()}": device.type == "cpu"
        or torch.cuda.device_count() >= profile.gpus,
    }
    for needed, is_so in refusals.items():
        if not is_so:
            raise InvalidParameter("gpus", profile.gpus, f"1, or the profile needs {needed}")


class Together:
    """The leader's side: what is done here is done by all."""

    def __init__(
        self, profile: Profile, device: torch.device, load: Callable[[torch.device], Denoiser]
    ) -> None:
        self._lock = threading.Lock()
        self._numbers = itertools.count()
        self._set: tuple[object, ...] | None = None
        self._lost = False
        port = _free_port()
        context = multiprocessing.get_context("spawn")
        self._pipes: list[Connection] = []
        self._processes = []
        # 1. The others begin to load.
        for rank in range(1, profile.gpus):
            ours, theirs = context.Pipe()
            place = Place(rank, profile.gpus, port, _sibling(device, rank))
            process = context.Process(target=_follow, args=(theirs, place, load), daemon=True)
            process.start()
            theirs.close()
            self._pipes.append(ours)
            self._processes.append(process)
        # 2. So does this one; they meet once all have.
        try:
            self.transformer, self._adapter = _joined(Place(0, profile.gpus, port, _sibling(device, 0)), load)
        except BaseException:
            self.close()
            raise

    @property
    def adapter(self) -> ControlAdapter:
        """An adapter that sets all of them."""
        return _SharedAdapter(self, self._adapter)

    def walk(self, conditions: Conditions) -> SharedWalk:
        """A walk that all of them take."""
        return SharedWalk(self, self.transformer, conditions, next(self._numbers))

    def tell(self, *message: object) -> None:
        """Say something to all who follow. Raises EngineLost."""
        with self._lock, self.in_step():
            for pipe in self._pipes:
                pipe.send(message)

    @contextlib.contextmanager
    def in_step(self) -> Iterator[None]:
        """Work that only succeeds together. Raises EngineLost."""
        if self._lost or not all(process.is_alive() for process in self._processes):
            self.close()
        if self._lost:
            raise EngineLost("A process of one of the GPUs has ended: the model has to be loaded again.")
        try:
            yield
        except EngineLost:
            raise
        except BaseException as error:
            self.close()
            raise EngineLost(
                f"The GPUs fell out of step ({error}): the model has to be loaded again."
            ) from error

    def set_scale(self, scale: float, loras: Sequence[Applied]) -> None:
        """The same scale and LoRAs for all."""
        wanted = (scale, *(applied.key for applied in loras))
        if wanted != self._set:
            self.tell("scale", scale, tuple(loras))
            self._set = wanted
        with self.in_step():
            self._adapter.set_scale(scale, loras)

    def close(self) -> None:
        """End those who follow."""
        self._lost = True
        for process in self._processes:
            process.kill()
            process.join()


class SharedWalk(PlainWalk):
    """diffusers' own forward at every step, by all of them."""

    def __init__(self, together: Together, transformer: Any, conditions: Conditions, number: int) -> None:
        super().__init__(transformer, conditions)
        self._together, self._number = together, number
        together.tell("begin", number, _moved(conditions, torch.device("cpu")))

    def velocity(self, latents: Tensor, step: int) -> Tensor:
        """What the model says at a step. Raises EngineLost."""
        self._together.tell("step", self._number, latents.cpu(), step)
        with self._together.in_step():
            return super().velocity(latents, step)

    def end(self) -> None:
        """No step follows."""
        with contextlib.suppress(EngineLost):
            self._together.tell("end", self._number)


class _SharedAdapter(ControlAdapter):
    def __init__(self, together: Together, own: ControlAdapter) -> None:
        self._together, self._own = together, own

    @property
    def scale(self) -> float:  # type: ignore[override]
        return self._own.scale

    def set_scale(self, scale: float, loras: Sequence[Applied] = ()) -> None:
        self._together.set_scale(scale, loras)


def _follow(leader: Connection, place: Place, load: Callable[[torch.device], Denoiser]) -> None:
    """A follower's whole life: it ends with the leader, or with its own first failure."""
    transformer, adapter = _joined(place, load)
    walks: dict[int, PlainWalk] = {}
    with contextlib.suppress(EOFError), torch.inference_mode():
        while True:
            match leader.recv():
                case ("scale", scale, loras):
                    adapter.set_scale(scale, loras)
                case ("begin", number, conditions):
                    walks[number] = PlainWalk(transformer, _moved(conditions, place.device))
                case ("step", number, latents, step):
                    walks[number].velocity(latents.to(place.device), step)
                case ("end", number):
                    walks.pop(number)


def _joined(place: Place, load: Callable[[torch.device], Denoiser]) -> Denoiser:
    """Load, meet the others, and deal the transformer's tokens out from here on."""
    if place.device.type == "cpu":
        torch.set_num_threads(1)
    else:
        torch.cuda.set_device(place.device)
    transformer, adapter = load(place.device)
    heads = transformer.config.num_attention_heads
    if heads % place.size:
        raise InvalidParameter("gpus", place.size, f"a divisor of the transformer's {heads} heads")
    distributed.init_process_group(
        "gloo" if place.device.type == "cpu" else "nccl",
        init_method=f"tcp://127.0.0.1:{place.port}",
        rank=place.rank,
        world_size=place.size,
        timeout=_PATIENCE,
    )
    with _counted(place.device):
        transformer.enable_parallelism(config=ContextParallelConfig(ulysses_degree=place.size))
    return transformer, adapter


@contextlib.contextmanager
def _counted(device: torch.device) -> Iterator[None]:
    """Diffusers counts accelerators to find its own; a CPU is one."""
    count = torch.accelerator.device_count
    if device.type == "cpu":
        torch.accelerator.device_count = lambda: 1
    try:
        yield
    finally:
        torch.accelerator.device_count = count


def _moved(conditions: Conditions, device: torch.device) -> Conditions:
    told = {field.name: getattr(conditions, field.name) for field in fields(conditions)}
    return replace(
        conditions, **{name: value.to(device) for name, value in told.items() if value is not None}
    )


def _sibling(device: torch.device, rank: int) -> torch.device:
    return device if device.type == "cpu" else torch.device(device.type, (device.index or 0) + rank)


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    return port
