"""The API without HTTP: a request as a value in, an answer as a value out.

`admit` says which endpoint a request means and whether its sender may use it, `answer` does it.
Sockets, streams and the kernel's word on who is asking are the server's.
"""

import json
import logging
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from fleet.api import access, metrics
from fleet.api.access import Peer
from fleet.api.answers import JSON, UNABLE, Answer, Refused, error_document, json_answer
from fleet.api.call import Call, Endpoints, Query, first, require_json, revision
from fleet.api.changes import (
    metadata_changes,
    parse_request,
    unit_change,
    unit_changes,
)
from fleet.api.discovery import discovery_document
from fleet.api.foldering import encode_foreseen, encode_inventory
from fleet.api.operating import Operations
from fleet.api.pages import DEFAULT_LIMIT, PageToken, cut_page, find_token
from fleet.api.routes import Endpoint, NoRoute, Route, resolve
from fleet.api.schema import (
    Unit,
    decode_unit,
    encode_listed_machine,
    encode_listed_state,
    encode_page,
    encode_unit,
)
from fleet.change import UnitChange
from fleet.cluster import Cluster, UnitRecord
from fleet.errors import Conflict, Denied, InvalidRequest, NotFound
from fleet.folder.difference import inventory_of
from fleet.foresight import Foresee, Rebalancer
from fleet.machine import MachineId
from fleet.names import InvalidName, UnitName, parse_name
from fleet.registry import Registry, renews_text
from fleet.states import TargetState, UnitState
from fleet.unit import UnitFile

_log = logging.getLogger(__name__)

# How often a change is tried again that met another change of the same unit: the last one wins.
ATTEMPTS = 3


class ApiService:
    """The endpoints of the API over one registry."""

    def __init__(
        self,
        registry: Registry,
        *,
        token_limit: int = DEFAULT_LIMIT,
        version: str,
        hostname: str,
        owner: int = 0,
        may_serve: Callable[[], str | None] = lambda: None,
        gather: Callable[[], Iterable[metrics.Metric]] = lambda: (),
        foresee: Foresee | None = None,
        rebalancer: Rebalancer | None = None,
    ) -> None:
        """`may_serve` gives a reason not to; `gather` the metrics of the rest of the process;
        `foresee` is the scheduler's answer to changes that are not made, `rebalancer` evens the
        load out.

        `owner` is the uid that may do everything beside root, `token_limit` the size of a page.
        """
        self._registry = registry
        self._token_limit = token_limit
        self._version = version
        self._hostname = hostname
        self._owner = owner
        self._may_serve = may_serve
        self._gather = gather
        self._foresee = foresee
        self._operations = Operations(registry, sign=self._signature, rebalancer=rebalancer)
        self._answered: Counter[tuple[str, int]] = Counter()

    def readiness(self) -> Answer | None:
        """The answer to everything while this server cannot serve, or None while it can."""
        reason = self._may_serve()
        if reason is None:
            return None
        _log.debug("a request was turned away: %s", reason)
        return json_answer(error_document(503, UNABLE, reason=reason), 503)

    def admit(self, method: str, path: str, peer: Peer) -> Route:
        """The endpoint that is meant; raises Refused if there is none, Denied to who may not."""
        route = resolve(method, path)
        if isinstance(route, NoRoute):
            raise Refused(route.status, route.message)
        verb = route.endpoint.verb
        if not access.may(peer, verb, owner=self._owner):
            raise Denied(access.refusal(peer, verb))
        return route

    async def answer(self, call: Call) -> Answer:
        """Do what was asked; raises a FleetError that says why not."""
        endpoints: Endpoints = {
            Endpoint.LIST_UNITS: self._list_units,
            Endpoint.CHANGE_UNITS: self._change_units,
            Endpoint.GET_UNIT: self._get_unit,
            Endpoint.SET_UNIT: self._set_unit,
            Endpoint.DESTROY_UNIT: self._destroy_unit,
            Endpoint.LIST_STATES: self._list_states,
            Endpoint.GET_STATE: self._get_state,
            Endpoint.LIST_MACHINES: self._list_machines,
            Endpoint.CHANGE_MACHINES: self._change_machines,
            Endpoint.DISCOVERY: self._discovery,
            Endpoint.METRICS: self._metrics,
            Endpoint.GET_INVENTORY: self._get_inventory,
            Endpoint.PLAN_UNITS: self._plan_units,
            **self._operations.endpoints,
        }
        return await endpoints[call.route.endpoint](call)

    def count(self, endpoint: str, status: int) -> None:
        """Take an answer into the metrics."""
        self._answered[endpoint, status] += 1

    # Units

    async def _list_units(self, call: Call) -> Answer:
        token = self._token(call.query)
        texts = first(call.query, "text") == "true"
        contents = first(call.query, "contents") != "false"
        placed = first(call.query, "placed") != "false"
        files: Mapping[str, UnitFile] = {}
        if contents:
            cluster, files = await self._registry.cluster_with_files()
        elif placed:
            cluster = await self._registry.cluster()
        else:
            cluster = await self._registry.units()
        placements = _Placements(cluster)
        records, following = cut_page(list(cluster.units.values()), token)
        documents = []
        for record in records:
            unit = placements.unit(record, files.get(record.file), listed=True, texts=texts)
            unit = unit if contents else replace(unit, options=record.own_options)
            unit = unit if placed else replace(unit, current=None, machine=None)
            documents.append(encode_unit(unit))
        return json_answer(encode_page("units", documents, following))

    async def _get_unit(self, call: Call) -> Answer:
        # Who starts a unit asks whether it is new, and then this is all that has to be read.
        key = self._registry.keys.unit(UnitName(call.route.item))
        if key not in (await self._registry.store.read(key)).entries:
            raise NotFound("unit does not exist")
        cluster = await self._registry.cluster()
        record = cluster.units.get(UnitName(call.route.item))
        if record is None:
            raise NotFound("unit does not exist")
        file = (await self._registry.files([record.file])).get(record.file)
        if file is None:
            _log.error("the file %s of %s is not in the store", record.file, record.name)
        return json_answer(encode_unit(_Placements(cluster).unit(record, file, listed=False)))

    async def _set_unit(self, call: Call) -> Answer:
        require_json(call.content_types)
        asked = decode_unit(parse_request(call.body))
        item = call.route.item
        if asked.name not in ("", item):
            raise InvalidRequest(
                f"name in URL {_quoted(item)} differs from "
                f"unit name in request body {_quoted(asked.name)}"
            )
        change = unit_change(_named(asked, item))
        old = await self._registry.unit(change.name)
        if old is None and change.file is None:
            raise Conflict("unit does not exist and options field empty")
        renews = change.file is not None and (old is None or old.hash != change.file.hash)
        is_idle = not renews and not (old and renews_text(change, old))
        if is_idle and change.target is None:
            raise Conflict("must provide DesiredState to update existing unit")
        renewed = await self._apply([change], call.peer)
        return Answer(status=201 if renewed[change.name] else 204)

    async def _change_units(self, call: Call) -> Answer:
        require_json(call.content_types)
        changes = unit_changes(parse_request(call.body))
        at = revision(call.query, "ifRevision")
        outcome = await self._apply(changes, call.peer, at_revision=at) if changes else {}
        document: dict[str, list[str]] = {"new": []}
        if any(change.destroy for change in changes):
            document["destroyed"] = []
        for change in changes:
            if outcome[change.name]:
                document["destroyed" if change.destroy else "new"].append(change.name)
        return json_answer(document)

    async def _destroy_unit(self, call: Call) -> Answer:
        try:
            name = parse_name(call.route.item)
            await self._registry.destroy(name, by=self._signature(call.peer))
        except (InvalidName, NotFound) as error:
            raise NotFound("unit does not exist") from error
        return Answer(status=204)

    async def _get_inventory(self, call: Call) -> Answer:
        if first(call.query, "text") != "true":
            return json_answer(encode_inventory(inventory_of(await self._registry.units())))
        cluster, files = await self._registry.cluster_with_files()
        return json_answer(encode_inventory(inventory_of(cluster, files)))

    async def _plan_units(self, call: Call) -> Answer:
        """What a PATCH of units with this body would come to."""
        require_json(call.content_types)
        if self._foresee is None:
            raise NotFound("this fleetd cannot tell what would be scheduled")
        cluster, records = await self._registry.preview(unit_changes(parse_request(call.body)))
        return json_answer(encode_foreseen(self._foresee(cluster, records)))

    async def _apply(
        self, changes: Sequence[UnitChange], peer: Peer, *, at_revision: int | None = None
    ) -> dict[UnitName, bool]:
        by = self._signature(peer)
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return await self._registry.apply(changes, by=by, at_revision=at_revision)
            except Conflict:
                if attempt == ATTEMPTS:
                    raise
        raise AssertionError("unreachable")

    # States and machines

    async def _list_states(self, call: Call) -> Answer:
        token = self._token(call.query)
        unit = first(call.query, "unitName")
        machine = first(call.query, "machineID")
        wanted = [
            state
            for state in await self._registry.states()
            if unit in ("", state.unit) and machine in ("", state.machine)
        ]
        states, following = cut_page(wanted, token)
        documents = [encode_listed_state(state) for state in states]
        return json_answer(encode_page("states", documents, following))

    async def _get_state(self, call: Call) -> Answer:
        unit = UnitName(call.route.item)
        cluster = await self._registry.cluster()
        state = cluster.home_state(unit) or next(iter(cluster.states_of(unit)), None)
        if state is None:
            raise NotFound("unit state does not exist")
        return json_answer(encode_listed_state(state))

    async def _list_machines(self, call: Call) -> Answer:
        token = self._token(call.query)
        machines, following = cut_page(list(await self._registry.machines()), token)
        documents = [encode_listed_machine(machine) for machine in machines]
        return json_answer(encode_page("machines", documents, following))

    async def _change_machines(self, call: Call) -> Answer:
        changes = metadata_changes(parse_request(call.body))
        if changes:
            await self._registry.set_metadata(changes, by=self._signature(call.peer))
        return Answer(status=204, content_type=JSON)

    # About the server

    async def _discovery(self, call: Call) -> Answer:
        return json_answer(discovery_document())

    async def _metrics(self, call: Call) -> Answer:
        answered = tuple(
            metrics.Sample(count, {"endpoint": endpoint, "code": str(status)})
            for (endpoint, status), count in sorted(self._answered.items())
        )
        own = (
            metrics.Metric(
                "fleet_build_info",
                metrics.Kind.GAUGE,
                "The version of fleetd that runs here.",
                (metrics.Sample(1, {"version": self._version}),),
            ),
            metrics.Metric(
                "fleet_api_requests_total",
                metrics.Kind.COUNTER,
                "Requests answered, by endpoint and HTTP status.",
                answered,
            ),
        )
        body = metrics.render_metrics([*self._gather(), *own, *metrics.process_metrics()])
        return Answer(status=200, body=body, content_type=metrics.CONTENT_TYPE)

    def _signature(self, peer: Peer) -> str:
        return access.signature(peer, self._hostname)

    def _token(self, query: Query) -> PageToken | None:
        """The page that is asked for; None for the whole list, which only our clients ask for."""
        if first(query, "whole") == "true":
            return None
        return find_token(query.get("nextPageToken", ()), self._token_limit)


class _Placements:
    """Where each unit of a cluster is and how far it has come, found once for many units."""

    def __init__(self, cluster: Cluster) -> None:
        self._machine: dict[UnitName, MachineId] = {}
        for row in cluster.schedule:
            if not row.leaving:
                self._machine.setdefault(row.unit, row.machine)
        self._state: dict[tuple[UnitName, MachineId], UnitState] = {
            (state.unit, state.machine): state for state in cluster.states
        }

    def unit(
        self, record: UnitRecord, file: UnitFile | None, *, listed: bool, texts: bool = True
    ) -> Unit:
        """The unit as the API shows it."""
        machine = None if record.is_global else self._machine.get(record.name)
        state = self._state.get((record.name, machine)) if machine else None
        current = state.current if state else TargetState.INACTIVE
        return Unit(
            name=record.name,
            options=file.options if file else (),
            text=file.text if file and texts else None,
            desired=record.target,
            # fleet 1.0 says "inactive" of a global unit in a list, and nothing of one asked for.
            current=current if listed or not record.is_global else None,
            machine=machine,
        )


def _named(asked: Unit, item: str) -> Unit:
    return Unit(name=UnitName(item), options=asked.options, text=asked.text, desired=asked.desired)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)
