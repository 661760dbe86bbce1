"""A prediction as the client sees it, read tolerantly: unknown fields are kept, odd ones count as absent."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

from PIL import Image

from depthwright.clients.errors import AnswerInvalid, PredictionFailed, PredictionStopped
from depthwright.result import Fidelity

_Value = TypeVar("_Value")
_STOPPED = ("cancelled", "deleted")
_ENDED = ("completed", "failed", "timeout", *_STOPPED)


@dataclass(frozen=True)
class Progress:
    """How far a prediction is. Counts begin at 1; 0 and "" stand for what is not known yet.

    `queue_position` 1 is next; 0 when it no longer waits.
    """

    queue_position: int = 0
    stage: str = ""
    image: int = 0
    num_images: int = 0
    step: int = 0
    steps: int = 0

    @classmethod
    def read(cls, data: Mapping[str, Any]) -> Self:
        """From an answer's `progress`."""
        counts = {
            name: max(0, _of(int, data.get(name), 0)) for name in cls.__dataclass_fields__ if name != "stage"
        }
        return cls(stage=_of(str, data.get("stage"), ""), **counts)


@dataclass(frozen=True)
class Prediction:
    """A prediction at one moment.

    `outputs` and `control` are URLs (`outputs` base64 where that was asked for); `timings` are milliseconds;
    `raw` is all that the server said.
    """

    id: str
    status: str
    model: str = ""
    outputs: tuple[str, ...] = field(default=(), repr=False)  # as base64 they would flood a log
    nsfw: tuple[bool, ...] = ()
    created_at: str = ""
    error: str = ""
    code: int = 0
    seed: int | None = None
    control: str | None = None
    fidelity: tuple[Fidelity, ...] = ()
    timings: Mapping[str, int] = field(default_factory=dict)
    progress: Progress = Progress()
    warnings: tuple[str, ...] = ()
    input: Mapping[str, Any] = field(default_factory=dict)
    model_version: str = ""
    raw: Mapping[str, Any] = field(default_factory=dict, repr=False, compare=False)

    @classmethod
    def read(cls, data: object) -> Self:
        """From an answer's `data`. Raises AnswerInvalid where id, status or outputs are not what they must be."""
        if not isinstance(data, dict):
            raise AnswerInvalid("The server's answer holds no prediction.")
        name, status, outputs = data.get("id"), data.get("status"), data.get("outputs") or []
        if not (isinstance(name, str) and name and isinstance(status, str) and status):
            raise AnswerInvalid("The server's answer holds no prediction: its id or status is missing.")
        if not isinstance(outputs, list) or not all(isinstance(output, str) for output in outputs):
            raise AnswerInvalid("The server's answer holds a prediction whose outputs are not URLs.")
        return cls(
            id=name,
            # The server says `failed` to clients that know no more, and tells the rest beside it.
            status="cancelled" if data.get("cancelled") is True else status,
            model=_of(str, data.get("model"), ""),
            outputs=tuple(outputs),
            nsfw=_all(bool, data.get("has_nsfw_contents")),
            created_at=_of(str, data.get("created_at"), ""),
            error=_of(str, data.get("error"), ""),
            code=_of(int, data.get("code"), 0),
            seed=_of(int, data.get("seed"), None),
            control=_of(str, data.get("control"), None),
            fidelity=tuple(map(_fidelity, _all(dict, data.get("fidelity")))),
            timings={
                stage: spent
                for stage, spent in _of(dict, data.get("timings"), {}).items()
                if _of(int, spent, None) is not None
            },
            progress=Progress.read(_of(dict, data.get("progress"), {})),
            warnings=_all(str, data.get("warnings")),
            input=_of(dict, data.get("input"), {}),
            model_version=_of(str, data.get("model_version"), ""),
            raw=data,
        )

    @property
    def is_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in _ENDED

    def completed(self) -> Self:
        """Itself. Raises PredictionFailed or PredictionStopped if it ended in any other way."""
        if self.status in _STOPPED:
            raise PredictionStopped(self.id, self.status)
        if self.status != "completed":
            raise PredictionFailed(self.id, self.code, self.error or f"its status is {self.status}")
        return self


@dataclass(frozen=True)
class Update:
    """News of a prediction, with a thumbnail (a JPEG file) of the picture in the making where there is a new one."""

    prediction: Prediction
    preview: bytes | None = field(default=None, repr=False)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self.prediction.progress


@dataclass(frozen=True)
class Generated:
    """A completed prediction and its pictures, in the seeds' order.

    `files` are the same as the server sent them: with their content credentials, which `images` saved anew have not.
    """

    prediction: Prediction
    images: tuple[Image.Image, ...] = field(repr=False)
    files: tuple[bytes, ...] = field(repr=False)

    @property
    def seeds(self) -> tuple[int | None, ...]:
        """The seed of each picture."""
        first = self.prediction.seed
        return tuple(None if first is None else first + number for number in range(len(self.images)))

    @property
    def fidelity(self) -> tuple[Fidelity | None, ...]:
        """How closely each picture keeps to the depth map; None where the server did not say."""
        told = self.prediction.fidelity[: len(self.images)]
        return (*told, *(None,) * (len(self.images) - len(told)))

    @property
    def seconds(self) -> dict[str, float]:
        """The time by stage, the queue's and the files' included."""
        return {name: spent / 1000 for name, spent in self.prediction.timings.items() if name != "inference"}

    @property
    def model_version(self) -> str:
        """The weights that made the pictures."""
        return self.prediction.model_version


@dataclass(frozen=True)
class Page:
    """A page of predictions, newest first, of `total` in all."""

    page: int
    total: int
    items: tuple[Prediction, ...]

    @classmethod
    def read(cls, data: object) -> Self:
        """From an answer's `data`. Raises AnswerInvalid."""
        if not isinstance(data, dict) or not isinstance(data.get("items"), list):
            raise AnswerInvalid("The server's answer holds no list of predictions.")
        items = tuple(map(Prediction.read, data["items"]))
        return cls(_of(int, data.get("page"), 1), _of(int, data.get("total"), len(items)), items)


def _of(kind: type[_Value], value: object, otherwise: Any) -> Any:
    """The value if it is of that kind, and no bool that passes for an int."""
    is_kind = isinstance(value, kind) and (kind is bool or not isinstance(value, bool))
    return value if is_kind else otherwise


def _all(kind: type[_Value], values: object) -> tuple[_Value, ...]:
    """The list if all in it is of that kind: a gap would shift what follows it to another picture."""
    if isinstance(values, list) and all(isinstance(value, kind) for value in values):
        return tuple(values)
    return ()


def _fidelity(data: Mapping[str, Any]) -> Fidelity:
    rmse, correlation = data.get("rmse"), data.get("residual_correlation")
    return Fidelity(
        rmse=float(rmse) if isinstance(rmse, int | float) else math.nan,
        residual_correlation=float(correlation) if isinstance(correlation, int | float) else None,
    )
