"""Stories: told from what is kept of each unit just as they would be from the whole store."""

import json
from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.api.stories import Stories, report, reported
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
from fleet.machine import Machine, MachineId, encode_machine
from fleet.names import UnitName
from fleet.options import Requirements
from fleet.snapshot import decode_cluster
from fleet.states import TargetState, UnitState, encode_state
from fleet.store.port import Entry

KEYS = Keys()
WEB, DB = UnitName("web.service"), UnitName("db.service")
ONE, TWO, THREE = MachineId("1" * 32), MachineId("2" * 32), MachineId("3" * 32)


def a_state(machine: MachineId = ONE, active: str = "active", unit: UnitName = WEB) -> UnitState:
    return UnitState(
        unit=unit,
        machine=machine,
        hash="abc",
        current=TargetState.LAUNCHED,
        load="loaded",
        active=active,
        sub="running",
        since_s=12.5,
        result="success",
        journal=("one", "two"),
    )


def report_of(cluster: Cluster, unit: UnitName = WEB) -> UnitReport:
    """The unit's report from the whole cluster."""
    return report(
        unit,
        record=cluster.units.get(unit),
        refusal=cluster.refusals.get(unit),
        rows=[reported(row) for row in cluster.schedule if row.unit == unit],
        states=cluster.states_of(unit),
        around=cluster,
    )


def test_report_tells_the_whole_story_of_a_unit() -> None:
    cluster = Cluster(
        units={WEB: UnitRecord(name=WEB, hash="abc", file="f", target=TargetState.LAUNCHED)},
        machines={
            ONE: Machine(id=ONE, address="10.0.0.1"),
            TWO: Machine(id=TWO, address="10.0.0.2"),
            THREE: Machine(id=THREE, address="10.0.0.3"),
        },
        schedule=tuple(
            Assignment(
                unit=WEB,
                machine=machine,
                hash="abc",
                file="f",
                target=TargetState.LAUNCHED,
                reason="least loaded",
                leaving=machine == TWO,
            )
            for machine in (ONE, TWO)
        ),
        states=(a_state(), a_state(TWO, "failed")),
        refusals={WEB: Refusal(unit=WEB, reasons={"": "nowhere better"})},
        leader=Leader(machine=ONE, created=1),
    )
    assert report_of(cluster) == UnitReport(
        name=WEB,
        exists=True,
        hash="abc",
        desired=TargetState.LAUNCHED,
        current=TargetState.LAUNCHED,
        machine=ONE,
        states=(a_state(), a_state(TWO, "failed")),
        assignments=(
            ReportedAssignment(
                machine=ONE, target=TargetState.LAUNCHED, leaving=False, reason="least loaded"
            ),
            ReportedAssignment(
                machine=TWO, target=TargetState.LAUNCHED, leaving=True, reason="least loaded"
            ),
        ),
        refusals={"": "nowhere better"},
        addresses={ONE: "10.0.0.1", TWO: "10.0.0.2"},
    )


@pytest.mark.parametrize(
    ("machines", "gone", "leaving", "told"),
    [
        pytest.param("2", "13", False, "they vanished", id="its machine is held"),
        pytest.param("12", "13", False, "", id="its machine is back"),
        pytest.param("1", "23", False, "", id="others are held"),
        pytest.param("2", "13", True, "", id="it is on its way elsewhere"),
    ],
)
def test_report_says_why_a_unit_of_a_held_machine_is_not_moved(
    machines: str, gone: str, leaving: bool, told: str
) -> None:
    row = Assignment(
        unit=WEB,
        machine=MachineId("1"),
        hash="abc",
        file="f",
        target=TargetState.LAUNCHED,
        leaving=leaving,
    )
    hold = Hold(machines=frozenset(map(MachineId, gone)), until_s=9.0, reason="they vanished")
    cluster = Cluster(
        machines={MachineId(name): Machine(id=MachineId(name)) for name in machines},
        schedule=(row,),
        hold=hold,
    )
    assert report_of(cluster).hold == told


def test_report_tells_what_a_fenced_unit_waits_for() -> None:
    refusal = Refusal(unit=WEB, reasons={"": "it is fenced"}, is_fenced=True, until_s=9.0)
    told = report_of(Cluster(refusals={WEB: refusal}))
    assert (told.fence, told.fence_until_s) == ("it is fenced", 9.0)

    other = report_of(Cluster(refusals={WEB: replace(refusal, is_fenced=False)}))
    assert other.fence == ""


def test_report_of_a_unit_that_is_not_there_says_so() -> None:
    assert report_of(Cluster()) == UnitReport(name=WEB, leaderless=True)


def test_report_of_a_global_unit_names_no_machine() -> None:
    record = UnitRecord(
        name=WEB,
        hash="abc",
        file="f",
        target=TargetState.LAUNCHED,
        requirements=Requirements(is_global=True),
    )
    row = Assignment(unit=WEB, machine=ONE, hash="abc", file="f", target=TargetState.LAUNCHED)
    told = report_of(Cluster(units={WEB: record}, schedule=(row,), states=(a_state(),)))
    assert (told.is_global, told.machine, told.current) == (True, None, TargetState.INACTIVE)
    assert [row.machine for row in told.assignments] == [ONE]


def test_stories_name_the_units_that_a_change_touches() -> None:
    stories, entries = Stories(KEYS), {}
    for unit in (WEB, DB):
        entries[KEYS.unit(unit)] = an_entry(KEYS.unit(unit), _records(unit)[0], 1)
    assert stories.take_in(entries, 1) == {WEB, DB}
    assert stories.take_in(entries, 2) == set()
    entries[KEYS.state(ONE, WEB)] = an_entry(KEYS.state(ONE, WEB), b"rubbish", 3)
    assert stories.take_in(entries, 3) == {WEB}
    assert stories.tell(WEB).exists
    assert stories.tell(WEB).states == ()
    del entries[KEYS.unit(DB)]
    assert stories.take_in(entries, 4) == {DB}
    assert stories.units == {WEB}


def test_stories_find_what_changed_among_the_keys_they_are_given() -> None:
    stories = Stories(KEYS)
    record = Entry(key=KEYS.unit(WEB), value=b"{}", created=1, modified=1, lease=None)
    other = Entry(key=KEYS.unit(DB), value=b"{}", created=2, modified=2, lease=None)
    assert stories.take_in({record.key: record}, 1) == {WEB}
    both = {record.key: record, other.key: other}
    assert stories.take_in(both, 2, [record.key]) == frozenset()
    assert stories.take_in(both, 3, [other.key]) == {DB}
    assert stories.take_in({other.key: other}, 4, [record.key]) == {WEB}
    assert stories.units == {DB}


def test_part_of_a_story_that_becomes_malformed_is_no_longer_told_and_is_again_once_mended() -> (
    None
):
    stories, key = Stories(KEYS), KEYS.state(ONE, WEB)
    sound = json.dumps(encode_state(a_state())).encode()
    for revision, value in enumerate((sound, b"{", sound), start=1):
        assert stories.take_in({key: an_entry(key, value, revision)}, revision) == {WEB}
        assert stories.tell(WEB).states == ((a_state(),) if value == sound else ())


def test_rows_and_states_are_told_by_machine_in_whatever_order_they_came() -> None:
    stories, entries = Stories(KEYS), dict[str, Entry]()
    for revision, machine in enumerate((THREE, ONE, TWO), start=1):
        row, state = KEYS.assignment(machine, WEB), KEYS.state(machine, WEB)
        entries[row] = an_entry(row, _rows(WEB, machine)[0], revision)
        entries[state] = an_entry(state, _states(WEB, machine)[0], revision)
        stories.take_in(entries, revision)
    told = stories.tell(WEB)
    assert [row.machine for row in told.assignments] == [ONE, TWO, THREE]
    assert [state.machine for state in told.states] == [ONE, TWO, THREE]


def an_entry(key: str, value: bytes, revision: int) -> Entry:
    return Entry(key=key, value=value, created=1, modified=revision)


def _records(unit: UnitName) -> list[bytes]:
    plain = UnitRecord(name=unit, hash="abc", file="f", target=TargetState.LAUNCHED)
    options = (("Global", "true"),)
    return [
        encode_unit(record)
        for record in (
            plain,
            replace(plain, hash="other", target=TargetState.LOADED),
            replace(plain, options=options),
        )
    ]


def _rows(unit: UnitName, machine: MachineId) -> list[bytes]:
    row = Assignment(
        unit=unit, machine=machine, hash="abc", file="f", target=TargetState.LAUNCHED, reason="why"
    )
    return [encode_assignment(row), encode_assignment(replace(row, leaving=True))]


def _states(unit: UnitName, machine: MachineId) -> list[bytes]:
    words = ("activating", "active")
    return [json.dumps(encode_state(a_state(machine, word, unit))).encode() for word in words]


def _refusals(unit: UnitName) -> list[bytes]:
    every, one = Refusal(unit=unit, reasons={"": "x"}), Refusal(unit=unit, reasons={TWO: "full"})
    return [encode_refusal(each) for each in (every, one, replace(every, is_fenced=True))]


def _places() -> Iterator[tuple[str, list[bytes]]]:
    """Keys with values that make sense under them."""
    for unit in (WEB, DB):
        yield KEYS.unit(unit), _records(unit)
        yield KEYS.refusal(unit), _refusals(unit)
        for machine in (ONE, TWO):
            yield KEYS.assignment(machine, unit), _rows(unit, machine)
            yield KEYS.state(machine, unit), _states(unit, machine)
    for machine in (ONE, TWO):
        made = (Machine(id=machine, address=address) for address in ("10.0.0.1", "10.0.0.2"))
        yield KEYS.machine(machine), [json.dumps(encode_machine(each)).encode() for each in made]
    yield KEYS.engine, [encode_leader(ONE), encode_leader(TWO)]
    yield KEYS.hold, [encode_hold(Hold(machines=frozenset({TWO}), until_s=9.0, reason="gone"))]
    yield KEYS.assignment(MachineId(""), WEB), _rows(WEB, ONE)
    yield f"{KEYS.schedule}{ONE}/../{WEB}", _rows(WEB, ONE)
    yield f"{KEYS.units}../{WEB}", _records(WEB)


_PLACES = dict(_places())
_MALFORMED = [b"", b"{}", b"[]", b"\xff", b'{"target": "paused"}']
_puts = st.sampled_from(sorted(_PLACES)).flatmap(
    lambda key: st.tuples(st.just(key), st.sampled_from([*_PLACES[key], *_MALFORMED, None]))
)
_turns = st.lists(
    st.tuples(
        st.dictionaries(st.sampled_from(sorted(_PLACES)), st.none())
        | st.lists(_puts, max_size=8).map(dict),
        st.booleans(),
        st.sets(st.sampled_from([WEB, DB])),
    ),
    max_size=12,
)


@pytest.mark.fuzz
@given(_turns)
def test_story_is_the_report_that_the_whole_store_makes(
    turns: list[tuple[dict[str, bytes | None], bool, set[UnitName]]],
) -> None:
    """Whatever changes, is removed or malformed, and whoever was told of when or never."""
    stories, entries = Stories(KEYS), dict[str, Entry]()
    before = {unit: UnitReport(name=unit, leaderless=True) for unit in (WEB, DB)}
    for revision, (puts, is_sure, told) in enumerate(turns, start=1):
        for key, value in puts.items():
            entries.pop(key, None)
            if value is not None:
                entries[key] = an_entry(key, value, revision)
        known = stories.units
        touched = stories.take_in(dict(entries), revision, puts.keys() if is_sure else None)
        known |= stories.units  # whether anybody leads is no news of a unit that is not there
        cluster = decode_cluster(KEYS, entries.values(), revision)
        now = {unit: report_of(cluster, unit) for unit in (WEB, DB)}
        assert {unit for unit in known & now.keys() if now[unit] != before[unit]} <= touched
        assert {unit: stories.tell(unit) for unit in told} == {unit: now[unit] for unit in told}
        before = now
    assert {unit: stories.tell(unit) for unit in before} == before
