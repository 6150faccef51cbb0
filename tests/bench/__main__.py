"""`make bench`: fleet's promised numbers, measured in one run on booted machines.

`cluster` and `alone` do the same things with a number of units, `single` times commands, `hops`
follows one start through the cluster. Tables and charts are made of their samples. Nothing fails
for being slow: people read the numbers.
"""

import compileall
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import click

from tests.bench.alone import measure_alone
from tests.bench.cluster import fleet_up, measure_cluster
from tests.bench.hops import measure_hops
from tests.bench.original import Programs, find_original, original_up
from tests.bench.page import CHARTS, PAGE, stamp, write_charts, write_part
from tests.bench.samples import Figure, Samples, System, published
from tests.bench.single import Line, measure_boots, measure_single
from tests.bench.table import render_figures, render_gallery, render_hops, render_single

ROOT = Path(__file__).parents[2]
NAME = "bench"


@dataclass(frozen=True, slots=True, kw_only=True)
class Extent:
    """How much is measured: numbers of units, each with how often, and runs of single things.

    In each round systemd alone comes just before fleet, so that several of them even out what else
    the host does meanwhile.
    """

    rounds: dict[int, int] = field(default_factory=lambda: {1: 2, 10: 2, 100: 2, 300: 2, 1000: 3})
    idle_s: float = 15.0
    runs: int = 15


QUICK = Extent(rounds={1: 1, 30: 1, 300: 1}, idle_s=3.0, runs=5)


@click.command()
@click.option("--quick", is_flag=True, help="A minute instead of several: nothing is written down.")
@click.option("--counts", default="", metavar="N,N", help="Only these numbers of units, once.")
@click.option("--no-single", is_flag=True, help="Leave out single commands and hops.")
@click.option("--no-alone", is_flag=True, help="Leave out systemd alone.")
def bench(quick: bool, counts: str, no_single: bool, no_alone: bool) -> None:
    """Measure fleet on booted machines, beside systemd alone and the original."""
    if os.geteuid() != 0:
        raise click.ClickException("make bench boots real machines, which takes root")
    original = find_original(os.environ)
    extent = QUICK if quick else Extent()
    if counts:
        extent = Extent(rounds={int(count): 1 for count in counts.split(",")}, idle_s=5.0)
    _compile()
    is_whole = not (quick or counts or no_single or no_alone)
    parts: dict[str, str] = {}
    if not no_single:
        parts |= _single(extent)
    samples = Samples(list(published()))
    for count, times in extent.rounds.items():
        for number in range(times):
            idle_s = extent.idle_s if number == 0 else 0.0
            _round(samples, count, original, idle_s=idle_s, alone=not no_alone)
    parts["figures"] = render_figures(samples, sorted(extent.rounds))
    click.echo(f"\n{parts['figures']}")
    if is_whole:
        _write(parts, samples)


def _compile() -> None:
    """Machines see the source read-only, and would otherwise compile it at each start."""
    for folder in ("fleet", "agent", "engine", "cli"):
        compileall.compile_dir(ROOT / folder, quiet=1)


def _single(extent: Extent) -> dict[str, str]:
    lines: list[Line] = []
    cluster = fleet_up(NAME)
    with cluster.sandbox:
        for line in measure_single(cluster, extent.runs):
            click.echo(f"{line.what}: {line.measured} {line.promise}")
            lines.append(line)
        hops = measure_hops(cluster, extent.runs)
    lines.append(measure_boots(NAME, 3))
    parts = {"single": render_single(lines), "hops": render_hops(hops)}
    click.echo(f"\n{parts['hops']}\n")
    return parts


def _round(
    samples: Samples, count: int, original: Programs | None, *, idle_s: float, alone: bool
) -> None:
    began_s = time.monotonic()
    known = len(samples.taken)
    if alone:
        measure_alone(samples, count, NAME)
    measure_cluster(samples, count, partial(fleet_up, NAME), idle_s=idle_s)
    if original is not None:
        measure_cluster(samples, count, partial(original_up, original, NAME), idle_s=idle_s)
    for line in _told(samples, count, since=known):
        click.echo(line)
    click.echo(f"{count:5} units: {time.monotonic() - began_s:.0f} s", err=True)


def _told(samples: Samples, count: int, *, since: int) -> Iterator[str]:
    new = {(sample.figure, sample.system) for sample in samples.taken[since:]}
    for figure in Figure:
        for system in System:
            if (figure, system) in new:
                values = samples.values(system, figure, count)
                ratio = samples.ratio(figure, count) if system is System.FLEET else None
                words = " ".join(f"{value:.3f}" for value in values)
                times = f" x {ratio:.2f}" if ratio else ""
                yield f"{count:5} {figure:10} {system:16} {words}{times}"


def _write(parts: dict[str, str], samples: Samples) -> None:
    charts = write_charts(samples)
    parts["figures"] += f"\n\n{render_gallery(charts)}"
    for name, text in {"measured": stamp(), **parts}.items():
        write_part(name, text)
    for path in (PAGE, *(CHARTS / name for name in charts)):
        click.echo(f"written: {path}")


if __name__ == "__main__":
    sys.exit(bench())
