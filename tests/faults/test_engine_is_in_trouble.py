"""The engine's leader dies or sleeps: another leads, and what the old one writes is refused."""

import time
from collections.abc import Callable, Iterator

import pytest

from fleet.store import etcd_messages as api
from fleet.store import etcd_wire as wire
from fleet.store.port import Commit, Guard
from tests.cluster.machines import eventually
from tests.cluster.truth import read_store
from tests.faults.cable import Cable, Frame, bad_cable, receiver_port, segment, sender_port
from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(240)]

LEADER_KEY = "/fleet/engine"
# RFC 9113, section 4.1: length, type, flags and stream come before a frame's contents.
_HEAD_BYTES, _DATA = 9, 0
# A flag and a length come before a message of gRPC.
_PREFIX_BYTES = 5


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
        guard = Guard(LEADER_KEY, created=deposed)
        guarded = api.TXN.request(wire.encode_commit([guard], []))
        cable.out.holds = lambda frame: guarded in frame
        operator.service("f-asked-0.service")
        operator.at(witness).ok("start", "--no-block", "f-asked-0")
        assert cable.out.is_holding.wait(10), "the leader wrote nothing"
        stage.sh(leader, f"kill -STOP {stage.fleetd(leader)}")
        stale = next(frame for frame in cable.out.held() if guarded in frame)
        operator.at(witness).wait_home("f-asked-0.service", on=stage.others(leader))
        assert _term(stage, witness) > deposed

        row = _row(stage, witness)
        cable.back.records = True
        cable.release()
        assert not eventually(lambda: _answer(cable, stale)).succeeded
        assert _row(stage, witness) == row
        stage.sh(leader, f"kill -CONT {stage.fleetd(leader)}")


def _term(stage: Stage, through: str) -> int:
    """The revision that began the present leader's term, as the store has it."""
    entries, _ = read_store(stage.operator.sandbox, through)
    return next((e.created for e in entries if e.key == LEADER_KEY), 0)


def _row(stage: Stage, through: str) -> tuple[tuple[str, int], ...]:
    """Every row of the schedule about the unit, with the revision that wrote it last."""
    entries, _ = read_store(stage.operator.sandbox, through)
    rows = [e for e in entries if e.key.startswith("/fleet/schedule/")]
    return tuple((e.key, e.modified) for e in rows if e.key.endswith("f-asked-0.service"))


def _answer(cable: Cable, request: Frame) -> Commit:
    """What etcd answered on the connection of the request since the frames went on."""
    for frame in cable.back.seen:
        if receiver_port(frame) == sender_port(request):
            for data in _data(segment(frame)):
                return wire.decode_commit(wire.decode_answer(api.TXN, data[_PREFIX_BYTES:]))
    raise AssertionError("etcd has not answered yet")


def _data(told: bytes) -> Iterator[bytes]:
    """The contents of the DATA frames in a piece of HTTP/2 that begins with a frame."""
    while len(told) > _HEAD_BYTES:
        end = _HEAD_BYTES + int.from_bytes(told[:3])
        if told[3] == _DATA:
            yield told[_HEAD_BYTES:end]
        told = told[end:]
