"""The endpoints of whoever runs the cluster: cordons and moves, losses and holds, what was decided
and why, and the repository that is followed."""

import time
from collections.abc import Callable
from dataclasses import replace

from fleet.api.access import Peer
from fleet.api.answers import Answer, json_answer
from fleet.api.call import Call, Endpoints, first, revision, up_to
from fleet.api.changes import asked_cordon, parse_request
from fleet.api.foldering import encode_foreseen
from fleet.api.happenings import encode_hold
from fleet.api.lost import encode_lost, find_lost
from fleet.api.routes import Endpoint
from fleet.api.schema import encode_listed_cordon, encode_page
from fleet.api.syncing import SyncReport, decode_sync_settings, encode_sync
from fleet.api.why import encode_why, explain
from fleet.errors import NotFound
from fleet.events import encode_event
from fleet.foresight import Rebalancer
from fleet.machine import MachineId
from fleet.names import UnitName, parse_name
from fleet.registry import Registry
from fleet.sync.book import SyncBook

# Each is found by asking the scheduler: so many take a large cluster some seconds.
_MOST_MOVES = 100

# How many events are told of: without a wish, and at most (the engine keeps a thousand).
_EVENTS = 100
_MAX_EVENTS = 1000


class Operations:
    """Those endpoints over one registry; `sign` makes an author's name of whoever asks."""

    def __init__(
        self,
        registry: Registry,
        *,
        sign: Callable[[Peer], str],
        rebalancer: Rebalancer | None,
    ) -> None:
        self._registry = registry
        self._signature = sign
        self._rebalancer = rebalancer
        self._sync = SyncBook(registry)
        self.endpoints: Endpoints = {
            Endpoint.LIST_CORDONS: self._list_cordons,
            Endpoint.CORDON: self._cordon,
            Endpoint.UNCORDON: self._uncordon,
            Endpoint.PLAN_REBALANCE: self._plan_rebalance,
            Endpoint.REBALANCE: self._rebalance,
            Endpoint.GET_HOLD: self._get_hold,
            Endpoint.RELEASE_HOLD: self._release_hold,
            Endpoint.GET_LOST: self._get_lost,
            Endpoint.LIST_EVENTS: self._list_events,
            Endpoint.WHY: self._why,
            Endpoint.GET_SYNC: self._get_sync,
            Endpoint.SET_SYNC: self._set_sync,
            Endpoint.SYNC_NOW: self._sync_now,
            Endpoint.STOP_SYNC: self._stop_sync,
        }

    # Machines

    async def _list_cordons(self, call: Call) -> Answer:
        cordons = await self._registry.cordons()
        documents = [encode_listed_cordon(*pair) for pair in cordons.items()]
        return json_answer(encode_page("cordons", documents, None))

    async def _cordon(self, call: Call) -> Answer:
        machine = MachineId(call.route.item)
        cordon = asked_cordon(parse_request(call.body), by=self._signature(call.peer))
        await self._registry.cordon(machine, replace(cordon, at_s=time.time()))
        return Answer(status=204)

    async def _uncordon(self, call: Call) -> Answer:
        machine = MachineId(call.route.item)
        await self._registry.uncordon(machine, by=self._signature(call.peer))
        return Answer(status=204)

    async def _plan_rebalance(self, call: Call) -> Answer:
        """The moves that would even the load out; nothing is moved."""
        most = up_to(call.query, "max", _MOST_MOVES)
        return json_answer(encode_foreseen(await self._scheduler.foresee(most)))

    async def _rebalance(self, call: Call) -> Answer:
        """The moves that are made to even the load out; they are under way."""
        most = up_to(call.query, "max", _MOST_MOVES)
        by = self._signature(call.peer)
        return json_answer(encode_foreseen(await self._scheduler.rebalance(most, by=by)))

    @property
    def _scheduler(self) -> Rebalancer:
        if self._rebalancer is None:
            raise NotFound("this fleetd cannot tell what would be scheduled")
        return self._rebalancer

    # What the engine decided

    async def _get_hold(self, call: Call) -> Answer:
        return json_answer(encode_hold(await self._registry.hold()))

    async def _get_lost(self, call: Call) -> Answer:
        return json_answer(encode_lost(find_lost(await self._registry.losses())))

    async def _release_hold(self, call: Call) -> Answer:
        await self._registry.release_hold(by=self._signature(call.peer))
        return Answer(status=204)

    async def _list_events(self, call: Call) -> Answer:
        unit = UnitName(first(call.query, "unit"))
        history = await self._registry.events(
            up_to(call.query, "limit", _MAX_EVENTS, _EVENTS),
            unit=unit,
            after=revision(call.query, "after") or 0,
        )
        page = encode_page("events", [encode_event(each) for each in history.events], None)
        return json_answer(page | {"revision": history.revision})

    async def _why(self, call: Call) -> Answer:
        name = parse_name(first(call.query, "unit"))
        told = explain(await self._registry.cluster(), name)
        if told is None:
            raise NotFound(f"unit does not exist: {name}")
        return json_answer(encode_why(told))

    # The repository that is followed

    async def _get_sync(self, call: Call) -> Answer:
        texts = first(call.query, "text") == "true"
        state, drift = await self._sync.state(texts=texts)
        report = SyncReport(settings=state.settings, status=state.status, drift=drift)
        return json_answer(encode_sync(report))

    async def _set_sync(self, call: Call) -> Answer:
        settings = decode_sync_settings(parse_request(call.body))
        await self._sync.set(settings, by=self._signature(call.peer))
        return Answer(status=204)

    async def _sync_now(self, call: Call) -> Answer:
        await self._sync.request(by=self._signature(call.peer))
        return Answer(status=204)

    async def _stop_sync(self, call: Call) -> Answer:
        await self._sync.stop(by=self._signature(call.peer))
        return Answer(status=204)
