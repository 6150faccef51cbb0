"""fleetctl help."""

import click

from cli.fleetctl.main import fleetctl
from cli.verbs import find_verb, unknown_verb, verbs_like


@click.command(epilog="\b\nExamples:\n  fleetctl help\n  fleetctl help start")
@click.argument("verb", required=False, shell_complete=verbs_like)
@click.pass_context
def command(ctx: click.Context, verb: str | None) -> None:
    """Show the help of a command, or of fleetctl itself."""
    above = ctx.parent or ctx
    if verb is None:
        click.echo(above.get_help())
        return
    name = find_verb(verb)
    found = fleetctl.get_command(above, name) if name else None
    if name is None or found is None:
        raise click.UsageError(unknown_verb(verb), ctx)
    click.echo(found.get_help(click.Context(found, info_name=name, parent=above)))
