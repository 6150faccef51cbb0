"""fleetctl diff."""

import click

from cli.connect import run_comparing
from cli.folders.applying import Wish, diff
from cli.folders.options import name_option, paths_argument, prune_flag, source_option
from cli.options import examples
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl diff units/                    # what apply units/ would do",
        "fleetctl diff --prune units/            # and what it would destroy",
        "fleetctl diff base/ prod/               # drop-ins in prod/, units in base/",
        "tail -vn +1 *.service | fleetctl diff -     # files from standard input",
    )
)
@paths_argument
@name_option
@source_option
@prune_flag
@click.pass_obj
def command(
    settings: Settings, *, paths: tuple[str, ...], name: str, source: str | None, prune: bool
) -> int:
    """Show what would change if the cluster were made to match folders of unit files.

    For each unit that differs: its contents as a diff, its target state, and where the scheduler
    would have it run, or why nowhere. The last line names the revision of the cluster's units;
    apply --if-revision takes it. Exits with 0 if nothing differs, 1 if something does, 2 on an
    error.
    """
    wish = Wish(paths=paths, name=name, source=source, prune=prune)
    return run_comparing(settings, lambda client: diff(client, wish))
