"""A group of commands that answers a mistyped one with the nearest."""

from difflib import get_close_matches

import click


class SuggestingGroup(click.Group):
    """Names the nearest command, or all where none is near."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command and what remains for it. Raises UsageError."""
        names = self.list_commands(ctx)
        if args and args[0] not in names and not args[0].startswith("-"):
            near = get_close_matches(args[0], names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(names)}."
            raise click.UsageError(f"{args[0]!r} is no command; {hint}", ctx)
        return super().resolve_command(ctx, args)
