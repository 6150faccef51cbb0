"""Line charts as SVG: values against the number of units, both axes by powers of ten.

Pure: curves in, text out. The colours are told apart by people who see few colours, too, and each
line ends in its name.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from xml.sax.saxutils import escape

Curve = Sequence[tuple[int, float]]

WIDTH, HEIGHT = 640, 400
_LEFT, _RIGHT, _TOP, _BOTTOM = 70, 170, 48, 56
_COLOURS = ("#0072b2", "#555555", "#d55e00", "#cc79a7")
_DASHES = ("", "6 4", "", "2 4")
_LABEL_HEIGHT = 15


@dataclass(frozen=True, slots=True)
class Axis:
    """A logarithmic axis of whole powers of ten, and where it lies on the page."""

    low: float
    high: float
    start: float
    end: float

    def place(self, value: float) -> float:
        """Where the value is on the page; one below the axis stands on it."""
        share = (math.log10(max(value, self.low)) - math.log10(self.low)) / (
            math.log10(self.high) - math.log10(self.low)
        )
        return self.start + share * (self.end - self.start)

    @property
    def ticks(self) -> list[float]:
        first, last = round(math.log10(self.low)), round(math.log10(self.high))
        return [10.0**power for power in range(first, last + 1)]


def axis_for(values: Sequence[float], *, start: float, end: float) -> Axis:
    """The axis that has room for all values above zero."""
    positive = [value for value in values if value > 0] or [1.0]
    low = math.floor(math.log10(min(positive)))
    high = max(math.ceil(math.log10(max(positive))), low + 1)
    return Axis(10.0**low, 10.0**high, start, end)


def render_chart(title: str, unit: str, curves: Mapping[str, Curve]) -> str:
    """The chart; curves without points are left out."""
    drawn = {name: curve for name, curve in curves.items() if curve}
    points = [point for curve in drawn.values() for point in curve]
    across = axis_for([float(n) for n, _ in points], start=_LEFT, end=WIDTH - _RIGHT)
    upright = axis_for([value for _, value in points], start=HEIGHT - _BOTTOM, end=_TOP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="#ffffff"/>',
        _text(_LEFT, 24, title, size=15),
        *_grid(across, upright, unit),
        *_curves(drawn, list(curves), across, upright),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _grid(across: Axis, upright: Axis, unit: str) -> list[str]:
    parts = []
    for tick in upright.ticks:
        y = upright.place(tick)
        parts.append(_line(across.start, y, across.end, y))
        parts.append(_text(across.start - 8, y + 4, f"{tick:g}", anchor="end"))
    for tick in across.ticks:
        x = across.place(tick)
        parts.append(_line(x, upright.start, x, upright.end))
        parts.append(_text(x, upright.start + 18, f"{tick:g}", anchor="middle"))
    middle = (across.start + across.end) / 2
    parts.append(_text(middle, HEIGHT - 14, "units in the cluster", anchor="middle"))
    height = (upright.start + upright.end) / 2
    turned = f'transform="rotate(-90 16 {height:g})"'
    parts.append(_text(16, height, unit, anchor="middle", more=turned))
    return parts


def _curves(
    drawn: Mapping[str, Curve], order: Sequence[str], across: Axis, upright: Axis
) -> list[str]:
    parts = []
    ends = {name: upright.place(curve[-1][1]) for name, curve in drawn.items()}
    labels = spread_labels(ends)
    for name, curve in drawn.items():
        style = order.index(name) % len(_COLOURS)
        colour, dash = _COLOURS[style], _DASHES[style]
        path = [(across.place(count), upright.place(value)) for count, value in curve]
        told = " ".join(f"{x:.1f},{y:.1f}" for x, y in path)
        parts.append(
            f'<polyline points="{told}" fill="none" stroke="{colour}" stroke-width="2"'
            f' stroke-dasharray="{dash}"/>'
        )
        for (x, y), (count, value) in zip(path, curve, strict=True):
            parts.append(
                f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.5" fill="{colour}">'
                f"<title>{escape(name)}, {count} units: {value:.3g}</title></circle>"
            )
        label = f"{name} {curve[-1][1]:.3g}"
        parts.append(_text(path[-1][0] + 9, labels[name] + 4, label, colour=colour))
    return parts


def spread_labels(ends: Mapping[str, float]) -> dict[str, float]:
    """Where labels go so that none lies on another: each where its line ends, or just below."""
    placed: dict[str, float] = {}
    free_from = -math.inf
    for name, end in sorted(ends.items(), key=lambda pair: pair[1]):
        placed[name] = max(end, free_from)
        free_from = placed[name] + _LABEL_HEIGHT
    return placed


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return f'<path d="M{x1:.1f} {y1:.1f}L{x2:.1f} {y2:.1f}" stroke="#dddddd"/>'


def _text(
    x: float,
    y: float,
    text: str,
    *,
    size: int = 12,
    anchor: str = "start",
    colour: str = "#222222",
    more: str = "",
) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}"'
        f' fill="{colour}" {more}>{escape(text)}</text>'
    )
