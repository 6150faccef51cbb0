"""Values in the store that nobody of ours wrote: what runs goes on, and so does everything else.

One machine with its heartbeat, its agent and its engine, on a systemd and a store in memory and a
virtual clock; strange values are put wherever there is a place for them.
"""

import asyncio
import contextlib
import json
import tempfile
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from agent.fake import FakeSystemd
from agent.heartbeat import Membership
from agent.local import LocalUnits
from agent.loop import Agent
from engine.loop import Engine, EngineSettings
from fleet.api.access import Peer
from fleet.api.call import Call
from fleet.api.follow import Following
from fleet.api.service import ApiService
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.store.port import LeaseId, Put
from fleet.testing.loop import VirtualLoop
from fleet.unit import parse_unit

pytestmark = pytest.mark.fuzz

ME, OTHER = MachineId("a" * 32), MachineId("b" * 32)
KEYS = Keys()
FILE = parse_unit("[Service]\nExecStart=/bin/sleep infinity\n")
GOOD, LATER = UnitName("good.service"), UnitName("later.service")
ROOT = Peer(user="root", uid=0)

_PLACES = [
    *(KEYS.unit(GOOD), KEYS.unit(UnitName("x.service")), f"{KEYS.units}../up", KEYS.units),
    *(KEYS.file("0" * 40), KEYS.files, KEYS.machine(OTHER), KEYS.machine(ME), KEYS.machines),
    *(f"{KEYS.metadata}{ME}/disk", f"{KEYS.metadata}x", f"{KEYS.metadata}{OTHER}/a"),
    *(KEYS.assignment(ME, GOOD), KEYS.assignment(ME, UnitName("x.service"))),
    *(KEYS.assignment(OTHER, UnitName("x.service")), f"{KEYS.schedule}{ME}/../up", KEYS.schedule),
    *(KEYS.state(ME, GOOD), KEYS.state(OTHER, GOOD), KEYS.state(ME, UnitName("x.service"))),
    *(KEYS.refusal(GOOD), KEYS.refusal(UnitName("x.service")), f"{KEYS.refusals}x"),
    *(KEYS.departure(OTHER), KEYS.departures, KEYS.engine, KEYS.hold, f"{KEYS.engine}/x"),
    *(KEYS.latest_rows, KEYS.sync_wanted, KEYS.sync),
    *(f"{KEYS.events}zzz", KEYS.events, f"{KEYS.root}nothing/at/all", KEYS.root),
]
_RECORD = {"hash": "h", "file": "0" * 40, "target": "launched", "options": []}
_FUTURE = [
    {**_RECORD, "target": "paused"},
    {**_RECORD, "options": {"a": 1}},
    {**_RECORD, "at": "tomorrow"},
    {"id": ME, "address": 7, "metadata": [], "version": None},
    {"machines": [OTHER], "until": "never", "reason": ""},
    {"machines": [OTHER], "until": 1e999, "reason": ""},
    {"machine": {"id": ME}},
    {"reasons": ["a"]},
    {"at": "x", "by": [], "unit": 1, "what": {}},
]
_documents = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(sorted(_RECORD)), inner)
    ),
    max_leaves=8,
)


class _Deep(bytes):
    """Lists without end, which nobody wants to read."""

    def __repr__(self) -> str:
        return f"{bytes(self[:1])!r} * {len(self)}"


_DEEP = _Deep(b"[" * 100_000)
_values = st.one_of(
    st.binary(max_size=12),
    st.sampled_from(_FUTURE).map(lambda document: json.dumps(document).encode()),
    _documents.map(lambda document: json.dumps(document).encode()),
    st.just(_DEEP),
)
strange = st.dictionaries(st.sampled_from(_PLACES), _values, min_size=1, max_size=5)


@dataclass
class Town:
    """The one machine, and the hands of its users."""

    folder: Path
    store: MemoryStore = field(default_factory=MemoryStore)
    systemd: FakeSystemd = field(default_factory=FakeSystemd)

    def __post_init__(self) -> None:
        self.registry = Registry(self.store, KEYS)
        self.tasks: list[asyncio.Task[None]] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator["Town"]:
        agent = Agent(
            registry=Registry(self.store.connect(), KEYS),
            systemd=self.systemd,
            units=LocalUnits(self.folder / "units", boot_id="boot-1"),
            machine=ME,
        )
        engine = Engine(Registry(self.store.connect(), KEYS), machine=ME, settings=EngineSettings())
        membership = Membership(
            self.store.connect(),
            KEYS,
            lambda: Machine(id=ME, boot_id="boot-1"),
            ttl_s=6.0,
            session=lambda lease: self._use(agent, lease),
        )
        self.tasks = [
            asyncio.create_task(each.run(), name=type(each).__name__)
            for each in (membership, agent, engine)
        ]
        try:
            yield self
        finally:
            for task in self.tasks:
                task.cancel()
            await asyncio.gather(*self.tasks, return_exceptions=True)

    def _use(self, agent: Agent, lease: LeaseId | None) -> None:
        agent.use_lease(lease)

    async def start(self, unit: UnitName) -> None:
        change = UnitChange(name=unit, file=FILE, target=TargetState.LAUNCHED)
        await self.registry.apply([change], by="test")

    async def until(self, holds: Callable[[], bool], what: str) -> None:
        loop = asyncio.get_running_loop()
        deadline_s = loop.time() + 120
        while not holds():
            assert loop.time() < deadline_s, f"not yet: {what}"
            await asyncio.sleep(0.1)

    def started(self, unit: UnitName) -> int:
        return sum(call[0] == "start" and unit in call for call in self.systemd.calls)

    def touched(self, unit: UnitName) -> list[tuple[str, ...]]:
        return [c for c in self.systemd.calls if c[0] in ("stop", "start", "restart") and unit in c]


@pytest.mark.parametrize(
    "value",
    [
        pytest.param(b"\xff\x00", id="bytes"),
        pytest.param(b"{}", id="an empty document"),
        pytest.param(_DEEP, id="lists without end"),
        pytest.param(json.dumps(_FUTURE[0]).encode(), id="a state of the future"),
    ],
)
def test_value_that_nobody_wrote_is_passed_over_wherever_it_is(value: bytes) -> None:
    for key in sorted(set(_PLACES)):
        live_through({key: value})


@settings(max_examples=settings().max_examples // 3)
@given(strange)
@example({f"{KEYS.units}../up": b"", f"{KEYS.schedule}{ME}/../up": b""})
def test_strange_values_stop_nothing_and_nobody(values: dict[str, bytes]) -> None:
    live_through(values)


def live_through(values: dict[str, bytes]) -> None:
    """A day in the town with these values in its store."""

    async def day(folder: Path) -> None:
        async with Town(folder).running() as town:
            await town.start(GOOD)
            await town.until(lambda: town.started(GOOD) == 1, "the good unit is up")
            await asyncio.sleep(5)
            before = town.touched(GOOD)

            for key, value in values.items():
                await town.store.commit([], [Put(key, value)])
            await asyncio.sleep(40)

            assert [task.get_name() for task in town.tasks if task.done()] == [], values
            assert town.touched(GOOD) == before, values
            await town.start(LATER)
            await town.until(lambda: town.started(LATER) == 1, "a later unit is up")
            await everything_can_be_read(town.registry)

    with (
        tempfile.TemporaryDirectory() as folder,
        asyncio.Runner(loop_factory=VirtualLoop) as runner,
    ):
        runner.run(day(Path(folder)))


async def everything_can_be_read(registry: Registry) -> None:
    service = ApiService(registry, version="2.0.0", hostname="box")
    for what in ("units", "state", "machines", "events", "hold"):
        route = service.admit("GET", f"/fleet/v1/{what}", ROOT)
        for query in ({}, {"whole": ["true"]}):
            answer = await service.answer(Call(route=route, peer=ROOT, query=query))
            assert answer.status == 200
            json.loads(answer.body)
    following = Following(registry)
    async with following.join(None) as follower:
        assert LATER in {report.name for report in await follower.changes(1.0)}
