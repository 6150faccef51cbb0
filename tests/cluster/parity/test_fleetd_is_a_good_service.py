"""fleetd as systemd runs it from the packaged files: signals, sockets, readiness, configuration."""

import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial

import pytest

from tests.cluster.machines import eventually
from tests.cluster.parity.conftest import TCP_PORT
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

CONF = "/etc/fleet/fleet.conf"
DROP_IN = "/run/systemd/system/fleet.service.d/test.conf"
MACHINES = ("fleet1", "fleet2", "fleet3", "fleet4")


def _run(operator: Operator, machine: str, script: str) -> str:
    return operator.sandbox.run(machine, ["sh", "-c", script], check=True).stdout


def _main_pid(operator: Operator, machine: str) -> str:
    return operator.show(machine, "fleet.service", "MainPID")["MainPID"]


def _journal(operator: Operator, machine: str) -> str:
    """What this run of fleetd has said."""
    pid = _main_pid(operator, machine)
    return _run(operator, machine, f"journalctl --no-pager --output=cat _PID={pid}")


@contextmanager
def _configured(operator: Operator, machine: str, *lines: str) -> Iterator[None]:
    """The machine's fleet.conf with these lines at its end; reading it is the caller's affair."""
    path = operator.sandbox.path(machine, CONF)
    text = path.read_text()
    path.write_text(text + "".join(f"{line}\n" for line in lines))
    try:
        yield
    finally:
        path.write_text(text)


def test_hangup_reads_the_configuration_again_and_disturbs_nothing(operator: Operator) -> None:
    operator.service("hello@.service")
    operator.ok("start", *(f"hello@{number}" for number in range(4)))
    pid = _main_pid(operator, "fleet1")
    assert _run(operator, "fleet1", "pidof -x fleetd").split() == [pid]

    try:
        with operator.assert_untouched(), _configured(operator, "fleet1", "verbosity=0"):
            _run(operator, "fleet1", f"kill -HUP {pid}")
            eventually(lambda: "Reloading configuration" in _journal(operator, "fleet1"))
            operator.ok("list-units")
            with _configured(operator, "fleet1", "token_limit=7", "what=now"):
                _run(operator, "fleet1", "systemctl reload fleet")
                operator.ok("list-units")
                eventually(lambda: "token_limit has changed" in _journal(operator, "fleet1"))
            with _configured(operator, "fleet1", "agent_ttl=soon"):
                _run(operator, "fleet1", "systemctl reload fleet")
                said = "the configuration stays as it was"
                eventually(lambda: said in _journal(operator, "fleet1"))
                operator.ok("list-units")
            shown = operator.show("fleet1", "fleet.service", "ActiveState", "MainPID")
            assert shown == {"ActiveState": "active", "MainPID": pid}
            assert "listen" not in _journal(operator, "fleet1").lower()
            assert "Traceback" not in _journal(operator, "fleet1")
    finally:
        _run(operator, "fleet1", "systemctl reload fleet")


def test_reloaded_on_stop_keeps_units_when_fleetd_stops(operator: Operator) -> None:
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id('fleet2')}")
    operator.ok("start", "hello")
    try:
        with operator.assert_untouched("fleet2"), _configured(operator, "fleet2", "on_stop=keep"):
            _run(operator, "fleet2", "systemctl reload fleet")
            eventually(lambda: _journal(operator, "fleet2").count("Reloading configuration"))
            _run(operator, "fleet2", "systemctl restart fleet")
            operator.sandbox.wait_until_one_cluster()
    finally:
        _run(operator, "fleet2", "systemctl reload fleet")


def test_user_signal_prints_what_fleetd_knows_as_a_line_of_json(operator: Operator) -> None:
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id('fleet3')}")
    operator.ok("start", "hello")
    pid = _main_pid(operator, "fleet3")
    _run(operator, "fleet3", f"kill -USR1 {pid}")

    def told() -> str:
        found = re.findall(r"^\{.*\}$", _journal(operator, "fleet3"), re.MULTILINE)
        return str(found[-1]) if found else ""

    known = json.loads(eventually(told))
    assert known["machine"] == operator.machine_id("fleet3")
    assert known["registered"] is True
    assert known["problem"] == ""
    assert known["units"]["hello.service"] == {
        "target": "launched",
        "load": "loaded",
        "active": "active",
        "sub": "running",
    }


def test_both_sockets_of_systemd_are_served_by_whom_they_are_meant_for(operator: Operator) -> None:
    sockets = _run(operator, "fleet1", "systemctl show --property=TriggeredBy --value fleet")
    assert set(sockets.split()) == {"fleet.socket", "fleet-tcp.socket"}
    assert f"*:{TCP_PORT}" in _run(operator, "fleet1", "ss --listening --tcp --numeric")
    owner = _run(operator, "fleet1", "stat --format='%U %G %a' /run/fleet.sock").strip()
    assert owner == "root fleet 660"
    _run(
        operator,
        "fleet1",
        "getent passwd walt >/dev/null || { useradd --groups fleet-viewers vera;"
        " useradd --groups fleet walt; useradd nora; }",
    )
    operator.service("hello.service")
    operator.ok("submit", "hello")

    def as_user(user: str, *words: str) -> int:
        argv = ["runuser", "--user", user, "--", "fleetctl", *words]
        return operator.sandbox.run("fleet1", argv).returncode

    assert [as_user(user, "list-unit-files") for user in ("walt", "vera", "nora")] == [0, 0, 1]
    assert [as_user(user, "load", "hello") for user in ("vera", "nora", "walt")] == [1, 1, 0]
    # TCP has no users, with api_insecure=true.
    endpoint = f"http://127.0.0.1:{TCP_PORT}"
    _run(operator, "fleet1", f"runuser -u nora -- fleetctl --endpoint={endpoint} list-units")


def test_fleetd_is_started_by_the_first_who_asks(operator: Operator) -> None:
    _run(operator, "fleet1", "systemctl stop fleet.service")
    listed = _run(operator, "fleet1", "timeout 20 fleetctl list-machines --no-legend || true")
    if not listed:  # the one who woke it may be told that it is not registered yet
        operator.sandbox.wait_until_one_cluster()
    assert operator.show("fleet1", "fleet.service", "ActiveState")["ActiveState"] == "active"


def test_options_without_a_meaning_are_accepted_with_a_warning_each(operator: Operator) -> None:
    # The whole cluster runs with them; see conftest.py.
    said = _journal(operator, "fleet4")

    for option in ("enable_grpc", "verify_units", "authorized_keys_file"):
        (line,) = (line for line in said.splitlines() if option in line)
        assert "means nothing here" in line


def test_metadata_may_come_from_the_environment_and_systemds_specifiers(
    operator: Operator,
) -> None:
    drop_in = operator.sandbox.path("fleet4", DROP_IN)
    drop_in.parent.mkdir(exist_ok=True)
    try:
        drop_in.write_text("[Service]\nEnvironment=FLEET_METADATA=hostname=%H\n")
        _run(operator, "fleet4", "systemctl daemon-reload && systemctl restart fleet")
        eventually(lambda: "hostname=fleet4" in operator.ok("list-machines"))
    finally:
        drop_in.unlink()
        _run(operator, "fleet4", "systemctl daemon-reload && systemctl restart fleet")


def test_fleetd_that_hangs_is_started_anew_by_systemds_watchdog(operator: Operator) -> None:
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id('fleet4')}")
    operator.ok("start", "hello")
    drop_in = operator.sandbox.path("fleet4", DROP_IN)
    drop_in.parent.mkdir(exist_ok=True)
    try:
        drop_in.write_text("[Service]\nWatchdogSec=1\nEnvironment=FLEET_ON_STOP=keep\n")
        with operator.assert_untouched("fleet4"):
            _run(operator, "fleet4", "systemctl daemon-reload && kill -KILL $(pidof -x fleetd)")
            eventually(lambda: _restarts(operator) == 1)
            eventually(lambda: _main_pid(operator, "fleet4") != "0")
            pid = _main_pid(operator, "fleet4")
            eventually(lambda: "is registered" in _journal(operator, "fleet4"))
            _run(operator, "fleet4", f"kill -STOP {pid}")
            eventually(lambda: _restarts(operator) == 2)
            operator.sandbox.wait_until_one_cluster()
    finally:
        drop_in.unlink()
        _run(operator, "fleet4", "systemctl daemon-reload && systemctl restart fleet")


def _restarts(operator: Operator) -> int:
    return int(operator.show("fleet4", "fleet.service", "NRestarts")["NRestarts"])


def test_engine_leads_only_where_it_may_and_nothing_is_scheduled_without_one(
    operator: Operator,
) -> None:
    operator.service("hello.service")
    operator.service("late.service")
    disabled = "disable_engine=true"
    try:
        _restart_all(operator, [*(m for m in MACHINES if m != "fleet3")], disabled)
        assert eventually(operator.leader) == "fleet3"
        operator.ok("start", "hello")

        _restart_all(operator, ["fleet3"], disabled)
        eventually(lambda: not operator.store("engine"))
        done = operator.fleetctl("start", "late")
        assert done.returncode == 1
        assert "no engine leads the cluster" in done.stderr
        assert operator.homes("late.service") == ()
        assert operator.fleetctl("start", "--no-block", "late").returncode == 0
    finally:
        _restart_all(operator, MACHINES, "")
    # What was asked for stands, and is done as soon as somebody can.
    operator.wait_home("late.service")
    operator.wait_home("hello.service")


def _restart_all(operator: Operator, machines: list[str] | tuple[str, ...], line: str) -> None:
    """fleetd on these machines anew, with this line or without the one from before."""
    edit = f"sed -i '/^disable_engine/d' {CONF}; echo '{line}' >>{CONF}; systemctl restart fleet"
    with ThreadPoolExecutor(len(machines)) as pool:
        list(pool.map(partial(_run, operator, script=edit), machines))
    operator.sandbox.wait_until_one_cluster()
