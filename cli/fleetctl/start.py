"""fleetctl start."""

import click

from cli.bringing import bring
from cli.carrying import Patience
from cli.completion.candidates import runnable_units
from cli.connect import run_connected
from cli.options import (
    creation_flags,
    examples,
    patience_flags,
    unavailable_option,
    units_argument,
)
from cli.settings import Settings


@click.command(
    epilog=examples(
        "fleetctl start web.service",
        "fleetctl start web@{1..3}                  # three instances of web@.service",
        "fleetctl start --replace web.service       # the file here is newer",
        "fleetctl start --replace --rollback web    # the old one again if it fails",
        "fleetctl start --replace --max-unavailable 1 web@{1..3}   # one by one",
        "fleetctl start --block-attempts=15 web     # wait for half a minute at most",
    )
)
@units_argument(runnable_units)
@creation_flags
@click.option(
    "--rollback",
    is_flag=True,
    help="With --replace: if a unit does not come up, all get their former contents back.",
)
@unavailable_option("With --replace: N of a kind take new contents at a time, as MaxUnavailable=.")
@patience_flags
@click.pass_obj
def command(
    settings: Settings,
    *,
    units: tuple[str, ...],
    replace: bool,
    rollback: bool,
    max_unavailable: int | None,
    patience: Patience,
) -> int:
    """Start units somewhere in the cluster, and wait until they run.

    Units that are not in the cluster yet are submitted first. The command returns when systemd has
    every unit active (one of Type=oneshot: when it has run), and exits with 1, the reason and the
    last lines of the journal if one fails, or if no machine can take it.
    """
    if rollback and not (replace and patience.block):
        raise click.UsageError("--rollback goes with --replace, and not with --no-block")
    if max_unavailable and not replace:
        raise click.UsageError("--max-unavailable goes with --replace")
    return run_connected(
        settings,
        lambda client: bring(
            client,
            units,
            verb="start",
            replace=replace,
            patience=patience,
            rollback=rollback,
            max_unavailable=max_unavailable or 0,
        ),
    )
