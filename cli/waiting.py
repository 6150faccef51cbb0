"""Judges a report about a unit: has it come where it was sent, can it not, or must one wait?

Only judgement is here, of one report at a time; `cli.following` holds the stream of reports and
the clock. A verdict may ask to stand for a while before it counts, because the cluster may still
be settling (a refusal) or because somebody may undo it (a contradiction). That a Type=simple
process outlives its start is seen to by the agent, which does not report it active sooner.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from cli.tables import clock_time, legend, render_plain
from fleet.api.reports import UnitReport
from fleet.machine import MachineId
from fleet.states import TargetState, UnitState

# A refusal by every machine may be the engine's view of a moment ago; about ten of its passes.
REFUSAL_STANDS_S = 1.0
# How long a report may disagree with our own write before somebody else must have written.
CONTRADICTION_STANDS_S = 1.0
# The last lines of a failed unit's journal may be reported after its failure.
JOURNAL_FOLLOWS_S = 0.3
# The result of a start job may be reported after the state it led to.
JOB_FOLLOWS_S = 1.0
# systemd may know nothing of a file before the daemon-reload that follows its writing.
LOAD_STANDS_S = 1.0
# Another engine takes over within its lease, which is 4 s by default.
LEADERLESS_STANDS_S = 8.0
_QUIET_ACTIVE = ("inactive", "failed", "")


class Aim(StrEnum):
    """Where a unit is sent."""

    LAUNCHED = "launched"
    LOADED = "loaded"
    STOPPED = "stopped"
    INACTIVE = "inactive"
    GONE = "gone"


_WANTED = {
    Aim.LAUNCHED: TargetState.LAUNCHED,
    Aim.LOADED: TargetState.LOADED,
    Aim.STOPPED: TargetState.LOADED,
    Aim.INACTIVE: TargetState.INACTIVE,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Goal:
    """An aim for one version of a unit (any, if `hash` is empty).

    `patient` waits on while no machine takes the unit. `quiet` says nothing of success.
    """

    aim: Aim
    hash: str = ""
    patient: bool = False
    quiet: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """Not there yet, for this reason."""

    reason: str


@dataclass(frozen=True, slots=True)
class Reached:
    """There, in one line for the user, once it has stood for `stands_s` seconds."""

    line: str
    stands_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Failed:
    """It will not get there, in lines for the user, once that has stood for `stands_s` seconds."""

    lines: tuple[str, ...]
    stands_s: float = 0.0


Verdict = Pending | Reached | Failed


def judge(report: UnitReport, goal: Goal) -> Verdict:
    """What the report means for the goal."""
    verdict = _judge(report, goal)
    if isinstance(verdict, Pending) and report.leaderless and _needs_engine(report, goal):
        return Pending("no engine leads the cluster") if goal.patient else _leaderless(report, goal)
    return verdict


def _judge(report: UnitReport, goal: Goal) -> Verdict:
    if goal.aim is Aim.GONE:
        return _judge_gone(report)
    contradiction = _contradiction(report, goal)
    if contradiction:
        return Failed((f"Unit {report.name} {contradiction}",), CONTRADICTION_STANDS_S)
    if goal.aim is Aim.INACTIVE:
        return _judge_inactive(report)
    if report.is_global:
        return _judge_everywhere_stopped(report)
    state = _state_of_wanted(report, goal)
    if state is None:
        return _judge_absent(report, goal)
    return (
        _judge_launched(report, state, goal)
        if goal.aim is Aim.LAUNCHED
        else _judge_loaded(report, state, goal)
    )


def refusal_lines(report: UnitReport) -> list[str]:
    """The reason of every machine that refused the unit, one a line and aligned."""
    if not report.refusals:
        return []
    pairs = [
        (_legend(report, machine) if machine else "every machine", reason)
        for machine, reason in sorted(report.refusals.items())
    ]
    return [f"  {line.rstrip()}" for line in render_plain(pairs).splitlines()]


def _needs_engine(report: UnitReport, goal: Goal) -> bool:
    """Whether the schedule is not yet as the goal wants it."""
    if goal.aim not in _WANTED or goal.aim is Aim.INACTIVE:
        return bool(report.assignments)
    targets = {row.target for row in report.assignments if not row.leaving}
    return targets != {_WANTED[goal.aim]}


def _leaderless(report: UnitReport, goal: Goal) -> Failed:
    wish = "is destroyed" if goal.aim is Aim.GONE else f"stays {_WANTED[goal.aim]} in the cluster"
    return Failed(
        (
            f"Unit {report.name} is left as it is, because no engine leads the cluster: "
            "no fleetd runs that may lead it (disable_engine)",
            f"It {wish}, and that is acted upon when an engine leads.",
        ),
        LEADERLESS_STANDS_S,
    )


def _contradiction(report: UnitReport, goal: Goal) -> str:
    if not report.exists:
        return "was destroyed by somebody else meanwhile"
    if goal.hash and report.hash != goal.hash:
        return "was replaced by somebody else meanwhile"
    if report.desired is not _WANTED[goal.aim]:
        return f"was set to {report.desired} by somebody else meanwhile"
    return ""


def _state_of_wanted(report: UnitReport, goal: Goal) -> UnitState | None:
    """What the machine that has the unit says of it, if it speaks of the wanted version."""
    wanted = goal.hash or report.hash
    for state in report.states:
        if state.machine == report.machine and state.hash == wanted:
            return state
    return None


def _judge_absent(report: UnitReport, goal: Goal) -> Verdict:
    if report.fence and goal.aim is not Aim.STOPPED:
        until_s = report.fence_until_s
        return Pending(f"{report.fence}{f' ({clock_time(until_s)})' if until_s else ''}")
    if report.machine and report.hold:
        where = _legend(report, report.machine)
        return Pending(f"its machine {where} is held (see fleetctl hold): {report.hold}")
    if report.machine in report.addresses and "" in report.refusals:
        return _judge_kept(report, report.refusals[""], goal)
    if report.machine and (report.machine in report.addresses or not report.refusals):
        return Pending(f"{_legend(report, report.machine)} has not taken it up yet")
    if report.refusals:
        return _judge_refused(report, goal)
    if goal.aim is Aim.STOPPED and not report.states:
        return Reached(f"Unit {report.name} {report.current}", REFUSAL_STANDS_S)
    return Pending("no machine has been chosen for it yet")


def _judge_kept(report: UnitReport, reason: str, goal: Goal) -> Verdict:
    """What has not taken its new contents, because of something that has to be mended first."""
    if goal.patient:
        return Pending(reason)
    return Failed((f"Unit {report.name} stays as it is: {reason}",), REFUSAL_STANDS_S)


def _judge_refused(report: UnitReport, goal: Goal) -> Verdict:
    if goal.aim is Aim.STOPPED:
        running = still_at(report.states, report)
        return Pending(running) if running else Reached(f"Unit {report.name} {report.current}")
    if goal.patient:
        reasons = "; ".join(" ".join(line.split()) for line in refusal_lines(report))
        return Pending(f"no machine can take it: {reasons}")
    state = _WANTED[goal.aim]
    verb = "starts" if goal.aim is Aim.LAUNCHED else "is loaded"
    return Failed(
        (
            f"Unit {report.name} runs nowhere, because no machine can take it:",
            *refusal_lines(report),
            f"It stays {state} in the cluster and {verb} when a machine fits.",
        ),
        REFUSAL_STANDS_S,
    )


def _judge_launched(report: UnitReport, state: UnitState, goal: Goal) -> Verdict:
    where = _legend(report, state.machine)
    if state.current is not TargetState.LAUNCHED:
        if _is_unloadable(state):
            return _unloadable(report, state)
        return Pending(f"{where} has it {state.current}")
    # A process that ended well and that Restart= starts again and again is as up as it will be.
    if state.is_up or (state.sub.startswith("auto-restart") and not state.has_failed):
        return Reached(f"Unit {report.name} launched on {where}")
    if state.has_failed:
        # Without a job's result it may be the failure from before this start.
        stands_s = JOB_FOLLOWS_S if not state.job else JOURNAL_FOLLOWS_S
        settled = state.job and state.journal
        return Failed(failure_lines(report, state), 0.0 if settled else stands_s)
    return Pending(f"{how_far(state)} on {where}")


def _judge_loaded(report: UnitReport, state: UnitState, goal: Goal) -> Verdict:
    where = _legend(report, state.machine)
    if goal.aim is Aim.LOADED and _is_unloadable(state):
        return _unloadable(report, state)
    if state.current is not TargetState.LOADED or state.active not in _QUIET_ACTIVE:
        return Pending(still_at([state], report) or f"{where} has it {state.current}")
    return Reached(f"Unit {report.name} loaded on {where}")


def _judge_inactive(report: UnitReport) -> Verdict:
    if report.assignments or report.machine:
        return Pending("it is still assigned to a machine")
    running = still_at(report.states, report)
    return Pending(running) if running else Reached(f"Unit {report.name} inactive")


def _judge_gone(report: UnitReport) -> Verdict:
    if report.exists:
        again = f"Unit {report.name} is in the cluster again: somebody else submitted it meanwhile"
        return Failed((again,), CONTRADICTION_STANDS_S)
    running = still_at(report.states, report)
    return Pending(running) if running else Reached(f"Destroyed {report.name}")


def _judge_everywhere_stopped(report: UnitReport) -> Verdict:
    busy = [
        state
        for state in report.states
        if state.current is TargetState.LAUNCHED or state.active not in _QUIET_ACTIVE
    ]
    running = still_at(busy, report)
    return Pending(running) if running else Reached(f"Unit {report.name} loaded")


def still_at(states: Iterable[UnitState], report: UnitReport) -> str:
    """Which machines still have the unit, and how; empty if none has."""
    return ", ".join(
        f"still {state.active or 'there'} ({state.sub or 'unknown'}) on"
        f" {_legend(report, state.machine)}"
        for state in states
    )


def how_far(state: UnitState) -> str:
    """How far a unit has come that is on its way."""
    health = f", {state.told_health}," if state.told_health else ""
    return f"{state.active or 'unknown'} ({state.sub or 'unknown'}){health}"


def _is_unloadable(state: UnitState) -> bool:
    return state.load not in ("loaded", "")


def _unloadable(report: UnitReport, state: UnitState) -> Failed:
    return Failed(failure_lines(report, state), 0.0 if state.journal else LOAD_STANDS_S)


def failure_lines(report: UnitReport, state: UnitState) -> tuple[str, ...]:
    """What happened where, the last lines of the journal, and what is next."""
    where = _legend(report, state.machine)
    return (
        f"Unit {report.name} {_what_happened(state, where)}",
        *(f"    {line}" for line in state.journal),
        _what_follows(report, state),
    )


def _what_happened(state: UnitState, where: str) -> str:
    if _is_unloadable(state):
        return f"cannot be loaded on {where}: {state.load}"
    if state.has_come_up:
        return f"came up on {where}, but {state.told_health}"
    cause = state.result if state.result != "success" else ""
    if not cause and state.job not in ("", "done"):
        cause = f"its start ended with {state.job}"
    status = f" ({state.exit_status})" if state.exit_status else ""
    return f"failed on {where}: {cause or f'it is {state.active} ({state.sub})'}{status}"


def _what_follows(report: UnitReport, state: UnitState) -> str:
    name = report.name
    stays = f"It stays {report.desired} in the cluster"
    if _is_unloadable(state):
        return f"{stays}; correct the file, then: fleetctl start --replace {name}"
    if state.has_come_up:
        return f"{stays} and is left as it is; to try again: fleetctl restart {name}"
    if state.sub.startswith("auto-restart"):
        again = "systemd starts it again there (Restart=); to end that"
        return f"{stays} and {again}: fleetctl stop {name}"
    return f"{stays}, and systemd has given it up; to try again: fleetctl restart {name}"


def _legend(report: UnitReport, machine: str) -> str:
    return legend(machine, report.addresses.get(MachineId(machine), ""))
