"""`depthwright serve`: the HTTP API and its workers, by one command."""

import socket
import sys
from collections.abc import Callable

import click

from depthwright.assembly import Assembly, require_server
from depthwright.engine.profiles import load_profile
from depthwright.errors import UserError
from depthwright.settings import Settings

_PATH = "/api/v2/wavespeed-ai/flux-control-lora-depth"
_GRACE_SECONDS = 3


class AddressInUse(UserError):
    """The server cannot listen at the address that was asked for."""


@click.command(short_help="Serve the HTTP API, with workers that make the pictures.")
@click.option("--host", metavar="HOST", help="The address to listen on.  [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="The port; 0 takes a free one.  [default: 8000]")
@click.option("--profile", metavar="NAME", help="A profile's name or its TOML file; see 'models list'.")
@click.option("--device", metavar="DEVICE", help="A torch device: cpu, cuda:0, mps, ...  [default: the best]")
@click.option(
    "--workers", type=click.IntRange(0, 64), help="How many workers.  [default: one for each GPU, or one]"
)
@click.pass_obj
def serve(assembly: Assembly, /, **given: str | int | None) -> None:
    """Start the API and its workers, wait until the model is warm, and print how to use it.

    What the server keeps lies in the folder of DEPTHWRIGHT_DATA_DIR; docs/settings.md has every setting.
    """
    require_server()
    # The service's libraries take half a second to import; the other commands do without them.
    import uvicorn  # noqa: PLC0415

    from depthwright.service.api.app import make  # noqa: PLC0415
    from depthwright.service.logs import to_stderr  # noqa: PLC0415

    settings = assembly.settings.model_copy(
        update={name: value for name, value in given.items() if value is not None}
    )
    # 1. A model that nobody watches is not served; then the address: nothing else is worth doing without it.
    load_profile(settings.profile).require_checker(settings.unchecked)
    listening = _listen(settings)
    host, port = listening.getsockname()[:2]
    address = settings.public_url or f"http://{_spelled(host)}:{port}"
    to_stderr(debug=settings.debug)
    # 2. Whoever starts for the first time gets a key.
    key = _first_key(settings)
    if key:
        click.echo(f"A key was made; it is shown this once:\n\n  {key}\n")
    click.echo(f"depthwright listens on {address}; the model is warming up ...")
    sys.stdout.flush()
    # 3. Serve until told to stop.
    app = make(settings, assembly.worker_command, _greeting(address, key))
    config = uvicorn.Config(
        app, log_config=None, access_log=False, timeout_graceful_shutdown=_GRACE_SECONDS, server_header=False
    )
    uvicorn.Server(config).run(sockets=[listening])


def _listen(settings: Settings) -> socket.socket:
    try:
        family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
        listening = socket.create_server((settings.host, settings.port), family=family, backlog=2048)
    except OSError as error:
        raise AddressInUse(
            f"The server cannot listen on {settings.host}:{settings.port} ({(error.strerror or str(error)).lower()}): "
            "name another address with --host and --port."
        ) from error
    # asyncio does this itself only for sockets that name TCP as their protocol, which `create_server` leaves open. Its
    # connections inherit it: without it an answer's body waits 40 ms for the client's delayed acknowledgement.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def _first_key(settings: Settings) -> str | None:
    from depthwright.service.auth import Keys  # noqa: PLC0415
    from depthwright.service.database import Database  # noqa: PLC0415
    from depthwright.service.places import Places  # noqa: PLC0415

    database = Database(Places(settings.data_dir).database)
    try:
        database.migrate()
        keys = Keys(database)
        return None if keys.all() else keys.create("first")
    finally:
        database.close()


def _greeting(address: str, key: str | None) -> Callable[[], None]:
    shown = key or "$DEPTHWRIGHT_KEY"

    def greet() -> None:
        click.echo(
            f"Ready. Try it:\n\n"
            f"  curl -s {address}{_PATH} -H 'Content-Type: application/json' "
            f'-H "Authorization: Bearer {shown}" '
            """-d '{"prompt": "a red sphere on a wooden floor", "enable_sync_mode": true}'"""
            f"\n\nThe API is described at {address}/docs. Ctrl-C stops the server and keeps what waits."
        )
        sys.stdout.flush()

    return greet


def _spelled(host: str) -> str:
    return f"[{host}]" if ":" in host else host
