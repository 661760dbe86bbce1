"""Named model set-ups, as data: which part comes from where, in which precision, and how it lives in memory."""

import tomllib
from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    PositiveInt,
    ValidationError,
    model_validator,
)

from depthwright.errors import InvalidParameter, UncheckedProfile, UnknownProfile
from depthwright.parameters import Level

Part = Literal[
    "transformer",
    "vae",
    "text_encoder",
    "text_encoder_2",
    "tokenizer",
    "tokenizer_2",
    "scheduler",
    "control_lora",
    "depth_estimator",
    "image_checker",
    "prompt_guard",
]
# What no picture can be made without, and what a profile may have besides.
_OPTIONAL: tuple[Part, ...] = ("image_checker", "prompt_guard")
PARTS: tuple[Part, ...] = tuple(part for part in Part.__args__ if part not in _OPTIONAL)  # type: ignore[attr-defined]
Memory = Literal["resident", "fp8", "int8", "group_offload"]
_HomePath = Annotated[Path, AfterValidator(Path.expanduser)]
_SHIPPED = files("depthwright.engine") / "profile_data"


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Source(_Table):
    """Where one part comes from: exactly one of `package` (a folder of ours), `repo` (of the hub) and `path`.

    `subfolder` names a diffusers folder in it, `filename` a single file. `config` is a folder with the config.json of
    a single file whose shape its tensors do not tell. In a TOML file paths start from its own folder.
    """

    package: str | None = None
    repo: str | None = None
    path: _HomePath | None = None
    revision: str | None = None
    subfolder: str | None = None
    filename: str | None = None
    config: _HomePath | None = None

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if sum(place is not None for place in (self.package, self.repo, self.path)) != 1:
            raise ValueError("name exactly one of package, repo and path")
        return self

    def beside(self, folder: Path) -> "Source":
        """The same source, its relative paths taken from `folder`."""
        places = {name: getattr(self, name) for name in ("path", "config")}
        return self.model_copy(update={name: folder / place for name, place in places.items() if place})

    @property
    def patterns(self) -> tuple[str, ...]:
        """The files of a repository that this part needs; safetensors and small text files, never pickles."""
        if self.filename:
            return (self.filename,)
        prefix = f"{self.subfolder}/" if self.subfolder else ""
        return tuple(prefix + kind for kind in ("*.safetensors", "*.json", "*.txt", "*.model"))


class StepCacheSettings(_Table):
    """How bold the step cache is: how far the first block's share may stray from its line, and the longest run."""

    threshold: Annotated[float, Field(gt=0, le=1)]
    longest_run: Annotated[int, Field(ge=1, le=20)]


class ImageCheck(_Table):
    """When the image checker, a classifier, objects: `label` at a probability of `threshold` or more."""

    label: str
    threshold: Annotated[float, Field(gt=0, le=1)]


class PromptGuard(_Table):
    """When the prompt guard, a classifier of text, objects: a label that the policy knows, at `threshold` or more."""

    threshold: Annotated[float, Field(gt=0, le=1)]


class Licence(_Table):
    """A licence that covers a part's weights, and what it asks of whoever uses them."""

    covers: str
    name: str
    url: str
    notice: str


class Profile(_Table):
    """One way to run the one pipeline.

    `native` lists the picture sizes in pixels that a small model was trained on; empty means that it draws any
    multiple of its patch. `memory`: "resident" keeps all on the device and merges the LoRA; "fp8" and "int8" store the
    large weights in eight bits; "group_offload" keeps them in main memory and brings them block by block. `step_cache`
    says how bold the acceleration levels may be, as calibrated for these weights; `lower_precision` whether
    they may work in fewer bits than `dtype` has, where the hardware is faster then. `gpus` draw each picture together.
    A profile that `depicts_people` does not load without an image checker, unless the operator says so.
    """

    name: str
    title: str
    description: str
    dtype: Literal["float32", "bfloat16", "float16"]
    memory: Memory = "resident"
    gpus: PositiveInt = 1
    max_sequence_length: PositiveInt
    native: tuple[tuple[PositiveInt, PositiveInt], ...] = ()
    depth_near: Literal["large", "small"] = "large"
    step_cache: Mapping[Level, StepCacheSettings] = {}
    lower_precision: bool = True
    depicts_people: bool = True
    image_checker: ImageCheck | None = None
    prompt_guard: PromptGuard | None = None
    sources: Mapping[Part, Source]
    licences: tuple[Licence, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if missing := [part for part in PARTS if part not in self.sources]:
            raise ValueError(f"sources lack {', '.join(missing)}")
        for part in _OPTIONAL:
            if (part in self.sources) != (getattr(self, part) is not None):
                raise ValueError(f"{part} takes both a source and a table [{part}]")
        return self

    @property
    def parts(self) -> tuple[Part, ...]:
        """The parts that it is made of."""
        return (*PARTS, *(part for part in _OPTIONAL if part in self.sources))

    def with_overrides(self, overrides: Mapping[str, Path]) -> "Profile":
        """The profile with some parts taken from files or folders of this machine. Raises InvalidParameter."""
        sources = dict(self.sources)
        for name, path in overrides.items():
            part = next((part for part in self.parts if part == name), None)
            if part is None:
                raise InvalidParameter("weights", name, f"one of {', '.join(self.parts)}")
            sources[part] = Source(path=path, config=sources[part].config)
        # Nobody knows what another transformer draws.
        depicts_people = self.depicts_people or "transformer" in overrides
        return self.model_copy(update={"sources": sources, "depicts_people": depicts_people})

    def require_checker(self, unchecked: str | None) -> None:
        """Refuse to draw people whom nobody looks at, unless `unchecked` is this profile's name.

        Raises UncheckedProfile.
        """
        if self.depicts_people and self.image_checker is None and unchecked != self.name:
            raise UncheckedProfile(self.name)

    def beside(self, folder: Path) -> "Profile":
        """The same profile, its relative paths taken from `folder`."""
        return self.model_copy(
            update={"sources": {part: source.beside(folder) for part, source in self.sources.items()}}
        )


def profile_names() -> tuple[str, ...]:
    """The profiles that come with the package, the default first."""
    names = sorted(
        entry.name.removesuffix(".toml") for entry in _SHIPPED.iterdir() if entry.name.endswith(".toml")
    )
    return tuple(names)


def load_profile(name: str | Path) -> Profile:
    """A profile of the package by name, or anyone's by the path of its TOML file.

    Raises UnknownProfile, and InvalidParameter where a file is not a profile.
    """
    file = Path(name)
    try:
        if str(name) in profile_names():
            return Profile.model_validate(tomllib.loads((_SHIPPED / f"{name}.toml").read_text()))
        if file.suffix == ".toml" and file.is_file():
            return Profile.model_validate(tomllib.loads(file.read_text())).beside(file.parent)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(step) for step in first["loc"])
        raise InvalidParameter("profile", str(name), f"a profile; {where}: {first['msg']}") from error
    except (OSError, ValueError) as error:  # not readable, not UTF-8, not TOML
        raise InvalidParameter("profile", str(name), f"a TOML file ({error})") from error
    raise UnknownProfile(str(name), profile_names())
