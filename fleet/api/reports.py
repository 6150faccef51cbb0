"""Reports: the whole story of a unit at one moment, as a value and as a document.

They are ours; fleet 1.0 had none.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fleet.api.members import Document, array, mapping, number_of, present, target_of, text_of
from fleet.errors import MALFORMED, InvalidRequest
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState, UnitState, decode_state, encode_state


@dataclass(frozen=True, slots=True, kw_only=True)
class ReportedAssignment:
    """Where a unit is to be, how far it should go there, and why."""

    machine: MachineId
    target: TargetState
    leaving: bool = False
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitReport:
    """The whole story of one unit at one moment.

    `machine` is where a unit that is not global is scheduled; `refusals` are reasons by machine,
    "" standing for all; `addresses` are those of the machines spoken of that are alive.
    While it is `leaderless` there is no engine that would place or move units. `hold` says why the
    unit is not moved although its machine is gone, if that is so. `fence` says what a fenced unit
    waits for, and `fence_until_s` until when (seconds since the epoch, 0 if nobody can tell).
    """

    name: UnitName
    exists: bool = False
    hash: str = ""
    desired: TargetState | None = None
    current: TargetState = TargetState.INACTIVE
    machine: MachineId | None = None
    is_global: bool = False
    states: tuple[UnitState, ...] = ()
    assignments: tuple[ReportedAssignment, ...] = ()
    refusals: Mapping[str, str] = field(default_factory=dict)
    addresses: Mapping[MachineId, str] = field(default_factory=dict)
    leaderless: bool = False
    hold: str = ""
    fence: str = ""
    fence_until_s: float = 0.0


def encode_report(told: UnitReport) -> Document:
    return present(
        name=told.name,
        exists=told.exists,
        hash=told.hash,
        desiredState=told.desired,
        currentState=told.current,
        machineID=told.machine,
        isGlobal=told.is_global,
        states=[{"machineID": state.machine, **encode_state(state)} for state in told.states],
        assignments=[
            present(
                machineID=row.machine,
                targetState=row.target,
                leaving=row.leaving,
                reason=row.reason,
            )
            for row in told.assignments
        ],
        refusals=dict(told.refusals),
        addresses=dict(told.addresses),
        leaderless=told.leaderless,
        hold=told.hold,
        fence=told.fence,
        fenceUntil=told.fence_until_s,
    )


def decode_report(document: object) -> UnitReport:
    """The report in a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "a report")
    name = UnitName(text_of(found, "name"))
    refusals = mapping(found.get("refusals") or {}, "refusals")
    addresses = mapping(found.get("addresses") or {}, "addresses")
    return UnitReport(
        name=name,
        exists=found.get("exists") is True,
        hash=text_of(found, "hash"),
        desired=target_of(found, "desiredState"),
        current=target_of(found, "currentState") or TargetState.INACTIVE,
        machine=MachineId(text_of(found, "machineID")) or None,
        is_global=found.get("isGlobal") is True,
        states=tuple(_reported_state(name, state) for state in array(found, "states")),
        assignments=tuple(_assignment(row) for row in array(found, "assignments")),
        refusals={key: text_of(refusals, key) for key in refusals},
        addresses={MachineId(key): text_of(addresses, key) for key in addresses},
        leaderless=found.get("leaderless") is True,
        hold=text_of(found, "hold"),
        fence=text_of(found, "fence"),
        fence_until_s=number_of(found, "fenceUntil"),
    )


def _reported_state(name: UnitName, document: object) -> UnitState:
    found = mapping(document, "a state")
    try:
        return decode_state(name, MachineId(text_of(found, "machineID")), found)
    except MALFORMED as error:
        raise InvalidRequest(f"unable to decode a state of {name}: {error!r}") from error


def _assignment(document: object) -> ReportedAssignment:
    found = mapping(document, "an assignment")
    return ReportedAssignment(
        machine=MachineId(text_of(found, "machineID")),
        target=target_of(found, "targetState") or TargetState.INACTIVE,
        leaving=found.get("leaving") is True,
        reason=text_of(found, "reason"),
    )
