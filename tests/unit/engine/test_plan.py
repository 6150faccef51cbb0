"""The rules of scheduling, each as a small cluster and the plan it gives."""

import pytest

from engine.tasks import TaskKind
from fleet.names import UnitName
from tests.unit.engine.worlds import (
    all_up,
    carried_out,
    homes_of,
    machine,
    planned,
    reasons_of,
    rows_of,
    settled,
    unit,
    with_machines,
    with_rows,
    with_units,
    without_machines,
    without_units,
    world,
)


def test_plan_smoke():
    cluster = settled(
        world(["m1", "m2", "m3"], [unit(f"c{n}.service", "Conflicts=c*.service") for n in range(5)])
    )
    assert homes_of(cluster) == {}
