"""When an empty schedule is believed, and when it looks like a store that was wiped."""

import json

import pytest

from agent.doubt import Evidence, doubt, why_doubt
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.store.memory import MemoryStore
from fleet.store.port import Put
from fleet.unit import parse_unit

A, B = UnitName("a.service"), UnitName("b.service")
ME = MachineId("me")
KEYS = Keys()


@pytest.mark.parametrize(
    ("evidence", "believed"),
    [
        pytest.param(
            Evidence(revision=50, registered=10, last_row=40), True, id="registered all the while"
        ),
        pytest.param(
            Evidence(revision=50, registered=45, last_row=40), False, id="registered only since"
        ),
        pytest.param(Evidence(revision=50, registered=0, last_row=40), False, id="not registered"),
        pytest.param(
            Evidence(revision=5, registered=2, last_row=40), False, id="another store altogether"
        ),
        pytest.param(
            Evidence(revision=50, registered=10, last_row=0), False, id="fleetd saw no row yet"
        ),
        pytest.param(
            Evidence(revision=50, registered=0, last_row=0, stored=frozenset({B})),
            True,
            id="one of the units runs elsewhere",
        ),
        pytest.param(
            Evidence(revision=50, registered=0, last_row=0, destroyed=frozenset({A})),
            True,
            id="one of the units was destroyed",
        ),
        pytest.param(
            Evidence(revision=50, registered=0, last_row=0, stored=frozenset({UnitName("c")})),
            False,
            id="only others are stored",
        ),
    ],
)
def test_why_doubt(evidence: Evidence, believed: bool) -> None:
    assert (why_doubt([A, B], evidence) == "") is believed


async def test_destroyed_while_away_is_told_by_the_events() -> None:
    store = MemoryStore()
    registry = Registry(store, KEYS)
    await store.commit([], [Put(f"{KEYS.events}0", b"not json"), Put(f"{KEYS.events}1", b"{}")])
    assert await doubt(store, KEYS, ME, [A], 0)
    await registry.apply([UnitChange(name=A, file=parse_unit("[Service]\n"))], by="me")
    assert not await doubt(store, KEYS, ME, [A], 0)
    await registry.destroy(A, by="me")

    assert not await doubt(store, KEYS, ME, [A], 0)
    assert await doubt(store, KEYS, ME, [B], 0)


async def test_registration_that_stood_is_enough() -> None:
    store = MemoryStore()
    lease = await store.grant(1000.0)
    await Registry(store, KEYS).register(Machine(id=ME), lease, over=0)
    row = await store.commit([], [Put(KEYS.assignment(ME, A), json.dumps({}).encode())])

    assert not await doubt(store, KEYS, ME, [A], row.revision)
