"""The client of the API: what fleetctl asks of a fleetd, ours or an original one of fleet 1.0.

Where an original server lacks an endpoint of ours, the client does the same with what there is: a
bulk change becomes a PUT per unit, a watch becomes a question every quarter of a second. Every wait
is bounded. Errors are fleet's own, with the server's sentence in them.

What only some verbs need is imported by them: each command pays for the imports before it begins.
"""

import contextlib
import ssl
import urllib.parse
from collections.abc import AsyncGenerator, Collection, Sequence
from typing import TYPE_CHECKING, Any, Self

from fleet.api.link import CONNECT_S, READ_S, SILENCE_S, ApiLink, is_lacking
from fleet.api.members import render
from fleet.api.replies import names_in
from fleet.api.schema import (
    ListedState,
    Unit,
    decode_listed_cordon,
    decode_listed_machine,
    decode_listed_state,
    decode_page,
    decode_unit,
    encode_unit,
)
from fleet.errors import FleetError, NotFound, Unavailable
from fleet.machine import Cordon, Machine, MachineId
from fleet.names import UnitName

if TYPE_CHECKING:
    from fleet.api.happenings import Tick
    from fleet.api.lost import Lost
    from fleet.api.reports import UnitReport
    from fleet.api.syncing import SyncReport
    from fleet.api.why import Why
    from fleet.change import UnitChange
    from fleet.events import History
    from fleet.folder.difference import Inventory
    from fleet.foresight import Foreseen
    from fleet.hold import Hold
    from fleet.http.wire import Wire
    from fleet.sync.values import SyncSettings

# How often an original server is asked; fleet 1.0's own period when its fleetctl waited for units.
POLL_S = 0.25
# Beyond this, all units are watched and those not asked for passed over.
_MAX_QUERY_BYTES = 64 * 1024


class FleetClient:
    """A connection to the API of one fleetd. Its methods raise fleet's errors and no others.

    Unavailable says that the server could not be reached or did not answer in time; the others
    say what the server said. A server that has lost its store is asked again for some seconds,
    unless that might do something twice.
    """

    def __init__(
        self,
        endpoint: str,
        *,
        wire: "Wire | None" = None,
        socket: str | None = None,
        tls: ssl.SSLContext | None = None,
        connect_s: float = CONNECT_S,
        read_s: float = READ_S,
        silence_s: float = SILENCE_S,
        poll_s: float = POLL_S,
    ) -> None:
        """`wire` goes another way to the same API.

        `socket` is the path of a local socket that leads to the endpoint: the end of a tunnel.
        """
        self._poll_s = poll_s
        self._link = ApiLink(
            endpoint,
            wire=wire,
            socket=socket,
            tls=tls,
            connect_s=connect_s,
            read_s=read_s,
            silence_s=silence_s,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Let go of the connection."""
        await self._link.aclose()

    # Reading

    async def machines(self) -> tuple[Machine, ...]:
        """The machines that are alive, by id, with what fleet 1.0 tells of them."""
        return await self._link.all("machines", "machines", decode_listed_machine)

    async def units(
        self, *, texts: bool = False, contents: bool = True, placed: bool = True
    ) -> tuple[Unit, ...]:
        """All units by name, with their authors' texts if those are wanted and the server knows.

        Without `contents` it may leave out all options but those of [X-Fleet], and unless `placed`
        where each is and how far it came, too; both are quicker.
        """
        wanted = {"text": "true"} if texts else {}
        spared = {} if contents else {"contents": "false"}
        spared |= {} if placed else {"placed": "false"}
        return await self._link.all("units", "units", decode_unit, wanted | spared)

    async def unit(self, name: UnitName) -> Unit:
        """One unit, with its author's text from a server that has it; raises NotFound."""
        response = await self._link.send("GET", _item(name))
        self._link.check(response)
        return self._link.decoded(response, decode_unit)

    async def states(
        self, unit: UnitName | None = None, machine: MachineId | None = None
    ) -> tuple[ListedState, ...]:
        """systemd's states of all units, or of one, on all machines or on one."""
        filters = (("unitName", unit), ("machineID", machine))
        given = {key: str(value) for key, value in filters if value}
        return await self._link.all("state", "states", decode_listed_state, given)

    async def hold(self) -> "Hold | None":
        """The brake on a mass loss while it is on; an original server has none."""
        from fleet.api.happenings import decode_hold

        response = await self._link.send("GET", "hold")
        if is_lacking(response):
            return None
        self._link.check(response)
        return self._link.decoded(response, decode_hold)

    async def lost(self) -> "Lost":
        """The machines that are lost, and what waits for that; an original server tells nothing."""
        from fleet.api.lost import Lost, decode_lost

        response = await self._link.send("GET", "lost")
        if is_lacking(response):
            return Lost()
        self._link.check(response)
        return self._link.decoded(response, decode_lost)

    async def cordons(self) -> dict[MachineId, Cordon]:
        """The machines that take no new units, here or not; an original server knows of none."""
        response = await self._link.send("GET", "cordons")
        if is_lacking(response):
            return {}
        self._link.check(response)
        cordons, _ = self._link.decoded(
            response, lambda document: decode_page("cordons", document, decode_listed_cordon)
        )
        return dict(cordons)

    async def events(self, limit: int, *, unit: UnitName | str = "", after: int = 0) -> "History":
        """The newest events, of one unit or of all, since a revision of the store.

        NotFound from an original server, which has none.
        """
        from fleet.api.happenings import decode_history

        params: dict[str, str | int] = {"limit": limit, "after": after}
        if unit:
            params["unit"] = unit
        response = await self._link.ask_ours("events", params, "keeps no events")
        return self._link.decoded(response, decode_history)

    async def why(self, name: UnitName) -> "Why":
        """The unit's place explained; raises NotFound if there is no such unit."""
        from fleet.api.why import decode_why

        response = await self._link.ask_ours("why", {"unit": name}, "does not say why")
        return self._link.decoded(response, decode_why)

    async def inventory(self, *, texts: bool = False) -> "Inventory":
        """All units with their hashes, and their authors' texts if asked for."""
        from fleet.api.foldering import decode_inventory

        response = await self._link.send(
            "GET", "inventory", params={"text": "true"} if texts else None
        )
        self._link.check_ours(response)
        return self._link.decoded(response, decode_inventory)

    async def plan(self, changes: Sequence["UnitChange"]) -> "Foreseen":
        """Where units would run if `apply` made these changes; nothing is changed."""
        from fleet.api.foldering import decode_foreseen

        documents = [_change_document(change) for change in changes]
        response = await self._link.send("POST", "plan", content=render(documents))
        self._link.check_ours(response)
        return self._link.decoded(response, decode_foreseen)

    async def plan_rebalance(self, most: int) -> "Foreseen":
        """The moves that would even the load out, at most so many; nothing is moved."""
        from fleet.api.foldering import decode_foreseen

        response = await self._link.ask_ours("rebalance", {"max": most}, "rebalances nothing")
        return self._link.decoded(response, decode_foreseen)

    # Writing

    async def apply(
        self, changes: Sequence["UnitChange"], *, at_revision: int | None = None
    ) -> dict[UnitName, bool]:
        """Make the changes, all or none, and say of each whether the unit's contents are new.

        Of one that was to be destroyed, it is said whether it was there. Raises NotFound for a
        unit that is neither there nor given contents, and Conflict if any unit has changed since
        `at_revision`. An original server gets one change after the other, and those before a
        refused one are made.
        """
        if not changes:
            return {}
        documents = [_change_document(change) for change in changes]
        params = None if at_revision is None else {"ifRevision": at_revision}
        once = at_revision is not None or any(change.destroy for change in changes)
        body = render(documents)
        response = await self._link.send("PATCH", "units", once=once, content=body, params=params)
        if at_revision is not None:
            self._link.check_ours(response)
        if is_lacking(response):
            return await self._change_one_by_one(changes)
        self._link.check(response)
        done = self._link.decoded(response, lambda d: names_in(d, "new") | names_in(d, "destroyed"))
        return {change.name: change.name in done for change in changes}

    async def destroy(self, name: UnitName) -> None:
        """Remove the unit; raises NotFound."""
        self._link.check(await self._link.send("DELETE", _item(name), once=True))

    async def set_metadata(self, changes: Sequence[tuple[MachineId, str, str | None]]) -> None:
        """Set metadata keys of machines; None takes a key away."""
        operations: list[dict[str, Any]] = []
        for machine, key, value in changes:
            operation: dict[str, Any] = {"op": "remove" if value is None else "add"}
            operation["path"] = f"/{machine}/metadata/{key}"
            # An object is what fleet 1.0 takes; its documentation has a plain text.
            operations.append(operation | ({} if value is None else {"value": {"value": value}}))
        self._link.check(await self._link.send("PATCH", "machines", content=render(operations)))

    async def cordon(self, machine: MachineId, *, why: str, drain: bool) -> None:
        """Let the machine take no new units, and with `drain` have its units leave it."""
        body = render({"why": why, "drain": drain})
        response = await self._link.send("PUT", _cordon_of(machine), content=body)
        self._link.check_ours(response)

    async def uncordon(self, machine: MachineId) -> None:
        """Let the machine take units again; raises NotFound if it is not cordoned."""
        response = await self._link.send("DELETE", _cordon_of(machine))
        self._link.check_ours(response)

    async def rebalance(self, most: int) -> "Foreseen":
        """Set moves going that even the load out, at most so many, and say which.

        Raises Conflict while nothing may be moved; NotFound from an original server.
        """
        from fleet.api.foldering import decode_foreseen

        response = await self._link.send("POST", "rebalance", once=True, params={"max": most})
        self._link.check_ours(response)
        return self._link.decoded(response, decode_foreseen)

    async def release_hold(self) -> None:
        """Have the machines given up that are held; raises NotFound if none are."""
        response = await self._link.send("DELETE", "hold", once=True)
        if is_lacking(response):
            raise NotFound("no machines are held")
        self._link.check(response)

    # The repository that is followed

    async def sync(self, *, texts: bool = False) -> "SyncReport":
        """What is followed, how far it came, what has drifted, from which texts if asked for."""
        from fleet.api.syncing import decode_sync

        params = {"text": "true"} if texts else None
        response = await self._link.send("GET", "sync", params=params)
        self._link.check_ours(response)
        return self._link.decoded(response, decode_sync)

    async def set_sync(self, settings: "SyncSettings") -> None:
        """Have the cluster follow this; raises InvalidRequest."""
        from fleet.sync.values import encode_settings

        body = render(encode_settings(settings))
        self._link.check_ours(await self._link.send("PUT", "sync", content=body))

    async def sync_now(self) -> None:
        """Have the leader look at the repository now; raises NotFound if none is followed."""
        self._link.check_ours(await self._link.send("POST", "sync"))

    async def stop_sync(self) -> None:
        """Have the cluster follow nothing; raises NotFound if nothing is followed."""
        self._link.check_ours(await self._link.send("DELETE", "sync"))

    # Watching

    async def changes(self) -> "AsyncGenerator[Tick, None]":
        """What kinds of things change; a first tick, which names none, comes at once.

        Ends and raises like `watch`; NotFound from an original server.
        """
        from fleet.api.happenings import decode_tick

        async with contextlib.aclosing(self._link.lines("changes", "tells of no changes")) as lines:
            async for line in lines:
                yield self._link.read_line(line, decode_tick)

    async def watch(self, names: Collection[UnitName] = ()) -> AsyncGenerator["UnitReport", None]:
        """A report on each of the units at once, and another on every change; no names: on all.

        Goes on until it is closed. Raises Unavailable when the server falls silent, ends the
        stream or loses its store; watching again tells the whole story anew.
        """
        from fleet.api.reports import decode_report

        wanted = frozenset(names)
        with contextlib.suppress(NotFound):
            url = self._watch_url(wanted)
            async with contextlib.aclosing(self._link.lines(url, "tells of no reports")) as lines:
                async for line in lines:
                    told = self._link.read_line(line, decode_report)
                    if not wanted or told.name in wanted:
                        yield told
        from fleet.api.fallback import poll

        async with contextlib.aclosing(poll(self, wanted, every_s=self._poll_s)) as polled:
            async for told in polled:
                yield told

    def _watch_url(self, wanted: frozenset[UnitName]) -> str:
        query = urllib.parse.urlencode([("unit", name) for name in sorted(wanted)])
        return f"watch?{query}" if query and len(query) <= _MAX_QUERY_BYTES else "watch"

    # Requests

    async def _change_one_by_one(self, changes: Sequence["UnitChange"]) -> dict[UnitName, bool]:
        """What `apply` does, of an original server; one unit that stays does not keep others."""
        outcome: dict[UnitName, bool] = {}
        problems: list[FleetError] = []
        for change in changes:
            if not change.destroy:
                outcome[change.name] = await self._put(change)
                continue
            try:
                await self.destroy(change.name)
                outcome[change.name] = True
            except NotFound:
                outcome[change.name] = False
            except Unavailable:
                raise
            except FleetError as error:
                problems.append(error)
        for problem in problems:
            raise problem
        return outcome

    async def _put(self, change: "UnitChange") -> bool:
        asked = _asked(change)
        options = change.file.options if change.file else ()
        plain = Unit(name=asked.name, options=options, desired=asked.desired)
        response = await self._link.send(
            "PUT", _item(change.name), content=render(encode_unit(plain))
        )
        self._link.check(response)
        return response.status == 201


def _item(name: UnitName) -> str:
    return f"units/{urllib.parse.quote(name, safe='')}"


def _cordon_of(machine: MachineId) -> str:
    return f"cordons/{urllib.parse.quote(machine, safe='')}"


def _asked(change: "UnitChange") -> Unit:
    text = change.file.text if change.file else None
    return Unit(
        name=change.name,
        text=text,
        desired=change.target,
        source=change.source,
        max_unavailable=change.max_unavailable if text else 0,
    )


def _change_document(change: "UnitChange") -> dict[str, Any]:
    return {"name": change.name, "destroy": True} if change.destroy else encode_unit(_asked(change))
