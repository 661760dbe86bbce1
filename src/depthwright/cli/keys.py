"""`depthwright keys`: who may use the server."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from depthwright.assembly import Assembly, require_server
from depthwright.cli.group import SuggestingGroup
from depthwright.prediction import iso

if TYPE_CHECKING:
    from depthwright.service.auth import Keys


@click.group(cls=SuggestingGroup, short_help="Make, list and revoke keys of the server.")
def keys() -> None:
    """Keys open the server that keeps its data in the folder of DEPTHWRIGHT_DATA_DIR; a change holds at once."""


@keys.command(short_help="Make a key and print it.")
@click.option("--name", default="", help="Whose key it is, for the list.")
@click.pass_obj
def create(assembly: Assembly, /, *, name: str) -> None:
    """Make a key. It is printed alone on the last line, and never shown again."""
    with _keys(assembly) as found:
        key = found.create(name)
    click.echo("A key was made; it is shown this once:", err=True)
    click.echo(key)


@keys.command("list", short_help="List the keys.")
@click.pass_obj
def list_keys(assembly: Assembly, /) -> None:
    """Every key: its id, name, when it was made, used last, and revoked."""
    from rich.console import Console  # noqa: PLC0415 - --help does without it
    from rich.table import Table  # noqa: PLC0415 - the same

    table = Table("id", "name", "made", "last used", "revoked")
    with _keys(assembly) as found:
        for key in found.all():
            times = (key.created_at, key.last_used_at, key.revoked_at)
            table.add_row(key.id, key.name, *(_told(moment) if moment else "-" for moment in times))
    Console().print(table)


@keys.command(short_help="Revoke a key.")
@click.argument("key", metavar="ID-OR-NAME")
@click.pass_obj
def revoke(assembly: Assembly, /, *, key: str) -> None:
    """End a key at once; its predictions stay until they are swept."""
    with _keys(assembly) as found:
        gone = found.revoke(key)
    click.echo(f"Revoked {gone.id} {gone.name}".rstrip())


def _told(moment: float) -> str:
    """A time to the minute, which leaves room for names in a narrow terminal."""
    return iso(moment)[:16].replace("T", " ") + "Z"


@contextmanager
def _keys(assembly: Assembly) -> "Iterator[Keys]":
    require_server()
    # The service's libraries take half a second to import; the other commands do without them.
    from depthwright.service.auth import Keys  # noqa: PLC0415
    from depthwright.service.database import Database  # noqa: PLC0415
    from depthwright.service.places import Places  # noqa: PLC0415

    database = Database(Places(assembly.settings.data_dir).database)
    try:
        database.migrate()
        yield Keys(database)
    finally:
        database.close()
