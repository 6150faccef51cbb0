"""Claims: which machine may be running a fenced unit, written there before it starts.

A machine claims a fenced unit in a transaction that compares the row of its schedule, starts the
unit only then, and gives the claim back once the unit is seen to have stopped. The claim stays
when the machine is lost: until it is given back, or the leader takes it away because the unit must
have stopped by itself (`engine.fencing`), no other machine gets the unit.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from fleet.batch import Batch, Decision
from fleet.errors import MALFORMED, Conflict
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


def _stop_time(entry: Entry) -> float:
    try:
        return float(json.loads(entry.value)["stop"])
    except MALFORMED:
        return 0.0


class Claims:
    """One machine's claims in the store. Methods raise Unavailable with the store."""

    def __init__(self, store: Store, keys: Keys, machine: MachineId) -> None:
        self._store = store
        self._keys = keys
        self._machine = machine

    async def held(self) -> dict[UnitName, float]:
        """The units that the machine has claimed, with their stop times; 0 if unreadable."""
        prefix = self._keys.claims_of(self._machine)
        entries = (await self._store.read(prefix)).entries
        return {UnitName(key.removeprefix(prefix)): _stop_time(e) for key, e in entries.items()}

    async def take(self, unit: UnitName, row: int, stops: Mapping[UnitName, float]) -> None:
        """Claim the unit, whose row was last changed by revision `row`; raises Conflict.

        `stops` are the stop times of the unit and of those that take longer because of it, which
        are told first if one transaction does not take them all.
        """
        guard = Guard(self._keys.assignment(self._machine, unit), modified=row)
        batch = Batch(self._store, self._keys, fence=guard)
        try:
            for name in sorted(stops, key=lambda name: name == unit):
                claim = Claim(unit=name, machine=self._machine, stop_s=stops[name])
                put = Put(self._keys.claim(self._machine, name), encode_claim(claim))
                await batch.add(Decision([put]))
            await batch.flush()
        except Conflict as error:
            raise Conflict(f"{unit} is scheduled otherwise by now") from error

    async def release(self, units: Iterable[UnitName]) -> None:
        """Say that nothing of these units runs here; raises Conflict if a claim has just changed.

        A request that arrives after it was given up takes no claim away that was made since.
        """
        entries = (await self._store.read(self._keys.claims_of(self._machine))).entries
        batch = Batch(self._store, self._keys)
        for key in (self._keys.claim(self._machine, unit) for unit in units):
            if key in entries:
                guard = Guard(key, modified=entries[key].modified)
                await batch.add(Decision([Delete(key)], [guard]))
        await batch.flush()
