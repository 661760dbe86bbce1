"""Which servers a user's own configuration names, and their keys.

A workflow holds the name of a profile and perhaps an address, never a key, and may come from a stranger: the key goes
only where the configuration of this machine says that the profile is.
"""

import json
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import SecretStr

from depthwright.clients.exchange import server_address
from depthwright.errors import DepthwrightError, echo
from depthwright.settings import PREFIX, variable

from .errors import ConnectionInvalid

Dialect = Literal["depthwright", "wavespeed"]
DEFAULT = "default"
PLACE = f"{PREFIX}CONNECTIONS"
_OWN_SERVER = "http://127.0.0.1:8000"
_FIELDS = ("base_url", "key", "key_env", "key_file", "dialect")
_HOSTED = ("wavespeed.ai",)


@dataclass(frozen=True)
class Connection:
    """What a Connection node gives: which server, and how to wait for it. It holds no key."""

    profile: str
    server: str
    dialect: Dialect
    timeout: float
    poll_seconds: float


@dataclass(frozen=True)
class Profile:
    """A server of the configuration. Only one of the places of a key is given."""

    name: str
    server: str
    dialect: Dialect
    key: SecretStr | None = None
    key_env: str = ""
    key_file: Path | None = None

    @classmethod
    def read(cls, name: str, table: object) -> Self:
        """From a table of the configuration. Raises ConnectionInvalid."""
        if not isinstance(table, dict) or not all(isinstance(value, str) for value in table.values()):
            raise ConnectionInvalid(f"The connection {echo(name)} must be a table of texts.")
        if unknown := [entry for entry in table if entry not in _FIELDS]:
            raise ConnectionInvalid(
                f"The connection {echo(name)} has {echo(unknown[0])}: there are {', '.join(_FIELDS)}."
            )
        server = _address(name, table.get("base_url", ""))
        dialect: Any = table.get("dialect") or _dialect(server)
        if dialect not in ("depthwright", "wavespeed"):
            raise ConnectionInvalid(
                f"The dialect of the connection {echo(name)} must be depthwright or wavespeed."
            )
        if sum(entry in table for entry in ("key", "key_env", "key_file")) > 1:
            raise ConnectionInvalid(
                f"The connection {echo(name)} has several keys: give one of key, key_env and key_file."
            )
        return cls(
            name,
            server,
            dialect,
            key=SecretStr(table["key"]) if "key" in table else None,
            key_env=table.get("key_env", ""),
            key_file=Path(table["key_file"]).expanduser() if "key_file" in table else None,
        )


@dataclass(frozen=True)
class Connections:
    """All profiles of this machine's user, read anew for every use: a change needs no restart."""

    profiles: Mapping[str, Profile]
    place: Path
    environment: Mapping[str, str] = field(repr=False)

    @classmethod
    def read(cls, environment: Mapping[str, str] | None = None) -> Self:
        """The file's profiles, and `default` from the environment. Raises ConnectionInvalid."""
        environment = os.environ if environment is None else environment
        place = _place(environment)
        profiles = {name: Profile.read(name, table) for name, table in _tables(place).items()}
        server = environment.get(variable("server"), "")
        if server or DEFAULT not in profiles:
            address = _address(DEFAULT, server or _OWN_SERVER)
            profiles[DEFAULT] = Profile(DEFAULT, address, _dialect(address), key_env=variable("key"))
        return cls(profiles, place, environment)

    @property
    def names(self) -> tuple[str, ...]:
        """The profiles' names, the default one first."""
        return (DEFAULT, *sorted(name for name in self.profiles if name != DEFAULT))

    def choose(self, name: str, base_url: str, timeout: float, poll_seconds: float) -> Connection:
        """A connection to a profile's server. Raises ConnectionInvalid where the workflow names another server."""
        profile = self._profile(name)
        self._require(profile, base_url)
        return Connection(name, profile.server, profile.dialect, timeout, poll_seconds)

    def key(self, connection: Connection) -> SecretStr:
        """The key for a connection, which is judged once more. Raises ConnectionInvalid."""
        profile = self._profile(connection.profile)
        self._require(profile, connection.server)
        found = profile.key.get_secret_value() if profile.key else self._kept(profile)
        if not found.strip():
            where = f"the variable {profile.key_env}" if profile.key_env else str(self.place)
            raise ConnectionInvalid(
                f"There is no key for the connection {echo(profile.name)} to {profile.server}: put it in {where}. It "
                "belongs in no node, since a workflow's values are saved in every picture."
            )
        return SecretStr(found)

    def _kept(self, profile: Profile) -> str:
        if profile.key_file is None:
            return self.environment.get(profile.key_env, "")
        try:
            return profile.key_file.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConnectionInvalid(
                f"The key file of the connection {echo(profile.name)}, {profile.key_file}, cannot be read."
            ) from error

    def _profile(self, name: str) -> Profile:
        if name not in self.profiles:
            raise ConnectionInvalid(
                f"There is no connection {echo(name)} in {self.place}; there are {', '.join(self.names)}."
            )
        return self.profiles[name]

    def _require(self, profile: Profile, base_url: str) -> None:
        if base_url.strip() and _address(profile.name, base_url) != profile.server:
            raise ConnectionInvalid(
                f"The workflow wants to send the request to {echo(base_url.strip())}, but your connection "
                f"{echo(profile.name)} is {profile.server}: nothing was sent. If you trust that server, add it to "
                f"{self.place} as a connection of its own."
            )


def _place(environment: Mapping[str, str]) -> Path:
    if named := environment.get(PLACE):
        return Path(named).expanduser()
    home = Path(environment.get("XDG_CONFIG_HOME") or "~/.config").expanduser()
    return home / "depthwright" / "connections.toml"


def _tables(place: Path) -> Mapping[str, object]:
    if not place.is_file():
        return {}
    try:
        text = place.read_text("utf-8")
        found = json.loads(text) if place.suffix == ".json" else tomllib.loads(text)
    except (OSError, ValueError) as error:
        # What the parser says is left out: it may quote the line of a key.
        raise ConnectionInvalid(f"{place} cannot be read, or is not of its form: see docs/comfyui.md.") from (
            error if isinstance(error, OSError) else None
        )
    if not isinstance(found, dict):
        raise ConnectionInvalid(f"{place} must hold a table for each connection.")
    return found


def _address(name: str, url: str) -> str:
    try:
        address = server_address(url)
    except DepthwrightError as error:
        raise ConnectionInvalid(f"The address of the connection {echo(name)} is wrong: {error}") from None
    parts = urlsplit(address)
    return f"{parts.scheme}://{parts.netloc.lower()}{parts.path}"


def _dialect(server: str) -> Dialect:
    host = urlsplit(server).hostname or ""
    hosted = any(host == name or host.endswith(f".{name}") for name in _HOSTED)
    return "wavespeed" if hosted else "depthwright"
