"""Two short random days on booted machines: see tests/cluster/chaos.py, which runs longer ones."""

from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.chaos import TTL_S, Days, live_through

pytestmark = pytest.mark.systemd


async def test_random_days_end_well(make_sandbox: Callable[..., Sandbox]) -> None:
    sandbox = make_sandbox(machines=3, settings={"agent_ttl": f"{TTL_S:g}s"})
    days = Days(sandbox, seed=4, tell=print)

    await live_through(days, count=2, deeds=8, blows=20)
