"""What a picture's file says of its making: enough to make it again, and to see that it is the same."""

import hashlib
import hmac
from collections.abc import Mapping
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StrictInt, StrictStr, ValidationError, model_validator

from depthwright import __version__
from depthwright.errors import InvalidImage, InvalidParameter
from depthwright.parameters import GenerationParameters, SizeBounds

_SOFTWARE = f"depthwright {__version__}"
_LONGEST = 500_000  # characters of JSON; a prompt of the longest kind has an eighth of it
_DIGEST = r"^[0-9a-f]{64}$"
_ANY_SIZE = SizeBounds(1, 99_999)

Digest = Annotated[str, Field(strict=True, pattern=_DIGEST)]
Words = Annotated[str, Field(strict=True, max_length=1000)]
Number = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Scalar = StrictInt | StrictStr | Number | None


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class UsedAcceleration(_Frozen):
    """The level that ran, and the techniques that made it."""

    level: Words
    techniques: tuple[Words, ...] = ()


class UsedLora(_Frozen):
    """A LoRA that acted: its name, the SHA-256 of its file, and its scale."""

    name: Words
    digest: Words
    scale: Number


class Receipt(_Frozen):
    """How a picture was made.

    `request` has every parameter of the request by its name, the size as `W*H`, with the prompt itself or
    `prompt_sha256` in its place. `image` is the picture's index in its request and `seed` its own seed.
    `control_sha256` is the `pixel_hash` of the control image, None for the one that is taken when none is given.

    `pixels_sha256` is the `pixel_hash` of the picture before it was packed into a file. A PNG loses nothing: its
    pixels, decoded, have that hash, so whoever has the file can compare them without any certificate. A JPEG or WebP
    holds other pixels than were hashed: only the content credentials, whose hash is of the file's bytes, show that such
    a file is untouched. For all three, who renders the request again has the same picture if its pixels have that hash.
    """

    version: Literal[1] = 1
    request: Mapping[Annotated[str, Field(max_length=100)], Scalar]
    image: Annotated[int, Field(strict=True, ge=0)] = 0
    seed: Annotated[int, Field(strict=True, ge=0)]
    control_sha256: Digest | None = None
    profile: Words
    model_version: Words
    software: Words = _SOFTWARE
    acceleration: UsedAcceleration
    hardware: Words
    loras: tuple[UsedLora, ...] = ()
    pixels_sha256: Digest

    @model_validator(mode="after")
    def _told_of_the_prompt_once(self) -> Self:
        if ("prompt" in self.request) == ("prompt_sha256" in self.request):
            raise ValueError("a request has either its prompt or the prompt's digest")
        if not isinstance(self.request.get("prompt", self.request.get("prompt_sha256")), str):
            raise ValueError("a prompt is a text")  # noqa: TRY004 - pydantic collects ValueErrors, no TypeErrors
        return self

    @property
    def prompt(self) -> str | None:
        """The prompt, where the receipt was asked to keep it."""
        found = self.request.get("prompt")
        return found if isinstance(found, str) else None

    def without_prompt(self) -> "Receipt":
        """The same receipt with the prompt's digest in place of the prompt.

        The digest is HMAC-SHA-256 under the pixels' hash, so that no table of common prompts finds it and two pictures
        of one prompt do not show that they are. It is no secret all the same: a guess at the prompt can be confirmed.
        """
        if self.prompt is None:
            return self
        request = {
            ("prompt_sha256" if name == "prompt" else name): (
                self._digest(value) if name == "prompt" else value
            )
            for name, value in self.request.items()
        }
        return self.model_copy(update={"request": request})

    def is_prompt(self, prompt: str) -> bool:
        """Whether the picture was made from this prompt."""
        if self.prompt is not None:
            return self.prompt == prompt
        return hmac.compare_digest(str(self.request["prompt_sha256"]), self._digest(prompt))

    def parameters(self, prompt: str | None = None) -> GenerationParameters:
        """The request that makes this picture alone; `prompt` is needed where the receipt keeps only its digest.

        Raises InvalidParameter: for a prompt that is missing or another, for a value this version does not take.
        """
        given = self.prompt if prompt is None else prompt
        if given is None:
            raise InvalidParameter("prompt", None, "the one of the picture, which its receipt does not keep")
        if not self.is_prompt(given):
            raise InvalidParameter("prompt", given, "the one that the picture was made from")
        others = {
            name: value for name, value in self.request.items() if name not in ("prompt", "prompt_sha256")
        }
        checked = GenerationParameters.from_user(size_bounds=_ANY_SIZE, prompt=given, **others)
        # Past the check: image i of the highest seed has one above it, which the engine takes and no request may name.
        return checked.model_copy(update={"seed": self.seed, "num_images": 1})

    def json_text(self) -> str:
        """The receipt as JSON, which `from_json` reads to an equal one."""
        return self.model_dump_json()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Read a receipt strictly. Raises InvalidImage, with what is wrong in words."""
        if len(text) > _LONGEST:
            raise InvalidImage(
                f"The receipt in the picture is too long: at most {_LONGEST} characters are read."
            )
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            place = ".".join(str(part) for part in first["loc"][:2]) or "it as a whole"
            raise InvalidImage(
                f"The receipt in the picture is none that this version reads: {place}: {first['msg'].lower()}."
            ) from error

    def _digest(self, prompt: Scalar) -> str:
        return hmac.new(self.pixels_sha256.encode(), str(prompt).encode(), hashlib.sha256).hexdigest()
