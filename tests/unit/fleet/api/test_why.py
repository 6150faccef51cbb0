"""Why a unit is where it is: every machine's answer, and that it survives the wire."""

from dataclasses import replace

import pytest

from fleet.api.members import parse, render
from fleet.api.why import MachineAnswer, Why, decode_why, encode_why, explain
from fleet.cluster import Assignment, Cluster, Leader, Refusal, UnitRecord
from fleet.errors import InvalidRequest
from fleet.hold import Hold
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.states import TargetState

ONE, TWO, THREE = (MachineId(digit * 32) for digit in "123")
WEB, DB = UnitName("web.service"), UnitName("db.service")


def _record(name: UnitName, **parts: object) -> UnitRecord:
    wanted = {"hash": "h", "file": "f", "target": TargetState.LAUNCHED, "by": "alice@box", **parts}
    return UnitRecord(name=name, **wanted)  # type: ignore[arg-type]


def _row(
    name: UnitName, machine: MachineId, reason: str = "", *, leaving: bool = False
) -> Assignment:
    return Assignment(
        unit=name,
        machine=machine,
        hash="h",
        file="f",
        target=TargetState.LAUNCHED,
        reason=reason,
        leaving=leaving,
    )


WANTS_SSD = Requirements(metadata={"disk": frozenset({"ssd"})}, conflicts=("db*",))
CLUSTER = Cluster(
    units={
        WEB: _record(WEB, requirements=WANTS_SSD, options=(("MachineMetadata", "disk=ssd"),)),
        DB: _record(DB),
    },
    machines={
        ONE: Machine(id=ONE, address="10.0.0.1", metadata={"disk": "ssd"}),
        TWO: Machine(id=TWO, address="10.0.0.2", metadata={"disk": "ssd"}),
        THREE: Machine(id=THREE, address="10.0.0.3", metadata={"disk": "hdd"}),
    },
    schedule=(_row(WEB, ONE, "it has the fewest units"), _row(DB, TWO)),
    leader=Leader(machine=ONE, created=1),
)


def _answers(cluster: Cluster, name: UnitName) -> dict[str, MachineAnswer]:
    told = explain(cluster, name)
    assert told is not None
    return {answer.machine[:1]: answer for answer in told.machines}


def test_every_machine_gives_its_answer() -> None:
    answers = _answers(CLUSTER, WEB)
    assert (answers["1"].has_it, answers["1"].reason) == (True, "it has the fewest units")
    assert answers["2"].reason == "it conflicts with db.service here (Conflicts=db*)"
    assert answers["3"].reason == ("the unit asks for metadata disk=ssd, the machine has disk=hdd")
    assert not answers["2"].has_it
    assert answers["2"].load == 1


def test_machine_that_could_have_the_unit_has_nothing_against_it() -> None:
    without_db = replace(CLUSTER, schedule=CLUSTER.schedule[:1])
    assert _answers(without_db, WEB)["2"] == MachineAnswer(machine=TWO, address="10.0.0.2")


def test_conflict_of_the_other_side_counts_as_the_scheduler_counts_it() -> None:
    assert _answers(CLUSTER, DB)["1"].reason == (
        "web.service here conflicts with it (Conflicts=db*)"
    )


def test_machine_that_the_unit_leaves_says_so() -> None:
    moving = replace(
        CLUSTER, schedule=(_row(WEB, ONE, "disk=hdd now", leaving=True), _row(WEB, TWO, "up"))
    )
    answers = _answers(moving, WEB)
    assert (answers["1"].is_leaving, answers["1"].reason) == (True, "disk=hdd now")
    assert (answers["2"].has_it, answers["2"].is_leaving) == (True, False)


def test_words_of_the_engine_are_passed_on() -> None:
    refused = replace(
        CLUSTER, schedule=(), refusals={WEB: Refusal(unit=WEB, reasons={"": "a template"})}
    )
    told = explain(refused, WEB)
    assert told is not None
    assert (told.refusal, told.by, told.asks) == (
        "a template",
        "alice@box",
        ("MachineMetadata=disk=ssd",),
    )
    held = replace(
        CLUSTER,
        machines={TWO: CLUSTER.machines[TWO]},
        hold=Hold(machines=frozenset({ONE}), until_s=1.0, reason="2 of 3 vanished"),
        leader=None,
    )
    told = explain(held, WEB)
    assert told is not None
    assert (told.hold, told.leaderless) == ("2 of 3 vanished", True)


def test_unit_that_is_not_there_has_no_explanation() -> None:
    assert explain(CLUSTER, UnitName("gone.service")) is None


def test_explanation_survives_the_wire() -> None:
    for name in (WEB, DB):
        told = explain(CLUSTER, name)
        assert told is not None
        assert decode_why(parse(render(encode_why(told)))) == told
    assert decode_why({"name": "a.service", "from the future": 1}) == Why(
        name=UnitName("a.service")
    )


@pytest.mark.parametrize(
    "document",
    [
        pytest.param([], id="an array"),
        pytest.param({"machines": {}}, id="machines that are none"),
        pytest.param({"machines": [{"load": "3"}]}, id="a number that is a text"),
    ],
)
def test_what_is_no_explanation_is_refused(document: object) -> None:
    with pytest.raises(InvalidRequest, match="unable to decode body"):
        decode_why(document)
