"""What comes of a unit's HealthCommand: on a systemd in memory and a virtual clock."""

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest

from agent.health import failure_text, health_command
from agent.local import LocalUnit, requirements_of
from agent.systemd import Command, SystemdState
from fleet.errors import Unavailable
from fleet.names import UnitName
from fleet.states import Health, UnitState
from fleet.unit import parse_unit
from tests.unit.agent.test_loop import ME, SLEEPER, Bench, is_up, now_s

WEB = UnitName("web.service")
CHECK = UnitName("fleet-health@web.service.service")
REFUSED = "exit-code (code=exited, status=1)"


def asking(command: str, timeout: str = "30s", service: str = SLEEPER) -> str:
    return f"{service}[X-Fleet]\nHealthCommand={command}\nHealthTimeout={timeout}\n"


def has(health: Health, reason: str = "") -> Callable[[UnitState | None], bool]:
    return lambda s: s is not None and (s.health, s.health_reason) == (health, reason)


async def test_unit_is_up_once_its_command_succeeds(tmp_path: Path) -> None:
    bench, ready = Bench(tmp_path / "units"), tmp_path / "ready"
    async with bench.agent():
        await bench.schedule(WEB, asking(f"/usr/bin/test -e {ready}"))
        checked = await bench.published(WEB, has(Health.CHECKING, REFUSED))
        assert checked is not None
        assert (checked.active, checked.is_up, checked.has_failed) == ("active", False, False)
        ready.touch()
        await bench.published(WEB, is_up)
        attempts = len(bench.asked("execute"))
        await asyncio.sleep(1000)

    state = await bench.state(WEB)
    assert state is not None
    assert (state.health, state.health_reason, state.journal) == (Health.OK, "", ())
    assert len(bench.asked("execute")) == attempts
    assert bench.asked("start", "stop") == [("start", WEB)]


async def test_unit_whose_command_never_succeeds_has_failed_and_runs_on(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    bench.systemd.journal[CHECK] = ("connection refused",)
    async with bench.agent():
        await bench.schedule(WEB, asking("/bin/false", "10s"))
        begun_s = now_s()
        failed = await bench.published(WEB, lambda s: s is not None and s.has_failed)
        assert failed is not None
        assert 8 <= now_s() - begun_s <= 11
        await asyncio.sleep(1000)

    assert await bench.state(WEB) == failed
    assert (failed.active, failed.health) == ("active", Health.FAILED)
    assert failed.told_health == f"its HealthCommand failed: {REFUSED}"
    assert failed.journal == ("connection refused",)
    assert len(bench.asked("execute")) in (10, 11)
    assert bench.systemd.live == {WEB}


async def test_command_that_hangs_is_ended_with_its_time(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.schedule(WEB, asking("/bin/sleep 600", "5s"))
        failed = await bench.published(WEB, lambda s: s is not None and s.has_failed)

    assert failed is not None
    assert failed.health_reason == "timeout (code=killed, status=15/TERM)"
    assert len(bench.asked("execute")) == 1


async def test_oneshot_is_asked_when_it_has_ended(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    oneshot = "[Service]\nType=oneshot\nExecStart=/bin/sleep 5\n"
    async with bench.agent():
        await bench.schedule(WEB, asking("/bin/true", service=oneshot))
        await bench.published(WEB, lambda s: s is not None and s.active == "activating")
        assert bench.asked("execute") == []
        state = await bench.published(WEB, is_up)
        assert state is not None
        assert (state.active, state.health) == ("inactive", Health.OK)


async def test_next_fleetd_knows_the_verdict(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.up(WEB, asking("/bin/true"))
        bad = await bench.schedule("bad.service", asking("/bin/false", "3s"))
        failed = await bench.published(bad, lambda s: s is not None and s.has_failed)
    before = list(bench.systemd.calls)
    bench.lease = None
    async with bench.agent():
        await bench.published(WEB, is_up)
        assert await bench.published(bad, lambda s: s is not None) == failed
        await asyncio.sleep(100)

    assert bench.systemd.calls == before


async def test_next_fleetd_begins_anew_without_a_verdict(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.schedule(WEB, asking("/bin/sleep 6000", "600s"))
        await bench.published(WEB, has(Health.CHECKING))
        await asyncio.sleep(500)
    assert await bench.systemd.matching("fleet-health@*") == frozenset()
    bench.lease = None
    async with bench.agent():
        await asyncio.sleep(500)
        await bench.published(WEB, has(Health.CHECKING))
        await asyncio.sleep(150)
        await bench.published(WEB, lambda s: s is not None and s.has_failed)

    assert bench.asked("start", "stop") == [("start", WEB)]


async def test_unit_that_comes_up_anew_is_asked_anew(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.up(WEB, asking("/bin/true"))
        bench.systemd.set_state(WEB, active="activating", sub="auto-restart", result="signal")
        await bench.published(WEB, lambda s: s is not None and s.health is Health.NOT_ASKED)
        bench.systemd.set_state(WEB, active="active", sub="running", result="success")
        await bench.published(WEB, is_up)
        assert len(bench.asked("execute")) == 2
        await bench.schedule(WEB, asking("/bin/true", "20s"))
        await bench.published(WEB, lambda s: s is not None and s.is_up and s.hash == _hash("20s"))

    assert len(bench.asked("execute")) == 3


def _hash(timeout: str) -> str:
    return parse_unit(asking("/bin/true", timeout)).hash


async def test_unit_that_stops_is_asked_no_more(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.schedule(WEB, asking("/bin/sleep 60"))
        await bench.published(WEB, has(Health.CHECKING))
        bench.systemd.set_state(WEB, active="failed", sub="failed", result="signal")
        state = await bench.published(WEB, lambda s: s is not None and s.has_failed)

        assert state is not None
        assert state.health is Health.NOT_ASKED
        assert await bench.systemd.matching("fleet-health@*") == frozenset()
        await bench.unschedule(WEB)
        await bench.published(WEB, lambda s: s is None)


async def test_ended_unit_keeps_the_health_it_had(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.up(WEB, asking("/bin/true", service="[Service]\nExecStart=/bin/sleep 60\n"))
        state = await bench.published(WEB, lambda s: s is not None and s.active == "inactive")

    assert is_up(state)
    assert len(bench.asked("execute")) == 1


async def test_silence_of_systemd_is_no_verdict(tmp_path: Path) -> None:
    bench, ready = Bench(tmp_path / "units"), tmp_path / "ready"
    async with bench.agent():
        await bench.schedule(WEB, asking(f"/usr/bin/test -e {ready}", "10s"))
        await bench.published(WEB, has(Health.CHECKING, REFUSED))
        bench.systemd.fail_with(Unavailable("there is no connection to systemd"))
        await asyncio.sleep(100)
        bench.systemd.recover()
        ready.touch()
        await bench.published(WEB, is_up)


async def test_unit_without_a_command_costs_nothing(tmp_path: Path) -> None:
    bench = Bench(tmp_path / "units")
    async with bench.agent():
        await bench.up(WEB, SLEEPER)

    stored = await bench.store.read(f"/fleet/states/{ME}/")
    assert [b"health" in entry.value for entry in stored.entries.values()] == [False]
    assert b"health" not in (tmp_path / "loaded" / WEB).read_bytes()
    assert bench.asked("execute") == []


def test_command_is_the_units_own_and_runs_as_its_user() -> None:
    text = "[Service]\nUser=app-%i\nGroup=web\n[X-Fleet]\nHealthCommand=/bin/check --port '80 %i'\n"
    unit, file = UnitName("web@1.service"), parse_unit(text)
    local = LocalUnit(unit=unit, file=file, requirements=requirements_of(unit, file))

    assert health_command(local, 7.0) == Command(
        unit=UnitName("fleet-health@web@1.service.service"),
        words=("/bin/check", "--port", "80 1"),
        limit_s=7.0,
        user="app-1",
        group="web",
        description="Health of web@1.service",
    )


@pytest.mark.parametrize(
    ("ended", "text"),
    [
        pytest.param(SystemdState(unit=CHECK, result="success"), "", id="well"),
        pytest.param(
            SystemdState(
                unit=CHECK, active="failed", result="exit-code", exit_code=1, exit_status=217
            ),
            "exit-code (code=exited, status=217/USER)",
            id="its user is not there",
        ),
        pytest.param(SystemdState(unit=CHECK, active="failed"), "failed", id="nobody knows how"),
    ],
)
def test_failure_is_told_as_systemctl_does(ended: SystemdState, text: str) -> None:
    assert failure_text(ended) == text
