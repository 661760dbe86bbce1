"""The command's root, and the boundary where every error becomes one sentence and an exit code."""

import sys
import traceback
from collections.abc import Sequence

import click

from depthwright import __version__
from depthwright.assembly import Assembly
from depthwright.cli.audit import audit
from depthwright.cli.depth import depth
from depthwright.cli.generate import generate
from depthwright.cli.group import SuggestingGroup
from depthwright.cli.keys import keys
from depthwright.cli.models import models
from depthwright.cli.serve import serve
from depthwright.cli.verify import verify
from depthwright.cli.worker import worker
from depthwright.errors import DepthwrightError, InvalidParameter, OutOfMemory
from depthwright.parameters import PARAMETERS
from depthwright.settings import Settings, variable

INTERRUPTED = 130
# Fields as the person at the terminal typed them.
_FLAGS = {row.name: row.flag for row in PARAMETERS} | {
    name: f"--{name}" for name in ("profile", "device", "weights")
}


@click.group(
    cls=SuggestingGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100}
)
@click.version_option(__version__, prog_name="depthwright")
@click.pass_context
def cli(context: click.Context) -> None:
    """A prompt and a depth map become a picture."""
    context.obj = context.obj or Assembly(Settings.from_environment())


for command in (generate, verify, depth, serve, keys, audit, models, worker):
    cli.add_command(command)


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: Sequence[str], assembly: Assembly | None = None) -> int:
    """Run the command with these arguments; returns its exit code. Without an assembly, the environment's."""
    try:
        code = cli.main(list(arguments), prog_name="depthwright", standalone_mode=False, obj=assembly)
    except Exception as error:  # noqa: BLE001 - the boundary: people get a sentence, a traceback if they ask
        if Settings.debugging():
            traceback.print_exception(error)
        message, code = _told(error)
        click.echo(f"depthwright: {message}", err=True)
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> tuple[str, int]:
    """The sentence for the person at the terminal, and the exit code."""
    code = getattr(error, "exit_code", DepthwrightError.exit_code)
    match error:
        case InvalidParameter():
            message = error.worded(_FLAGS.get(error.field, error.field))
        case DepthwrightError():
            message = str(error)
        case click.UsageError():
            path = error.ctx.command_path if error.ctx else "depthwright"
            message = f"{error.format_message()}\n'{path} --help' tells what is allowed."
        case click.ClickException():
            message = error.format_message()
        case click.Abort():
            message, code = "stopped.", INTERRUPTED
        case MemoryError():
            message, code = "this machine has too little memory for that.", OutOfMemory.exit_code
        case _:
            message = (
                f"unexpected {type(error).__name__}: {error}. This is a fault of depthwright; "
                f"{variable('debug')}=1 shows where it lies."
            )
    return message, code
