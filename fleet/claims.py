"""Claims: which machine may be running a fenced unit, written there before it starts.

A machine claims a fenced unit in a transaction that compares the row of its schedule, starts the
unit only then, and gives the claim back once the unit is seen to have stopped. The claim stays
when the machine is lost: until it is given back, or the leader takes it away because the unit must
have stopped by itself (`engine.fencing`), no other machine gets the unit.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.batch import Batch
from fleet.errors import Conflict
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName, parse_name
from fleet.store.port import Delete, Entry, Guard, Put, Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """That machine may be running the unit, and stops it within `stop_s` seconds of its fence."""

    unit: UnitName
    machine: MachineId
    stop_s: float
    revision: int = 0


def encode_claim(claim: Claim) -> bytes:
    return json.dumps({"stop": claim.stop_s}).encode()


def read_claim(rest: str, entry: Entry) -> Claim:
    """The claim of an entry whose key ends so; raises MALFORMED (fleet/errors.py)."""
    machine, _, unit = rest.partition("/")
    return Claim(
        unit=parse_name(unit),
        machine=MachineId(machine),
        stop_s=float(json.loads(entry.value)["stop"]),
        revision=entry.modified,
    )


class Claims:
    """One machine's claims in the store. Methods raise Unavailable with the store."""

    def __init__(self, store: Store, keys: Keys, machine: MachineId) -> None:
        self._store = store
        self._keys = keys
        self._machine = machine

    async def held(self) -> frozenset[UnitName]:
        """The units that the machine has claimed, also those whose claims cannot be read."""
        prefix = self._keys.claims_of(self._machine)
        entries = (await self._store.read(prefix)).entries
        return frozenset(UnitName(key.removeprefix(prefix)) for key in entries)

    async def take(self, unit: UnitName, row: int, stops: Mapping[UnitName, float]) -> None:
        """Claim the unit, whose row was last changed by revision `row`; raises Conflict.

        `stops` are the stop times of the unit and of those that take longer because of it.
        """
        guard = Guard(self._keys.assignment(self._machine, unit), modified=row)
        puts = [
            Put(
                self._keys.claim(self._machine, name),
                encode_claim(Claim(unit=name, machine=self._machine, stop_s=stop_s)),
            )
            for name, stop_s in stops.items()
        ]
        if not (await self._store.commit([guard], puts)).succeeded:
            raise Conflict(f"{unit} is scheduled otherwise by now")

    async def release(self, units: Iterable[UnitName]) -> None:
        """Say that nothing of these units runs here; raises Conflict if a claim has just changed.

        A request that arrives after it was given up takes no claim away that was made since.
        """
        entries = (await self._store.read(self._keys.claims_of(self._machine))).entries
        batch = Batch(self._store)
        for key in (self._keys.claim(self._machine, unit) for unit in units):
            if key in entries:
                await batch.add([Guard(key, modified=entries[key].modified)], [Delete(key)])
        await batch.flush()
