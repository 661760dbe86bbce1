"""A request over HTTP: the parameters of a generation, and what only a server needs to be told."""

from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, WithJsonSchema

from depthwright.errors import InvalidParameter
from depthwright.loras import ALLOWED, FORM, MOST, PATH_MAX, SCALE_MAX
from depthwright.parameters import (
    DEFAULT_SIZE,
    PARAMETER,
    GenerationParameters,
    Parameter,
    SizeBounds,
    number,
    row_of,
)

IDEMPOTENCY_MAX = 255
URL_MAX = 2048
WEBHOOK_FORM = "^[hH][tT][tT][pP][sS]?://"
_OURS = ("allowed", "flag")
_LORA_SCHEMA = {
    "type": "object",
    "required": ["path"],
    "properties": {
        "path": {
            "type": "string",
            "maxLength": PATH_MAX,
            "pattern": FORM,
            "description": "An https URL of a safetensors file, a repository of the hub (user/name or user/name/FILE), "
            "or the name of one on this server.",
        },
        "scale": {
            "type": "number",
            "minimum": 0,
            "maximum": SCALE_MAX,
            "default": 1,
            "description": "How strongly it acts: 0 not at all, 1 as trained.",
        },
    },
}


def _webhook(value: Any) -> str:
    if not isinstance(value, str) or not value.lower().startswith(("https://", "http://")):
        raise ValueError("no URL")
    value.encode("utf-8")
    return value


def _image(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("no text")
    value.encode("utf-8")
    return value.strip()


def _bool(value: Any) -> bool:
    if isinstance(value, str) and value.strip().lower() in ("true", "false"):
        return value.strip().lower() == "true"
    if not isinstance(value, bool):
        raise ValueError("no boolean")  # noqa: TRY004 - pydantic collects ValueErrors, no TypeErrors
    return value


class LoraChoice(BaseModel):
    """A LoRA that a request brings: where it is, and how strongly it acts."""

    model_config = ConfigDict(frozen=True)

    path: Annotated[str, BeforeValidator(_image)] = Field(max_length=PATH_MAX, pattern=FORM)
    scale: Annotated[float, BeforeValidator(number)] = Field(default=1.0, ge=0, le=SCALE_MAX)


class PredictionRequest(GenerationParameters):
    """What a client may send; any other field is ignored, and named in the answer's warnings."""

    control_image: Annotated[str | None, BeforeValidator(_image)] = Field(
        default=None,
        description=PARAMETER["control_image"].help,
        json_schema_extra={"allowed": "an http(s) URL, a data URI, base64, or an uploaded file's URL"},
    )
    loras: Annotated[
        tuple[LoraChoice, ...],
        WithJsonSchema({"type": "array", "maxItems": MOST, "items": _LORA_SCHEMA}),
    ] = Field(
        default=(),
        max_length=MOST,
        description="LoRAs for FLUX, of a style or a subject, that act after the depth LoRA, in this order.",
        json_schema_extra={"allowed": ALLOWED},
    )
    enable_safety_checker: Annotated[bool, BeforeValidator(_bool)] = Field(
        default=True, description="Whether pictures are checked for unsafe content."
    )
    output_format: Literal["png", "jpeg", "webp"] = Field(
        default="png", description="The file format of the pictures."
    )
    enable_base64_output: Annotated[bool, BeforeValidator(_bool)] = Field(
        default=False, description="Whether `outputs` holds the pictures as base64 instead of their URLs."
    )
    enable_sync_mode: Annotated[bool, BeforeValidator(_bool)] = Field(
        default=False, description="Whether the answer waits for the pictures."
    )
    webhook_url: Annotated[str | None, BeforeValidator(_webhook)] = Field(
        default=None,
        max_length=URL_MAX,
        description="Where the prediction is posted when it ends.",
        json_schema_extra={"allowed": f"an https URL of at most {URL_MAX} characters"},
    )

    @classmethod
    def read(cls, body: object, size_bounds: SizeBounds) -> tuple[Self, tuple[str, ...]]:
        """Check a JSON body; the request and its warnings. Raises InvalidParameter for the first bad field."""
        if not isinstance(body, dict):
            raise InvalidParameter("The body", body, 'a JSON object such as {"prompt": "a red sphere"}')
        unknown = [name for name in body if name not in cls.model_fields]
        given = {
            name: value for name, value in body.items() if name in cls.model_fields and value is not None
        }
        try:
            request = cls.model_validate(given, context={"size_bounds": size_bounds})
        except ValidationError as error:
            field = str(error.errors(include_url=False)[0]["loc"][0])
            allowed = size_bounds.allowed if field == "size" else REQUEST_PARAMETER[field].allowed
            raise InvalidParameter(field, given.get(field), allowed) from None
        if request.enable_base64_output and request.webhook_url:
            raise InvalidParameter(
                "enable_base64_output", True, "false when a webhook is given: webhooks carry URLs"
            )
        return request, tuple(f"{name[:60]} is not known here and was ignored." for name in unknown[:20])

    @classmethod
    def json_schema(cls, size_bounds: SizeBounds, *, nullable: bool = True) -> dict[str, Any]:
        """What `read` accepts, as a JSON schema; with `nullable`, null stands for an absent field too."""
        schema = cls.model_json_schema()
        del schema["additionalProperties"]  # unknown fields are ignored, not refused
        fields: dict[str, dict[str, Any]] = {
            name: _client_side(entry) for name, entry in schema["properties"].items()
        }
        fields["prompt"]["pattern"] = r"\S"
        fields["seed"]["minimum"] = -1
        fields["size"]["pattern"] = size_pattern(size_bounds)
        fields["webhook_url"] |= {"format": "uri", "pattern": WEBHOOK_FORM}
        fields["preprocess_depth"] |= {
            "type": ["string", "boolean"],
            "enum": ["auto", "true", "false", True, False],
        }
        if nullable:
            for name in fields.keys() - {"prompt"}:
                _allow_null(fields[name])
        return schema | {"properties": fields}

    @property
    def generation(self) -> GenerationParameters:
        """The part that the engine takes."""
        names = GenerationParameters.model_fields
        return GenerationParameters.model_construct(**{name: getattr(self, name) for name in names})


def size_pattern(bounds: SizeBounds) -> str:
    """The sizes within bounds, and the default one, as a regular expression."""
    side = _numbers(*bounds)
    return f"^({side}[*xX]{side}|{DEFAULT_SIZE.width}[*xX]{DEFAULT_SIZE.height})$"


def _numbers(low: int, high: int) -> str:
    """Every whole number from low to high: `51[2-9]|5[2-9][0-9]|...`."""
    parts = []
    while low <= high:
        # The final digits that run through 0 to 9 whatever stands before them.
        free, step = 0, 1
        while low % (step * 10) == 0 and low + step * 10 <= high + 1:
            free, step = free + 1, step * 10
        # The digit before them runs as far as it can without a carry.
        first = low // step % 10
        last = min(9, first + (high + 1 - low) // step - 1)
        parts.append(f"{low // (step * 10) or ''}[{first}-{last}]" + "[0-9]" * free)
        low += (last - first + 1) * step
    return f"({'|'.join(parts)})"


def _client_side(entry: dict[str, Any]) -> dict[str, Any]:
    """A field's entry as clients read it: one type, and none of our own remarks."""
    plain = {key: value for key, value in entry.items() if key not in _OURS}
    if "anyOf" in plain:
        plain |= plain.pop("anyOf")[0]
    if plain.get("default") is None:
        plain.pop("default", None)
    return plain


def _allow_null(entry: dict[str, Any]) -> None:
    kinds = entry["type"]
    entry["type"] = [*(kinds if isinstance(kinds, list) else [kinds]), "null"]
    if "enum" in entry:
        entry["enum"] = [*entry["enum"], None]


def _rows() -> tuple[Parameter, ...]:
    schema = PredictionRequest.model_json_schema()
    rows = [
        row_of(name, entry, required=name in schema["required"])
        for name, entry in schema["properties"].items()
    ]
    return tuple(sorted(rows, key=lambda row: (row.name != "prompt", row.name != "control_image")))


REQUEST_PARAMETERS: tuple[Parameter, ...] = _rows()
REQUEST_PARAMETER: dict[str, Parameter] = {parameter.name: parameter for parameter in REQUEST_PARAMETERS}
