"""The client against our own service, and against one that answers as an original server does."""

import asyncio
import contextlib
import json
import urllib.parse
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Any

import pytest

from fleet.api.access import Peer
from fleet.api.answers import error_answer
from fleet.api.call import Call
from fleet.api.client import FleetClient
from fleet.api.patience import PATIENCE_S
from fleet.api.schema import ListedState
from fleet.api.service import ApiService
from fleet.errors import (
    Conflict,
    Denied,
    FleetError,
    InvalidRequest,
    NotFound,
    Unavailable,
)
from fleet.hold import Hold, encode_hold
from fleet.http.connections import Broken, NotConnected, Silent, WireError
from fleet.http.wire import Reply, Request
from fleet.keys import Keys
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState, UnitState
from fleet.store.memory import MemoryStore
from fleet.store.port import Put
from fleet.unit import parse_unit

A, B, AT = UnitName("a.service"), UnitName("b.service"), UnitName("a@1.service")
ONE = MachineId("1" * 32)
TEXT = "# mine\n[Service]\nExecStart=/bin/true\n"
FILE = parse_unit(TEXT)
HERE = "unix:///run/fleet.sock"
_OURS = (
    "watch",
    "hold",
    "lost",
    "events",
    "why",
    "changes",
    "inventory",
    "plan",
    "cordons",
    "rebalance",
)


@dataclass
class Answered:
    """An answer that is there as a whole."""

    status: int
    content: bytes


def answered(status: int, document: Any = None, *, content: bytes = b"") -> Answered:
    return Answered(status, json.dumps(document).encode() if document else content)


class InProcess:
    """A wire to an API in this process."""

    async def answer(self, request: Request) -> Answered:
        raise NotImplementedError

    @contextlib.asynccontextmanager
    async def exchange(self, request: Request) -> AsyncIterator[Reply]:
        answer = await self.answer(request)

        async def parts() -> AsyncIterator[bytes]:
            yield answer.content

        yield Reply(answer.status, parts())

    async def aclose(self) -> None:
        pass


class ToService(InProcess):
    """A wire to a service in this process; as an original server, one that lacks what is ours."""

    def __init__(self, *, original: bool = False, token_limit: int = 100) -> None:
        self.original = original
        self.requests: list[str] = []
        self.registry = Registry(MemoryStore(), Keys())
        self._service = ApiService(
            self.registry, version="1.0.0", hostname="box", token_limit=token_limit
        )

    async def answer(self, request: Request) -> Answered:
        method, target = request.method, request.target
        self.requests.append(f"{method} {target}")
        path, _, query = target.partition("?")
        found = {
            key: values
            for key, values in urllib.parse.parse_qs(query, keep_blank_values=True).items()
            if not (self.original and key == "whole")
        }
        if self.original and (method, path) == ("PATCH", "/fleet/v1/units"):
            return answered(405, {"error": {"code": 405, "message": "only GET"}})
        if self.original and path.split("/")[3] in _OURS:
            return answered(404, {"error": {"code": 404, "message": ""}})
        peer = Peer(user="root", uid=0)
        try:
            route = self._service.admit(method, urllib.parse.unquote(path), peer)
            call = Call(
                route=route,
                peer=peer,
                query=found,
                content_types=("application/json",) if request.content else (),
                body=request.content or b"",
            )
            answer = await self._service.answer(call)
        except FleetError as error:
            answer = error_answer(error)
        if self.original:
            return answered(answer.status, content=answer.body.replace(b'"text"', b'"-"'))
        return answered(answer.status, content=answer.body)


@contextlib.asynccontextmanager
async def a_client(**settings: Any) -> AsyncIterator[tuple[FleetClient, ToService]]:
    way = ToService(**settings)
    async with FleetClient(HERE, wire=way) as client:
        yield client, way


both_servers = pytest.mark.parametrize(
    "original", [pytest.param(False, id="ours"), pytest.param(True, id="an original one")]
)


@both_servers
async def test_units_are_stored_started_read_and_destroyed(original: bool) -> None:
    async with a_client(original=original) as (client, _):
        changes = [UnitChange(name=name, file=FILE, target=TargetState.LOADED) for name in (A, AT)]
        assert await client.apply(changes) == {A: True, AT: True}
        launch = UnitChange(name=A, target=TargetState.LAUNCHED)
        assert await client.apply([launch]) == {A: False}
        unit = await client.unit(A)
        assert (unit.name, unit.desired, unit.current) == (
            A,
            TargetState.LAUNCHED,
            TargetState.INACTIVE,
        )
        assert unit.file is not None
        assert unit.file.hash == FILE.hash
        assert unit.text == (None if original else TEXT)
        assert [unit.name for unit in await client.units()] == [A, AT]
        await client.destroy(AT)
        with pytest.raises(NotFound, match="unit does not exist"):
            await client.unit(AT)
        with pytest.raises(NotFound):
            await client.destroy(AT)


@both_servers
async def test_unit_that_is_nowhere_is_not_found(original: bool) -> None:
    async with a_client(original=original) as (client, _):
        with pytest.raises(NotFound, match="unit does not exist"):
            await client.apply([UnitChange(name=A, target=TargetState.LAUNCHED)])


async def test_bulk_is_one_request() -> None:
    async with a_client() as (client, way):
        names = [UnitName(f"u{number:03}.service") for number in range(300)]
        await client.apply([UnitChange(name=name, file=FILE) for name in names])
        assert [unit.name for unit in await client.units()] == names
        assert way.requests == ["PATCH /fleet/v1/units", "GET /fleet/v1/units?whole=true"]


@both_servers
async def test_many_are_destroyed_and_those_not_there_passed_over(original: bool) -> None:
    async with a_client(original=original) as (client, way):
        names = [UnitName(f"u{number:03}.service") for number in range(300)]
        await client.apply([UnitChange(name=name, file=FILE) for name in names])
        way.requests.clear()
        asked = [UnitChange(name=name, destroy=True) for name in (*names[1:], B)]
        assert await client.apply(asked) == dict.fromkeys(names[1:], True) | {B: False}
        assert len(way.requests) == (301 if original else 1)
        assert [unit.name for unit in await client.units()] == names[:1]


async def test_nothing_to_change_asks_nothing() -> None:
    async with a_client() as (client, way):
        assert await client.apply([]) == {}
        assert way.requests == []


async def test_pages_of_an_original_server_are_followed() -> None:
    async with a_client(original=True, token_limit=2) as (client, way):
        names = [UnitName(f"u{number}.service") for number in range(4)]
        await client.apply([UnitChange(name=name, file=FILE) for name in names])
        way.requests.clear()
        assert [unit.name for unit in await client.units()] == names
        assert len(way.requests) == 3


@both_servers
async def test_machines_states_and_metadata(original: bool) -> None:
    async with a_client(original=original) as (client, way):
        lease = await way.registry.store.grant(60)
        machine = Machine(id=ONE, address="10.0.0.1", metadata={"a": "b", "c": "d"})
        await way.registry.register(machine, lease, over=0)
        state = UnitState(
            unit=A,
            machine=ONE,
            hash="h",
            current=TargetState.LAUNCHED,
            load="loaded",
            active="active",
            sub="running",
        )
        await way.registry.publish_states(ONE, {A: state}, lease)
        await client.set_metadata([(ONE, "e", "f"), (ONE, "a", None)])
        assert await client.machines() == (
            Machine(id=ONE, address="10.0.0.1", metadata={"c": "d", "e": "f"}),
        )
        listed = ListedState(
            unit=A, machine=ONE, hash="h", load="loaded", active="active", sub="running"
        )
        assert await client.states() == await client.states(A) == (listed,)
        assert await client.states(A, ONE) == (listed,)
        assert await client.states(B) == await client.states(machine=MachineId("x")) == ()


async def test_hold_is_read_and_released_and_events_tell_of_it() -> None:
    hold = Hold(machines=frozenset({ONE}), until_s=1732155200.5, reason="it vanished")
    async with a_client() as (client, way):
        assert await client.hold() is None
        with pytest.raises(NotFound, match="no machines are held"):
            await client.release_hold()
        await way.registry.store.commit([], [Put(way.registry.keys.hold, encode_hold(hold))])
        assert await client.hold() == hold
        await client.release_hold()
        assert await client.hold() is None
        await client.apply([UnitChange(name=A, file=FILE)])
        assert [event.by for event in (await client.events(10)).events] == ["root@box", "root@box"]
        assert [event.unit for event in (await client.events(1)).events] == [A]
        history = await client.events(10, unit=A)
        assert [(event.unit, event.what) for event in history.events] == [
            (A, "stored, target state inactive")
        ]
        await client.destroy(A)
        later = await client.events(10, after=history.revision)
        assert [event.what for event in later.events] == ["destroyed"]
        assert later.revision > history.revision
        with pytest.raises(InvalidRequest, match="limit"):
            await client.events(0)


async def test_machine_is_cordoned_listed_and_uncordoned() -> None:
    async with a_client() as (client, way):
        lease = await way.registry.store.grant(60)
        await way.registry.register(Machine(id=ONE), lease, over=0)
        assert await client.cordons() == {}
        await client.cordon(ONE, why="new\n disks", drain=True)
        ((machine, cordon),) = (await client.cordons()).items()
        assert (machine, cordon.by, cordon.why, cordon.drain) == (
            ONE,
            "root@box",
            "new disks",
            True,
        )
        assert cordon.at_s > 0
        assert [listed.cordon for listed in await client.machines()] == [cordon]
        await client.uncordon(ONE)
        with pytest.raises(NotFound, match="is not cordoned"):
            await client.uncordon(ONE)
        with pytest.raises(InvalidRequest, match="why has more than"):
            await client.cordon(ONE, why="x" * 5000, drain=False)


async def test_original_server_has_no_cordons_no_hold_no_moves_and_no_events() -> None:
    async with a_client(original=True) as (client, _):
        with pytest.raises(NotFound, match="rebalances nothing: it is a fleetd"):
            await client.plan_rebalance(1)
        with pytest.raises(NotFound, match="cannot do this: it is a fleetd"):
            await client.rebalance(1)
        assert await client.cordons() == {}
        with pytest.raises(NotFound, match="cannot do this"):
            await client.cordon(ONE, why="", drain=False)
        assert await client.hold() is None
        with pytest.raises(NotFound, match="no machines are held"):
            await client.release_hold()
        with pytest.raises(NotFound, match="keeps no events"):
            await client.events(10)
        with pytest.raises(NotFound, match="does not say why"):
            await client.why(A)
        with pytest.raises(NotFound, match="tells of no changes"):
            await anext(client.changes())


async def test_original_server_is_asked_again_and_again_in_place_of_a_watch() -> None:
    async with (
        a_client(original=True) as (client, way),
        contextlib.aclosing(client.watch({A})) as reports,
    ):
        assert not (await anext(reports)).exists
        change = UnitChange(name=A, file=FILE, target=TargetState.LAUNCHED)
        await way.registry.apply([change], by="test")
        told = await anext(reports)
        assert (told.exists, told.desired) == (True, TargetState.LAUNCHED)
        assert told.hash == FILE.hash
        await way.registry.destroy(A, by="test")
        assert not (await anext(reports)).exists


def answering(answer: Callable[[Request], Answered] | Answered) -> FleetClient:
    class Answers(InProcess):
        async def answer(self, request: Request) -> Answered:
            return answer if isinstance(answer, Answered) else answer(request)

    return FleetClient(HERE, wire=Answers())


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        pytest.param(400, InvalidRequest, id="bad request"),
        pytest.param(403, Denied, id="not allowed"),
        pytest.param(404, NotFound, id="not found"),
        pytest.param(409, Conflict, id="conflict"),
        pytest.param(413, InvalidRequest, id="too large"),
        pytest.param(415, InvalidRequest, id="not JSON"),
        pytest.param(500, Unavailable, id="the server's fault"),
        pytest.param(503, Unavailable, id="no store"),
    ],
)
async def test_servers_sentence_comes_as_fleets_error(status: int, kind: type[FleetError]) -> None:
    error = {"error": {"code": status, "message": "the sentence"}}
    async with answering(answered(status, error)) as client:
        with pytest.raises(kind, match=r"^the sentence$"):
            await client.unit(A)


async def test_reason_that_only_our_server_gives_is_told() -> None:
    error = {"error": {"code": 503, "message": "fleet server unable", "reason": "not registered"}}
    async with answering(answered(503, error)) as client:
        with pytest.raises(Unavailable, match=r"^fleet server unable: not registered$"):
            await client.units()


class Electing:
    """A server whose store is away at first."""

    def __init__(self, *, refusals: int) -> None:
        self.refusals = refusals
        self.asked = 0

    def __call__(self, request: Request) -> Answered:
        self.asked += 1
        if self.asked <= self.refusals:
            error = {"error": {"code": 503, "message": "no leader"}}
            return answered(503, error)
        if request.target.endswith("/watch?unit=a.service"):
            return answered(200, content=b'{"name":"a.service"}\n')
        return answered(200, {"new": ["a.service"]})


async def test_server_whose_store_elects_a_leader_is_asked_again() -> None:
    server = Electing(refusals=10)
    async with answering(server) as client:
        assert await client.units() == ()
        assert server.asked == 11


async def test_change_that_can_be_made_twice_is_sent_again() -> None:
    server = Electing(refusals=3)
    async with answering(server) as client:
        assert await client.apply([UnitChange(name=A, target=TargetState.LOADED)]) == {A: True}
        assert server.asked == 4


async def test_watch_begins_when_the_store_is_back() -> None:
    server = Electing(refusals=3)
    async with answering(server) as client, contextlib.aclosing(client.watch([A])) as reports:
        assert (await anext(reports)).name == A
        assert server.asked == 4


async def test_destroying_is_not_tried_twice() -> None:
    server = Electing(refusals=1)
    async with answering(server) as client:
        with pytest.raises(Unavailable, match=r"^no leader$"):
            await client.apply([UnitChange(name=A, destroy=True)])
        with pytest.raises(Unavailable, match=r"^no leader$"):
            await answering(Electing(refusals=1)).destroy(A)
        assert server.asked == 1


async def test_server_whose_store_stays_away_is_given_up() -> None:
    server = Electing(refusals=10**6)
    begun = asyncio.get_running_loop().time()
    async with answering(server) as client:
        with pytest.raises(Unavailable, match=r"^no leader$"):
            await client.units()
    assert asyncio.get_running_loop().time() - begun <= PATIENCE_S


@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"<html>", id="not JSON"),
        pytest.param(b"[]", id="an array"),
        pytest.param(b'{"error":"x"}', id="an error that is a text"),
        pytest.param(b'{"error":{"message":5}}', id="a message that is a number"),
    ],
)
async def test_answer_that_is_not_fleets_is_unavailable(body: bytes) -> None:
    async with answering(lambda request: answered(502, content=body)) as client:
        with pytest.raises(Unavailable, match=r"/run/fleet\.sock answered with HTTP status 502"):
            await client.units()
    async with answering(lambda request: answered(200, content=b"<html>")) as client:
        with pytest.raises(Unavailable, match="not as a fleetd does"):
            await client.units()


def lines(*documents: Any) -> bytes:
    return b"".join(b"\n" if d is None else json.dumps(d).encode() + b"\n" for d in documents)


@pytest.mark.parametrize(
    ("stream", "message"),
    [
        pytest.param(lines({"name": A}), "ended the stream", id="an end"),
        pytest.param(
            lines({"name": A}, None, {"error": {"code": 503, "message": "fleetd is stopping"}}),
            "^fleetd is stopping$",
            id="a last word",
        ),
        pytest.param(lines({"name": A}, {"name": 5}), "not as a fleetd", id="a malformed report"),
        pytest.param(lines({"name": A}) + b"{", "not as a fleetd", id="half a line"),
    ],
)
async def test_watch_ends_in_a_sentence(stream: bytes, message: str) -> None:
    async with answering(answered(200, content=stream)) as client:
        reports = client.watch({A})
        assert (await anext(reports)).name == A
        with pytest.raises(Unavailable, match=message):
            await anext(reports)


class Failing(InProcess):
    """A wire to a server with which no exchange goes well."""

    def __init__(self, error: WireError, cause: Exception | None) -> None:
        self._error, self._cause = error, cause

    async def answer(self, request: Request) -> Answered:
        raise self._error from self._cause


@pytest.mark.parametrize(
    ("error", "cause", "message"),
    [
        pytest.param(
            NotConnected(),
            TimeoutError(),
            "/run/fleet.sock did not take the connection within 5 s",
            id="it takes no connection",
        ),
        pytest.param(
            NotConnected(),
            ConnectionRefusedError(111, "refused"),
            "nobody listens on /run/fleet.sock: is fleetd running?",
            id="nobody there",
        ),
        pytest.param(
            Broken("peer closed"),
            OSError(),
            "the connection to /run/fleet.sock broke: peer closed",
            id="it breaks",
        ),
        pytest.param(
            Silent(),
            TimeoutError(),
            "/run/fleet.sock has not answered GET /fleet/v1/events for 30 s",
            id="it falls silent",
        ),
    ],
)
async def test_exchange_that_fails_is_told(
    error: WireError, cause: Exception, message: str
) -> None:
    async with FleetClient(HERE, wire=Failing(error, cause)) as client:
        with pytest.raises(Unavailable) as caught:
            await client.events(limit=1)
    assert str(caught.value) == message


async def test_watch_that_is_refused_says_why() -> None:
    error = {"error": {"code": 403, "message": "user eve may not"}}
    async with answering(answered(403, error)) as client:
        with pytest.raises(Denied, match="user eve may not"):
            await anext(client.watch({A}))


async def test_more_names_than_a_request_holds_are_filtered_here() -> None:
    asked: list[str] = []

    def answer(request: Request) -> Answered:
        asked.append(request.target)
        return answered(200, content=lines({"name": "other.service"}, {"name": A}))

    names = {A, *(UnitName(f"{'x' * 200}{number}.service") for number in range(2000))}
    async with answering(answer) as client:
        reports = client.watch(names)
        assert (await anext(reports)).name == A
        await reports.aclose()
    assert asked == ["/fleet/v1/watch"]


async def test_names_are_quoted_in_paths() -> None:
    asked: list[str] = []

    def answer(request: Request) -> Answered:
        asked.append(request.target)
        return answered(204)

    async with answering(answer) as client:
        await client.destroy(UnitName("a\\x2db@1.service"))
    assert asked == ["/fleet/v1/units/a%5Cx2db%401.service"]


async def test_inventory_and_changes_at_a_revision() -> None:
    async with a_client() as (client, _):
        await client.apply([UnitChange(name=A, file=FILE, target=TargetState.LOADED, source="x")])
        found = await client.inventory(texts=True)
        unit = found.units[A]
        assert (unit.hash, unit.target, unit.source, unit.text) == (
            FILE.hash,
            TargetState.LOADED,
            "x",
            TEXT,
        )
        assert (await client.inventory()).units[A].text is None
        destroy = [UnitChange(name=A, destroy=True)]
        with pytest.raises(Conflict, match="have changed since revision 0"):
            await client.apply(destroy, at_revision=0)
        assert await client.apply(destroy, at_revision=found.revision) == {A: True}


async def test_original_server_knows_no_inventory_plan_or_revision() -> None:
    change = [UnitChange(name=A, file=FILE)]
    async with a_client(original=True) as (client, _):
        for asked in (client.inventory(), client.plan(change), client.apply(change, at_revision=1)):
            with pytest.raises(NotFound, match=r"fleet 1\.0"):
                await asked
