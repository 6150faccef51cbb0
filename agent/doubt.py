"""Is an empty schedule to be believed? A store that was wiped looks like one with nothing to run.

Context. A `Mirror` makes sure that a store which cannot be read is never taken for an empty one.
A store that answers, but has lost its contents (a new etcd cluster under the old address, a
deleted prefix), gets past that, and would stop every unit of every machine at once.

So when all rows of a machine that has units are gone, somebody has to account for it: the rows
went while this machine's registration stood, which is how an engine takes units away; or the units
are still in the cluster, so they are meant to run elsewhere; or an event tells that one of them was
destroyed. Otherwise the units keep running and the agent says why. This costs one read, on the
pass in which a machine loses its last unit.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from fleet.events import DESTROYED, read_events
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.store.port import Entry, Snapshot, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What the store has to say about rows that are gone.

    `registered` is the revision that created this machine's registration, 0 if it has none;
    `last_row` the one at which a row was last seen, 0 if none was since fleetd started.
    """

    revision: int
    registered: int
    last_row: int
    stored: frozenset[UnitName] = frozenset()
    destroyed: frozenset[UnitName] = frozenset()


def why_doubt(units: Iterable[UnitName], evidence: Evidence) -> str:
    """Why the empty schedule is not believed, "" if it is."""
    names = frozenset(units)
    stood = 0 < evidence.registered <= evidence.last_row <= evidence.revision
    if stood or names & evidence.stored or names & evidence.destroyed:
        return ""
    return (
        f"the store has no trace of the {len(names)} units of this machine, as if it had been "
        "wiped; they are left running. Submit them again, or stop and remove them by submitting "
        "and destroying one of them"
    )


def prefixes(keys: Keys, machine: MachineId, units: Iterable[UnitName]) -> tuple[str, ...]:
    """What has to be read, at one revision, to gather evidence."""
    return (keys.machine(machine), keys.events, *(keys.unit(unit) for unit in units))


def gather(
    snapshot: Snapshot, keys: Keys, machine: MachineId, units: Iterable[UnitName], last_row: int
) -> Evidence:
    """The evidence in what was read."""
    entries = snapshot.entries
    registration = entries.get(keys.machine(machine))
    return Evidence(
        revision=snapshot.revision,
        registered=registration.created if registration else 0,
        last_row=last_row,
        stored=frozenset(unit for unit in units if keys.unit(unit) in entries),
        destroyed=_destroyed(e for e in entries.values() if e.key.startswith(keys.events)),
    )


async def doubt(
    store: Store, keys: Keys, machine: MachineId, units: Iterable[UnitName], last_row: int
) -> str:
    """Why this machine's empty schedule is not believed, "" if it is; raises Unavailable."""
    names = sorted(units)
    snapshot = await store.read(*prefixes(keys, machine, names))
    return why_doubt(names, gather(snapshot, keys, machine, names, last_row))


def _destroyed(events: Iterable[Entry]) -> frozenset[UnitName]:
    told = (event for entry in events for event in read_events(entry))
    return frozenset(UnitName(event.unit) for event in told if event.what == DESTROYED)
