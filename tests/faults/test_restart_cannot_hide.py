"""The suite's own proof: a unit that somebody restarts by hand while a fault goes on is found."""

from collections.abc import Callable, Mapping

import pytest

from tests.faults.stage import Stage

pytestmark = [pytest.mark.systemd, pytest.mark.timeout(240)]


def test_restart_nobody_asked_for_cannot_hide(make_stage: Callable[..., Stage]) -> None:
    """Not even that of a oneshot, of which systemd knows nothing any more when it is over."""
    stage = make_stage(ttl_s=3.0)
    homes = {row.unit: row.machine for row in stage.operator.rows("f-web@1*", "f-once*")}

    with pytest.raises(AssertionError) as found, stage.trial():
        _restart(stage, homes)

    told = str(found.value)
    for unit, home in homes.items():
        assert f"systemd started {unit} on {home}" in told
    assert "f-web@1.service on" in told


def _restart(stage: Stage, homes: Mapping[str, str]) -> None:
    for unit, home in homes.items():
        stage.sh(home, f"systemctl restart {unit}")
