"""Why a unit is where it is, and why it is not elsewhere: each machine's answer, found anew.

It asks what the scheduler asks (`able_to_run`), of the cluster as it is now, for every machine.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from fleet.api.members import Document, array, flag, mapping, number, present, target_of, text_of
from fleet.cluster import Cluster
from fleet.constraints import able_to_run
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.states import TargetState


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineAnswer:
    """What one machine has to say to a unit.

    `reason` is why the unit is here, if it is, or else why it cannot be; empty if it could be.
    `load` is the number of other units that are scheduled here. `health` says so if the unit's
    HealthCommand is being asked here, or failed.
    """

    machine: MachineId
    address: str = ""
    has_it: bool = False
    is_leaving: bool = False
    reason: str = ""
    load: int = 0
    health: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Why:
    """A unit's place explained; `by` and `at_s` say who asked for its target state, and when.

    `refusal` is the engine's own word on a unit that runs nowhere, if it holds for all machines.
    """

    name: UnitName
    desired: TargetState = TargetState.INACTIVE
    current: TargetState = TargetState.INACTIVE
    is_global: bool = False
    by: str = ""
    at_s: float = 0.0
    machines: tuple[MachineAnswer, ...] = ()
    refusal: str = ""
    leaderless: bool = False
    hold: str = ""
    asks: tuple[str, ...] = field(default=())


def explain(cluster: Cluster, name: UnitName) -> Why | None:
    """The unit's place explained, None if there is no such unit."""
    record = cluster.units.get(name)
    if record is None:
        return None
    hold = cluster.current_hold
    refusal = cluster.refusals.get(name)
    held = {row.machine for row in cluster.assignments_of(name)} - cluster.machines.keys()
    return Why(
        name=name,
        desired=record.target,
        current=cluster.current_state(name),
        is_global=record.is_global,
        by=record.by,
        at_s=record.at_s,
        machines=tuple(_answer(cluster, name, machine) for machine in cluster.machines),
        refusal=record.problem or (refusal.reasons.get("", "") if refusal else ""),
        leaderless=cluster.leader is None,
        hold=hold.reason if hold and held & hold.machines else "",
        asks=tuple(f"{option}={value}" for option, value in record.options),
    )


def _answer(cluster: Cluster, name: UnitName, machine: MachineId) -> MachineAnswer:
    there = cluster.machines[machine]
    neighbours = _neighbours(cluster, machine)
    row = next((r for r in cluster.schedule if (r.unit, r.machine) == (name, machine)), None)
    asked = cluster.units[name].requirements
    closed = f"it is {there.cordon.told}" if there.cordon else ""
    able = closed or able_to_run(name, asked, there, neighbours).reason
    reason = row.reason if row else able
    states = (s for s in cluster.states_of(name) if s.machine == machine)
    return MachineAnswer(
        machine=machine,
        address=there.address,
        has_it=row is not None,
        is_leaving=row is not None and row.leaving,
        reason=reason,
        load=len(neighbours.keys() - {name}),
        health=next((state.told_health for state in states), ""),
    )


def _neighbours(cluster: Cluster, machine: MachineId) -> Mapping[UnitName, Requirements]:
    return {
        row.unit: cluster.units[row.unit].requirements
        for row in cluster.schedule
        if row.machine == machine and not row.leaving and row.unit in cluster.units
    }


def encode_why(told: Why) -> Document:
    return present(
        name=told.name,
        desiredState=told.desired.value,
        currentState=told.current.value,
        isGlobal=told.is_global,
        by=told.by,
        at=told.at_s,
        refusal=told.refusal,
        leaderless=told.leaderless,
        hold=told.hold,
        asks=list(told.asks),
        machines=[
            present(
                machineID=answer.machine,
                primaryIP=answer.address,
                hasIt=answer.has_it,
                leaving=answer.is_leaving,
                reason=answer.reason,
                load=answer.load,
                health=answer.health,
            )
            for answer in told.machines
        ],
    )


def decode_why(document: object) -> Why:
    """The explanation in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "an explanation")
    return Why(
        name=UnitName(text_of(found, "name")),
        desired=target_of(found, "desiredState") or TargetState.INACTIVE,
        current=target_of(found, "currentState") or TargetState.INACTIVE,
        is_global=flag(found, "isGlobal"),
        by=text_of(found, "by"),
        at_s=number(found, "at"),
        machines=tuple(_decode_answers(array(found, "machines"))),
        refusal=text_of(found, "refusal"),
        leaderless=flag(found, "leaderless"),
        hold=text_of(found, "hold"),
        asks=tuple(str(each) for each in array(found, "asks")),
    )


def _decode_answers(documents: Iterable[object]) -> Iterable[MachineAnswer]:
    for document in documents:
        found = mapping(document, "a machine's answer")
        yield MachineAnswer(
            machine=MachineId(text_of(found, "machineID")),
            address=text_of(found, "primaryIP"),
            has_it=flag(found, "hasIt"),
            is_leaving=flag(found, "leaving"),
            reason=text_of(found, "reason"),
            load=int(number(found, "load")),
            health=text_of(found, "health"),
        )
