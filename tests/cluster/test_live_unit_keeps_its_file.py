"""The file of a unit that still lives is never removed, however long its stop takes or fails."""

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import STEADY, Operator

pytestmark = pytest.mark.systemd

# It ignores the polite signal; systemd kills it at the end of its time to stop.
STUBBORN = "trap : TERM; while :; do sleep 0.1; done"


@pytest.mark.parametrize(
    ("verb", "command", "service"),
    [
        pytest.param("unload", STEADY, "ExecStop=/bin/sleep 1", id="its stop takes long"),
        pytest.param("destroy", STUBBORN, "TimeoutStopSec=1", id="its stop is ignored"),
        pytest.param("destroy", STEADY, "ExecStop=/bin/sleep 9\nTimeoutStopSec=1", id="it hangs"),
        pytest.param("unload", STEADY, "ExecStop=/bin/sh -c 'sleep 1; exit 1'", id="it fails"),
    ],
)
def test_file_stays_until_the_unit_has_ended(
    operator: Operator, verb: str, command: str, service: str
) -> None:
    operator.service("slow.service", command, service=service)
    operator.ok("start", "slow")
    home = operator.home("slow.service")

    operator.ok(verb, "--no-block", "slow")

    def gone() -> bool:
        has_file = "slow.service" in operator.files(home)
        state = operator.show(home, "slow.service", "ActiveState", "LoadState")
        # The file was looked at first: had it been gone, the unit would have had to be, too.
        assert has_file or state["ActiveState"] in ("inactive", "failed"), state
        if state["ActiveState"] == "deactivating":
            seen.add("deactivating")
        return not has_file

    seen: set[str] = set()
    eventually(gone)
    assert seen == {"deactivating"}
    eventually(lambda: operator.rows() == ())


def test_unit_that_is_replaced_stops_with_its_old_file(operator: Operator) -> None:
    operator.service("web.service", service="ExecStop=/bin/sh -c 'echo >/var/tmp/old-stop'")
    operator.ok("start", "web")
    home = operator.home("web.service")
    operator.service("web.service", service="ExecStop=/bin/sh -c 'echo >/var/tmp/new-stop'")

    operator.ok("start", "--replace", "web")

    assert operator.sandbox.path(home, "/var/tmp/old-stop").exists()
    assert not operator.sandbox.path(home, "/var/tmp/new-stop").exists()
