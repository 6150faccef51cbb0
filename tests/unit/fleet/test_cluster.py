"""The cluster as decoded from the store: whole, sorted, and unharmed by what cannot be read."""

import json
from dataclasses import replace

import pytest

from fleet.cluster import (
    Assignment,
    Cluster,
    Leader,
    Refusal,
    UnitRecord,
    encode_assignment,
    encode_leader,
    encode_refusal,
    encode_unit,
)
from fleet.hold import Hold, encode_hold
from fleet.keys import Keys
from fleet.machine import Cordon, Machine, MachineId, encode_cordon, encode_machine
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.snapshot import decode_cluster
from fleet.states import TargetState, UnitState, encode_state
from fleet.store.port import Entry

_KEYS = Keys()
_WEB, _DB = UnitName("web.service"), UnitName("db.service")
_M1, _M2 = MachineId("m1"), MachineId("m2")


def _entry(key: str, value: bytes | object, revision: int = 7) -> Entry:
    stored = value if isinstance(value, bytes) else json.dumps(value).encode()
    return Entry(key=key, value=stored, created=revision - 1, modified=revision)


def _record(name: UnitName, *options: tuple[str, str]) -> UnitRecord:
    return UnitRecord(
        name=name, hash="h", file="f", target=TargetState.LAUNCHED, options=options, by="root"
    )


def _row(unit: UnitName, machine: MachineId, *, leaving: bool = False) -> Assignment:
    return Assignment(
        unit=unit,
        machine=machine,
        hash="h",
        file="f",
        target=TargetState.LAUNCHED,
        reason="why",
        leaving=leaving,
    )


def _state(unit: UnitName, machine: MachineId) -> UnitState:
    return UnitState(
        unit=unit,
        machine=machine,
        hash="h",
        current=TargetState.LAUNCHED,
        load="loaded",
        active="active",
        sub="running",
    )


_SOUND = (
    _entry(_KEYS.unit(_WEB), encode_unit(_record(_WEB, ("MachineMetadata", "disk=ssd")))),
    _entry(_KEYS.unit(_DB), encode_unit(_record(_DB, ("Global", "true")))),
    _entry(_KEYS.machine(_M2), encode_machine(Machine(id=_M2))),
    _entry(_KEYS.machine(_M1), encode_machine(Machine(id=_M1, metadata={"a": "1", "b": "2"}))),
    _entry(_KEYS.metadatum(_M1, "a"), b"3"),
    _entry(_KEYS.metadatum(_M1, "b"), b""),
    _entry(_KEYS.metadatum(MachineId("away"), "a"), b"1"),
    _entry(_KEYS.assignment(_M2, _WEB), encode_assignment(_row(_WEB, _M2))),
    _entry(_KEYS.assignment(_M1, _WEB), encode_assignment(_row(_WEB, _M1, leaving=True))),
    _entry(_KEYS.assignment(_M1, _DB), encode_assignment(_row(_DB, _M1))),
    _entry(_KEYS.state(_M2, _WEB), encode_state(_state(_WEB, _M2))),
    _entry(_KEYS.state(_M1, _WEB), encode_state(_state(_WEB, _M1))),
    _entry(
        _KEYS.refusal(_DB), encode_refusal(Refusal(unit=_DB, reasons={"m2": "no ssd", "": "x"}))
    ),
    _entry(_KEYS.file("f"), b"[Service]\n", 5),
    _entry(_KEYS.engine, encode_leader(_M1), 9),
    _entry(f"{_KEYS.events}1", b"not read here"),
)


def test_cluster_has_all_that_is_stored() -> None:
    cluster = decode_cluster(_KEYS, _SOUND, 12)

    assert cluster.problems == ()
    assert cluster.revision == 12
    assert list(cluster.units) == [_DB, _WEB]
    assert cluster.units[_WEB] == replace(
        _record(_WEB, ("MachineMetadata", "disk=ssd")),
        revision=7,
        created=6,
        requirements=Requirements(metadata={"disk": frozenset({"ssd"})}),
    )
    assert cluster.units[_DB].is_global
    assert list(cluster.machines) == [_M1, _M2]
    assert cluster.machines[_M1].metadata == {"a": "3"}
    assert cluster.machines[_M2].metadata == {}
    assert cluster.schedule == (
        replace(_row(_DB, _M1), revision=7),
        replace(_row(_WEB, _M1, leaving=True), revision=7),
        replace(_row(_WEB, _M2), revision=7),
    )
    assert cluster.states == (_state(_WEB, _M1), _state(_WEB, _M2))
    assert cluster.refusals == {
        _DB: Refusal(unit=_DB, reasons={"": "x", "m2": "no ssd"}, revision=7)
    }
    assert cluster.files == {"f": 5}
    assert cluster.leader == Leader(machine=_M1, created=8)


def test_cluster_of_an_empty_store_is_empty() -> None:
    assert decode_cluster(_KEYS, (), 3) == Cluster(revision=3)


def test_keys_of_another_cluster_are_passed_over() -> None:
    elsewhere = _entry("/elsewhere/units/web.service", b"{")

    assert decode_cluster(_KEYS, (elsewhere,), 3) == Cluster(revision=3)


def test_unit_is_found_on_the_machine_it_is_to_stay_on() -> None:
    cluster = decode_cluster(_KEYS, _SOUND, 12)

    assert cluster.machine_of(_WEB) == _M2
    assert [row.machine for row in cluster.assignments_of(_WEB)] == [_M2]
    assert [state.machine for state in cluster.states_of(_WEB)] == [_M1, _M2]
    assert cluster.current_state(_WEB) is TargetState.LAUNCHED


def test_global_unit_is_on_no_machine_in_particular() -> None:
    cluster = decode_cluster(_KEYS, _SOUND, 12)

    assert cluster.machine_of(_DB) is None
    assert [row.machine for row in cluster.assignments_of(_DB)] == [_M1]
    assert cluster.current_state(_DB) is TargetState.INACTIVE


def test_unit_that_nobody_stored_is_nowhere() -> None:
    cluster = Cluster(schedule=(_row(_WEB, _M1),))

    assert cluster.machine_of(_WEB) is None
    assert cluster.machine_of(UnitName("x.service")) is None
    assert cluster.states_of(UnitName("x.service")) == ()
    assert cluster.current_state(_WEB) is TargetState.INACTIVE


def test_state_of_another_machine_is_not_the_units() -> None:
    cluster = replace(decode_cluster(_KEYS, _SOUND, 12), states=(_state(_WEB, _M1),))

    assert cluster.current_state(_WEB) is TargetState.INACTIVE


_UNIT_KEY = _KEYS.unit(UnitName("x.service"))
_ROW_KEY = _KEYS.assignment(_M1, UnitName("x.service"))
_STATE_KEY = _KEYS.state(_M1, UnitName("x.service"))
_GOOD_ROW = encode_assignment(_row(_WEB, _M1))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        pytest.param(_UNIT_KEY, b"{", id="unit: no JSON"),
        pytest.param(_UNIT_KEY, b"", id="unit: nothing"),
        pytest.param(_UNIT_KEY, b"\xff\xfe\xfd", id="unit: no text"),
        pytest.param(_UNIT_KEY, b"[" * 100_000, id="unit: nested without end"),
        pytest.param(_UNIT_KEY, [], id="unit: a list"),
        pytest.param(_UNIT_KEY, None, id="unit: null"),
        pytest.param(_UNIT_KEY, {"file": "f", "target": "launched"}, id="unit: no hash"),
        pytest.param(
            _UNIT_KEY, {"hash": "h", "file": "f", "target": "on"}, id="unit: no target state"
        ),
        pytest.param(
            _UNIT_KEY,
            {"hash": "h", "file": "f", "target": "loaded", "at": 10**400},
            id="unit: a time beyond all times",
        ),
        pytest.param(
            _UNIT_KEY,
            {"hash": "h", "file": "f", "target": "loaded", "options": [["a"]]},
            id="unit: half an option",
        ),
        pytest.param(
            f"{_KEYS.units}../../etc/x.service", encode_unit(_record(_WEB)), id="unit: a way out"
        ),
        pytest.param(f"{_KEYS.units}nonsense", encode_unit(_record(_WEB)), id="unit: no name"),
        pytest.param(_KEYS.units, encode_unit(_record(_WEB)), id="unit: an empty name"),
        pytest.param(_KEYS.machine(MachineId("m9")), {}, id="machine: no id"),
        pytest.param(_KEYS.machine(MachineId("m9")), {"id": "m8"}, id="machine: another's id"),
        pytest.param(
            _KEYS.machine(MachineId("m9")), {"id": "m9", "metadata": []}, id="machine: metadata"
        ),
        pytest.param(_KEYS.metadatum(_M1, "z"), b"\xff", id="metadata: no text"),
        pytest.param(f"{_KEYS.metadata}m1", b"1", id="metadata: no key"),
        pytest.param(f"{_KEYS.metadata}m1/", b"1", id="metadata: an empty key"),
        pytest.param(_ROW_KEY, b"null", id="schedule: null"),
        pytest.param(_ROW_KEY, {"hash": "h", "file": "f"}, id="schedule: no target state"),
        pytest.param(f"{_KEYS.schedule}m1", _GOOD_ROW, id="schedule: no unit"),
        pytest.param(f"{_KEYS.schedule}/x.service", _GOOD_ROW, id="schedule: no machine"),
        pytest.param(f"{_KEYS.schedule}m1/../x.service", _GOOD_ROW, id="schedule: a way out"),
        pytest.param(_STATE_KEY, b"7", id="state: a number"),
        pytest.param(_STATE_KEY, {"hash": "h"}, id="state: half of it"),
        pytest.param(_KEYS.refusal(UnitName("x.service")), {"reasons": []}, id="refusal: a list"),
        pytest.param(_KEYS.refusal(UnitName("x.service")), {}, id="refusal: no reasons"),
        pytest.param(_KEYS.hold, {"machines": ["m2"], "reason": "r"}, id="hold: no end"),
        pytest.param(
            _KEYS.hold,
            b'{"machines": [], "reason": "r", "until": Infinity}',
            id="hold: an end that never comes",
        ),
        pytest.param(_KEYS.hold, {"machines": 7, "reason": "r", "until": 1}, id="hold: a number"),
    ],
)
def test_malformed_value_is_left_out_and_named_and_the_rest_is_intact(
    key: str, value: object
) -> None:
    sound = decode_cluster(_KEYS, _SOUND, 12)

    cluster = decode_cluster(_KEYS, (_entry(key, value), *_SOUND), 12)

    (problem,) = cluster.problems
    assert problem.startswith(f"{key} holds a malformed value: ")
    assert len(problem) < 300
    assert replace(cluster, problems=()) == sound


def test_malformed_leader_is_no_leader() -> None:
    cluster = decode_cluster(_KEYS, (*_SOUND[:-2], _entry(_KEYS.engine, b"{}")), 12)

    assert cluster.leader is None
    assert cluster.problems[0].startswith("/fleet/engine holds a malformed value")
    assert len(cluster.units) == 2


def test_hold_is_read_and_is_on_those_machines_that_are_still_gone() -> None:
    hold = Hold(
        machines=frozenset({_M1, MachineId("m8"), MachineId("m9")}), until_s=5.5, reason="r"
    )
    cluster = decode_cluster(_KEYS, (*_SOUND, _entry(_KEYS.hold, encode_hold(hold))), 12)

    assert cluster.problems == ()
    assert cluster.hold == hold
    gone = frozenset({MachineId("m8"), MachineId("m9")})
    assert cluster.current_hold == replace(hold, machines=gone)
    assert replace(cluster, hold=replace(hold, machines=frozenset({_M1}))).current_hold is None
    assert replace(cluster, hold=None).current_hold is None


def test_departures_are_the_machines_that_left_on_purpose() -> None:
    entry = _entry(_KEYS.departure(_M2), b"{}")

    assert decode_cluster(_KEYS, (entry,), 12).departures == {_M2}


def test_unit_with_options_that_make_no_sense_is_kept_with_its_problem() -> None:
    record = _record(_WEB, ("Conflicts", "a"), ("MachineMetadata", "a=b c=d"))

    cluster = decode_cluster(_KEYS, (_entry(_KEYS.unit(_WEB), encode_unit(record)),), 12)

    assert cluster.problems == ()
    assert "MachineMetadata=a=b c=d is malformed" in cluster.units[_WEB].problem
    assert cluster.units[_WEB].requirements == Requirements()


def test_options_are_expanded_for_the_unit_that_has_them() -> None:
    name = UnitName("web@1.service")
    record = _record(name, ("Conflicts", "%p@*"), ("MachineMetadata", "host=%i"))

    cluster = decode_cluster(_KEYS, (_entry(_KEYS.unit(name), encode_unit(record)),), 12)

    assert cluster.units[name].requirements == Requirements(
        conflicts=("web@*",), metadata={"host": frozenset({"1"})}
    )


def test_unit_that_changed_is_read_anew() -> None:
    first = _entry(_KEYS.unit(_WEB), encode_unit(_record(_WEB)), 7)
    second = _entry(_KEYS.unit(_WEB), encode_unit(_record(_WEB, ("Global", "true"))), 8)

    assert not decode_cluster(_KEYS, (first,), 7).units[_WEB].is_global
    assert decode_cluster(_KEYS, (second,), 8).units[_WEB].is_global
    assert decode_cluster(_KEYS, (replace(first, modified=9),), 9).units[_WEB].revision == 9


def test_cordon_outlives_its_machine_and_is_part_of_one_that_is_there() -> None:
    word = Cordon(by="alice", at_s=17.5, why="new disks", drain=True)
    entries = [
        _entry(_KEYS.machine(_M1), encode_machine(Machine(id=_M1))),
        _entry(_KEYS.cordon(_M1), encode_cordon(word)),
        _entry(_KEYS.cordon(_M2), {"by": "bob"}),
        _entry(_KEYS.cordon(MachineId("m3")), b"{"),
    ]
    cluster = decode_cluster(_KEYS, entries, 7)
    assert cluster.machines == {_M1: Machine(id=_M1, cordon=word)}
    assert cluster.cordons == {_M1: word, _M2: Cordon(by="bob")}
    assert [problem.partition(" ")[0] for problem in cluster.problems] == ["/fleet/cordons/m3"]
