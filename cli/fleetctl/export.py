"""fleetctl export."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from cli.carrying import say
from cli.completion.candidates import any_file
from cli.connect import run_connected
from cli.options import examples
from cli.settings import Settings

if TYPE_CHECKING:
    from fleet.api.client import FleetClient


@click.command(
    epilog=examples(
        "fleetctl export backup/                        # and apply it elsewhere",
        "fleetctl export backup/ && fleetctl diff backup/   # they agree",
    )
)
@click.argument("folder", metavar="DIR", shell_complete=any_file)
@click.pass_obj
def command(settings: Settings, *, folder: str) -> int:
    """Write the cluster's units to a folder, as apply takes them.

    Unit files are as their authors wrote them; a fleet.toml lists instances of templates and the
    target states of units that are not launched. The folder has to be empty or an older export,
    which is brought up to date.
    """
    return run_connected(settings, lambda client: _export(client, Path(folder)))


async def _export(client: "FleetClient", folder: Path) -> int:
    from cli.folders.writing import write_export
    from fleet.folder.export import export_files

    inventory = await client.inventory(texts=True)
    write_export(folder, export_files(inventory))
    say([f"Exported {len(inventory.units)} units to {folder}"])
    return 0
