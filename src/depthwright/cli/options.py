"""Options of the sub-commands, made from the table of parameters."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import click
from pydantic import SecretStr

from depthwright.assembly import Assembly
from depthwright.errors import InvalidParameter, WeightsMissing
from depthwright.parameters import PARAMETERS, Kind, Parameter
from depthwright.ports import DepthMapper, Engine

_Command = TypeVar("_Command", bound=Callable[..., Any])
_METAVARS: dict[Kind, str] = {
    "text": "TEXT",
    "image": "FILE",
    "number": "NUMBER",
    "whole number": "NUMBER",
    "size": "W*H",
}
_READERS: dict[Kind, Callable[[str], object]] = {"number": float, "whole number": int, "image": Path}


def _reader(row: Parameter) -> Callable[[str], object]:
    """Reads a value as its kind says. What does not read so stays text, for the parameters to refuse."""
    read = _READERS.get(row.kind, str)

    def reader(value: str) -> object:
        try:
            return read(value)
        except ValueError:
            return value

    return reader


def parameter_options(command: _Command) -> _Command:
    """An option for every row of the table, in its order."""
    for row in reversed(PARAMETERS):
        command = click.option(
            row.flag,
            row.name,
            type=_reader(row),
            metavar=_METAVARS.get(row.kind) or f"[{'|'.join(row.choices)}]",
            help=_help(row),
        )(command)
    return command


def _help(row: Parameter) -> str:
    notes = []
    if row.kind not in ("text", "choice"):
        notes.append(row.allowed)
    if row.required:
        notes.append("required")
    if row.shown_default:
        notes.append(f"default {row.shown_default}")
    return f"{row.help}  [{'; '.join(notes)}]" if notes else row.help


@dataclass(frozen=True)
class ModelChoice:
    """Which model a command works with."""

    profile: str
    device: str | None
    weights: Mapping[str, Path]

    def load(self, assembly: Assembly) -> Engine:
        """The engine, loaded."""
        assembly.settings.keep_compiled()
        return assembly.load_engine(
            self.profile,
            device=self.device,
            overrides=self.weights,
            cache_dir=assembly.settings.cache,
            compile_=assembly.settings.compile,
            unchecked=assembly.settings.unchecked,
            policy_off=assembly.settings.categories_off,
        )

    def load_mapper(self, assembly: Assembly) -> DepthMapper:
        """Its depth estimator alone, loaded."""
        return assembly.load_mapper(self.profile, device=self.device, overrides=self.weights)


def model_options(command: _Command) -> _Command:
    """`--profile`, `--device` and `--weights`; the settings stand in for what is absent."""
    for option in reversed(
        (
            click.option(
                "--profile", metavar="NAME", help="A profile's name or its TOML file; see 'models list'."
            ),
            click.option(
                "--device",
                metavar="DEVICE",
                help="A torch device: cpu, cuda:0, mps, ...  [default: the best]",
            ),
            click.option(
                "--weights",
                metavar="NAME=PATH",
                multiple=True,
                help="Take one part of the model from a file or folder here, such as "
                "control_lora=lora.safetensors. May be repeated.",
            ),
        )
    ):
        command = option(command)
    return command


@dataclass(frozen=True)
class ServerChoice:
    """The server that does the work instead of this machine."""

    address: str
    key: SecretStr


def server_options(command: _Command) -> _Command:
    """`--server` and `--key`; the settings stand in for what is absent."""
    for option in reversed(
        (
            click.option(
                "--server",
                metavar="URL",
                help="Let this depthwright server make the pictures; '' for this machine.  "
                "[default: DEPTHWRIGHT_SERVER, else this machine]",
            ),
            click.option(
                "--key",
                metavar="KEY",
                help="The key for that server. Other users of this machine can see it here, but not in "
                "DEPTHWRIGHT_KEY.  [default: DEPTHWRIGHT_KEY]",
            ),
        )
    ):
        command = option(command)
    return command


def server_choice(
    assembly: Assembly, server: str | None, key: str | None, model: Mapping[str, object]
) -> ServerChoice | None:
    """The server that the options or settings name; None for this machine.

    `model` are the options about the model here, by flag: they contradict a server. Raises UsageError.
    """
    address = assembly.settings.server if server is None else server
    if not address:
        if key is not None:
            raise click.UsageError("--key is for a server: name one with --server.", _context())
        return None
    given = [flag for flag, value in model.items() if value]
    if given:
        whence = "--server" if server is not None else "DEPTHWRIGHT_SERVER"
        raise click.UsageError(
            f"{', '.join(given)} can only act on a model of this machine, but {whence} sends the work to a server, "
            "which has a model of its own: leave one of them out.",
            _context(),
        )
    chosen = SecretStr(key) if key is not None else assembly.settings.key
    if chosen is None or not chosen.get_secret_value().strip():
        raise click.UsageError(
            "The server needs a key: give it with --key or in DEPTHWRIGHT_KEY. Its operator makes one with "
            "'depthwright keys create'.",
            _context(),
        )
    return ServerChoice(address, chosen)


def _context() -> click.Context:
    return click.get_current_context()


def model_choice(
    assembly: Assembly, profile: str | None, device: str | None, weights: tuple[str, ...]
) -> ModelChoice:
    """The model that the options name. Raises InvalidParameter or WeightsMissing."""
    settings = assembly.settings
    return ModelChoice(profile or settings.profile, device or settings.device, dict(map(_override, weights)))


def _override(text: str) -> tuple[str, Path]:
    name, separator, place = text.partition("=")
    if not (name and separator and place):
        raise InvalidParameter("--weights", text, "NAME=PATH, such as control_lora=lora.safetensors")
    path = Path(place).expanduser()
    if not path.exists():
        raise WeightsMissing(f"{path} is not there, though --weights names it for {name}.")
    return name, path
