"""The engine's leader dies or sleeps: another leads, and what the old one writes is refused."""

import json
import re
import time
from base64 import b64encode
from collections.abc import Callable

import pytest

from tests.cluster.machines import eventually
from tests.cluster.truth import read_store
from tests.faults.cable import Cable, Frame, bad_cable, receiver_port, sender_port
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(240)]

LEADER_KEY = b64encode(b"/fleet/engine")


@pytest.mark.faults
def test_leader_that_is_killed(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    leader = stage.operator.leader()
    with stage.trial():
        stage.sh(leader, f"kill -KILL {stage.fleetd(leader)}")
        eventually(lambda: stage.fleetd(leader) != "0")


@pytest.mark.faults
def test_leader_whose_machine_loses_power(make_stage: Callable[..., Stage]) -> None:
    stage = make_stage()
    leader = stage.operator.leader()
    with stage.trial(dead=[leader]):
        stage.operator.sandbox.kill(leader)
        time.sleep(2.5 * stage.ttl_s)
        stage.operator.sandbox.boot(leader)


def test_write_of_a_leader_that_was_deposed_meanwhile_is_refused(
    make_stage: Callable[..., Stage],
) -> None:
    """Its transaction is on the cable when the leader falls asleep, and arrives in another term."""
    stage = make_stage(ttl_s=3.0)
    operator = stage.operator
    leader = operator.leader()
    witness = stage.others(leader)[0]
    with stage.trial(lost=[leader], asking=False), bad_cable(operator.sandbox, leader) as cable:
        deposed = _term(stage, witness)
        cable.out.holds = lambda frame: LEADER_KEY in frame and b"compare" in frame
        operator.service("f-asked-0.service")
        operator.at(witness).ok("start", "--no-block", "f-asked-0")
        assert cable.out.is_holding.wait(10), "the leader wrote nothing"
        stage.sh(leader, f"kill -STOP {stage.fleetd(leader)}")
        stale = next(frame for frame in cable.out.held() if LEADER_KEY in frame)
        assert f'"create_revision":"{deposed}"'.encode() in stale.replace(b" ", b"")
        operator.at(witness).wait_home("f-asked-0.service", on=stage.others(leader))
        assert _term(stage, witness) > deposed

        row = _row(stage, witness)
        cable.back.records = True
        cable.release()
        answer = eventually(lambda: _answer(cable, stale))
        # Of a transaction that is done etcd says so, and of one that is refused nothing.
        assert "succeeded" not in answer
        assert _row(stage, witness) == row
        stage.sh(leader, f"kill -CONT {stage.fleetd(leader)}")


def _term(stage: Stage, through: str) -> int:
    """The revision that began the present leader's term, as the store has it."""
    entries, _ = read_store(stage.operator.sandbox, through)
    return next((e.created for e in entries if e.key == "/fleet/engine"), 0)


def _row(stage: Stage, through: str) -> tuple[tuple[str, int], ...]:
    """Every row of the schedule about the unit, with the revision that wrote it last."""
    entries, _ = read_store(stage.operator.sandbox, through)
    rows = [e for e in entries if e.key.startswith("/fleet/schedule/")]
    return tuple((e.key, e.modified) for e in rows if e.key.endswith("f-asked-0.service"))


def _answer(cable: Cable, request: Frame) -> dict[str, object]:
    """What etcd answered on the connection of the request since the frames went on."""
    for frame in cable.back.seen:
        found = re.search(rb'\{"header".*\}', frame)
        if found and receiver_port(frame) == sender_port(request):
            return dict(json.loads(found.group()))
    return {}
