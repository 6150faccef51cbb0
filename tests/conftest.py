"""Runs `async def` tests: on a virtual clock, or on the real one under `@pytest.mark.realtime`.

The markers that stand for real things (`etcd`, `systemd`) imply `realtime`.

Properties (`-m fuzz`) are tried on the same few examples every time, so that a run means what the
last one meant, and what fails is told as it was found. `HYPOTHESIS_PROFILE=long`, which `make fuzz`
sets, tries many and other ones.
"""

import asyncio
import inspect
import os

import pytest
from hypothesis import HealthCheck, Phase, settings

from fleet.testing.loop import VirtualLoop

_AT_ANY_PACE = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))
_AS_FOUND = (Phase.explicit, Phase.generate)
settings.register_profile(
    "short", _AT_ANY_PACE, derandomize=True, max_examples=60, phases=_AS_FOUND
)
settings.register_profile("long", _AT_ANY_PACE, max_examples=2000, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "short"))

_REAL = ("realtime", "etcd", "systemd")


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    real = any(pyfuncitem.get_closest_marker(name) for name in _REAL)
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: pyfuncitem.funcargs[name] for name in wanted}
    with asyncio.Runner(loop_factory=None if real else VirtualLoop) as runner:
        runner.run(pyfuncitem.obj(**arguments))
    return True
