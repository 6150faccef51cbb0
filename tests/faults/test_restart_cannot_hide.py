"""The suite's own proof: a unit that somebody restarts by hand while a fault goes on is found."""

from collections.abc import Callable

import pytest

from tests.faults.stage import Stage

pytestmark = pytest.mark.systemd

TTL_S = 3.0


@pytest.mark.parametrize(
    ("deed", "found"),
    [
        pytest.param("systemctl restart {}", "f-web@1.service on", id="restart"),
        pytest.param("systemctl start f-once.service", "systemd started f-once", id="oneshot"),
    ],
)
def test_restart_nobody_asked_for_cannot_hide(
    make_stage: Callable[..., Stage], deed: str, found: str
) -> None:
    stage = make_stage(ttl_s=TTL_S)
    unit = "f-once.service" if "once" in deed else "f-web@1.service"
    (home,) = {row.machine for row in stage.operator.rows(unit)}

    with pytest.raises(AssertionError, match=found), stage.trial():
        stage.sh(home, deed.format(unit))
