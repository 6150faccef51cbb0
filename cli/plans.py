"""What each verb that changes units asks of the cluster, and what it then waits for.

Plain functions of the units as they are stored. A plan is carried out by `cli.carrying`: all its
changes are one request.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from cli.creation import Created
from cli.selection import is_global, is_global_file
from cli.waiting import Aim, Goal
from fleet.api.schema import Unit
from fleet.change import UnitChange
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import unit_from_options

TARGETS = {
    "submit": TargetState.INACTIVE,
    "load": TargetState.LOADED,
    "start": TargetState.LAUNCHED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Changes, the goals of the units to wait for, global units not waited for, and complaints."""

    changes: tuple[UnitChange, ...] = ()
    goals: Mapping[UnitName, Goal] = field(default_factory=dict)
    triggered: tuple[UnitName, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def loud(self) -> list[UnitName]:
        """The units whose success is worth a line."""
        return [name for name, goal in self.goals.items() if not goal.quiet]

    def at_a_time(self, count: int) -> "Plan":
        """The plan whose new contents are taken by so many of a kind at a time; 0: as they say."""
        changes = (
            replace(change, max_unavailable=count if change.file else 0) for change in self.changes
        )
        return replace(self, changes=tuple(changes))


def plan_submit(created: Iterable[Created]) -> Plan:
    """Store what is new; units that are stored already keep what they say and their state."""
    new = (
        UnitChange(name=one.name, file=one.file, target=TargetState.INACTIVE)
        for one in created
        if one.file is not None
    )
    reworded = (UnitChange(name=one.name, file=one.reworded) for one in created if one.reworded)
    return Plan(changes=(*new, *reworded))


def plan_bring(
    created: Sequence[Created],
    stored: Mapping[UnitName, Unit],
    target: TargetState,
    *,
    patient: bool = False,
) -> Plan:
    """Load or launch the units, storing what is new of them.

    A unit that is meant to be there already is not changed, and followed quietly: it may have
    failed.
    """
    changes: list[UnitChange] = []
    goals: dict[UnitName, Goal] = {}
    triggered: list[UnitName] = []
    for one in created:
        old = stored.get(one.name)
        stays = one.file is None and old is not None and old.desired is target
        if one.reworded or not stays:
            file = one.file or one.reworded
            changes.append(UnitChange(name=one.name, file=file, target=target))
        if _is_global(one, old):
            triggered += [] if stays else [one.name]
        else:
            goals[one.name] = _bring_goal(one, old, target, patient=patient, quiet=stays)
    return Plan(changes=tuple(changes), goals=goals, triggered=tuple(triggered))


def plan_rollback(former: Sequence[Unit]) -> Plan:
    """Give units the contents and target states back that they had, and see them there."""
    goals: dict[UnitName, Goal] = {}
    for unit in former:
        target = unit.desired or TargetState.INACTIVE
        if target is not TargetState.INACTIVE and not is_global(unit):
            created = Created(name=unit.name)
            goals[unit.name] = _bring_goal(created, unit, target, patient=False, quiet=False)
    changes = (UnitChange(name=u.name, file=u.file, target=u.desired) for u in former)
    return Plan(changes=tuple(changes), goals=goals)


def plan_stop(units: Iterable[Unit]) -> Plan:
    """Stop the units where they are; those that are nowhere are refused."""
    changes: list[UnitChange] = []
    goals: dict[UnitName, Goal] = {}
    triggered: list[UnitName] = []
    refused: list[str] = []
    for unit in units:
        current, desired = _current(unit), unit.desired or TargetState.INACTIVE
        if desired is TargetState.INACTIVE:
            if current is TargetState.INACTIVE:
                refused.append(f"Unable to stop unit {unit.name} in state inactive")
            else:
                goals[unit.name] = Goal(aim=Aim.INACTIVE)
            continue
        if desired is TargetState.LOADED and current is not TargetState.LAUNCHED:
            continue
        if desired is TargetState.LAUNCHED:
            changes.append(UnitChange(name=unit.name, target=TargetState.LOADED))
        if is_global(unit):
            triggered.append(unit.name)
        else:
            goals[unit.name] = Goal(aim=Aim.STOPPED)
    return Plan(
        changes=tuple(changes), goals=goals, triggered=tuple(triggered), refused=tuple(refused)
    )


def plan_unload(units: Iterable[Unit]) -> Plan:
    """Take the units off their machines, wherever they are meant to be or still are."""
    changes: list[UnitChange] = []
    goals: dict[UnitName, Goal] = {}
    triggered: list[UnitName] = []
    for unit in units:
        is_meant = unit.desired is not TargetState.INACTIVE
        if not is_meant and _current(unit) is TargetState.INACTIVE:
            continue
        if is_meant:
            changes.append(UnitChange(name=unit.name, target=TargetState.INACTIVE))
        if is_global(unit):
            triggered.append(unit.name)
        else:
            goals[unit.name] = Goal(aim=Aim.INACTIVE)
    return Plan(changes=tuple(changes), goals=goals, triggered=tuple(triggered))


def plan_restart_stop(units: Iterable[Unit]) -> Plan:
    """The first half of a restart: stop what is launched, everywhere, and say nothing of it."""
    changes: list[UnitChange] = []
    goals: dict[UnitName, Goal] = {}
    refused: list[str] = []
    for unit in units:
        if unit.desired is TargetState.LAUNCHED:
            changes.append(UnitChange(name=unit.name, target=TargetState.LOADED))
            goals[unit.name] = Goal(aim=Aim.STOPPED, quiet=True)
        elif unit.desired is not TargetState.LOADED:
            refused.append(f"Unable to restart unit {unit.name} in state inactive")
    return Plan(changes=tuple(changes), goals=goals, refused=tuple(refused))


def plan_restart_start(units: Iterable[Unit], *, patient: bool = False) -> Plan:
    """The second half of a restart: launch what was launched or loaded."""
    meant = {unit.name: unit for unit in units if unit.desired not in (None, TargetState.INACTIVE)}
    changes = (UnitChange(name=name, target=TargetState.LAUNCHED) for name in meant)
    goals = {
        name: _bring_goal(
            Created(name=name), unit, TargetState.LAUNCHED, patient=patient, quiet=False
        )
        for name, unit in meant.items()
        if not is_global(unit)
    }
    triggered = tuple(name for name in meant if name not in goals)
    return Plan(changes=tuple(changes), goals=goals, triggered=triggered)


def _bring_goal(
    one: Created, old: Unit | None, target: TargetState, *, patient: bool, quiet: bool
) -> Goal:
    file = one.file or unit_from_options(old.options if old else ())
    return Goal(
        aim=Aim.LAUNCHED if target is TargetState.LAUNCHED else Aim.LOADED,
        hash=file.hash,
        patient=patient,
        quiet=quiet,
    )


def _is_global(one: Created, old: Unit | None) -> bool:
    if one.file is not None:
        return is_global_file(one.file, one.name)
    return old is not None and is_global(old)


def _current(unit: Unit) -> TargetState:
    """How far the unit has come; a global unit is taken to be where it is meant to be."""
    if is_global(unit):
        return unit.desired or TargetState.INACTIVE
    return unit.current or TargetState.INACTIVE
