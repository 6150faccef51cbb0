"""The machines that are lost, and why their units are where they are: what lists say beside.

A machine is lost while units are scheduled on it, or it is held, or a fenced unit may still run
there, though it is not registered. One that left on purpose is not lost, and global units, which
have their place there for whenever it returns, do not make it so.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fleet.api.happenings import decode_hold, encode_hold
from fleet.api.members import Document, array, mapping, number, present, text_of
from fleet.hold import Hold
from fleet.machine import MachineId
from fleet.names import UnitName

if TYPE_CHECKING:
    from fleet.cluster import Cluster

HELD = "held, so their units stay where they are (see fleetctl hold)"
LEADERLESS = "no engine leads the cluster, so nobody moves their units"
FENCED = "fenced units may still run there, and start elsewhere once they must have stopped"
UNSETTLED = "the engine has not moved their units yet"
STRANDED = "no other machine takes their units (fleetctl why UNIT says what each one lacks)"


@dataclass(frozen=True, slots=True, kw_only=True)
class LostMachine:
    """A machine that is lost, how many units it has to the cluster's knowledge, and why still."""

    machine: MachineId
    units: int
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FencedWait:
    """A fenced unit that waits: for what, and until when (epoch seconds, 0 if nobody can tell)."""

    unit: UnitName
    reason: str
    until_s: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Lost:
    """What of the cluster is lost, held or waits for a fence at one moment."""

    machines: tuple[LostMachine, ...] = ()
    hold: Hold | None = None
    waits: tuple[FencedWait, ...] = ()


def find_lost(cluster: "Cluster") -> Lost:
    """What is lost, by machine, and what waits, by unit."""
    hold = cluster.current_hold
    held = hold.machines if hold else frozenset()
    there = cluster.machines.keys() | cluster.departures
    units: dict[MachineId, set[UnitName]] = {machine: set() for machine in held}
    rows = [
        (row.machine, row.unit)
        for row in cluster.schedule
        if row.unit not in cluster.units or not cluster.units[row.unit].is_global
    ]
    claims = [(claim.machine, claim.unit) for claim in cluster.claims]
    for machine, unit in (*rows, *claims):
        if machine not in there:
            units.setdefault(machine, set()).add(unit)
    movable = {machine for machine, unit in rows if unit not in cluster.refusals}
    claiming = {machine for machine, _ in claims}

    def why(machine: MachineId) -> str:
        if machine in held:
            return HELD
        if cluster.leader is None:
            return LEADERLESS
        if machine in movable:
            return UNSETTLED
        return FENCED if machine in claiming else STRANDED

    return Lost(
        machines=tuple(
            LostMachine(machine=machine, units=len(names), why=why(machine))
            for machine, names in sorted(units.items())
        ),
        hold=hold,
        waits=tuple(
            FencedWait(unit=each.unit, reason=each.reasons.get("", ""), until_s=each.until_s)
            for _, each in sorted(cluster.refusals.items())
            if each.is_fenced
        ),
    )


def encode_lost(lost: Lost) -> Document:
    return present(
        machines=[
            present(machineID=each.machine, units=each.units, why=each.why)
            for each in lost.machines
        ],
        hold=encode_hold(lost.hold),
        waits=[
            present(name=each.unit, reason=each.reason, until=each.until_s) for each in lost.waits
        ],
    )


def decode_lost(document: object) -> Lost:
    """What is lost by a document; raises InvalidRequest naming the member that is wrong."""
    found = mapping(document, "what is lost")
    return Lost(
        machines=tuple(_decode_machines(array(found, "machines"))),
        hold=decode_hold(found.get("hold") or {}),
        waits=tuple(_decode_waits(array(found, "waits"))),
    )


def _decode_machines(documents: Iterable[object]) -> Iterable[LostMachine]:
    for document in documents:
        found = mapping(document, "a lost machine")
        yield LostMachine(
            machine=MachineId(text_of(found, "machineID")),
            units=int(number(found, "units")),
            why=text_of(found, "why"),
        )


def _decode_waits(documents: Iterable[object]) -> Iterable[FencedWait]:
    for document in documents:
        found = mapping(document, "a fenced unit that waits")
        yield FencedWait(
            unit=UnitName(text_of(found, "name")),
            reason=text_of(found, "reason"),
            until_s=number(found, "until"),
        )
