"""fleet 1.0's cluster and node scenarios: machines leave in order, come back, are replaced."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.cluster.machines import eventually
from tests.cluster.parity.original_client import OriginalClient
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3", "fleet4")
UNITS = tuple(f"conflict@{number}.service" for number in (0, 1, 2))


def _systemctl(operator: Operator, machine: str, *words: str) -> None:
    operator.sandbox.run(machine, ["systemctl", *words], check=True)


@contextmanager
def _fleetd_stopped(operator: Operator, machine: str) -> Iterator[None]:
    _systemctl(operator, machine, "stop", "fleet.service")
    try:
        yield
    finally:
        _systemctl(operator, machine, "start", "fleet.service")


def _start_three_apart(operator: Operator) -> dict[str, str]:
    """Three units that avoid each other, so that one machine of four is free; where they are."""
    operator.service("conflict@.service", fleet="Conflicts=conflict@*.service")
    operator.ok("start", *UNITS)
    homes = {unit: operator.home(unit) for unit in UNITS}
    assert len(set(homes.values())) == 3
    return homes


def _another(*machines: str) -> str:
    return next(machine for machine in MACHINES if machine not in machines)


def _assert_only_that_one_moved(
    operator: Operator, homes: dict[str, str], machine: str, target: str
) -> None:
    moved = {unit: target if home == machine else home for unit, home in homes.items()}
    eventually(lambda: {unit: operator.home(unit) for unit in UNITS} == moved)


def test_stopping_one_fleetd_moves_its_unit_to_the_free_machine(operator: Operator) -> None:
    homes = _start_three_apart(operator)
    (free,) = set(MACHINES) - set(homes.values())
    leaver = homes[UNITS[0]]
    steady = [home for home in homes.values() if home != leaver]
    seen = operator.at(free)

    with operator.assert_untouched(*steady), _fleetd_stopped(operator, leaver):
        _assert_only_that_one_moved(seen, homes, leaver, free)
        assert operator.files(leaver) == ()
        assert not operator.is_active(leaver, UNITS[0])
    operator.sandbox.wait_until_one_cluster()
    _assert_only_that_one_moved(operator, homes, leaver, free)  # nothing moves back


def test_machine_that_powers_off_leaves_at_once_and_only_its_unit_moves(
    operator: Operator,
) -> None:
    homes = _start_three_apart(operator)
    (free,) = set(MACHINES) - set(homes.values())
    leaver = homes[UNITS[1]]
    steady = [home for home in homes.values() if home != leaver]
    seen = operator.at(free)

    with operator.assert_untouched(*steady):
        # Its cable stays plugged in: it says goodbye, as a machine that reboots does.
        _systemctl(operator, leaver, "--no-block", "poweroff")
        gone = operator.machine_id(leaver)
        # Sooner than its lease would end.
        eventually(lambda: gone not in seen.ok("list-machines", "--full"), deadline_s=2.5)
        _assert_only_that_one_moved(seen, homes, leaver, free)
        eventually(lambda: not operator.sandbox.is_on(leaver))
        operator.sandbox.boot(leaver)
        operator.sandbox.wait_until_one_cluster()
    _assert_only_that_one_moved(operator, homes, leaver, free)


def test_fleetd_that_stops_takes_its_machine_its_states_and_its_units_with_it(
    operator: Operator,
) -> None:
    operator.service("everywhere.service", fleet="Global=true")
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id('fleet2')}")
    operator.ok("start", "everywhere", "hello")
    eventually(lambda: operator.homes("everywhere.service") == MACHINES)
    left = tuple(machine for machine in MACHINES if machine != "fleet2")

    with _fleetd_stopped(operator, "fleet2"):
        shown = operator.show("fleet2", "fleet.service", "ActiveState", "Result")
        assert shown == {"ActiveState": "inactive", "Result": "success"}
        assert operator.machine_id("fleet2") not in operator.ok("list-machines", "--full")
        assert {row.machine for row in operator.rows()} == set(left)
        assert operator.files("fleet2") == ()
        assert not operator.is_active("fleet2", "hello.service")
        assert not operator.is_active("fleet2", "everywhere.service")
        assert not operator.store(f"states/{operator.machine_id('fleet2')}")
    # It is back, and its units with it.
    assert operator.wait_home("hello.service") == "fleet2"
    eventually(lambda: operator.homes("everywhere.service") == MACHINES)


def test_unit_that_takes_its_time_to_stop_is_waited_for(operator: Operator) -> None:
    operator.service(
        "slow.service",
        fleet=f"MachineID={operator.machine_id('fleet3')}",
        service="ExecStop=/bin/sleep 1.5",
    )
    operator.ok("start", "slow")

    with _fleetd_stopped(operator, "fleet3"):
        assert not operator.is_active("fleet3", "slow.service")
        assert operator.files("fleet3") == ()


def test_second_machine_with_the_same_id_does_nothing_until_the_first_is_gone(
    operator: Operator,
) -> None:
    first, twin = "fleet3", "fleet4"
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id(first)}")
    operator.ok("start", "hello")
    own_id = operator.machine_id(twin)
    id_file = operator.sandbox.path(twin, "/etc/machine-id")
    _systemctl(operator, twin, "stop", "fleet.service")
    try:
        id_file.write_text(f"{operator.machine_id(first)}\n")
        _systemctl(operator, twin, "start", "fleet.service")

        done = operator.fleetctl("list-machines", through=twin)
        assert done.returncode == 1
        assert "fleet server unable to communicate with etcd" in done.stderr
        eventually(
            lambda: "is in use twice" in operator.fleetctl("list-machines", through=twin).stderr
        )
        assert operator.show(twin, "fleet.service", "ActiveState")["ActiveState"] == "active"
        assert operator.fleetctl("list-units", through=twin).returncode == 1
        # It has not taken up the units of its namesake, which run on undisturbed.
        assert operator.files(twin) == ()
        assert operator.home("hello.service") == first

        _systemctl(operator, first, "stop", "fleet.service")

        eventually(lambda: operator.fleetctl("list-machines", through=twin).returncode == 0)
        # The machine id is its own now, and so is the unit that asks for it.
        eventually(lambda: operator.is_active(twin, "hello.service"))
        assert not operator.is_active(first, "hello.service")
    finally:
        _systemctl(operator, twin, "stop", "fleet.service")
        id_file.write_text(f"{own_id}\n")
        for machine in (first, twin):
            _systemctl(operator, machine, "start", "fleet.service")
    operator.sandbox.wait_until_one_cluster()
    assert operator.wait_home("hello.service") == first


def test_metadata_set_at_run_time_moves_units_and_survives_its_machine(
    operator: Operator,
) -> None:
    fleet1 = operator.machine_id("fleet1")
    operator.service("ssd.service", fleet="MachineMetadata=disk=ssd")
    operator.service("some.service", fleet="Global=true\nMachineMetadata=disk=ssd")
    _patch(operator, [_add("fleet1", "disk", "ssd", operator)])
    operator.ok("start", "ssd", "some")
    assert operator.home("ssd.service") == "fleet1"
    assert "disk=ssd" in operator.ok("list-machines")

    _patch(
        operator,
        [
            _add("fleet2", "disk", "ssd", operator),
            {"op": "remove", "path": f"/{fleet1}/metadata/disk"},
        ],
    )
    operator.wait_home("ssd.service", on=["fleet2"])
    eventually(lambda: operator.homes("some.service") == ("fleet2",))

    with _fleetd_stopped(operator, "fleet2"):
        assert operator.homes("ssd.service") == ()
    operator.wait_home("ssd.service", on=["fleet2"])
    _patch(
        operator,
        [{"op": "remove", "path": f"/{operator.machine_id('fleet2')}/metadata/disk"}],
    )
    eventually(lambda: operator.homes("ssd.service") == ())
    eventually(lambda: operator.homes("some.service") == ())


def _add(machine: str, key: str, value: str, operator: Operator) -> dict[str, object]:
    path = f"/{operator.machine_id(machine)}/metadata/{key}"
    return {"op": "add", "path": path, "value": {"value": value}}


def _patch(operator: Operator, operations: list[dict[str, object]]) -> None:
    with OriginalClient.on_unix(operator.sandbox.socket("fleet3")) as client:
        client.patch_machines(operations)
