"""Which machines count as lost, why their units stay, and the document that tells of it."""

from dataclasses import replace

import pytest

from fleet.api.lost import (
    FENCED,
    HELD,
    LEADERLESS,
    STRANDED,
    UNSETTLED,
    FencedWait,
    Lost,
    LostMachine,
    decode_lost,
    encode_lost,
    find_lost,
)
from fleet.claims import Claim
from fleet.cluster import Assignment, Cluster, Leader, Refusal, UnitRecord
from fleet.errors import InvalidRequest
from fleet.hold import Hold
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.states import TargetState

HERE, GONE, AWAY = MachineId("a" * 32), MachineId("b" * 32), MachineId("c" * 32)
WEB, DB = UnitName("web.service"), UnitName("db.service")


def row(unit: UnitName, machine: MachineId) -> Assignment:
    return Assignment(unit=unit, machine=machine, hash="aa", file="b", target=TargetState.LAUNCHED)


def everywhere(unit: UnitName) -> UnitRecord:
    asked = Requirements(is_global=True)
    return UnitRecord(
        name=unit, hash="aa", file="b", target=TargetState.LAUNCHED, requirements=asked
    )


def lost(units: int, why: str, machine: MachineId = GONE) -> LostMachine:
    return LostMachine(machine=machine, units=units, why=why)


WELL = Cluster(
    machines={HERE: Machine(id=HERE)},
    leader=Leader(machine=HERE, created=1),
    schedule=(row(WEB, HERE),),
    claims=(Claim(unit=WEB, machine=HERE, stop_s=1.0),),
    refusals={DB: Refusal(unit=DB, reasons={HERE: "it has no disk"})},
)
HOLD = Hold(machines=frozenset({HERE, GONE}), until_s=100.0, reason="two vanished")
ORPHANED = replace(WELL, schedule=(row(WEB, GONE), row(DB, GONE), row(DB, AWAY)))
CLAIMED = replace(WELL, claims=(Claim(unit=DB, machine=GONE, stop_s=1.0),))


@pytest.mark.parametrize(
    ("cluster", "machines"),
    [
        pytest.param(WELL, (), id="none"),
        pytest.param(
            ORPHANED,
            (lost(2, UNSETTLED), lost(1, STRANDED, AWAY)),
            id="units not moved yet, and one that fits nowhere else",
        ),
        pytest.param(
            replace(ORPHANED, hold=HOLD), (lost(2, HELD), lost(1, STRANDED, AWAY)), id="one held"
        ),
        pytest.param(replace(WELL, hold=HOLD), (lost(0, HELD),), id="held without units"),
        pytest.param(
            replace(ORPHANED, leader=None, departures=frozenset({AWAY})),
            (lost(2, LEADERLESS),),
            id="no leader, and one left on purpose",
        ),
        pytest.param(CLAIMED, (lost(1, FENCED),), id="a fenced unit was there"),
        pytest.param(
            replace(CLAIMED, schedule=(row(DB, GONE),)),
            (lost(1, FENCED),),
            id="a fenced unit is scheduled there",
        ),
        pytest.param(
            replace(ORPHANED, units={unit: everywhere(unit) for unit in (WEB, DB)}),
            (),
            id="global units have their place there for ever",
        ),
    ],
)
def test_lost_machines_have_units_and_a_reason(
    cluster: Cluster, machines: tuple[LostMachine, ...]
) -> None:
    assert find_lost(cluster).machines == machines


def test_only_fenced_refusals_are_waits() -> None:
    fenced = Refusal(unit=WEB, reasons={"": "it may run there"}, is_fenced=True, until_s=7.0)
    cluster = replace(WELL, refusals={**WELL.refusals, WEB: fenced})

    assert find_lost(cluster).waits == (
        FencedWait(unit=WEB, reason="it may run there", until_s=7.0),
    )


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(Lost(), id="nothing"),
        pytest.param(find_lost(replace(ORPHANED, hold=HOLD)), id="a hold"),
        pytest.param(Lost(waits=(FencedWait(unit=WEB, reason="r", until_s=7.0),)), id="a wait"),
    ],
)
def test_document_says_the_same(told: Lost) -> None:
    assert decode_lost(encode_lost(told)) == told


@pytest.mark.parametrize(
    "document",
    [[], {"machines": {}}, {"machines": [7]}, {"waits": [{"until": "x"}]}, {"hold": {"until": 1}}],
)
def test_malformed_document_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest):
        decode_lost(document)
