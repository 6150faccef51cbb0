"""What a unit's state means, for what systemd 252 was seen to report of each kind of unit."""

import json
from dataclasses import replace

import pytest

from fleet.errors import MALFORMED, InvalidRequest
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import Health, TargetState, UnitState, decode_state, encode_state, parse_target


def _state(
    words: str, *, job: str = "", result: str = "", current: TargetState = TargetState.LAUNCHED
) -> UnitState:
    """The state of which systemd says these words: load, active, sub."""
    load, active, sub = words.split()
    return UnitState(
        unit=UnitName("web.service"),
        machine=MachineId("m1"),
        hash="h",
        current=current,
        load=load,
        active=active,
        sub=sub,
        job=job,
        result=result,
    )


@pytest.mark.parametrize(
    ("words", "job", "result"),
    [
        pytest.param("loaded active running", "done", "success", id="a service runs"),
        pytest.param("loaded active running", "", "success", id="it ran before fleetd did"),
        pytest.param("loaded active running", "failed", "success", id="a later try succeeded"),
        pytest.param("loaded active exited", "done", "success", id="oneshot that remains"),
        pytest.param("loaded inactive dead", "done", "success", id="oneshot ran to its end"),
        pytest.param("loaded reloading reload", "done", "success", id="it reloads"),
        pytest.param("loaded refreshing refresh", "done", "success", id="systemd 256 refreshes"),
        pytest.param("loaded active waiting", "done", "success", id="a timer or path waits"),
        pytest.param("loaded active elapsed", "done", "success", id="a timer has elapsed"),
        pytest.param("loaded active listening", "done", "success", id="a socket listens"),
        pytest.param("loaded active mounted", "done", "success", id="a mount"),
        pytest.param("loaded active active", "done", "", id="a target has no result"),
        pytest.param("loaded inactive dead", "done", "exec-condition", id="ExecCondition said no"),
    ],
)
def test_unit_is_up(words: str, job: str, result: str) -> None:
    state = _state(words, job=job, result=result)

    assert state.is_up
    assert not state.has_failed


@pytest.mark.parametrize(
    ("words", "job", "result"),
    [
        pytest.param("loaded failed failed", "done", "exit-code", id="simple service crashed"),
        pytest.param("loaded failed failed", "failed", "exit-code", id="oneshot failed"),
        pytest.param("loaded failed failed", "failed", "timeout", id="it never notified"),
        pytest.param("loaded failed failed", "done", "signal", id="it was killed"),
        pytest.param("loaded failed failed", "done", "exit-code", id="it crashed too often"),
        pytest.param("loaded failed failed", "", "exit-code", id="failed before fleetd ran"),
        pytest.param("loaded activating auto-restart", "done", "exit-code", id="it waits to retry"),
        pytest.param(
            "loaded activating auto-restart", "failed", "exit-code", id="a oneshot waits to retry"
        ),
        pytest.param(
            "loaded activating auto-restart-queued", "done", "exit-code", id="systemd 254 retries"
        ),
        pytest.param(
            "loaded activating auto-restart", "done", "", id="a retry for unknown reasons"
        ),
        pytest.param("not-found inactive dead", "", "", id="there is no such unit"),
        pytest.param("bad-setting inactive dead", "", "success", id="systemd cannot read it"),
        pytest.param("error inactive dead", "", "", id="systemd cannot load it"),
        pytest.param("masked inactive dead", "", "success", id="it is masked"),
        pytest.param("loaded inactive dead", "dependency", "success", id="a dependency failed"),
        pytest.param("loaded inactive dead", "assert", "success", id="an assertion failed"),
        pytest.param("loaded inactive dead", "failed", "success", id="a socket could not listen"),
        pytest.param(
            "loaded inactive dead", "canceled", "success", id="somebody stopped the start"
        ),
        pytest.param("loaded inactive dead", "timeout", "success", id="the job timed out"),
        pytest.param("loaded inactive dead", "done", "exit-code", id="it ended badly, unclaimed"),
        pytest.param("not-found active running", "done", "success", id="its file is gone"),
    ],
)
def test_unit_has_failed(words: str, job: str, result: str) -> None:
    state = _state(words, job=job, result=result)

    assert state.has_failed
    assert not state.is_up


@pytest.mark.parametrize(
    ("words", "job", "result"),
    [
        pytest.param("loaded activating start", "", "success", id="it starts"),
        pytest.param("loaded activating start-pre", "", "success", id="it prepares"),
        pytest.param("loaded activating start-post", "", "success", id="it is almost there"),
        pytest.param("loaded inactive dead", "", "success", id="its job has not begun"),
        pytest.param("loaded deactivating stop-sigterm", "done", "success", id="it stops"),
        pytest.param("loaded activating auto-restart", "done", "success", id="it begins anew"),
        pytest.param("stub inactive dead", "", "", id="systemd has not looked yet"),
    ],
)
def test_unit_is_on_its_way(words: str, job: str, result: str) -> None:
    state = _state(words, job=job, result=result)

    assert not state.is_up
    assert not state.has_failed


@pytest.mark.parametrize("job", ["done", "failed", "refused", "skipped", "once"])
@pytest.mark.parametrize("result", ["success", "exit-code", "exec-condition", ""])
def test_launched_unit_that_has_ended_is_either_up_or_failed(job: str, result: str) -> None:
    state = _state("loaded inactive dead", job=job, result=result)

    assert state.is_up != state.has_failed


@pytest.mark.parametrize("current", [TargetState.LOADED, TargetState.INACTIVE])
def test_unit_that_was_not_launched_is_not_up(current: TargetState) -> None:
    assert not _state("loaded active running", job="done", current=current).is_up
    assert not _state("loaded inactive dead", job="done", current=current).is_up
    assert not _state("loaded inactive dead", job="canceled", current=current).has_failed
    assert _state("loaded failed failed", current=current).has_failed


@pytest.mark.parametrize(
    ("health", "up", "failed", "told"),
    [
        pytest.param(Health.NOT_ASKED, True, False, "", id="it has no command"),
        pytest.param(Health.CHECKING, False, False, "its health is being checked: no", id="asked"),
        pytest.param(Health.OK, True, False, "", id="healthy"),
        pytest.param(Health.FAILED, False, True, "its HealthCommand failed: no", id="not healthy"),
    ],
)
@pytest.mark.parametrize("words", ["loaded active running", "loaded inactive dead"])
def test_health_is_a_part_of_being_up(
    words: str, health: Health, up: bool, failed: bool, told: str
) -> None:
    state = replace(_state(words, job="done"), health=health, health_reason="no")

    assert (state.is_up, state.has_failed, state.told_health) == (up, failed, told)


def test_state_without_a_health_command_says_nothing_of_health() -> None:
    assert not any("health" in key for key in encode_state(_state("loaded active running")))


def test_state_comes_back_as_it_was_stored() -> None:
    state = UnitState(
        unit=UnitName("web.service"),
        machine=MachineId("m1"),
        hash="1c6fb6f",
        current=TargetState.LAUNCHED,
        load="loaded",
        active="failed",
        sub="failed",
        since_s=1.5,
        job="done",
        result="exit-code",
        exit_status="203/EXEC",
        journal=("one", "two"),
        health=Health.FAILED,
        health_reason="timeout",
    )

    stored = json.loads(json.dumps(encode_state(state)))

    assert decode_state(state.unit, state.machine, stored) == state


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"current": "active"}, id="a target state that is none"),
        pytest.param({"since": "yesterday"}, id="a time that is none"),
        pytest.param({"since": 10**400}, id="a time beyond all times"),
        pytest.param({"journal": 7}, id="a journal that is a number"),
        pytest.param({"health": "so so"}, id="a health that is none"),
        pytest.param({"hash": None, "current": None}, id="nothing at all"),
    ],
)
def test_malformed_state_is_refused(change: dict[str, object]) -> None:
    stored = encode_state(_state("loaded active running")) | change

    with pytest.raises(MALFORMED):
        decode_state(UnitName("web.service"), MachineId("m1"), stored)


@pytest.mark.parametrize("word", ["inactive", "loaded", "launched"])
def test_target_state_is_read(word: str) -> None:
    assert parse_target(word).value == word


@pytest.mark.parametrize("word", ["active", "", "Launched", "none"])
def test_target_state_that_is_none_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest, match="use one of inactive, loaded, launched"):
        parse_target(word)
