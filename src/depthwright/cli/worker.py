"""`depthwright worker`: one more process that makes pictures for a server on this machine."""

import secrets

import click

from depthwright.assembly import Assembly, require_server


@click.command(short_help="Work for a server on this machine; `serve` starts its own workers.")
@click.option(
    "--id", "worker_id", metavar="NAME", help="What the worker is called.  [default: drawn at random]"
)
@click.option("--attached", is_flag=True, help="Stop when standard input ends, as under `serve`.")
@click.pass_obj
def worker(assembly: Assembly, /, *, worker_id: str | None, attached: bool) -> None:
    """Load the model, then take predictions from the server's folder until told to stop."""
    require_server()
    # The service's libraries take half a second to import; the other commands do without them.
    from depthwright.service.logs import to_stderr  # noqa: PLC0415
    from depthwright.service.worker_main import run  # noqa: PLC0415

    settings = assembly.settings
    to_stderr(debug=settings.debug)
    settings.keep_compiled()

    run(
        settings,
        worker_id or f"worker-{secrets.token_hex(4)}",
        lambda: assembly.load_engine(
            settings.profile,
            device=settings.device,
            overrides={},
            cache_dir=settings.cache,
            compile_=settings.compile,
            unchecked=settings.unchecked,
            policy_off=settings.categories_off,
        ),
        lambda: assembly.make_marker(settings),
        attached=attached,
    )
