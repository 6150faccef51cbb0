"""Which machine a user means, and on which machines a unit is: for ssh, status and journal.

Pure functions of what the API says.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from cli.selection import is_global
from fleet.api.schema import ListedState, Unit
from fleet.errors import FleetError, NotFound
from fleet.machine import Machine, MachineId
from fleet.states import TargetState


class NoPlace(FleetError):
    """The arguments lead to no machine, or to more than one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """Where the user wants to go: to a machine, to a unit's, or to that of either name."""

    machine: str = ""
    unit: str = ""
    either: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """What the cluster says: its machines, the unit asked for, and where that has a state."""

    machines: Sequence[Machine] = ()
    unit: Unit | None = None
    states: Sequence[ListedState] = ()


def find_machine(machines: Iterable[Machine], text: str) -> Machine:
    """The machine of that id, beginning of an id, or address; raises NoPlace."""
    found = machines_like(machines, text)
    if not found:
        raise NoPlace(f"machine does not exist: no id begins with {text!r}, and no address is that")
    if len(found) > 1:
        ids = ", ".join(machine.short_id for machine in found)
        raise NoPlace(f"found more than one machine for {text!r}: {ids}; give more of the id")
    return found[0]


def machines_like(machines: Iterable[Machine], text: str) -> list[Machine]:
    """Every machine that the text may mean; a whole id or address means only its own."""
    candidates = [m for m in machines if text and (m.id.startswith(text) or m.address == text)]
    return [m for m in candidates if text in (m.id, m.address)] or candidates


def find_place(wish: Wish, sight: Sight) -> Machine:
    """The one machine that is wished for; raises NoPlace."""
    if wish.machine and wish.unit:
        raise NoPlace("Both machine and unit flags provided, please specify only one.")
    if wish.machine:
        return find_machine(sight.machines, wish.machine)
    if wish.unit:
        return _machine_of_unit(wish.unit, sight)
    if not wish.either:
        raise NoPlace("one machine or unit must be provided")
    like = machines_like(sight.machines, wish.either)
    if like and sight.unit is not None:
        raise NoPlace(
            f"{wish.either!r} is ambiguous, a machine and a unit: say --machine or --unit"
        )
    if like:
        return find_machine(sight.machines, wish.either)
    if sight.unit is None:
        raise NoPlace(f"could not find matching unit or machine for {wish.either!r}")
    return _machine_of_unit(wish.either, sight)


def _machine_of_unit(asked: str, sight: Sight) -> Machine:
    if sight.unit is None:
        raise NoPlace(f"unit does not exist: {asked}")
    try:
        found = places_of(sight.unit, sight)
    except NotFound as error:
        raise NoPlace(str(error)) from error
    if len(found) == 1:
        return found[0]
    if not found:
        raise NoPlace(f"{sight.unit.name} is on no machine now")
    ids = ", ".join(machine.short_id for machine in found)
    raise NoPlace(
        f"global units unsupported: {sight.unit.name} is on {ids}; name one with --machine"
    )


def places_of(unit: Unit, sight: Sight) -> tuple[Machine, ...]:
    """The machines that have the unit: one, or for a global unit any number; none if it has none.

    Raises NotFound if the machine is not in the cluster any more.
    """
    alive = {machine.id: machine for machine in sight.machines}
    if is_global(unit):
        return tuple(alive[machine] for machine in _with_state(sight) if machine in alive)
    if unit.machine is None or unit.current in (None, TargetState.INACTIVE):
        return ()
    if unit.machine not in alive:
        raise NotFound(f"{unit.name} is on the machine {unit.machine}, which has left the cluster")
    return (alive[unit.machine],)


def _with_state(sight: Sight) -> list[MachineId]:
    name = sight.unit.name if sight.unit else ""
    return sorted(s.machine for s in sight.states if s.unit == name and s.load != "not-found")


def address_of(machine: Machine) -> str:
    """The address to reach the machine at; raises NoPlace."""
    if machine.address in ("", "0.0.0.0", "::"):  # noqa: S104
        raise NoPlace(
            f"Could not determine address of machine {machine.short_id}: "
            "set public_ip in its fleet.conf"
        )
    return machine.address


def remote_command(words: Sequence[str]) -> str | None:
    """The command of `ssh TARGET [--] CMD…` for the far shell, None for a shell of its own.

    The words are joined by blanks and not quoted, as ssh(1) and fleet 1.0 do.
    """
    own = words[1:] if words and words[0] == "--" else words
    return " ".join(own) or None
