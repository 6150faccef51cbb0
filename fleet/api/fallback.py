"""What can be told of units from fleet 1.0's entities alone, asked for again and again."""

import asyncio
from collections.abc import AsyncGenerator, Mapping, Sequence
from typing import Protocol

from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.api.schema import ListedState, Unit
from fleet.errors import NotFound
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.options import fleet_options, read_requirements
from fleet.states import TargetState, UnitState


def report_of(
    unit: Unit, states: Sequence[ListedState], addresses: Mapping[MachineId, str]
) -> UnitReport:
    """The unit's story as far as an original server knows it: no reasons, refusals or results."""
    file = unit.file
    asked = read_requirements(fleet_options(file)) if file else None
    spoken_of = {state.machine for state in states} | ({unit.machine} if unit.machine else set())
    current = unit.current or TargetState.INACTIVE
    target = unit.desired or TargetState.INACTIVE
    row = ReportedAssignment(machine=unit.machine, target=target) if unit.machine else None
    return UnitReport(
        name=unit.name,
        exists=True,
        hash=file.hash if file else "",
        desired=target,
        current=current,
        machine=unit.machine,
        is_global=asked.is_global if asked else False,
        states=tuple(
            UnitState(
                unit=state.unit,
                machine=state.machine,
                hash=state.hash,
                current=current,
                load=state.load,
                active=state.active,
                sub=state.sub,
            )
            for state in states
        ),
        assignments=(row,) if row else (),
        addresses={machine: addresses[machine] for machine in spoken_of if machine in addresses},
    )


class Asked(Protocol):
    """The part of the API's client that an original server answers."""

    async def machines(self) -> Sequence[Machine]: ...

    async def units(self) -> Sequence[Unit]: ...

    async def unit(self, name: UnitName) -> Unit: ...

    async def states(self, unit: UnitName) -> Sequence[ListedState]: ...


async def poll(
    client: Asked, wanted: frozenset[UnitName], *, every_s: float
) -> AsyncGenerator[UnitReport, None]:
    """What a watch tells, from a server that has none: without reasons and refusals."""
    told: dict[UnitName, UnitReport] = {}
    while True:
        addresses = {machine.id: machine.address for machine in await client.machines()}
        names = wanted or {unit.name for unit in await client.units()} | told.keys()
        for name in sorted(names):
            new = await _observed(client, name, addresses)
            if told.get(name) != new:
                told[name] = new
                yield new
        await asyncio.sleep(every_s)


async def _observed(
    client: Asked, name: UnitName, addresses: Mapping[MachineId, str]
) -> UnitReport:
    try:
        unit = await client.unit(name)
    except NotFound:
        return UnitReport(name=name)
    return report_of(unit, await client.states(name), addresses)
