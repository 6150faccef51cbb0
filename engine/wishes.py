"""What units would like of a machine beyond what they need: Spread and Prefer, weighed.

Both only order the machines that suit. Spread comes first, in the order of its lines, then the
weights of Prefer; what the scheduler goes by otherwise decides among equals.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from fleet.machine import Machine, MachineId
from fleet.names import UnitName, split_name
from fleet.options import Requirements

# How many instances of a template stay on a machine.
Instances = Callable[[UnitName, MachineId], int]
WishRank = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class _Spread:
    key: str
    template: UnitName
    per_value: Mapping[str, int]

    def count(self, machine: Machine) -> tuple[int, int]:
        """Machines without the key come last: they help nobody to be spread."""
        value = machine.metadata.get(self.key)
        return (1, 0) if value is None else (0, self.per_value[value])

    def told(self, machine: Machine) -> str:
        value = machine.metadata.get(self.key)
        if value is None:
            return f"no machine with {self.key} does"
        return f"{self.key}={value} has {self.per_value[value]} of {self.template}"


class Wishes:
    """The wishes of units that go together, over machines with what is on them now."""

    def __init__(
        self,
        group: Mapping[UnitName, Requirements],
        machines: Sequence[Machine],
        instances: Instances,
    ) -> None:
        self._preferences = [each for asked in group.values() for each in asked.prefer]
        self._spreads: list[_Spread] = []
        for unit, asked in group.items():
            template = split_name(unit).template
            if template is None:
                continue  # it is alone, and there is nothing to spread
            for key in asked.spread:
                per_value: Counter[str] = Counter()
                for machine in machines:
                    if key in machine.metadata:
                        per_value[machine.metadata[key]] += instances(template, machine.id)
                self._spreads.append(_Spread(key, template, per_value))

    def rank(self, machine: Machine) -> WishRank:
        """The lower, the more the machine is as they would like it."""
        spread = (part for each in self._spreads for part in each.count(machine))
        return (*spread, -self._score(machine))

    def told(self, machine: Machine) -> tuple[str, ...]:
        """What of the wishes speaks for the machine."""
        spread = tuple(each.told(machine) for each in self._spreads)
        if not self._preferences:
            return spread
        met = [str(p.condition) for p in self._preferences if p.condition.is_met(machine.metadata)]
        whole = sum(preference.weight for preference in self._preferences)
        preferred = f"it meets {self._score(machine)} of {whole} of what the unit prefers"
        return (*spread, f"{preferred} ({', '.join(met)})" if met else preferred)

    def _score(self, machine: Machine) -> int:
        return sum(p.weight for p in self._preferences if p.condition.is_met(machine.metadata))


def has_wishes(group: Mapping[UnitName, Requirements]) -> bool:
    return any(asked.spread or asked.prefer for asked in group.values())
