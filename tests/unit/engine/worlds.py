"""Small clusters as values, and what a plan makes of them."""

from collections.abc import Iterable, Mapping
from dataclasses import replace

from hypothesis import settings

from engine.losses import EngineMemory
from engine.plan import Plan, PlanSettings, plan
from engine.tasks import Task, TaskKind
from fleet.cluster import Assignment, Cluster, Refusal, UnitRecord
from fleet.machine import Cordon, Machine, MachineId
from fleet.names import UnitName
from fleet.options import SECTION, read_requirements
from fleet.states import TargetState, UnitState
from fleet.unit import UnitOption

SETTINGS = PlanSettings(machine_ttl_s=6.0, mass_loss_hold_s=60.0, file_stay_s=0.0)


def stride(short: int) -> int:
    """Of how many cases one is tried: of `short` in every run, and each of them by `make fuzz`."""
    return 1 if settings.get_current_profile_name() == "long" else short


def unit(
    name: str, *options: str, target: str = "launched", revision: int = 1, version: str = "1"
) -> UnitRecord:
    """A unit with `Name=value` options in its [X-Fleet] section."""
    pairs = [(key, value) for key, _, value in (option.partition("=") for option in options)]
    asked = read_requirements((UnitOption(SECTION, *pair) for pair in pairs), name)
    return UnitRecord(
        name=UnitName(name),
        hash=f"hash-{version}",
        file=f"file-{name}-{version}",
        target=TargetState(target),
        options=tuple(pairs),
        revision=revision,
        created=revision,
        requirements=asked,
    )


def machine(name: str, **metadata: str) -> Machine:
    return Machine(id=MachineId(name), metadata=metadata)


def world(machines: Iterable[Machine | str], units: Iterable[UnitRecord]) -> Cluster:
    """A cluster with nothing scheduled yet; units without a revision of their own are in order."""
    made = [machine(one) if isinstance(one, str) else one for one in machines]
    return Cluster(
        units={record.name: record for record in units},
        machines={one.id: one for one in made},
    )


def with_units(cluster: Cluster, *units: UnitRecord) -> Cluster:
    return replace(cluster, units={**cluster.units, **{one.name: one for one in units}})


def without_units(cluster: Cluster, *names: str) -> Cluster:
    return replace(cluster, units={k: v for k, v in cluster.units.items() if k not in names})


def with_machines(cluster: Cluster, *machines: Machine | str) -> Cluster:
    made = [machine(one) if isinstance(one, str) else one for one in machines]
    return replace(cluster, machines={**cluster.machines, **{one.id: one for one in made}})


def cordoned(cluster: Cluster, *names: str, drain: bool = False) -> Cluster:
    """The cluster after alice has cordoned, or drains, those machines."""
    word = Cordon(by="alice", why="new disks", drain=drain)
    closed = {m: replace(cluster.machines[MachineId(m)], cordon=word) for m in names}
    return with_machines(cluster, *closed.values())


def uncordoned(cluster: Cluster, *names: str) -> Cluster:
    opened = (replace(cluster.machines[MachineId(m)], cordon=None) for m in names)
    return with_machines(cluster, *opened)


def without_machines(cluster: Cluster, *names: str) -> Cluster:
    """The cluster after those machines' leases have ended: their states are gone as well."""
    return replace(
        cluster,
        machines={k: v for k, v in cluster.machines.items() if k not in names},
        states=tuple(state for state in cluster.states if state.machine not in names),
    )


def with_rows(cluster: Cluster, *rows: str) -> Cluster:
    """The cluster with rows such as `a.service@m1`, or `a.service@m1 leaving`."""
    made = []
    for text in rows:
        place, _, leaving = text.partition(" ")
        name, _, where = place.rpartition("@")
        record = cluster.units[UnitName(name)]
        made.append(
            Assignment(
                unit=record.name,
                machine=MachineId(where),
                hash=record.hash,
                file=record.file,
                target=record.target,
                leaving=bool(leaving),
                revision=1,
            )
        )
    return replace(cluster, schedule=(*cluster.schedule, *made))


def all_up(cluster: Cluster) -> Cluster:
    """Every unit has come as far as it should on every living machine that has a row of it."""
    states = [
        UnitState(
            unit=row.unit,
            machine=row.machine,
            hash=row.hash,
            current=row.target,
            load="loaded",
            active="active" if row.target is TargetState.LAUNCHED else "inactive",
            sub="running",
        )
        for row in cluster.schedule
        if row.machine in cluster.machines
    ]
    return replace(cluster, states=tuple(states))


def carried_out(cluster: Cluster, tasks: Iterable[Task]) -> Cluster:
    """The cluster after the tasks, as the store would hold it."""
    rows = {(row.unit, row.machine): row for row in cluster.schedule}
    refusals: dict[UnitName, Refusal] = dict(cluster.refusals)
    files = dict(cluster.files)
    for task in tasks:
        if task.kind in (TaskKind.PLACE, TaskKind.UPDATE, TaskKind.LEAVE):
            assert task.row is not None
            rows[task.row.unit, task.row.machine] = replace(
                task.row, revision=task.row.revision + 1
            )
        elif task.kind is TaskKind.REMOVE:
            assert task.row is not None
            del rows[task.row.unit, task.row.machine]
        elif task.kind is TaskKind.REFUSE:
            assert task.refusal is not None
            refusals[task.refusal.unit] = task.refusal
        elif task.kind is TaskKind.CLEAR:
            del refusals[UnitName(task.unit)]
        elif task.kind is TaskKind.DROP_FILE:
            del files[task.digest]
    ordered = tuple(row for _, row in sorted(rows.items()))
    return replace(cluster, schedule=ordered, refusals=refusals, files=files)


def planned(cluster: Cluster, memory: EngineMemory | None = None, now_s: float = 100.0) -> Plan:
    return plan(cluster, memory or EngineMemory(), now_s, SETTINGS)


def settled(cluster: Cluster, memory: EngineMemory | None = None, now_s: float = 100.0) -> Cluster:
    """The cluster after its plan; the plan after that has to be empty."""
    # Every file there ever was, so that files are part of the fixed point.
    files = {row.file: 1 for row in cluster.schedule}
    files |= {record.file: 1 for record in cluster.units.values()}
    cluster = replace(cluster, files={**cluster.files, **files})
    first = planned(cluster, memory, now_s)
    after = carried_out(cluster, first.tasks)
    again = planned(after, first.memory, now_s)
    assert again.tasks == (), [str(task) for task in again.tasks]
    return after


def rows_of(cluster: Cluster) -> set[str]:
    """The rows as `with_rows` takes them."""
    return {
        f"{row.unit}@{row.machine}{' leaving' if row.leaving else ''}" for row in cluster.schedule
    }


def homes_of(cluster: Cluster) -> dict[str, list[str]]:
    """Each unit's machines, without those that it is leaving."""
    homes: dict[str, list[str]] = {}
    for row in cluster.schedule:
        if not row.leaving:
            homes.setdefault(row.unit, []).append(row.machine)
    return homes


def reasons_of(cluster: Cluster, name: str) -> Mapping[str, str]:
    return cluster.refusals[UnitName(name)].reasons
