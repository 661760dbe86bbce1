"""A worker: takes predictions one by one, and sees each of them to its end or back into the queue."""

import contextlib
import os
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import TypeVar

import structlog
from sqlalchemy.exc import OperationalError

from depthwright.errors import DepthwrightError, DiskFull, EngineLost, OutOfMemory, Refused
from depthwright.events import DepthFinished, Finished, ImageFinished, Started
from depthwright.parameters import GenerationParameters, Size
from depthwright.ports import Engine, OutputStore, Queue, Staging
from depthwright.prediction import Claim, Code, Fault, Lost, Outcome
from depthwright.provenance.receipts import receipt_for
from depthwright.result import NO_CHECKER, OFF_BY_OPERATOR, GenerationResult
from depthwright.service.preparing import Prepared, Preparing
from depthwright.service.reporting import Report

_T = TypeVar("_T")
_LOST = 71
_UNCHECKED = "This server has no safety checker: the pictures were not checked."
_BUG = Fault(
    Code.INTERNAL,
    "Something went wrong on the server. Send it again; if it fails again, show the operator this prediction's id.",
)
log = structlog.get_logger()


class Stopping(Exception):
    """The worker was asked to stop: what it holds goes back."""


class Worker:
    """One model at work. `run` returns once `stop` is set and everything held is finished or handed back."""

    def __init__(
        self,
        queue: Queue,
        engine: Engine,
        preparing: Preparing,
        outputs: OutputStore,
        stop: threading.Event,
        free_memory: Callable[[], None] = lambda: None,
        die: Callable[[], None] = lambda: os._exit(_LOST),
    ) -> None:
        self._queue = queue
        self._engine = engine
        self._preparing = preparing
        self._outputs = outputs
        self._stop = stop
        self._free_memory = free_memory
        self._die = die
        self.last_step = time.monotonic()

    def run(self) -> None:
        """Work until told to stop."""
        while not self._stop.is_set():
            self.last_step = time.monotonic()
            prepared = self._preparing.take(seconds=0.25)
            if prepared is not None:
                # Stopped before it could be written how this ended: `leave` hands it back.
                with contextlib.suppress(Stopping):
                    self.work(prepared)

    def work(self, prepared: Prepared) -> None:
        """See one prediction to its end."""
        claim = prepared.work.claim
        with (
            structlog.contextvars.bound_contextvars(prediction=claim.id, attempt=claim.attempt),
            self._outputs.stage(claim) as staging,
        ):
            try:
                self._finish(prepared, self._make(prepared, staging), staging)
            except Lost:
                self._give_up(claim)
            except Stopping:
                self._persist(lambda: self._queue.release(claim))
                log.info("handed back")
            except EngineLost as error:
                # Dying with it in hand is what hands it back, and what counts how often it did this.
                log.critical("the model is lost", error=str(error))
                self._die()
            except DepthwrightError as error:
                self._fail(claim, _fault(error, prepared))
            except Exception:  # the boundary: one broken prediction must not end the worker
                log.exception("broken")
                self._fail(claim, _BUG)

    def _make(self, prepared: Prepared, staging: Staging) -> GenerationResult:
        """The pictures; one that runs out of memory gets a second try on freed memory."""
        if not prepared.work.started:
            self._persist(lambda: self._queue.start(prepared.work.claim))
        log.info("started", waited=round(prepared.work.waited, 3))
        try:
            return self._generate(prepared, staging)
        except OutOfMemory:
            log.warning("out of memory, trying once more")
        staging.clear()
        self._free_memory()
        return self._generate(prepared, staging)

    def _generate(self, prepared: Prepared, staging: Staging) -> GenerationResult:
        """Each picture is on its way to the disk while the next one is made."""
        wanted = prepared.work.input
        report = Report(self._queue, prepared.work.claim)
        stream = self._engine.stream(
            _parameters(prepared), prepared.image, prepared.loras, checked=wanted["enable_safety_checker"]
        )
        with contextlib.closing(stream):
            for event in stream:
                self.last_step = time.monotonic()
                match event:
                    case Started(origin):
                        from_there = origin
                    case Finished(result):
                        return result
                    case DepthFinished(depth):
                        staging.add(depth, "png")
                    case ImageFinished(image=index, picture=picture):
                        staging.add(
                            picture, wanted["output_format"], partial(receipt_for, from_there, index, picture)
                        )
                if self._stop.is_set():
                    raise Stopping
                with contextlib.suppress(OperationalError):  # a busy database costs a report, not the picture
                    report.show(event)
        raise RuntimeError("the engine ended without a result")

    def _finish(self, prepared: Prepared, result: GenerationResult, staging: Staging) -> None:
        claim = prepared.work.claim
        # 1. Everything is on the disk, where nobody looks yet.
        started = time.perf_counter()
        control, *paths = staging.settle()
        # 2. Publish all of it at once, unless the prediction is no longer ours.
        nobody_looked = result.image_checker in (NO_CHECKER, OFF_BY_OPERATOR)
        unchecked = prepared.work.input["enable_safety_checker"] and nobody_looked
        outcome = Outcome(
            outputs=tuple(paths),
            control=control,
            nsfw=result.flagged,
            fidelity=tuple(vars(each) for each in result.fidelity),
            timings=_timings(prepared, result, time.perf_counter() - started),
            model_version=result.model_version,
            warnings=(*prepared.work.warnings, *((_UNCHECKED,) if unchecked else ()), *result.warnings),
            acceleration=asdict(result.acceleration),
            loras=tuple(asdict(each) for each in result.loras),
            safety={"image_checker": result.image_checker, "prompt_policy": result.prompt_policy},
            pixels=staging.pixels,
        )
        if not self._persist(lambda: self._queue.finish(claim, outcome)):
            self._give_up(claim)
            return
        staging.keep()
        log.info("completed", inference_ms=outcome.timings["inference"])

    def _give_up(self, claim: Claim) -> None:
        was_wish = self._persist(lambda: self._queue.cancelled(claim))
        log.info("cancelled" if was_wish else "lost to another")

    def _fail(self, claim: Claim, fault: Fault) -> None:
        self._persist(lambda: self._queue.fail(claim, fault))
        log.warning("failed", code=int(fault.code), error=fault.message)

    def _persist(self, write: Callable[[], _T]) -> _T:
        """Write to the database, and wait for it as long as it takes: what was made is not given up for a full disk."""
        pause = 0.2
        while True:
            try:
                return write()
            except OperationalError as error:
                log.error("database not writable", error=str(error.orig), again_in=pause)  # noqa: TRY400
                if self._stop.wait(pause):
                    raise Stopping from error
                pause = min(5.0, pause * 2)
                self.last_step = time.monotonic()


def _parameters(prepared: Prepared) -> GenerationParameters:
    """The input as the engine takes it, with the seed that was settled at submission; it was checked then."""
    wanted = prepared.work.input
    names = GenerationParameters.model_fields
    values = {name: wanted[name] for name in names if name in wanted}
    values |= {"size": Size.parse(wanted["size"]), "seed": prepared.work.seed}
    return GenerationParameters.model_construct(**values)


def _timings(prepared: Prepared, result: GenerationResult, saving: float) -> dict[str, int]:
    """Milliseconds by stage, all of them measured."""
    seconds = {
        "queue": prepared.work.waited,
        "fetch": prepared.seconds,
        **result.seconds,
        "save": saving,
        "inference": sum(result.seconds.values()),
    }
    return {stage: round(value * 1000) for stage, value in seconds.items()}


def _fault(error: DepthwrightError, prepared: Prepared) -> Fault:
    said = str(error)
    for lora in prepared.loras:  # where a file lies on this machine is the operator's affair
        said = said.replace(str(lora.path), lora.path.name)
    match error:
        case Refused(category=category):
            return Fault(Code.MODERATED, said, category)
        case OutOfMemory():
            return Fault(Code.TASK_FAILED, f"{said} Ask for a smaller size or fewer images.")
        case DiskFull():
            return Fault(Code.INTERNAL, said)
        case _:
            return Fault(Code.TASK_FAILED, said)
