"""`depthwright models`: the profiles, their weights and their licences."""

import sys

import click

from depthwright.assembly import Assembly, require_engine
from depthwright.cli.group import SuggestingGroup
from depthwright.engine.profiles import Profile, load_profile, profile_names
from depthwright.errors import WeightsMissing

_GIGA = 1e9


@click.group(cls=SuggestingGroup, short_help="List profiles; pull, check and explain their weights.")
def models() -> None:
    """The models that can be used, their weights and their licences."""


@models.command(name="list")
@click.pass_obj
def list_(assembly: Assembly, /) -> None:
    """List the profiles that come with the package; any TOML file of the same form is one too."""
    names = profile_names()
    width = max(map(len, names))
    for name in names:
        profile = load_profile(name)
        default = " (default)" if name == assembly.settings.profile else ""
        click.echo(f"{name:<{width}}  {profile.title}{default}")
        click.echo(f"{'':<{width}}  {profile.description}")


@models.command()
@click.argument("profile")
@click.option(
    "--accept-licence", is_flag=True, help="Accept the licences that are shown, without being asked."
)
def pull(*, profile: str, accept_licence: bool) -> None:
    """Fetch the weights of PROFILE from the hub, after showing their licences."""
    require_engine()
    from depthwright.engine import hub  # noqa: PLC0415 - the engine is heavy

    chosen = load_profile(profile)
    # 1. Whether there is anything to fetch.
    if not any(source.repo for source in chosen.sources.values()):
        click.echo(f"{chosen.name}: nothing to pull, its weights are on this machine already.")
        return
    # 2. The licences, before anything else.
    _show_licences(chosen)
    accepted = accept_licence or _asked(f"Do you accept the licences of {chosen.name}?")
    # 3. The files, each told before it comes.
    files = hub.pull(
        chosen,
        accept_licence=accepted,
        on_file=lambda index, count, file: click.echo(
            f"[{index + 1}/{count}] {file.repo} {file.name} ({file.size / _GIGA:.2f} GB)"
        ),
    )
    click.echo(
        f"{chosen.name}: {len(files)} files are on this machine. 'depthwright models check' verifies them."
    )


@models.command()
@click.argument("profile", required=False)
@click.pass_obj
def check(assembly: Assembly, /, *, profile: str | None) -> None:
    """Look whether every weight of PROFILE is on this machine, and tell the files' SHA-256."""
    require_engine()
    from depthwright.engine import hub  # noqa: PLC0415 - the engine is heavy

    chosen = load_profile(profile or assembly.settings.profile)
    reports = hub.check(chosen, assembly.settings.cache)
    for report in reports:
        click.echo(f"{report.part}: {report.problem or 'ok'}")
        for path, digest in report.digests.items():
            click.echo(f"  {digest}  {path.name}")
    absent = [report.part for report in reports if report.problem]
    if absent:
        raise WeightsMissing(f"{chosen.name} cannot be used yet, for want of {', '.join(absent)}.")


@models.command()
@click.argument("profile", required=False)
@click.option("--device", metavar="DEVICE", help="A torch device: cpu, cuda:0, mps, ...  [default: the best]")
@click.pass_obj
def explain(assembly: Assembly, /, *, profile: str | None, device: str | None) -> None:
    """Tell what PROFILE would do on this machine, where its weights come from and under which licences."""
    require_engine()
    from depthwright.engine import hub  # noqa: PLC0415 - the engine is heavy

    settings = assembly.settings
    chosen = load_profile(profile or settings.profile)
    for line in hub.explain(chosen, device or settings.device, settings.cache, settings.compile):
        click.echo(line)


def _show_licences(profile: Profile) -> None:
    for licence in profile.licences:
        click.echo(f"{licence.covers}: {licence.name}\n  {licence.url}\n  {licence.notice}")


def _asked(question: str) -> bool:
    """Ask on a terminal. Elsewhere nobody can answer, and --accept-licence is the only way to say yes."""
    if sys.stdin.isatty():
        return click.confirm(question, err=True)
    click.echo("--accept-licence accepts them.", err=True)
    return False
