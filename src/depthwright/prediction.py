"""What a prediction is: its states, the moves between them, and the codes of its faults.

    created ---claim---> processing ---finish---> completed
       |  ^                |  |  |
       |  `----release-----'  |  `----fail------> failed
       `---------cancel-------'-----------------> cancelled

A release hands a prediction back when its worker stops or dies; the third worker that it loses fails it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import IntEnum, StrEnum
from typing import Any

STRIKES = 3


class Status(StrEnum):
    """Where a prediction stands."""

    CREATED = "created"
    PROCESSING = "processing"
    COMPLETED = "completed"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def is_terminal(self) -> bool:
        """Whether nothing changes any more."""
        return not MOVES[self]


MOVES: Mapping[Status, frozenset[Status]] = {
    Status.CREATED: frozenset({Status.PROCESSING, Status.CANCELLED}),
    Status.PROCESSING: frozenset({Status.CREATED, Status.COMPLETED, Status.FAILED, Status.CANCELLED}),
    Status.COMPLETED: frozenset(),
    Status.FAILED: frozenset(),
    Status.CANCELLED: frozenset(),
}


class Code(IntEnum):
    """Why a prediction ended, in the numbers that WaveSpeedAI's clients know."""

    OK = 0
    MODERATED = 1200
    MISSING_PARAMETER = 1400
    INVALID_PARAMETER = 1401
    MEDIA = 1402
    TASK_FAILED = 1405
    INTERNAL = 5000
    SYNC_TIMEOUT = 5004


@dataclass(frozen=True)
class Fault:
    """Why a prediction failed: a code for programs, a sentence for people, and what was refused if it was that."""

    code: Code
    message: str
    category: str = ""


WORKER_LOST = Fault(
    Code.INTERNAL,
    f"{STRIKES} workers died while they made this picture. Send it again; if it fails again, "
    "try a smaller size or fewer images, and show the operator this prediction's id.",
)


@dataclass(frozen=True)
class Submission:
    """A request that was accepted: checked input, and everything that is settled before any work.

    `source` tells where the control image comes from; None stands for the default one when there is nothing else to be
    got either, an empty one for the default one beside LoRAs. One that is `refused` ends as it is stored; `prompt` is
    what it asked for then, which nobody but the audit log's digest keeps.
    """

    id: str
    key_id: str
    model: str
    input: Mapping[str, Any]
    seed: int
    created_at: float
    source: Mapping[str, str] | None = None
    base_url: str = ""
    warnings: tuple[str, ...] = ()
    webhook_url: str | None = None
    base64_output: bool = False
    idempotency_key: str | None = None
    digest: str = ""
    safety: Mapping[str, Any] = field(default_factory=dict)
    refused: Fault | None = None
    prompt: str = ""

    @property
    def status(self) -> Status:
        """Where it stands once it is stored."""
        return Status.FAILED if self.refused else Status.CREATED

    def as_prediction(self, position: int) -> "Prediction":
        """What is stored of it, before anything has become of it."""
        return Prediction(
            id=self.id,
            key_id=self.key_id,
            model=self.model,
            status=self.status,
            error=self.refused.message if self.refused else "",
            code=int(self.refused.code) if self.refused else 0,
            safety=self.safety,
            input=self.input,
            seed=self.seed,
            attempt=0,
            created_at=self.created_at,
            base_url=self.base_url,
            warnings=self.warnings,
            webhook_url=self.webhook_url,
            base64_output=self.base64_output,
            position=position,
        )


@dataclass(frozen=True)
class Claim:
    """A worker's hold on a prediction. `attempt` is the fence: a write that names an older one changes nothing."""

    id: str
    attempt: int


class Lost(Exception):
    """The claim is no longer this worker's: the prediction went to another, was cancelled or deleted."""


@dataclass(frozen=True)
class Work:
    """What a worker is given to do under a claim; `waited` is the time in the queue, in seconds.

    `started` if the model begins with it at once: from here on a death of the worker is held against it. `warnings` are
    those that it was submitted with.
    """

    claim: Claim
    input: Mapping[str, Any]
    seed: int
    source: Mapping[str, str] | None
    waited: float
    started: bool = False
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outcome:
    """What a finished prediction leaves: paths under the output store, what was measured, and all warnings.

    `pixels` are the hashes of its pictures, as their receipts have them.
    """

    outputs: tuple[str, ...]
    control: str
    nsfw: tuple[bool, ...]
    fidelity: tuple[Mapping[str, float | None], ...]
    timings: Mapping[str, int]
    model_version: str
    warnings: tuple[str, ...] = ()
    acceleration: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[Mapping[str, Any], ...] = ()
    safety: Mapping[str, Any] = field(default_factory=dict)
    pixels: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prediction:
    """A prediction as it is stored. Times are seconds since 1970; `position` is 0 unless it waits."""

    id: str
    key_id: str
    model: str
    status: Status
    input: Mapping[str, Any]
    seed: int
    attempt: int
    created_at: float
    base_url: str = ""
    cancel_requested: bool = False
    started_at: float | None = None
    finished_at: float | None = None
    outputs: tuple[str, ...] = ()
    control: str | None = None
    nsfw: tuple[bool, ...] = ()
    fidelity: tuple[Mapping[str, float | None], ...] = ()
    timings: Mapping[str, int] = field(default_factory=dict)
    progress: Mapping[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    error: str = ""
    code: int = 0
    model_version: str = ""
    acceleration: Mapping[str, Any] = field(default_factory=dict)
    loras: tuple[Mapping[str, Any], ...] = ()
    safety: Mapping[str, Any] = field(default_factory=dict)
    webhook_url: str | None = None
    base64_output: bool = False
    position: int = 0


def iso(seconds: float) -> str:
    """A time as the contract writes it, `2023-04-01T12:34:56.789Z`."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%S.") + f"{moment.microsecond // 1000:03d}Z"
