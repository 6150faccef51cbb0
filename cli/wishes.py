"""What `fleetctl wait` waits for: judges a report, whoever may have asked for what. Pure."""

from enum import StrEnum

from cli.tables import legend
from cli.waiting import Failed, Pending, Reached, Verdict, failure_lines, how_far, still_at
from fleet.api.reports import UnitReport
from fleet.states import UnitState

# systemd's words for a unit of which nothing runs.
_AT_REST = frozenset({"inactive", "failed", ""})


class Wish(StrEnum):
    """How a unit is to be: running wherever it should, nowhere, or not even in the cluster."""

    ACTIVE = "active"
    INACTIVE = "inactive"
    GONE = "gone"


def judge_wish(report: UnitReport, wish: Wish) -> Verdict:
    """Whether it is so; a unit that failed, or was destroyed, will not be active by itself."""
    if wish is Wish.GONE:
        return _gone(report)
    if not report.exists and wish is Wish.ACTIVE:
        return Failed((f"Unit {report.name} was destroyed meanwhile",))
    return _active(report) if wish is Wish.ACTIVE else _inactive(report)


def _gone(report: UnitReport) -> Verdict:
    if report.exists:
        return Pending("it is in the cluster")
    running = still_at(report.states, report)
    return Pending(running) if running else Reached(f"Unit {report.name} gone")


def _inactive(report: UnitReport) -> Verdict:
    running = still_at((s for s in report.states if s.active not in _AT_REST), report)
    return Pending(running) if running else Reached(f"Unit {report.name} inactive")


def _active(report: UnitReport) -> Verdict:
    wanted = [row.machine for row in report.assignments if not row.leaving]
    states = {state.machine: state for state in report.states}
    there = [states[machine] for machine in wanted if machine in states]
    failed = next((state for state in there if _is_given_up(state)), None)
    if failed is not None:
        return Failed(failure_lines(report, failed))
    if not wanted:
        return Pending(_why_nowhere(report))
    waited_for = [m for m in wanted if m not in states or not states[m].is_up]
    if waited_for:
        where = legend(waited_for[0], report.addresses.get(waited_for[0], ""))
        state = states.get(waited_for[0])
        how = how_far(state) if state and state.active else "not there yet"
        return Pending(f"{how} on {where}")
    places = ", ".join(legend(m, report.addresses.get(m, "")) for m in wanted)
    return Reached(f"Unit {report.name} active on {places}")


def _is_given_up(state: UnitState) -> bool:
    return state.has_failed and not state.sub.startswith("auto-restart")


def _why_nowhere(report: UnitReport) -> str:
    if report.leaderless:
        return "no engine leads the cluster"
    if report.refusals:
        return "no machine can take it (fleetctl why says more)"
    return f"it is on no machine, and its target state is {report.desired}"
