"""The network flaps, loses and delays: who is only hard to reach is not dead."""

import time
from collections.abc import Callable

import pytest

from tests.faults.cable import bad_cable
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.faults, pytest.mark.timeout(240)]


def test_link_that_flaps(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    with stage.trial():
        for cut_s in (1.0, 2.0, 1.5, 2.0, 1.0):
            stage.operator.sandbox.cut("fleet2")
            time.sleep(cut_s)
            stage.operator.sandbox.heal("fleet2")
            time.sleep(2.0)


@pytest.mark.parametrize(
    ("loss", "delay_s"),
    [
        pytest.param(0.10, 0.3, id="10 % lost, 300 ms"),
        pytest.param(0.20, 0.0, id="20 % lost"),
    ],
)
def test_network_that_loses_and_delays(
    make_stage: Callable[..., Stage], loss: float, delay_s: float
) -> None:
    """Both ways, on one machine, for five leases."""
    stage = make_stage()
    with stage.trial(), bad_cable(stage.operator.sandbox, "fleet2") as cable:
        for way in (cable.out, cable.back):
            way.loss, way.delay_s = loss, delay_s / 2
        time.sleep(30)
