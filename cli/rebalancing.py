"""Follows units that were moved to even out the load until each is up on its new machine."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from cli.carrying import say, warn
from cli.draining import count_units, follow_leavers, judge_leaving
from cli.tables import legend, render_plain
from cli.waiting import CONTRADICTION_STANDS_S, Failed, Reached, Verdict
from fleet.api.reports import UnitReport
from fleet.machine import MachineId

if TYPE_CHECKING:
    from fleet.api.client import FleetClient
    from fleet.foresight import Foreseen

GAINLESS = "No move would gain anything"


def moves_table(moves: "Foreseen") -> str:
    """The moves, one a line, with their reasons."""
    return render_plain(list(_rows(moves)), ("UNIT", "FROM", "TO", "WHY"))


def _rows(moves: "Foreseen") -> Iterator[tuple[str, str, str, str]]:
    for unit in moves.units:
        (source,), (target,) = unit.was, unit.machines
        places = [legend(each, moves.addresses.get(each, "")) for each in (source, target)]
        yield unit.name, places[0], places[1], unit.reasons.get(target, "")


def judge_move(report: UnitReport, source: MachineId) -> Verdict:
    """Whether the unit is up on another machine and gone from this one, or stays here after all."""
    for row in report.assignments:
        if row.machine == source and not row.leaving:
            # What is reported first may be older than the move.
            where = legend(source, report.addresses.get(source, ""))
            told = f"Unit {report.name} stays on {where} after all: {row.reason or 'it is there'}"
            return Failed((told,), CONTRADICTION_STANDS_S)
    return judge_leaving(report, source)


async def follow_moves(client: "FleetClient", moves: "Foreseen", *, limit_s: float | None) -> int:
    """Wait until all moves are made that can be, and tell the outcome; the exit status."""
    sources = {unit.name: unit.was[0] for unit in moves.units}
    verdicts = await follow_leavers(client, sources, judge=judge_move, limit_s=limit_s)
    done = sum(isinstance(verdict, Reached) for verdict in verdicts.values())
    if done < len(verdicts):
        warn([f"Moved {count_units(done)}, and {len(verdicts) - done} did not come up elsewhere"])
        return 1
    more = (await client.plan_rebalance(1)).units
    then = "more moves would gain something" if more else "no other move would gain anything"
    say([f"Moved {count_units(done)}; {then}"])
    return 0
