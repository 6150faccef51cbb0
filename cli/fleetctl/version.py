"""fleetctl version."""

import click

from fleet import __version__


@click.command(epilog="\b\nExamples:\n  fleetctl version")
def command() -> None:
    """Print the version of fleetctl."""
    click.echo(f"fleetctl version {__version__}")
