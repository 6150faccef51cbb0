"""fleetctl simulate."""

import gc
import resource
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import click

from cli.completion.candidates import unit_files
from cli.creation import complete_path
from cli.options import Option, examples
from cli.settings import Settings
from engine.scenarios import (
    DEFAULT_MIX,
    Kind,
    Trait,
    copies,
    imagined_machines,
    imagined_units,
)
from engine.simulation import Loss, Report, Scenario, simulate
from fleet.cluster import UnitRecord
from fleet.errors import InvalidRequest
from fleet.machine import Machine, MachineId
from fleet.names import complete_name, parse_name
from fleet.options import check_unit
from fleet.unit import read_unit

_UNITS = 1000
_MOST_LISTED = 40
_MOST_REASONS = 5


def _read_traits(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[Trait, ...]:
    return tuple(map(_read_trait, values))


def _read_trait(text: str) -> Trait:
    """`region=eu,us` or `disk=ssd:0.2`: values without a part share what the others leave."""
    key, equals, rest = text.partition("=")
    told = [choice.partition(":") for choice in rest.split(",")]
    if not (key and equals and all(name for name, _, _ in told)):
        raise click.BadParameter("write KEY=VALUE,... or KEY=VALUE:PART, as in disk=ssd:0.2")
    try:
        given = {name: float(part) for name, colon, part in told if colon}
    except ValueError:
        raise click.BadParameter("a part is a number from 0 to 1, as in disk=ssd:0.2") from None
    left = 1.0 - sum(given.values())
    if left < -1e-9 or not all(0 <= part <= 1 for part in given.values()):
        raise click.BadParameter("parts are from 0 to 1, and at most 1 in all")
    share = max(0.0, left) / max(1, len(told) - len(given))
    return Trait(key=key, parts=tuple((name, given.get(name, share)) for name, _, _ in told))


def _read_mix(ctx: click.Context, param: click.Parameter, value: str) -> dict[Kind, int]:
    """`plain=8,pair=2`: how many of each kind come in turn."""
    mix: dict[Kind, int] = {}
    for one in value.split(","):
        kind, _, share = one.partition("=")
        if kind not in list(Kind) or not share.isdecimal():
            raise click.BadParameter(f"{one!r} is not KIND=NUMBER with one of {', '.join(Kind)}")
        mix[Kind(kind)] = int(share)
    if not any(mix.values()):
        raise click.BadParameter("it leaves no unit")
    return mix


@click.command(
    epilog=examples(
        "fleetctl simulate web.service units/db.service --machines 5",
        "fleetctl simulate web@.service --copies 40 --metadata disk=ssd:0.2",
        "fleetctl simulate --machines 200 --units 2000 --kill 10",
        "fleetctl simulate --units 500 --mix plain=3,pair=1 --metadata region=eu,us",
    )
)
@click.argument("paths", nargs=-1, metavar="[PATH]...", shell_complete=unit_files)
@click.option(
    "--machines",
    type=click.IntRange(min=1),
    cls=Option,
    default=100,
    show_default=True,
    metavar="NUMBER",
    help="Machines to imagine.",
)
@click.option(
    "--metadata",
    "traits",
    callback=_read_traits,
    multiple=True,
    metavar="KEY=VALUE[:PART],...",
    help="Metadata spread over the machines. May be given several times.",
)
@click.option(
    "--units",
    "count",
    type=click.IntRange(min=0),
    cls=Option,
    metavar="NUMBER",
    help=f"Units to imagine.  [default: {_UNITS}, or none beside PATHs]",
)
@click.option(
    "--mix",
    callback=_read_mix,
    default=",".join(f"{kind}={share}" for kind, share in DEFAULT_MIX.items()),
    metavar="KIND=NUMBER,...",
    help=f"How many of each kind in turn: {', '.join(Kind)}.",
)
@click.option(
    "--unit-file",
    "files",
    multiple=True,
    metavar="PATH",
    shell_complete=unit_files,
    help="A unit file as well; the same as PATH.",
)
@click.option(
    "--copies",
    "number",
    type=click.IntRange(min=1),
    cls=Option,
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="Units of each PATH: web@1, web@2, ... of web@.",
)
@click.option(
    "--kill",
    type=click.IntRange(min=0),
    cls=Option,
    default=1,
    show_default=True,
    metavar="NUMBER",
    help="Machines that die then: one first, then the others at once.",
)
@click.pass_obj
def command(
    settings: Settings,
    *,
    paths: tuple[str, ...],
    files: tuple[str, ...],
    machines: int,
    traits: tuple[Trait, ...],
    count: int | None,
    mix: dict[Kind, int],
    number: int,
    kill: int,
) -> int:
    """Try where units would go in a cluster of that size, and how fast.

    This is the scheduler of fleetd, on machines that are only imagined: nothing is asked of a
    cluster, and nothing is started. With PATHs of unit files it says where each of them would go;
    without, it imagines units.
    """
    if kill > machines:
        raise click.BadParameter(f"there are {machines} machines", param_hint="--kill")
    given = [*paths, *files]
    units = [record for path in given for record in _read_copies(path, number)]
    imagined = imagined_units(_default(count, given), mix, traits)
    hosts = imagined_machines(machines, traits)
    scenario = Scenario(machines=hosts, units=_in_turn([*units, *imagined]), kill=kill)
    gc.freeze()  # what is imagined is no garbage, and need not be looked through for it
    report = simulate(scenario, time.perf_counter)
    listed = units if len(units) <= _MOST_LISTED else []
    for line in render(report, {host.id: host for host in hosts}, listed):
        click.echo(line)
    peak_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    click.echo(f"peak memory: {peak_kb / 1024:.0f} MB")
    return 0


def _default(count: int | None, given: Sequence[str]) -> int:
    if count is not None:
        return count
    return 0 if given else _UNITS


def _read_copies(argument: str, number: int) -> tuple[UnitRecord, ...]:
    path = complete_path(argument)
    try:
        file = read_unit(Path(path).read_bytes(), path=path)
    except OSError as error:
        raise InvalidRequest(f"unit file {path} cannot be read: {error.strerror}") from error
    check_unit(file, path=path)
    return copies(parse_name(complete_name(argument)), file, number)


def _in_turn(units: Iterable[UnitRecord]) -> tuple[UnitRecord, ...]:
    return tuple(replace(record, revision=turn) for turn, record in enumerate(units, start=1))


def render(
    report: Report, machines: dict[MachineId, Machine], listed: Sequence[UnitRecord]
) -> Iterator[str]:
    """The report as lines, with the places of the units that are to be listed."""
    for record in listed:
        homes = [_describe(machines[home]) for home in report.homes[record.name][:3]]
        more = len(report.homes[record.name]) - len(homes)
        homes += [f"{more} more"] if more > 0 else []
        yield f"{record.name}: {', '.join(homes) or 'nowhere'}"
    refused = sum(not homes for homes in report.homes.values())
    units = f"{len(report.homes) - refused:,} of {len(report.homes):,} units"
    yield (
        f"{units} placed on {len(machines):,} machines in {report.placed_s:.3g} s "
        f"({report.rows_per_s:,.0f} placements a second)"
    )
    least, median, most = report.load
    yield f"units on a machine: {least} at least, {median:g} in the median, {most} at most"
    ordered = sorted(report.refusals.items(), key=lambda pair: (-pair[1], pair[0]))
    for reason, count in ordered[:_MOST_REASONS]:
        yield f"{count:,} refused: {reason}"
    if len(ordered) > _MOST_REASONS:
        yield f"{len(ordered) - _MOST_REASONS} other reasons"
    yield f"one more unit: {report.one_more_s * 1000:.3g} ms"
    yield from map(_tell_loss, report.losses)


def _tell_loss(loss: Loss) -> str:
    who = "one machine dies" if loss.machines == 1 else f"{loss.machines:,} machines die at once"
    if loss.held:
        return f"{who}: {loss.held.partition(':')[0]}, so nothing moves for a while"
    stranded = f", {loss.stranded:,} fit nowhere else" if loss.stranded else ""
    return f"{who}: {loss.moved:,} units placed elsewhere in {loss.took_s * 1000:.3g} ms{stranded}"


def _describe(machine: Machine) -> str:
    metadata = ",".join(f"{key}={value}" for key, value in sorted(machine.metadata.items()))
    return f"machine {machine.short_id}{f' ({metadata})' if metadata else ''}"
