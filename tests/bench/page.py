"""Writing it down: tables into docs/performance.md between their marks, charts beside it."""

import os
import platform
import time
from pathlib import Path

from tests.bench.chart import render_chart
from tests.bench.samples import Figure, Samples, System
from tests.bench.table import ABOUT

DOCS = Path(__file__).parents[2] / "docs"
PAGE = DOCS / "performance.md"
CHARTS = DOCS / "charts"


def write_part(name: str, text: str) -> None:
    """Put the text between the page's marks of that name; raises ValueError if it has none."""
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    page = PAGE.read_text()
    head, found, rest = page.partition(begin)
    _, ends, tail = rest.partition(end)
    if not (found and ends):
        raise ValueError(f"{PAGE} has no marks for {name!r}")
    PAGE.write_text(f"{head}{begin}\n{text}\n{end}{tail}")


def stamp() -> str:
    """When and on what it was measured."""
    kernel = platform.release().partition("-")[0]
    where = f"{os.cpu_count()} cores, Linux {kernel}, Python {platform.python_version()}"
    return f"Measured {time.strftime('%Y-%m-%d', time.gmtime())} on {where}."


def write_charts(samples: Samples) -> list[str]:
    """A chart of each figure that fleet was measured for at several numbers of units; the names."""
    CHARTS.mkdir(exist_ok=True)
    written = []
    for figure in Figure:
        curves = {str(system): samples.curve(system, figure) for system in System}
        if len(curves[System.FLEET]) < 2:
            continue
        title = ABOUT[figure].title.replace("`", "")
        unit = {"s": "seconds", "%": "% of one core", "/s": "a second"}.get(ABOUT[figure].unit)
        path = CHARTS / f"{figure}.svg"
        path.write_text(render_chart(title, unit or ABOUT[figure].unit, curves))
        written.append(path.name)
    return written
