"""A unit with [Install] is enabled, so that systemd itself ties units together."""

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd


def _is_enabled(operator: Operator, machine: str, unit: str) -> str:
    return operator.sandbox.run(machine, ["systemctl", "is-enabled", unit]).stdout.strip()


def test_partner_starts_and_stops_with_the_unit_that_wants_it(operator: Operator) -> None:
    operator.service("main.service", unit="Description=main unit")
    text = (
        "[Unit]\nBindsTo=main.service\nAfter=main.service\n"
        "[Service]\nExecStart=/bin/sleep 1000\n"
        "[Install]\nWantedBy=main.service\n"
        "[X-Fleet]\nMachineOf=main.service\n"
    )
    operator.write("partner.service", text)
    operator.ok("load", "main", "partner")
    rows = {row.unit: row for row in operator.rows()}
    home = rows["main.service"].machine
    assert rows["partner.service"].machine == home
    assert _is_enabled(operator, home, "main.service") == "linked-runtime"
    assert _is_enabled(operator, home, "partner.service") == "enabled-runtime"

    operator.ok("start", "main")
    eventually(lambda: operator.homes("partner.service") == (home,))

    operator.ok("stop", "main")
    eventually(lambda: not operator.is_active(home, "partner.service"))

    operator.ok("destroy", "main", "partner")
    wants = operator.sandbox.path(home, "/run/systemd/system/main.service.wants")
    assert not wants.exists() or not list(wants.iterdir())


def test_unit_is_linked_while_it_is_loaded_and_gone_when_it_is_not(operator: Operator) -> None:
    operator.service("hello.service", fleet=f"MachineID={operator.machine_id('fleet1')}")

    operator.ok("load", "hello")
    link = operator.sandbox.path("fleet1", "/run/systemd/system/hello.service")
    assert str(link.readlink()) == "/run/fleet/units/hello.service"
    assert operator.life("fleet1", "hello.service").active == "inactive"
    operator.ok("start", "hello")
    assert operator.life("fleet1", "hello.service").active == "active"
    operator.ok("stop", "hello")
    assert operator.life("fleet1", "hello.service").active == "inactive"
    assert link.is_symlink()
    operator.ok("unload", "hello")

    assert not link.is_symlink()
    assert operator.show("fleet1", "hello.service", "LoadState")["LoadState"] == "not-found"
