"""What is reported of a unit, in the words systemctl has for it."""

import pytest

from agent.local import LocalUnit, Note
from agent.report import Trouble, exit_text, has_failed, is_simple, job_result, unit_state
from agent.systemd import SystemdState
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import parse_unit

UNIT = UnitName("a.service")
ME = MachineId("me")
FILE = parse_unit("[Service]\nExecStart=/bin/a\n")


def local(*, launched: bool = True, job: str = "done") -> LocalUnit:
    note = Note(hash=FILE.hash, launched=launched, job=job)
    return LocalUnit(unit=UNIT, file=FILE, hash=FILE.hash, note=note)


def state(active: str = "active", **more: str | int) -> SystemdState:
    return SystemdState(unit=UNIT, load="loaded", active=active, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("code", "status", "text"),
    [
        pytest.param(0, 0, "", id="still running"),
        pytest.param(1, 0, "code=exited, status=0", id="success"),
        pytest.param(1, 3, "code=exited, status=3", id="the program's own status"),
        pytest.param(1, 200, "code=exited, status=200/CHDIR", id="first of systemd's"),
        pytest.param(1, 203, "code=exited, status=203/EXEC", id="program not found"),
        pytest.param(1, 217, "code=exited, status=217/USER", id="no such user"),
        pytest.param(1, 223, "code=exited, status=223", id="a gap"),
        pytest.param(1, 226, "code=exited, status=226/NAMESPACE", id="after the first gap"),
        pytest.param(1, 233, "code=exited, status=233/RUNTIME_DIRECTORY", id="runtime directory"),
        pytest.param(1, 238, "code=exited, status=238/STATE_DIRECTORY", id="after the second gap"),
        pytest.param(1, 243, "code=exited, status=243/CREDENTIALS", id="credentials"),
        pytest.param(2, 9, "code=killed, status=9/KILL", id="killed"),
        pytest.param(3, 11, "code=dumped, status=11/SEGV", id="dumped core"),
        pytest.param(2, 99, "code=killed, status=99/?", id="a signal without a name"),
    ],
)
def test_exit_text(code: int, status: int, text: str) -> None:
    assert exit_text(state("failed", exit_code=code, exit_status=status)) == text


@pytest.mark.parametrize(
    ("here", "systemd", "starting", "job"),
    [
        pytest.param(local(), state(), False, "done", id="as noted"),
        pytest.param(local(job=""), state("inactive"), True, "", id="its start is under way"),
        pytest.param(local(job=""), state("activating"), False, "", id="it still starts"),
        pytest.param(local(job=""), state("active"), False, "done", id="it came up unseen"),
        pytest.param(local(job=""), state("inactive"), False, "done", id="it ended unseen"),
        pytest.param(local(job=""), state("failed"), False, "failed", id="it failed unseen"),
        pytest.param(local(launched=False, job=""), state(), False, "", id="not launched"),
        pytest.param(LocalUnit(unit=UNIT), state(), False, "", id="not loaded"),
    ],
)
def test_job_result(here: LocalUnit, systemd: SystemdState, starting: bool, job: str) -> None:
    assert job_result(here, systemd, starting=starting) == job


@pytest.mark.parametrize(
    ("here", "systemd", "failed"),
    [
        pytest.param(local(), state(), False, id="active"),
        pytest.param(local(), state("inactive"), False, id="ran to its end"),
        pytest.param(local(), state("failed"), True, id="failed"),
        pytest.param(local(), state("activating", sub="auto-restart"), True, id="restarts"),
        pytest.param(local(job="dependency"), state("inactive"), True, id="a dependency failed"),
        pytest.param(local(job="canceled"), state("inactive"), False, id="its start was stopped"),
        pytest.param(local(job="failed"), state("active"), False, id="up by now all the same"),
    ],
)
def test_has_failed(here: LocalUnit, systemd: SystemdState, failed: bool) -> None:
    assert has_failed(here, systemd) is failed


@pytest.mark.parametrize(
    ("text", "name", "simple"),
    [
        pytest.param("ExecStart=/a", "a.service", True, id="the default"),
        pytest.param("Type=simple\nExecStart=/a", "a.service", True, id="said so"),
        pytest.param("Type=notify\nType=simple", "a.service", True, id="the last counts"),
        pytest.param("Type=exec\nExecStart=/a", "a.service", False, id="exec tells by itself"),
        pytest.param("BusName=a.b", "a.service", False, id="dbus by default"),
        pytest.param("ExecStart=/a", "a.socket", False, id="no service"),
    ],
)
def test_is_simple(text: str, name: str, simple: bool) -> None:
    assert is_simple(UnitName(name), parse_unit(f"[Service]\n{text}\n")) is simple


def test_refused_unit_that_never_was_loaded_shows_the_reason_and_nothing_foreign() -> None:
    trouble = Trouble(reason="another unit has the name", refused=True)
    report = unit_state(ME, LocalUnit(unit=UNIT), state(), trouble=trouble, wanted_hash="h")

    assert (report.hash, report.current, report.load) == ("h", TargetState.INACTIVE, "error")
    assert (report.active, report.journal) == ("inactive", ("another unit has the name",))
    assert report.has_failed


def test_refused_start_of_a_loaded_unit_is_a_failure() -> None:
    trouble = Trouble(reason="masked", refused=True)
    report = unit_state(
        ME, local(launched=False, job=""), state("inactive"), trouble=trouble, starting=True
    )

    assert (report.current, report.job, report.journal) == (
        TargetState.LAUNCHED,
        "refused",
        ("masked",),
    )
    assert report.has_failed


def test_reason_to_wait_is_no_failure() -> None:
    trouble = Trouble(reason="waiting for old.service")
    report = unit_state(ME, local(launched=False, job=""), state("inactive"), trouble=trouble)

    assert report.journal == ("waiting for old.service",)
    assert not report.has_failed


def test_journal_is_cut_to_ten_lines_of_500() -> None:
    lines = tuple(f"{number}:{'x' * 1000}" for number in range(30))
    report = unit_state(ME, local(), state("failed"), journal=lines)

    assert len(report.journal) == 10
    assert report.journal[-1].startswith("29:")
    assert {len(line) for line in report.journal} == {500}
