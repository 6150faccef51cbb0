"""What `fleetctl scale` makes of the instances of a template. Pure.

The instances that count are those with a number from 1 on, written as a number is: who names one
`web@blue`, `web@0` or `web@01` has something else in mind, and keeps it.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from cli.plans import Plan
from cli.waiting import Aim, Goal
from fleet.change import UnitChange
from fleet.errors import InvalidRequest
from fleet.names import UnitName, complete_name, parse_name, split_name


class NoTemplate(InvalidRequest):
    """A name that is none of a template."""

    def __init__(self, argument: str) -> None:
        super().__init__(f"{argument!r} names no template; write one such as web@")


@dataclass(frozen=True, slots=True, kw_only=True)
class Scale:
    """Which instances are to run, which are too many (highest first), which are left alone."""

    wanted: tuple[UnitName, ...] = ()
    surplus: tuple[UnitName, ...] = ()
    others: tuple[UnitName, ...] = ()


def parse_template(argument: str) -> UnitName:
    """The template that is meant: `web@` is `web@.service`; raises NoTemplate or InvalidName."""
    name = parse_name(complete_name(argument))
    if not split_name(name).is_template:
        raise NoTemplate(argument)
    return name


def instance_of(template: str, number: int) -> UnitName:
    """The instance with that number; the template may stand in a folder."""
    stem, _, suffix = template.rpartition("@")
    return UnitName(f"{stem}@{number}{suffix}")


def plan_scale(template: UnitName, count: int, names: Iterable[UnitName]) -> Scale:
    """What becomes of the template's instances, of which these are in the cluster."""
    instances = [name for name in names if split_name(name).template == template]
    numbers = {name: number_of(name) for name in instances}
    surplus = sorted((name for name in instances if numbers[name] > count), key=numbers.__getitem__)
    return Scale(
        wanted=tuple(instance_of(template, number) for number in range(1, count + 1)),
        surplus=tuple(reversed(surplus)),
        others=tuple(sorted(name for name in instances if not numbers[name])),
    )


def number_of(name: UnitName) -> int:
    """The instance's number, 0 if it has none from 1 on."""
    instance = split_name(name).instance or ""
    is_number = instance.isascii() and instance.isdecimal() and not instance.startswith("0")
    return int(instance) if is_number else 0


def with_surplus(plan: Plan, surplus: Iterable[UnitName]) -> Plan:
    """The plan that also destroys these and sees them gone."""
    gone = dict.fromkeys(surplus, Goal(aim=Aim.GONE))
    destroyed = tuple(UnitChange(name=name, destroy=True) for name in gone)
    return Plan(
        changes=(*plan.changes, *destroyed),
        goals={**plan.goals, **gone},
        triggered=plan.triggered,
        refused=plan.refused,
    )


def scaled_sentence(
    template: UnitName, count: int, *, starts: int, destroys: int, is_done: bool
) -> str:
    """What a scale has done or, if it is not done, has set going."""
    instances = f"{count} instance{'' if count == 1 else 's'}"
    if not starts and not destroys:
        return f"{template} has {instances} already"
    verb, start, destroy = "Scaled", f"{starts} started", f"{destroys} destroyed"
    if not is_done:
        verb, start, destroy = "Scaling", f"{starts} to start", f"{destroys} to destroy"
    told = [start] * (starts > 0) + [destroy] * (destroys > 0)
    return f"{verb} {template} to {instances}: {', '.join(told)}"
