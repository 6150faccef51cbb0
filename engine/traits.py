"""Machines by what they are: their ids and metadata, indexed for MachineID and MachineMetadata."""

from collections.abc import Iterable, Mapping

from fleet.conditions import Condition
from fleet.machine import Machine, MachineId
from fleet.options import Requirements
from fleet.resources import Resources, lacking

# What requirements say of the machine itself; two units with the same go to the same machines.
Likes = tuple[
    str | None, tuple[tuple[str, frozenset[str]], ...], tuple[Condition, ...], Resources | None
]
ANY: Likes = (None, (), (), None)

# A metadatum, or under the empty key, which no metadatum has, a name that the machine answers to.
Trait = tuple[str, str]


def likes_of(asked: Requirements) -> Likes:
    """What the unit asks of a machine whatever runs there."""
    if not (asked.machine_id or asked.metadata or asked.conditions or asked.reserves):
        return ANY
    metadata = tuple(sorted(asked.metadata.items()))
    return asked.machine_id, metadata, asked.conditions, asked.reserves or None


class Traits:
    """The machines, and which of them are what a unit asks for."""

    def __init__(self, machines: Iterable[Machine] = ()) -> None:
        self._machines: dict[MachineId, Machine] = {}
        self._having: dict[Trait, set[MachineId]] = {}
        for machine in machines:
            self.add(machine)

    @property
    def machines(self) -> Mapping[MachineId, Machine]:
        return self._machines

    def add(self, machine: Machine) -> None:
        """The machine is there, and is as it is told of here."""
        self.remove(machine.id)
        self._machines[machine.id] = machine
        for trait in _traits_of(machine):
            self._having.setdefault(trait, set()).add(machine.id)

    def remove(self, machine: MachineId) -> None:
        old = self._machines.pop(machine, None)
        for trait in _traits_of(old) if old else ():
            having = self._having[trait]
            having.discard(machine)
            if not having:
                del self._having[trait]

    def liked(self, likes: Likes) -> set[MachineId]:
        """The machines that are what is asked for."""
        name, metadata, conditions, reserves = likes
        found = [self._any_of((key, choice) for choice in choices) for key, choices in metadata]
        if name is not None:
            found.append(self._any_of([("", name)]))
        liked = set.intersection(*found) if found else set(self._machines)
        if not (conditions or reserves):
            return liked
        machines = (self._machines[machine] for machine in liked)
        return {
            machine.id
            for machine in machines
            if all(condition.is_met(machine.metadata) for condition in conditions)
            and not (reserves and lacking(reserves, machine.resources))
        }

    def _any_of(self, traits: Iterable[Trait]) -> set[MachineId]:
        return set().union(*(self._having.get(trait, ()) for trait in traits))


def _traits_of(machine: Machine) -> set[Trait]:
    return {*machine.metadata.items(), ("", machine.id), ("", machine.short_id)}
