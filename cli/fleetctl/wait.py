"""fleetctl wait."""

import click

from cli.carrying import Cluster, say, selected_units, warn
from cli.completion.candidates import known_units
from cli.connect import run_connected
from cli.following import follow
from cli.options import Seconds, examples, units_argument
from cli.selection import is_pattern
from cli.settings import Settings
from cli.waiting import Failed, Pending, Reached
from cli.wishes import Wish, judge_wish
from fleet.names import UnitName, complete_name, parse_name

# systemctl's status for a unit that is not there, and timeout(1)'s for a time that is over.
_EXIT_NO_UNIT = 4
_EXIT_TIMEOUT = 124


@click.command(
    epilog=examples(
        "fleetctl wait web.service",
        "fleetctl wait --timeout 30 'web@*' && echo they run",
        "fleetctl wait --for inactive --timeout 0.1 db || echo it still runs",
    )
)
@units_argument(known_units)
@click.option(
    "--for",
    "wish",
    type=click.Choice([wish.value for wish in Wish]),
    default=Wish.ACTIVE.value,
    show_default=True,
    help="How the units are to be.",
)
@click.option("--timeout", type=Seconds(), metavar="SECONDS", help="Give up after that time.")
@click.pass_obj
def command(settings: Settings, *, units: tuple[str, ...], wish: str, timeout: float | None) -> int:
    """Wait until units are active, inactive or gone, whoever makes them so.

    Active means on every machine that is to have the unit. The exit status is 0 if all came there,
    1 if one failed or was destroyed, 4 if there is no such unit, and 124 if the time was over.
    """
    return run_connected(settings, lambda client: wait(client, units, Wish(wish), limit_s=timeout))


async def wait(
    client: Cluster, arguments: tuple[str, ...], wish: Wish, *, limit_s: float | None
) -> int:
    """Wait for the units that the arguments mean; the exit status."""
    present = [unit.name for unit in await selected_units(client, arguments)]
    named = [parse_name(complete_name(word)) for word in arguments if not is_pattern(word)]
    missing = [name for name in named if name not in present]
    if missing and wish is not Wish.GONE:
        warn(f"Unit {name} does not exist." for name in missing)
        return _EXIT_NO_UNIT
    goals = dict.fromkeys([*present, *missing], wish)
    if not goals and wish is not Wish.GONE:
        warn(["No unit matches."])
        return _EXIT_NO_UNIT

    def tell(_: UnitName, verdict: Reached | Failed) -> None:
        if isinstance(verdict, Failed):
            warn(verdict.lines)
        else:
            say([verdict.line])

    verdicts = await follow(client, goals, settled=tell, judge=judge_wish, limit_s=limit_s)
    for name, verdict in verdicts.items():
        if isinstance(verdict, Pending):
            warn([f"Unit {name} is not {wish} after {limit_s:g} s: {verdict.reason}"])
    if any(isinstance(verdict, Failed) for verdict in verdicts.values()):
        return 1
    pending = any(isinstance(verdict, Pending) for verdict in verdicts.values())
    return _EXIT_TIMEOUT if pending else 0
