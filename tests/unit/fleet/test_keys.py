"""Where things lie in the store."""

import pytest

from fleet.errors import InvalidRequest
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName

_UNIT, _MACHINE = UnitName("web.service"), MachineId("m1")


@pytest.mark.parametrize("root", ["/fleet/", "/_coreos.com/fleet/", "/a/b/"])
def test_every_key_lies_below_the_root(root: str) -> None:
    keys = Keys(root)

    assert keys.unit(_UNIT) == f"{root}units/web.service"
    assert keys.file("abc") == f"{root}files/abc"
    assert keys.machine(_MACHINE) == f"{root}machines/m1"
    assert keys.metadatum(_MACHINE, "disk") == f"{root}metadata/m1/disk"
    assert keys.assignment(_MACHINE, _UNIT) == f"{root}schedule/m1/web.service"
    assert keys.state(_MACHINE, _UNIT) == f"{root}states/m1/web.service"
    assert keys.refusal(_UNIT) == f"{root}refusals/web.service"
    assert keys.engine == f"{root}engine"
    assert keys.hold == f"{root}engine/hold"
    assert keys.departure(_MACHINE) == f"{root}departures/m1"
    assert keys.cordon(_MACHINE) == f"{root}cordons/m1"
    assert keys.events == f"{root}events/"


def test_machines_part_of_the_schedule_is_its_own() -> None:
    keys = Keys()

    assert keys.assignment(_MACHINE, _UNIT).startswith(keys.schedule_of(_MACHINE))
    assert keys.state(_MACHINE, _UNIT).startswith(keys.states_of(_MACHINE))
    assert not keys.assignment(MachineId("m10"), _UNIT).startswith(keys.schedule_of(_MACHINE))


@pytest.mark.parametrize("root", ["", "fleet/", "/fleet", "fleet"])
def test_root_without_its_slashes_is_refused(root: str) -> None:
    with pytest.raises(InvalidRequest, match="start and end with a slash"):
        Keys(root)
