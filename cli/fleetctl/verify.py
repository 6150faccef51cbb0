"""fleetctl verify: signed units, which fleet 1.0 had given up already."""

import click


@click.command(hidden=True)
@click.argument("units", nargs=-1)
def command(units: tuple[str, ...]) -> int:
    """Deprecated: units cannot be signed; this does nothing and exits with 2."""
    click.echo(
        "WARNING: The signed/verified units feature is DEPRECATED and does nothing.", err=True
    )
    return 2
