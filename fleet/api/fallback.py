"""What can be told of a unit from fleet 1.0's entities alone."""

from collections.abc import Mapping, Sequence

from fleet.api.reports import ReportedAssignment, UnitReport
from fleet.api.schema import ListedState, Unit
from fleet.machine import MachineId
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
