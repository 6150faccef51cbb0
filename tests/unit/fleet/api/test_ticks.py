"""Ticks: what kinds of things changed, gathered, and how they end."""

import asyncio

import pytest

from fleet.api.ticks import watching
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit

WEB = UnitName("web.service")
FILE = parse_unit("[Service]\nExecStart=/bin/true\n")


async def test_changes_that_come_together_are_one_tick_with_their_kinds() -> None:
    registry = Registry(MemoryStore(), Keys())
    async with watching(registry) as ticks:
        before = ticks.revision
        await registry.apply([UnitChange(name=WEB, file=FILE)], by="alice")
        await registry.apply([UnitChange(name=WEB, target=TargetState.LOADED)], by="alice")
        assert await ticks.next(60) == {"units", "files", "events"}
        assert ticks.revision > before
        assert await ticks.next(1) == frozenset()


async def test_nothing_is_told_twice_and_what_was_before_not_at_all() -> None:
    registry = Registry(MemoryStore(), Keys())
    await registry.apply([UnitChange(name=WEB, file=FILE)], by="alice")
    async with watching(registry) as ticks:
        assert await ticks.next(1) == frozenset()
        await registry.destroy(WEB, by="alice")
        assert await ticks.next(60) == {"units", "events"}
        assert await ticks.next(1) == frozenset()


async def test_end_of_the_store_ends_the_ticks() -> None:
    store = MemoryStore()
    registry = Registry(store.connect(), Keys())
    async with watching(registry) as ticks:
        await asyncio.sleep(0)
        await registry.store.close()
        with pytest.raises(Unavailable):
            await ticks.next(60)
