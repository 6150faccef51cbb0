"""Writes down why a unit is where it is, and what has happened to it. Pure."""

from collections.abc import Iterable, Sequence

from cli.records import EVENTS
from cli.tables import View, legend, render_plain, wall_time
from fleet.api.reports import UnitReport
from fleet.api.why import MachineAnswer, Why
from fleet.events import Event
from fleet.states import TargetState, UnitState


def why_lines(told: Why) -> list[str]:
    """The whole explanation: what is wanted and by whom, the outcome, and every machine's word."""
    rows = [("wanted", _wanted(told))]
    if told.asks:
        rows.append(("asks for", ", ".join(told.asks)))
    rows.append(("outcome", _outcome(told)))
    lines = render_plain(rows).splitlines()
    if told.machines and told.desired is not TargetState.INACTIVE:
        answers = sorted(told.machines, key=lambda answer: (not answer.has_it, answer.machine))
        table = [(legend(each.machine, each.address), _word(each, told)) for each in answers]
        lines += ["", *(line.rstrip() for line in render_plain(table).splitlines())]
    return lines


def _wanted(told: Why) -> str:
    by = f", as {told.by} asked" if told.by else ""
    at = f" on {wall_time(told.at_s)}" if told.at_s else ""
    everywhere = " on every machine that suits it" if told.is_global else ""
    return f"{told.desired}{everywhere}{by}{at}"


def _outcome(told: Why) -> str:
    having = [answer for answer in told.machines if answer.has_it and not answer.is_leaving]
    if told.desired is TargetState.INACTIVE:
        return "it is only stored, as it is wanted"
    if told.refusal:
        return f"it runs nowhere: {told.refusal}"
    if told.hold:
        return f"its machine is gone, and it is held there (fleetctl hold): {told.hold}"
    if having:
        return f"it is on {', '.join(legend(each.machine, each.address) for each in having)}"
    if told.leaderless:
        return "it waits: no engine leads the cluster, so nothing is placed"
    if not told.machines:
        return "it waits: the cluster has no machines"
    if any(not answer.reason for answer in told.machines):
        return "it waits for the engine to choose a machine"
    return "it waits: no machine can take it"


def _word(answer: MachineAnswer, told: Why) -> str:
    if answer.is_leaving:
        return f"is leaving: {answer.reason}"
    if answer.has_it:
        health = f"; {answer.health}" if answer.health else ""
        return f"has it: {answer.reason}{health}" if answer.reason else f"has it{health}"
    if answer.reason:
        return f"cannot: {answer.reason}"
    others = f"{answer.load} other unit{'' if answer.load == 1 else 's'} there"
    return f"could: {others}"


def history_lines(
    events: Sequence[Event], report: UnitReport | None, *, full: bool = False
) -> list[str]:
    """What happened to a unit, and under it how it is now on each machine that has it."""
    form_fields = ["time", "who", "what"]
    view = View(full=full)
    rows = [[EVENTS.columns[name](event, view) for name in form_fields] for event in events]
    lines = render_plain(rows, [name.upper() for name in form_fields]).splitlines()
    if report is None:
        return lines
    return [*lines, *_present(report)]


def _present(report: UnitReport) -> Iterable[str]:
    if not report.exists:
        return ["now: it is not in the cluster any more"]
    if not report.states:
        return [f"now: {report.current}, on no machine"]
    return [f"now: {_state(state, report)}" for state in report.states]


def _state(state: UnitState, report: UnitReport) -> str:
    where = legend(state.machine, report.addresses.get(state.machine, ""))
    since = f" since {wall_time(state.since_s)}" if state.since_s else ""
    result = f", {state.result}" if state.result not in ("", "success") else ""
    status = f" ({state.exit_status})" if state.exit_status and result else ""
    health = f", {state.told_health}" if state.told_health else ""
    return f"{state.active} ({state.sub}) on {where}{since}{result}{status}{health}"
