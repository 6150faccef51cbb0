"""A machine is lost, by power or by cable: its units run elsewhere, and nothing else moves."""

import json

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
# The promise is seven seconds; the host of a test may be busy with others.
ELSEWHERE_S = 20.0


def _others(*machines: str) -> tuple[str, ...]:
    return tuple(machine for machine in MACHINES if machine not in machines)


def _start_web(operator: Operator, *units: str) -> str:
    """Four units of one kind, one of them on each machine at least; where web@1 runs."""
    operator.service("web@.service")
    operator.ok("start", *(f"web@{number}" for number in (1, 2, 3, 4)), *units)
    return operator.home("web@1.service")


def _homes(operator: Operator, through: str) -> dict[str, str]:
    rows = operator.rows("web@*", through=through)
    return {row.unit: row.machine for row in rows if row.active == "active"}


def _all_on(operator: Operator, machines: tuple[str, ...]) -> dict[str, str]:
    """Where the four units are, as soon as each is active once, on these machines."""

    def settled() -> dict[str, str]:
        rows = operator.rows("web@*", through=machines[0])
        assert sorted(row.unit for row in rows) == [f"web@{n}.service" for n in (1, 2, 3, 4)], rows
        assert {row.active for row in rows} == {"active"}, rows
        assert {row.machine for row in rows} <= set(machines), rows
        return {row.unit: row.machine for row in rows}

    return eventually(settled, deadline_s=ELSEWHERE_S)


@pytest.mark.parametrize("of_leader", [pytest.param(False, id="any"), pytest.param(True, id="led")])
def test_machine_that_loses_power_has_its_units_run_elsewhere(
    operator: Operator, of_leader: bool
) -> None:
    operator.service("shipper.service", fleet="Global=true")
    _start_web(operator, "shipper")
    eventually(lambda: operator.homes("shipper.service") == MACHINES)
    leader = operator.leader()
    victim = leader if of_leader else _others(leader)[0]
    alive = _others(victim)

    with operator.assert_untouched(*alive, may_grow=True):
        operator.sandbox.kill(victim)
        homes = _all_on(operator, alive)
    for unit, home in homes.items():
        assert operator.is_active(home, unit)
    assert operator.homes("shipper.service", through=alive[0]) == alive
    listed = operator.ok("list-machines", "--no-legend", "--full", through=alive[0])
    assert operator.machine_id(victim) not in listed

    # The machine comes back, and nothing comes back to it.
    with operator.assert_untouched(*alive):
        operator.sandbox.boot(victim)
        operator.sandbox.wait_until_one_cluster()
        eventually(lambda: operator.homes("shipper.service", through=alive[0]) == MACHINES)
        operator.service("late.service", fleet=f"MachineID={operator.machine_id(victim)}")
        operator.ok("start", "late", through=alive[0])
    assert operator.files(victim) == ("late.service", "shipper.service")
    assert _homes(operator, alive[0]) == homes


def test_start_sent_to_a_machine_just_cut_off_runs_elsewhere(operator: Operator) -> None:
    leader = operator.leader()
    victim, witness = _others(leader)
    operator.service("ballast@.service", fleet=f"MachineID={operator.machine_id(witness)}")
    operator.service("balance@.service", fleet=f"MachineID={operator.machine_id(leader)}")
    operator.ok("start", "ballast@1", "ballast@2", "balance@1", "balance@2")
    operator.service("caught.service")  # the victim has the fewest units, so it goes there

    operator.sandbox.cut(victim)
    done = operator.fleetctl("start", "caught", through=witness, timeout_s=ELSEWHERE_S)

    assert done.returncode == 0, done.stderr
    home = operator.home("caught.service", through=witness)
    assert home in _others(victim)
    assert operator.machine_id(home)[:8] in done.stdout


def test_copy_on_a_machine_that_is_back_runs_until_the_new_one_is_active(
    operator: Operator,
) -> None:
    stamp = '/bin/sh -c "date +%%s.%%N >/var/tmp/{}"'
    operator.service(
        "slow.service",
        service="\n".join(
            [
                "ExecStartPre=/bin/sleep 3",
                f"ExecStartPost={stamp.format('up')}",
                f"ExecStop={stamp.format('down')}",
            ]
        ),
    )
    operator.ok("start", "slow")
    home = operator.home("slow.service")
    alive = _others(home)

    operator.sandbox.cut(home)

    def starting() -> str:
        rows = operator.rows("slow.service", through=alive[0])
        return next((row.machine for row in rows if row.machine in alive), "")

    new = eventually(starting, deadline_s=ELSEWHERE_S)
    operator.sandbox.heal(home)
    operator.wait_home("slow.service", on=[new], through=alive[0])
    eventually(lambda: operator.files(home) == ())

    def moment(machine: str, what: str) -> float:
        return float(operator.sandbox.path(machine, f"/var/tmp/{what}").read_text())

    assert moment(home, "down") > moment(new, "up")


def test_units_of_a_machine_cut_off_are_stopped_there_when_it_is_back(operator: Operator) -> None:
    _start_web(operator)
    leader = operator.leader()
    alive = _others(leader)
    cut = [unit for unit, machine in _homes(operator, leader).items() if machine == leader]
    before = {unit: operator.life(leader, unit) for unit in cut}

    with operator.assert_untouched(*alive, may_grow=True):
        operator.sandbox.cut(leader)
        homes = _all_on(operator, alive)
    # Nobody told the machine, and nothing there stops anything.
    assert {unit: operator.life(leader, unit) for unit in cut} == before

    # The deposed leader is back, and neither its plans nor its rows count any more.
    with operator.assert_untouched(*alive):
        operator.sandbox.heal(leader)
        eventually(lambda: operator.files(leader) == ())
        operator.sandbox.wait_until_one_cluster()
    assert not any(operator.is_active(leader, unit) for unit in cut)
    rows = [json.loads(value) for value in operator.store("schedule").values()]
    assert not any(row.get("leaving") for row in rows)
    assert _homes(operator, alive[0]) == homes
