"""fleetctl apply."""

import click

from cli.carrying import Patience
from cli.connect import run_connected
from cli.folders.applying import Wish, apply, diff
from cli.folders.options import name_option, paths_argument, prune_flag, source_option
from cli.options import examples, patience_flags, unavailable_option
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl apply units/                   # create, update, and wait",
        "fleetctl apply --dry-run units/         # only show it, as diff does",
        "fleetctl apply --prune units/           # destroy what units/ no longer has",
        "fleetctl apply --max-unavailable 1 units/   # new contents, one by one",
        "fleetctl apply --if-revision 4711 units/    # just what diff showed",
        "fleetctl apply base/ prod/              # drop-ins in prod/, units in base/",
    )
)
@paths_argument
@name_option
@source_option
@prune_flag
@click.option("--dry-run", is_flag=True, help="Change nothing; show the difference, as diff does.")
@click.option(
    "--if-revision",
    type=click.IntRange(min=0),
    metavar="N",
    help="Only if no unit has changed since that revision (from diff).",
)
@unavailable_option("N of a kind take new contents at a time, as MaxUnavailable= in them.")
@click.option("--yes", is_flag=True, help="Destroy many units, or all, without being asked.")
@patience_flags
@click.pass_obj
def command(
    settings: Settings,
    *,
    paths: tuple[str, ...],
    name: str,
    source: str | None,
    prune: bool,
    dry_run: bool,
    if_revision: int | None,
    max_unavailable: int | None,
    yes: bool,
    patience: Patience,
) -> int:
    """Make the cluster match folders of unit files.

    Units that are not in the cluster are created and started, those that differ are updated in
    place, and those that do not are not touched. Everything is checked before anything is written,
    and all of it is one change. A fleet.toml beside the files may say more: target states,
    instances of templates. With --prune, units are destroyed that came from this source before and
    are no longer in it; never those that somebody else started.
    """
    wish = Wish(
        paths=paths,
        name=name,
        source=source,
        prune=prune,
        at_revision=if_revision,
        is_sure=yes,
        max_unavailable=max_unavailable or 0,
    )
    if dry_run:
        return run_connected(settings, lambda client: diff(client, wish))
    return run_connected(settings, lambda client: apply(client, wish, patience))
