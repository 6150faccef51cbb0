"""An operator's day: units through their whole life, from a machine and through a tunnel."""

import re
from collections.abc import Callable

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import UNIT_STARTED, UNIT_STOPPING, Done, Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
WEB = """\
# The comment stays.
[Service]
ExecStartPre=/bin/echo warming up
ExecStart=/bin/sleep 100000
"""


def _inside(operator: Operator) -> Callable[..., Done]:
    return lambda *words: operator.inside("fleet2", *words)


def _tunnelled(operator: Operator) -> Callable[..., Done]:
    return lambda *words: operator.fleetctl(*words, tunnel="fleet3")


@pytest.mark.parametrize(
    "way",
    [pytest.param(_inside, id="on a machine"), pytest.param(_tunnelled, id="through a tunnel")],
)
def test_unit_goes_through_its_whole_life(
    operator: Operator, way: Callable[[Operator], Callable[..., Done]]
) -> None:
    call = way(operator)

    def fleetctl(*words: str) -> str:
        done = call(*words)
        assert done.returncode == 0, done
        return done.stdout

    operator.write("web.service", WEB)

    assert fleetctl("submit", "web") == "Unit web.service inactive\n"
    assert fleetctl("cat", "web") == WEB
    started = fleetctl("start", "web")
    home = operator.home("web.service")
    address = operator.sandbox.machine(home).address
    short = operator.machine_id(home)[:8]
    assert started == f"Unit web.service launched on {short}.../{address}\n"
    assert operator.is_active(home, "web.service")

    listed = fleetctl("list-units", "--no-legend").split()
    assert listed == ["web.service", f"{short}.../{address}", "active", "running"]
    assert "Active: active (running)" in fleetctl("status", "web")
    assert "warming up" in fleetctl("journal", "web")

    assert fleetctl("stop", "web") == f"Unit web.service loaded on {short}.../{address}\n"
    assert not operator.is_active(home, "web.service")
    assert operator.files(home) == ("web.service",)
    assert fleetctl("unload", "web") == "Unit web.service inactive\n"
    assert [operator.files(machine) for machine in MACHINES] == [(), (), ()]
    assert fleetctl("cat", "web") == WEB
    assert fleetctl("destroy", "web") == "Destroyed web.service\n"
    assert call("cat", "web").returncode == 1


def test_destroy_of_a_running_unit_returns_when_it_has_stopped(operator: Operator) -> None:
    operator.service("slow.service", service="ExecStop=/bin/sleep 0.5")
    operator.ok("start", "slow")
    home = operator.home("slow.service")

    assert operator.ok("destroy", "slow") == "Destroyed slow.service\n"

    assert not operator.is_active(home, "slow.service")
    assert operator.files(home) == ()
    assert operator.rows() == ()


def test_oneshot_that_ran_is_a_success(operator: Operator) -> None:
    operator.service("once.service", "sleep 0.3; echo ran", service="Type=oneshot")

    done = operator.fleetctl("start", "once")

    assert (done.returncode, done.stderr) == (0, "")
    assert re.match(r"Unit once.service launched on \w{8}\.\.\./10\.89\.0\.\d+$", done.stdout)
    # Whichever machine it ran on, it is asked from another one as well.
    for machine in MACHINES:
        said = operator.inside(machine, "journal", "--output=cat", "once").stdout
        assert said.splitlines().count("ran") == 1


def test_failing_unit_is_told_with_its_status_its_last_words_and_its_machine(
    operator: Operator,
) -> None:
    operator.service(
        "broken.service", "echo the disk is missing >&2; exit 3", service="Type=oneshot"
    )

    done = operator.fleetctl("start", "broken")

    (row,) = operator.rows("broken.service")
    short = operator.machine_id(row.machine)[:8]
    address = operator.sandbox.machine(row.machine).address
    assert done.returncode == 1
    first, *rest = (done.stdout + done.stderr).splitlines()
    assert first.startswith(f"Unit broken.service failed on {short}.../{address}: exit-code")
    assert "3" in first
    assert any("the disk is missing" in line for line in rest)
    assert (row.active, row.sub) == ("failed", "failed")


def test_unit_that_dies_right_after_its_start_has_failed(operator: Operator) -> None:
    operator.service("brief.service", "sleep 0.05; echo no license; exit 7")

    done = operator.fleetctl("start", "brief")

    assert done.returncode == 1, done.stdout
    assert "exit-code" in done.stderr
    assert "no license" in done.stderr


def test_unit_that_fits_nowhere_is_refused_with_the_reason_of_every_machine(
    operator: Operator,
) -> None:
    operator.service("picky.service", fleet="MachineMetadata=disk=tape")

    done = operator.fleetctl("start", "picky")

    assert done.returncode == 1
    assert "picky.service runs nowhere" in done.stderr
    for machine in MACHINES:
        pattern = rf"{operator.machine_id(machine)[:8]}\S+ +the unit asks for metadata disk=tape"
        assert re.search(pattern, done.stderr), done.stderr
    assert operator.ok("unload", "picky") == "Unit picky.service inactive\n"


def test_many_units_start_and_stop_with_one_command_each(operator: Operator) -> None:
    operator.service("many@.service")
    names = [f"many@{number}" for number in range(1, 31)]

    operator.ok("start", *names)

    rows = operator.rows("many@*")
    assert len([row for row in rows if row.active == "active"]) == 30
    counts = [len([row for row in rows if row.machine == machine]) for machine in MACHINES]
    assert counts == [10, 10, 10]
    operator.ok("destroy", "many@*")
    assert [operator.files(machine) for machine in MACHINES] == [(), (), ()]


def test_drained_machine_loses_its_units_and_gets_its_share_back_and_none_is_ever_down(
    operator: Operator,
) -> None:
    first, *others = MACHINES
    names = [f"many@{number}" for number in range(1, 101)]
    operator.service("many@.service")
    operator.service("stays.service", fleet=f"MachineID={operator.machine_id(first)}")
    operator.ok("cordon", *map(operator.machine_id, others))
    operator.ok("start", "stays", *names)
    assert {row.machine for row in operator.rows()} == {first}
    operator.ok("uncordon", *map(operator.machine_id, others))

    drained = operator.fleetctl("drain", "--why", "new kernel", operator.machine_id(first)[:8])

    assert drained.returncode == 1, drained
    assert "100 units left it, 1 still there" in drained.stderr
    assert "stays.service stays on" in drained.stderr
    assert operator.files(first) == ("stays.service",)
    rows = operator.rows("many@*")
    assert [row for row in rows if row.active != "active"] == []
    assert sorted(row.machine for row in rows) == [others[0]] * 50 + [others[1]] * 50
    begun = {machine: operator.unit_times(machine, UNIT_STARTED) for machine in others}
    ended = operator.unit_times(first, UNIT_STOPPING)
    for row in rows:
        assert begun[row.machine][row.unit] <= ended[row.unit], row
    assert "new kernel" in operator.fleetctl("list-machines").stderr
    operator.ok("uncordon", operator.machine_id(first))

    told = operator.ok("rebalance", "--max", "100")

    assert told.endswith("\nMoved 32 units; no other move would gain anything\n")
    moved = [row for row in operator.rows("many@*") if row.machine == first]
    assert [row.active for row in moved] == ["active"] * 32
    homes = {row.unit: row.machine for row in rows}
    begun_first = operator.unit_times(first, UNIT_STARTED)
    left = {machine: operator.unit_times(machine, UNIT_STOPPING) for machine in others}
    for row in moved:
        assert begun_first[row.unit] <= left[homes[row.unit]][row.unit], row
    assert sorted(len(operator.files(machine)) for machine in MACHINES) == [33, 34, 34]
    with operator.assert_untouched():
        assert operator.ok("rebalance") == "No move would gain anything\n"


def test_restart_starts_the_unit_anew_where_it_is(operator: Operator) -> None:
    operator.service("web.service")
    operator.ok("start", "web")
    home = operator.home("web.service")
    before = operator.life(home, "web.service")

    operator.ok("restart", "web")

    after = operator.life(home, "web.service")
    assert operator.home("web.service") == home
    assert after.invocation != before.invocation


def test_new_contents_replace_the_old_ones(operator: Operator) -> None:
    operator.service("web.service", "sleep 1111")
    operator.ok("start", "web")
    home = operator.home("web.service")
    operator.service("web.service", "sleep 2222")

    operator.ok("start", "--replace", "web")

    assert operator.home("web.service") == home
    shown = operator.show(home, "web.service", "ExecStart", "NeedDaemonReload")
    assert "sleep 2222" in shown["ExecStart"]
    assert shown["NeedDaemonReload"] == "no"


def test_new_contents_are_taken_one_at_a_time_and_not_at_all_after_a_failure(
    operator: Operator,
) -> None:
    names = [f"roll@{number}" for number in (1, 2, 3)]
    ready = "ExecStartPre=/bin/sleep 0.3"
    operator.service("roll@.service", "sleep 1111")
    operator.ok("start", *names)
    operator.service("roll@.service", "sleep 2222", service=ready)

    operator.ok("start", "--replace", "--max-unavailable", "1", *names)

    begun, ended = [], []
    for row in operator.rows("roll@*"):
        assert "2222" in operator.show(row.machine, row.unit, "ExecStart")["ExecStart"]
        begun.append(operator.unit_times(row.machine, UNIT_STARTED)[row.unit])
        ended.append(operator.unit_times(row.machine, UNIT_STOPPING)[row.unit])
    assert all(up <= down for up, down in zip(sorted(begun), sorted(ended)[1:], strict=False))

    operator.service("roll@.service", service="ExecStartPre=/bin/false", fleet="MaxUnavailable=1")
    failed = operator.fleetctl("start", "--replace", "--rollback", *names)

    assert failed.returncode == 1
    assert "roll@1.service failed on" in failed.stderr
    assert failed.stderr.count("fails with its new contents") == 2, failed.stderr
    assert "Going back" in failed.stderr
    for row in operator.rows("roll@*"):
        assert (row.active, row.sub) == ("active", "running")
        assert "2222" in operator.show(row.machine, row.unit, "ExecStart")["ExecStart"]


def test_update_stops_at_new_contents_that_are_not_healthy_and_nothing_else_does(
    operator: Operator,
) -> None:
    names = [f"well@{number}" for number in (1, 2, 3)]
    rolling = "MaxUnavailable=1\nHealthTimeout=2s\nHealthCommand="
    as_its_user = '/bin/sh -c "test $(id -un) = nobody"'
    operator.service("well@.service", service="User=nobody", fleet=rolling + as_its_user)
    operator.ok("start", *names)

    operator.service("well@.service", "sleep 2222", fleet=f"{rolling}/bin/ls /run/well-%i")
    failed = operator.fleetctl("start", "--replace", *names)

    assert failed.returncode == 1
    ill = "its HealthCommand failed: exit-code (code=exited, status=2)"
    assert "Unit well@1.service came up on" in failed.stderr
    assert f"but {ill}" in failed.stderr
    assert "cannot access '/run/well-1'" in failed.stderr
    assert failed.stderr.count("fails with its new contents") == 2, failed.stderr
    home = operator.home("well@1.service")
    assert ill in operator.ok("why", "well@1")
    assert ill in operator.ok("status", "well@1", tunnel="fleet3")
    with operator.assert_untouched():
        operator.sandbox.run(home, ["systemctl", "restart", "fleet"], check=True)
        eventually(lambda: ill in operator.ok("why", "well@1"))
    left = operator.sandbox.run(home, ["systemctl", "list-units", "--all", "fleet-health@*"])
    assert "0 loaded units listed" in left.stdout

    operator.service("well@.service", "sleep 2222", fleet=f"{rolling}/bin/true")
    operator.ok("start", "--replace", *names)
    assert len(operator.homes("well@1.service")) == 1


def test_unit_that_died_is_listed_as_it_is_and_not_started_again(operator: Operator) -> None:
    operator.service("web.service")
    operator.ok("start", "web")
    home = operator.home("web.service")

    operator.sandbox.run(home, ["systemctl", "kill", "--signal=KILL", "web.service"])
    pid = operator.life(home, "web.service").pid
    if pid != "0":  # systemctl kill does not get through on hosts with hybrid control groups
        operator.sandbox.run(home, ["kill", "-KILL", pid])

    eventually(lambda: operator.rows("web.service")[0].active == "failed")
    (row,) = operator.rows("web.service")
    assert (row.machine, row.active) == (home, "failed")
