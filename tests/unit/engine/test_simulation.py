"""Imagined clusters: the scheduler's own decisions, counted."""

import itertools
from collections import Counter

import pytest

from engine.scenarios import Kind, Trait, copies, imagined_machines, imagined_units
from engine.simulation import Report, Scenario, simulate
from fleet.cluster import UnitRecord
from fleet.machine import Machine
from fleet.names import UnitName
from fleet.unit import parse_unit
from tests.unit.engine.worlds import machine, unit

SSD = Trait(key="disk", parts=(("ssd", 0.2),))
REGION = Trait(key="region", parts=(("eu", 0.5), ("us", 0.5)))


def report_of(machines: tuple[Machine, ...], *units: UnitRecord, kill: int = 0) -> Report:
    """What comes of it, by a clock that says one second more each time it is asked."""
    ticks = itertools.count()
    scenario = Scenario(machines=machines, units=units, kill=kill)
    return simulate(scenario, lambda: float(next(ticks)))


def test_simulate_places_every_unit_evenly_and_times_it() -> None:
    report = report_of(imagined_machines(10), *imagined_units(95, {Kind.PLAIN: 1}))
    assert all(len(homes) == 1 for homes in report.homes.values())
    assert (report.rows, report.load, report.refusals) == (95, (9, 9.5, 10), {})
    assert (report.placed_s, report.one_more_s, report.rows_per_s) == (1.0, 1.0, 95.0)


def test_simulate_tells_why_units_are_refused_and_how_many() -> None:
    lone = [unit(f"{n}.service", "MachineMetadata=disk=nvme", revision=n) for n in range(1, 4)]
    report = report_of(imagined_machines(3, [SSD]), *lone)
    assert sum(report.refusals.values()) == 3
    assert all("disk=nvme" in reason for reason in report.refusals)


def test_simulate_moves_the_units_of_machines_that_die() -> None:
    report = report_of(imagined_machines(20), *imagined_units(100, {Kind.PLAIN: 1}), kill=4)
    alone, together = report.losses
    assert (alone.machines, alone.stranded, together.machines, together.stranded) == (1, 0, 3, 0)
    assert 5 <= alone.moved <= 7
    assert together.moved >= 15


def test_simulate_holds_a_mass_loss_as_the_leader_does() -> None:
    report = report_of(imagined_machines(6), *imagined_units(12, {Kind.PLAIN: 1}), kill=4)
    assert report.losses[1].moved == 0
    assert "3 of 5 machines vanished" in report.losses[1].held


def test_simulate_tells_of_units_that_fit_nowhere_after_a_death() -> None:
    hosts = (machine("m1", disk="ssd"), machine("m2"))
    report = report_of(hosts, unit("a.service", "MachineMetadata=disk=ssd"), kill=1)
    assert [(loss.moved, loss.stranded) for loss in report.losses] == [(0, 1)]


@pytest.mark.parametrize("kind", list(Kind))
def test_imagined_units_of_every_kind_can_all_be_placed(kind: Kind) -> None:
    traits = [SSD, REGION]
    report = report_of(imagined_machines(40, traits), *imagined_units(60, {kind: 1}, traits))
    assert report.refusals == {}
    assert report.rows == (60 * 40 if kind is Kind.GLOBAL else 60)


def test_imagined_machines_have_metadata_in_the_parts_asked_for() -> None:
    hosts = imagined_machines(1000, [SSD, REGION])
    counts = Counter((host.metadata.get("disk"), host.metadata.get("region")) for host in hosts)
    assert counts["ssd", "eu"] == pytest.approx(100, abs=15)
    assert counts[None, "us"] == pytest.approx(400, abs=15)


@pytest.mark.parametrize(
    ("name", "count", "names"),
    [
        pytest.param("web.service", 1, ["web.service"], id="one keeps its name"),
        pytest.param("web.service", 2, ["web-1.service", "web-2.service"], id="several"),
        pytest.param("w@.service", 2, ["w@1.service", "w@2.service"], id="of a template"),
        pytest.param("w@.service", 1, ["w@1.service"], id="one of a template"),
    ],
)
def test_copies_are_named_as_a_user_would(name: str, count: int, names: list[str]) -> None:
    made = copies(UnitName(name), parse_unit("[X-Fleet]\nConflicts=%p*\n"), count)
    assert [record.name for record in made] == names
