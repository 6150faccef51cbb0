"""Runs `async def` tests: on a virtual clock, or on the real one under `@pytest.mark.realtime`.

The markers that stand for real things (`etcd`, `systemd`) imply `realtime`.
"""

import asyncio
import inspect

import pytest

from fleet.testing.loop import VirtualLoop

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
