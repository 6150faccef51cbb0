"""A cluster told to facts as what changed since an earlier one."""

from collections.abc import Hashable, Mapping
from typing import TypeVar

from engine.facts import Facts
from fleet.cluster import Cluster

_Key = TypeVar("_Key", bound=Hashable)
_Value = TypeVar("_Value")


def tell(facts: Facts, before: Cluster, after: Cluster) -> None:
    """Tell facts that know the cluster before only of what is different after."""
    for machine in _gone(before.machines, after.machines):
        facts.drop_machine(machine)
    for unit in _gone(before.units, after.units):
        facts.drop_unit(unit)
    for unit in _gone(before.refusals, after.refusals):
        facts.drop_refusal(unit)
    for digest in _gone(before.files, after.files):
        facts.drop_file(digest)
    for machine in _new(before.machines, after.machines):
        facts.set_machine(after.machines[machine])
    for unit in _new(before.units, after.units):
        facts.set_unit(after.units[unit])
    for unit in _new(before.refusals, after.refusals):
        facts.set_refusal(after.refusals[unit])
    for digest in _new(before.files, after.files):
        facts.set_file(digest, after.files[digest])
    facts.keep_files(after.kept_files)
    _tell_places(facts, before, after)


def _tell_places(facts: Facts, before: Cluster, after: Cluster) -> None:
    old_rows, rows = ({(r.unit, r.machine): r for r in c.schedule} for c in (before, after))
    old_states, states = ({(s.unit, s.machine): s for s in c.states} for c in (before, after))
    for unit, machine in _gone(old_rows, rows):
        facts.drop_row(unit, machine)
    for place in _new(old_rows, rows):
        facts.set_row(rows[place])
    for unit, machine in _gone(old_states, states):
        facts.drop_state(unit, machine)
    for place in _new(old_states, states):
        facts.set_state(states[place])
    old_claims, claims = ({(c.unit, c.machine): c for c in one.claims} for one in (before, after))
    for unit, machine in _gone(old_claims, claims):
        facts.drop_claim(unit, machine)
    for place in _new(old_claims, claims):
        facts.set_claim(claims[place])


def _gone(before: Mapping[_Key, _Value], after: Mapping[_Key, _Value]) -> list[_Key]:
    return [key for key in before if key not in after]


def _new(before: Mapping[_Key, _Value], after: Mapping[_Key, _Value]) -> list[_Key]:
    return [key for key, value in after.items() if before.get(key) != value]
