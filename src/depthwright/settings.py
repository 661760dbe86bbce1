"""The only reader of the environment: one table of settings, each with its name, default and help."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from depthwright.errors import InvalidParameter
from depthwright.parameters import SizeBounds

PREFIX = "DEPTHWRIGHT_"


class Settings(BaseModel):
    """What an operator may set. A variable is the field's name in capitals after `DEPTHWRIGHT_`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    profile: str = Field(
        default="embedded",
        min_length=1,
        description="The model to use: a profile's name or its TOML file.",
        json_schema_extra={"allowed": "a profile's name or a TOML file"},
    )
    device: str | None = Field(
        default=None,
        min_length=1,
        description="The torch device, such as cpu, cuda:0 or mps; the best one there is when absent.",
        json_schema_extra={"allowed": "a torch device"},
    )
    cache: Annotated[Path, BeforeValidator(lambda value: Path(value).expanduser())] = Field(
        default_factory=lambda: Path("~/.cache/depthwright").expanduser(),
        description="The folder where digests of weights are remembered.",
        json_schema_extra={"allowed": "a folder"},
    )
    shortest_side: int = Field(
        default=SizeBounds().shortest,
        ge=16,
        le=4096,
        description="The shortest side of a picture that is accepted, in pixels.",
        json_schema_extra={"allowed": "a whole number from 16 to 4096"},
    )
    longest_side: int = Field(
        default=SizeBounds().longest,
        ge=16,
        le=4096,
        description="The longest side of a picture that is accepted, in pixels.",
        json_schema_extra={"allowed": "a whole number from 16 to 4096"},
    )
    debug: bool = Field(
        default=False,
        description="Whether the command shows the traceback of an unexpected error.",
        json_schema_extra={"allowed": "true or false"},
    )

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> Self:
        """Read the variables; an empty one counts as absent. Raises InvalidParameter with its name."""
        environment = os.environ if environment is None else environment
        given = {
            name: environment[variable(name)] for name in cls.model_fields if environment.get(variable(name))
        }
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            name = str(error.errors(include_url=False)[0]["loc"][0])
            allowed = cls.model_json_schema()["properties"][name]["allowed"]
            raise InvalidParameter(variable(name), given[name], allowed) from None
        if settings.shortest_side > settings.longest_side:
            raise InvalidParameter(
                variable("shortest_side"),
                settings.shortest_side,
                f"at most {settings.longest_side}, the longest",
            )
        return settings

    @staticmethod
    def debugging() -> bool:
        """The debug setting alone, even where another variable is wrong."""
        return os.environ.get(variable("debug"), "").lower() in ("1", "true", "yes", "on")

    @property
    def size_bounds(self) -> SizeBounds:
        """The sizes that requests may ask for."""
        return SizeBounds(self.shortest_side, self.longest_side)


def variable(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()
