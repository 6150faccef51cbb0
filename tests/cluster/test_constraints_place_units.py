"""[X-Fleet] on real machines: where units go, what they refuse, and what makes them move."""

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

MACHINES = ("fleet1", "fleet2", "fleet3")
CONF = "/etc/fleet/fleet.conf"


def _set_metadata(sandbox: Sandbox, machine: str, metadata: str) -> None:
    """Edit fleet.conf on the machine and reload fleetd, as its administrator does."""
    script = f"sed -i 's/^metadata=.*/metadata=\"{metadata}\"/' {CONF} && systemctl reload fleet"
    sandbox.run(machine, ["sh", "-c", script], check=True)


def _active(operator: Operator) -> dict[str, tuple[str, ...]]:
    """Where every unit of the cluster is active."""
    rows = operator.rows()
    return {unit: operator.homes(unit) for unit in sorted({row.unit for row in rows})}


def test_unit_runs_where_the_metadata_is_as_it_asks(operator: Operator) -> None:
    operator.service("here.service", fleet="MachineMetadata=zone=b")
    operator.service("either.service", fleet='MachineMetadata="zone=c" "zone=x"')
    operator.service("both.service", fleet='MachineMetadata="zone=a" "host=fleet1"')

    operator.ok("start", "here", "either", "both")

    assert operator.home("here.service") == "fleet2"
    assert operator.home("either.service") == "fleet3"
    assert operator.home("both.service") == "fleet1"


def test_unit_runs_on_the_machine_it_names_by_its_id_or_the_start_of_it(operator: Operator) -> None:
    operator.service("long.service", fleet=f"MachineID={operator.machine_id('fleet3')}")
    operator.service("short.service", fleet=f"MachineID={operator.machine_id('fleet2')[:8]}")

    operator.ok("start", "long", "short")

    assert (operator.home("long.service"), operator.home("short.service")) == ("fleet3", "fleet2")


def test_instances_are_spread_kept_few_and_given_what_they_reserve(operator: Operator) -> None:
    operator.service("spread@.service", fleet="Spread=zone\nMaxPerMachine=1\nMemory=1M")
    operator.service("liked.service", fleet='Prefer="zone in b,x 5" "host=fleet1"')
    operator.service("huge.service", fleet="MachineMetadata=zone!=b\nMemory=1000T")

    operator.ok("start", "spread@1", "spread@2", "spread@3", "liked")
    fourth = operator.fleetctl("start", "spread@4", "huge")

    homes = {operator.home(f"spread@{number}.service") for number in (1, 2, 3)}
    assert homes == set(MACHINES)
    assert operator.home("liked.service") == "fleet2"
    assert fourth.stderr.count("1 of spread@.service are here already (MaxPerMachine=1)") == 3
    assert fourth.stderr.count("it asks for Memory=1000T") == 2, fourth.stderr
    assert fourth.stderr.count("metadata zone!=b, the machine has zone=b") == 1


def test_conflicting_instances_share_no_machine_and_the_one_too_many_waits(
    operator: Operator,
) -> None:
    operator.service("solo@.service", fleet="Conflicts=%p@*.service")

    operator.ok("start", "solo@1", "solo@2", "solo@3")
    fourth = operator.fleetctl("start", "solo@4")

    homes = {operator.home(f"solo@{number}.service") for number in (1, 2, 3)}
    assert homes == set(MACHINES)
    assert fourth.returncode == 1
    assert fourth.stderr.count("conflicts with") == 3, fourth.stderr

    # It has its place as soon as there is one.
    freed = operator.home("solo@2.service")
    operator.ok("destroy", "solo@2")
    assert operator.wait_home("solo@4.service") == freed


def test_instances_of_a_template_spread_over_the_machines_before_they_stack(
    operator: Operator,
) -> None:
    operator.service("ballast@.service", fleet="MachineMetadata=host=fleet1")
    operator.service("web@.service")
    operator.ok("start", "ballast@1", "ballast@2", "ballast@3")

    operator.ok("start", "web@1", "web@2", "web@3")

    # fleet1 has the most units, and yet is the only one without an instance when the third comes.
    assert {operator.home(f"web@{number}.service") for number in (1, 2, 3)} == set(MACHINES)


def test_units_that_belong_together_stay_together(operator: Operator) -> None:
    operator.service("app.service", fleet="MachineMetadata=zone=b")
    operator.service("sidekick.service", fleet="MachineOf=app.service")

    early = operator.fleetctl("start", "sidekick")
    assert early.returncode == 1
    assert "MachineOf=app.service" in early.stderr

    operator.ok("start", "app")

    assert operator.wait_home("sidekick.service") == "fleet2"
    assert operator.home("app.service") == "fleet2"


def test_global_unit_runs_on_every_machine_that_suits_it(operator: Operator) -> None:
    operator.service("agent.service", fleet="Global=true")
    operator.service("some.service", fleet='Global=true\nMachineMetadata="zone=a" "zone=c"')

    operator.ok("start", "agent", "some")

    assert eventually(lambda: operator.homes("agent.service") == MACHINES)
    assert eventually(lambda: operator.homes("some.service") == ("fleet1", "fleet3"))

    operator.ok("destroy", "agent")
    assert not any("agent.service" in operator.files(machine) for machine in MACHINES)
    assert operator.homes("some.service") == ("fleet1", "fleet3")


def test_unit_that_replaces_another_sends_it_to_another_machine(operator: Operator) -> None:
    operator.service("old.service", fleet='MachineMetadata="zone=a" "zone=b"')
    operator.ok("start", "old")
    home = operator.home("old.service")
    fleet = f"Replaces=old.service\nMachineMetadata=host={home}"
    operator.service("new.service", fleet=fleet)

    operator.ok("start", "new")

    assert operator.home("new.service") == home
    other = "fleet2" if home == "fleet1" else "fleet1"
    assert operator.wait_home("old.service") == other


def test_metadata_that_changes_moves_only_the_unit_that_asks_for_it(operator: Operator) -> None:
    _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b,disk=ssd")
    try:
        operator.service("database.service", fleet="MachineMetadata=disk=ssd")
        operator.service("web@.service")
        operator.ok("start", "--block-attempts=10", "web@1", "web@2", "web@3", "database")
        assert operator.home("database.service") == "fleet2"
        before = {key: life for key, life in operator.lives().items() if "web" in key[1]}

        _set_metadata(operator.sandbox, "fleet3", "host=fleet3,zone=c,disk=ssd")
        _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b")

        operator.wait_home("database.service", on=["fleet3"])
        eventually(lambda: "database.service" not in operator.files("fleet2"))
        assert {key: operator.life(*key) for key in before} == before
    finally:
        _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b")
        _set_metadata(operator.sandbox, "fleet3", "host=fleet3,zone=c")


def test_unit_whose_metadata_is_gone_everywhere_is_stopped_and_says_why(
    operator: Operator,
) -> None:
    _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b,disk=ssd")
    try:
        operator.service("database.service", fleet="MachineMetadata=disk=ssd")
        operator.ok("start", "--block-attempts=10", "database")

        _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b")

        eventually(lambda: operator.files("fleet2") == ())
        assert not operator.is_active("fleet2", "database.service")
        again = operator.fleetctl("start", "database")
        assert again.returncode == 1
        assert "the unit asks for metadata disk=ssd, the machine has no disk" in again.stderr
    finally:
        _set_metadata(operator.sandbox, "fleet2", "host=fleet2,zone=b")
