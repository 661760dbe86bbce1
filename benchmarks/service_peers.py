"""The peers: LitServe and BentoML, each installed at first use in an environment of its own under .venv/peers."""

import hashlib
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.service_client import Figures, load, request
from benchmarks.service_process import ROOT, Server

_PLACES = ROOT / ".venv" / "peers"
_HERE = Path(__file__).parent
_INSTALL_SECONDS = 600


@dataclass(frozen=True)
class Peer:
    """A release, what it is installed with, and how it serves at a port."""

    name: str
    version: str
    pip: tuple[str, ...]
    command: Callable[[str, int], list[str]]

    @property
    def place(self) -> Path:
        """Its environment."""
        return _PLACES / f"{self.name}-{self.version}"

    @property
    def python(self) -> Path:
        """Its Python."""
        return self.place / "bin" / "python"


# Neither needs torch. BentoML pins older releases than constraints.txt does, so it brings its own.
PEERS = (
    Peer(
        "litserve",
        "0.2.19",
        ("-c", "constraints.txt"),
        lambda python, port: [python, str(_HERE / "service_litserve.py"), str(port)],
    ),
    Peer(
        "bentoml",
        "1.4.40",
        (),
        lambda python, port: [
            *(python, "-m", "bentoml", "serve", "service_bentoml:Nothing"),
            *("--working-dir", str(_HERE), "--host", "127.0.0.1", "--port", str(port)),
        ],
    ),
)


def install(peer: Peer) -> None:
    """Make its environment, unless it is there. Raises CalledProcessError or TimeoutExpired."""
    stamp = peer.place / ".stamp"
    made_from = hashlib.sha256(f"{peer.pip}{sys.version}".encode()).hexdigest()
    if stamp.is_file() and stamp.read_text() == made_from:
        return
    print(f"Installing {peer.name} {peer.version} into {peer.place.relative_to(ROOT)}", flush=True)
    shutil.rmtree(peer.place, ignore_errors=True)
    _run(sys.executable, "-m", "venv", "--without-pip", str(peer.place))
    pip = (sys.executable, "-m", "pip", "--python", str(peer.python), "--disable-pip-version-check")
    _run(*pip, "install", "--quiet", *peer.pip, f"{peer.name}=={peer.version}", "pillow==13.0.0")
    stamp.write_text(made_from)


def start(peer: Peer, folder: Path) -> Server:
    """Serve at a free port, and wait for the first answer."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    options = {"BENTOML_HOME": folder / "bentoml", "BENTOML_DO_NOT_TRACK": "True"}
    output = folder / f"{peer.name}.txt"
    server = Server(peer.name, peer.command(str(peer.python), port), output, **options)
    server.address = ("127.0.0.1", port)
    server.answers(_ask(server))
    return server


def predictions(server: Server, connections: int, number: int) -> Figures:
    """Requests for a picture."""
    return load(server.address, [_ask(server)] * number, connections)


def _ask(server: Server) -> bytes:
    return request(server.address, "POST", "/predict", {"prompt": "nothing"})


def _run(*command: str) -> None:
    done = subprocess.run(  # noqa: S603 - our own command
        command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=_INSTALL_SECONDS
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)} failed:\n{done.stdout}{done.stderr}")
