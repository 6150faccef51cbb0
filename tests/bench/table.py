"""The tables of docs/performance.md, from what was measured. Pure: samples in, Markdown out."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tests.bench.hops import Hop
from tests.bench.samples import Figure, Samples, System
from tests.bench.single import Line

_BAR = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class About:
    """What a figure is, its unit, and what is promised of it at how many units.

    With `ratio` that is how many times as long as systemd alone it may take.
    """

    title: str
    unit: str = "s"
    promise: float | None = None
    at: int = 1000
    ratio: bool = False


ABOUT = {
    Figure.SUBMITTED: About(title="`start --no-block` returns: all are submitted", promise=1.5),
    Figure.ACTIVE: About(
        title="start: from the command until all are active", promise=1.4, ratio=True
    ),
    Figure.STARTED: About(title="start: the command returns", promise=0.4, at=1),
    Figure.STOPPED: About(title="stop: the command returns"),
    Figure.DESTROYED: About(title="destroy of what was stopped: the command returns"),
    Figure.REMOVED: About(
        title="destroy of what runs: stopped and gone, in one command", promise=1.5, ratio=True
    ),
    Figure.TAKEN_DOWN: About(title="stop, and then destroy: two commands", ratio=True),
    Figure.LISTED: About(title="list-units", promise=0.4),
    Figure.FAILOVER: About(
        title="power cut: from the lease's end until all are active elsewhere",
        promise=1.5,
        ratio=True,
    ),
    Figure.POWER_CUT: About(title="power cut until all are active elsewhere"),
    Figure.IDLE: About(title="fleetd idle, of one core", unit="%", promise=0.5),
    Figure.WAKEUPS: About(title="fleetd idle, times it wakes", unit="/s"),
    Figure.MEMORY: About(title="fleetd resident", unit="MB", promise=70.0),
}


def render_single(lines: Iterable[Line]) -> str:
    """What one command or one unit takes."""
    rows = [
        f"| {line.what} | {line.measured} | {line.promise} | {line.original} |" for line in lines
    ]
    head = ["| one at a time | measured | promised | fleet 1.0 |", "|---|---|---|---|"]
    return "\n".join([*head, *rows])


def render_figures(samples: Samples, counts: Sequence[int]) -> str:
    """Each figure by number of units: ours, and below it the others; ratios to systemd alone."""
    head = [
        f"| by number of units | {' | '.join(map(str, counts))} | promised |",
        f"|---|{'---|' * (len(counts) + 1)}",
    ]
    return "\n".join([*head, *(row for figure in Figure for row in _rows(samples, figure, counts))])


def _rows(samples: Samples, figure: Figure, counts: Sequence[int]) -> Iterable[str]:
    about = ABOUT[figure]
    for system in System:
        cells = [_cell(samples.values(system, figure, count)) for count in counts]
        if not any(cells):
            continue
        is_ours = system is System.FLEET
        what = f"**{about.title}** ({about.unit})" if is_ours else f"· {system}"
        yield f"| {what} | {' | '.join(cells)} | {promise(about) if is_ours else ''} |"
    ratios = [samples.ratio(figure, count) for count in counts]
    if about.ratio and any(ratios):
        told = [f"{ratio:.2f}" if ratio else "" for ratio in ratios]
        yield f"| · fleet ÷ systemd alone | {' | '.join(told)} | |"


def promise(about: About) -> str:
    if about.promise is None:
        return ""
    unit = " times systemd alone" if about.ratio else f" {about.unit}"
    return f"≤ {about.promise:g}{unit} at {about.at}"


def _cell(values: Sequence[float]) -> str:
    if not values:
        return ""
    middle = statistics.median(values)
    return f"{middle:.2f}" if middle < 10 else f"{middle:.1f}"


def render_gallery(charts: Sequence[str]) -> str:
    """The charts, two in a row; `charts` are the names of their files."""
    shown = [f"![{name.removesuffix('.svg')}](charts/{name})" for name in charts]
    pairs = [(*shown[place : place + 2], "")[:2] for place in range(0, len(shown), 2)]
    return "\n".join(["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in pairs)])


def render_hops(hops: Sequence[Hop]) -> str:
    """The way of one start, with a bar for each hop's share."""
    whole = sum(hop.median_ms for hop in hops)
    rows = ["| hop | ms | |", "|---|---|---|"]
    for hop in hops:
        bar = "█" * max(0, round(_BAR * hop.median_ms / whole))
        rows.append(f"| {hop.what} | {hop.median_ms:.1f} | {bar} |")
    rows.append(f"| in all | {whole:.1f} | |")
    return "\n".join(rows)
