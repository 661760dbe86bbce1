"""`depthwright audit`: what was refused, for whoever has to answer for it."""

import json

import click

from depthwright.assembly import Assembly, require_server
from depthwright.errors import ServiceError
from depthwright.prediction import iso


class AuditBroken(ServiceError):
    """Somebody changed the audit log behind the server's back."""


@click.command(short_help="Export the log of refusals, as lines of JSON.")
@click.option(
    "--after", type=click.IntRange(min=0), default=0, metavar="NUMBER", help="Only rows after this one."
)
@click.pass_obj
def audit(assembly: Assembly, /, *, after: int) -> None:
    """Print every refusal: when, whose key, which prediction, prompt or image, its category, what was decided.

    Prompts are digests unless DEPTHWRIGHT_KEEP_PROMPTS is set. Each row's digest covers the one before it: a row that
    was changed or taken out shows, and the command ends with an error.
    """
    require_server()
    # The service's libraries take half a second to import; the other commands do without them.
    from depthwright.service.audit import exported  # noqa: PLC0415
    from depthwright.service.database import Database  # noqa: PLC0415
    from depthwright.service.places import Places  # noqa: PLC0415

    broken = []
    database = Database(Places(assembly.settings.data_dir).database)
    try:
        database.migrate()
        with database.reading() as connection:
            for row in exported(connection, after):
                click.echo(json.dumps(row.told | {"at": iso(row.told["at"])}))
                if not row.is_whole:
                    broken.append(row.told["number"])
    finally:
        database.close()
    if broken:
        raise AuditBroken(
            f"The audit log was changed: row {broken[0]} does not follow from the one before it"
            + (f", nor do {len(broken) - 1} later ones." if len(broken) > 1 else ".")
        )
