"""The one model of a request: every field with its default, range and help.

The command's options, the documentation and the errors are read from `PARAMETERS`, so no fact about a
parameter stands anywhere else.
"""

import math
import re
import secrets
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PlainSerializer,
    ValidationError,
    ValidationInfo,
    WithJsonSchema,
)

from depthwright.errors import InvalidParameter, UnknownParameter

Level = Literal["none", "regular", "high"]
Compile = Literal["auto", "always", "never"]  # an installation's choice, not a request's

SEED_MAX = 9_999_999_999
PROMPT_MAX = 10_000
GUIDANCE_MIN, GUIDANCE_MAX = 1, 30
_SIZE_FORM = re.compile(r"\s*([0-9]{1,5})\s*[*xX]\s*([0-9]{1,5})\s*")


class Size(NamedTuple):
    """A picture's width and height in pixels; written `864*1636`."""

    width: int
    height: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read `W*H` or `WxH`; raises ValueError for any other form."""
        match = _SIZE_FORM.fullmatch(text)
        if match is None:
            raise ValueError("a size is written W*H")
        return cls(int(match[1]), int(match[2]))

    def __str__(self) -> str:
        return f"{self.width}*{self.height}"


DEFAULT_SIZE = Size(864, 1636)


class SizeBounds(NamedTuple):
    """The shortest and the longest side, in pixels, that this installation accepts."""

    shortest: int = 512
    longest: int = 1536

    def allow(self, size: Size) -> bool:
        """Whether both sides are within bounds. The default size always is: the contract names it."""
        return size == DEFAULT_SIZE or all(self.shortest <= side <= self.longest for side in size)

    @property
    def allowed(self) -> str:
        """The rule, in words that follow "it must be"."""
        return f"W*H with each side from {self.shortest} to {self.longest} pixels, or {DEFAULT_SIZE}"


_BOUNDS = SizeBounds()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("not a text")
    value.encode("utf-8")  # a lone surrogate, as from broken bytes on a command line, stops here
    return value


def number(value: Any) -> float | int:
    """A finite number, as JSON has it: true and "2" are none. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise ValueError("not a number")  # noqa: TRY004 - pydantic collects ValueErrors, no TypeErrors
    if isinstance(value, Integral):
        return int(value)
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return float(value)


def whole(value: Any) -> int:
    """A whole number, as JSON has it: 2.0 is one, true and "2" are not. Raises ValueError."""
    found = number(value)
    if found != int(found):
        raise ValueError("not a whole number")
    return int(found)


def _seed(value: Any) -> int | None:
    return None if value is None or whole(value) == -1 else whole(value)


def _size(value: Any, info: ValidationInfo) -> Size:
    if isinstance(value, str):
        size = Size.parse(value)
    elif isinstance(value, tuple | list) and len(value) == len(Size._fields):
        size = Size(*(whole(side) for side in value))
    else:
        raise ValueError("not a size")
    bounds: SizeBounds = (info.context or {}).get("size_bounds", _BOUNDS)
    if not bounds.allow(size):
        raise ValueError("out of bounds")
    return size


def _switch(value: Any) -> Any:
    return str(value).lower() if isinstance(value, bool) else _word(value)


def _word(value: Any) -> Any:
    return value.strip().lower() if isinstance(value, str) else value


class GenerationParameters(BaseModel):
    """A request, checked. The control image travels beside it, as a picture."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    prompt: Annotated[str, BeforeValidator(_text)] = Field(
        min_length=1, max_length=PROMPT_MAX, description="What the picture shows, in words."
    )
    control_scale: Annotated[float, BeforeValidator(number)] = Field(
        default=1.0,
        ge=0,
        le=2,
        description="How strongly the depth map shapes the picture: 0 not at all, 1 as trained, 2 at most.",
    )
    seed: Annotated[int | None, BeforeValidator(_seed)] = Field(
        default=None,
        ge=0,
        le=SEED_MAX,
        description="The same seed and request give the same picture; absent or -1: drawn at random.",
    )
    num_images: Annotated[int, BeforeValidator(whole)] = Field(
        default=1, ge=1, le=4, description="How many pictures to make; picture i uses seed + i."
    )
    size: Annotated[
        Size,
        BeforeValidator(_size),
        PlainSerializer(str, return_type=str, when_used="json"),
        WithJsonSchema({"type": "string", "pattern": "^[0-9]+[*xX][0-9]+$"}),
    ] = Field(
        default=DEFAULT_SIZE,
        description="Width and height of the picture, in pixels.",
        json_schema_extra={"default": str(DEFAULT_SIZE)},
    )
    num_inference_steps: Annotated[int, BeforeValidator(whole)] = Field(
        default=28,
        ge=1,
        le=50,
        description="How many denoising steps: more are slower and finer.",
        json_schema_extra={"flag": "--steps"},
    )
    guidance_scale: Annotated[float, BeforeValidator(number)] = Field(
        default=3.5,
        ge=GUIDANCE_MIN,
        le=GUIDANCE_MAX,
        description="How closely the picture keeps to the prompt.",
        json_schema_extra={"flag": "--guidance"},
    )
    preprocess_depth: Annotated[Literal["auto", "true", "false"], BeforeValidator(_switch)] = Field(
        default="auto",
        description="Whether depth is estimated from the control image: true for a photo, false for a ready "
        "depth map with near bright, auto to take a grey picture for a depth map.",
    )
    acceleration: Annotated[Level, BeforeValidator(_word)] = Field(
        default="regular",
        description="How far speed goes: none is the reference, regular loses nothing that can be seen, high is "
        "fastest. Each gives the same picture every time, not the others'.",
    )

    @classmethod
    def from_user(cls, *, size_bounds: SizeBounds = _BOUNDS, **raw: object) -> Self:
        """Check what a person sent; a None counts as not given.

        Raises InvalidParameter (UnknownParameter for a name that is none) for the first bad field.
        """
        given = {name: value for name, value in raw.items() if value is not None}
        try:
            return cls.model_validate(given, context={"size_bounds": size_bounds})
        except ValidationError as error:
            field = str(error.errors(include_url=False)[0]["loc"][0])
        if field not in cls.model_fields:
            raise UnknownParameter(field, given[field], cls.model_fields)
        allowed = size_bounds.allowed if field == "size" else PARAMETER[field].allowed
        raise InvalidParameter(field, given.get(field), allowed)

    def resolved_seed(self) -> int:
        """The seed of the first picture: the one given, or one drawn now."""
        return secrets.randbelow(SEED_MAX + 1) if self.seed is None else self.seed


Kind = Literal["text", "image", "number", "whole number", "size", "choice", "switch", "list", "words"]


@dataclass(frozen=True)
class Parameter:
    """A row of the table: one parameter as the command, the documentation and the errors tell it."""

    name: str
    kind: Kind
    help: str
    flag: str
    default: object = None
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    words: str = ""

    @property
    def allowed(self) -> str:
        """What the parameter accepts, in words that follow "it must be"."""
        match self.kind:
            case "text":
                return f"text of 1 to {PROMPT_MAX} characters"
            case "image":
                return "a PNG, JPEG or WebP file"
            case "size":
                return _BOUNDS.allowed
            case "switch":
                return "true or false"
            case "words":
                return self.words
            case "choice":
                return " or ".join((", ".join(self.choices[:-1]), self.choices[-1]))
            case _ if self.name == "seed":
                return f"a whole number from 0 to {SEED_MAX}, or -1 for one drawn at random"
            case _:
                return f"a {self.kind} from {self.minimum} to {self.maximum}"

    @property
    def shown_default(self) -> str:
        """The default as text; empty where there is none."""
        return "" if self.default is None else str(self.default)


_CONTROL_IMAGE = Parameter(
    name="control_image",
    kind="image",
    help="The photo or ready depth map that gives the picture its structure. Absent: our own example.",
    flag="--control-image",
)


def _rows() -> tuple[Parameter, ...]:
    schema = GenerationParameters.model_json_schema()
    rows = [
        row_of(name, entry, required=name in schema["required"])
        for name, entry in schema["properties"].items()
    ]
    return (rows[0], _CONTROL_IMAGE, *rows[1:])


def row_of(name: str, entry: dict[str, Any], required: bool) -> Parameter:
    """A field's entry in a JSON schema as a row of the table."""
    numbers: list[dict[str, Any]] = entry.get("anyOf", [entry])
    kinds: dict[str, Kind] = {
        "number": "number",
        "integer": "whole number",
        "string": "text",
        "boolean": "switch",
        "array": "list",
    }
    kind: Kind = kinds[numbers[0]["type"]]
    kind = (
        "words"
        if "allowed" in entry
        else "choice"
        if "enum" in entry
        else "size"
        if "pattern" in entry
        else kind
    )
    return Parameter(
        name=name,
        kind=kind,
        help=entry["description"],
        flag=entry.get("flag", "--" + name.replace("_", "-")),
        default=entry.get("default"),
        minimum=numbers[0].get("minimum"),
        maximum=numbers[0].get("maximum"),
        choices=tuple(entry.get("enum", ())),
        required=required,
        words=entry.get("allowed", ""),
    )


PARAMETERS: tuple[Parameter, ...] = _rows()
PARAMETER: dict[str, Parameter] = {parameter.name: parameter for parameter in PARAMETERS}
