"""What the leader sees, told key by key, is what it sees when it looks for the first time."""

import json
import random
from typing import Any

import pytest

from engine.view import View
from fleet.cluster import encode_assignment, encode_leader, encode_unit
from fleet.hold import Hold as StoredHold
from fleet.hold import encode_hold
from fleet.keys import Keys
from fleet.machine import MachineId, encode_machine
from fleet.names import UnitName
from fleet.states import UnitState, encode_state
from fleet.store.port import Entry
from fleet.sync.wanted import Wanted, encode_wanted
from tests.unit.engine.worlds import all_up, machine, unit, with_rows, world

STEPS = 80


def values() -> dict[str, list[bytes]]:
    """Keys of a small cluster, each with what it may hold, malformed values among them."""
    units = [unit("a.service"), unit("b.service", "Global=true"), unit("c.service", revision=2)]
    cluster = all_up(with_rows(world(["m1", "m2"], units), "a.service@m1", "b.service@m2"))
    hold = StoredHold(machines=frozenset(), until_s=9.0, reason="x")
    found = {
        "/fleet/engine": [encode_leader(MachineId("m1"))],
        "/fleet/engine/hold": [encode_hold(hold)],
        "/fleet/metadata/m1/role": [b"web", b""],
        "/fleet/metadata/m1": [b"no key"],
        "/fleet/departures/m2": [b"{}"],
        "/fleet/schedule/m1": [b"{}"],
        "/fleet/refusals/a.service": [json.dumps({"reasons": {"": "why"}}).encode()],
        "/fleet/refusals/": [json.dumps({"reasons": {"": "why"}}).encode()],
        "/fleet/files/file-a.service-1": [b""],
        "/fleet/states/m1": [b"{}"],
        "/fleet/claims/m1/a.service": [b'{"stop": 5.0}'],
        "/fleet/claims/m1": [b'{"stop": 5.0}'],
        "/fleet/sync/wanted": [_commit("file-a.service-1"), _commit("other")],
    }
    for name in ("m1", "m2"):
        document = encode_machine(machine(name, role="db"))
        found[f"/fleet/machines/{name}"] = [json.dumps(document).encode()]
    for record in units:
        found[f"/fleet/units/{record.name}"] = [encode_unit(record)]
    for row in cluster.schedule:
        found[f"/fleet/schedule/{row.machine}/{row.unit}"] = [encode_assignment(row)]
    for state in cluster.states:
        found[f"/fleet/states/{state.machine}/{state.unit}"] = [_encoded(state)]
    return {key: [*good, b"{", b"{}", b'{"id": 1}'] for key, good in found.items()}


def _commit(file: str) -> bytes:
    return encode_wanted(Wanted(units={UnitName("a.service"): ("h", file, "launched")}))


def _encoded(state: UnitState) -> bytes:
    return json.dumps(encode_state(state)).encode()


def seen(view: View) -> dict[str, Any]:
    facts = view.facts
    told = {name: getattr(facts, name) for name in vars(facts) if name != "stirred"}
    del told["relations"]
    return told | {
        "hold": view.hold,
        "leader": view.leader,
        "departures": view.departures,
        "unreadable": view.unreadable_machines,
        "problems": view.problems,
    }


@pytest.mark.parametrize("seed", range(20))
def test_view_told_of_changes_sees_what_one_that_reads_all_sees(seed: int) -> None:
    chance = random.Random(seed)
    possible = values()
    view, entries = View(Keys()), dict[str, Entry]()
    view.update(entries, None)
    for revision in range(1, STEPS):
        key = chance.choice(list(possible))
        if key in entries and chance.random() < 0.3:
            del entries[key]
        else:
            value = chance.choice(possible[key])
            entries[key] = Entry(key=key, value=value, created=1, modified=revision)
        view.update(entries, None if chance.random() < 0.1 else {key})
        fresh = View(Keys())
        fresh.update(entries, None)
        assert seen(view) == seen(fresh), (revision, key)


def test_values_of_the_random_views_can_be_read() -> None:
    """The test above would prove little if every value were malformed."""
    entries = {
        key: Entry(key=key, value=good[0], created=1, modified=1) for key, good in values().items()
    }
    view = View(Keys())
    view.update(entries, None)
    assert len(view.facts.units) == 3
    assert len(view.facts.machines) == 2
    assert len(view.facts.states) == 2
    assert len(view.facts.kept_files) == 1
