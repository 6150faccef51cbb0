"""What is reported of a unit, and when not yet."""

import asyncio
import contextlib
from dataclasses import replace
from pathlib import Path

import pytest

from agent.fake import FakeSystemd
from agent.local import LocalUnit, LocalUnits, Note
from agent.publisher import Publisher
from agent.report import Trouble
from agent.reporter import Look, Reporter
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit

UNIT = UnitName("web.service")
FILE = parse_unit("[Service]\nExecStart=/bin/sleep infinity\n")
WRITTEN = LocalUnit(unit=UNIT, file=FILE, hash=FILE.hash)
LINKED = replace(WRITTEN, note=Note(hash=FILE.hash))
WAITS = Trouble(reason="waiting until old.service is gone from here")
VAIN = Trouble(reason="it was linked in vain", refused=True)


@pytest.mark.parametrize(
    ("look", "reported"),
    [
        pytest.param(Look(local=WRITTEN), False, id="its file is about to be linked"),
        pytest.param(Look(local=WRITTEN, trouble=WAITS), False, id="and its start has to wait"),
        pytest.param(Look(local=WRITTEN, trouble=VAIN), True, id="it cannot be linked"),
        pytest.param(Look(local=LINKED, starting=True), False, id="it is just being started"),
        pytest.param(Look(local=LINKED), True, id="it was linked and is not there"),
    ],
)
async def test_unit_unknown_to_systemd_is_reported_once_that_is_news(
    look: Look, reported: bool, tmp_path: Path
) -> None:
    systemd, machine = FakeSystemd(), MachineId("a" * 32)
    publisher = Publisher(Registry(MemoryStore(), Keys()), machine)
    local = LocalUnits(tmp_path, boot_id="boot-1")
    reporter = Reporter(systemd, publisher, machine, local=local, look=lambda _: look)
    task = asyncio.create_task(reporter.run())

    reporter.touch([UNIT])
    await asyncio.sleep(5)

    assert (publisher.state(UNIT) is not None) is reported
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
