from tests.bench.hops import Hop
from tests.bench.samples import Figure, Samples, System, published
from tests.bench.table import ABOUT, promise, render_figures, render_gallery, render_hops


def _samples() -> Samples:
    samples = Samples(list(published()))
    for value in (6.0, 8.0, 7.0):
        samples.take(System.FLEET, Figure.ACTIVE, 1000, value)
    samples.take(System.ALONE, Figure.ACTIVE, 1000, 5.0)
    samples.take(System.FLEET, Figure.ACTIVE, 10, 0.5)
    return samples


def test_samples_give_the_median_and_the_ratio_to_systemd_alone() -> None:
    samples = _samples()
    assert samples.median(System.FLEET, Figure.ACTIVE, 1000) == 7.0
    assert samples.ratio(Figure.ACTIVE, 1000) == 1.4
    assert samples.ratio(Figure.ACTIVE, 10) is None
    assert samples.curve(System.FLEET, Figure.ACTIVE) == [(10, 0.5), (1000, 7.0)]


def test_table_shows_ours_then_the_others_then_the_ratio() -> None:
    rows = render_figures(_samples(), [10, 1000]).splitlines()
    start = next(n for n, row in enumerate(rows) if ABOUT[Figure.ACTIVE].title in row)
    assert "| 0.50 | 7.00 |" in rows[start]
    assert "systemd alone" in rows[start + 1]
    assert "|  | 5.00 |" in rows[start + 1]
    assert "32.5" in rows[start + 2]
    assert "| 1.40 |" in rows[start + 3]


def test_every_figure_is_explained() -> None:
    assert ABOUT.keys() == set(Figure)


def test_promise_is_a_ratio_where_systemd_alone_is_the_measure() -> None:
    assert promise(ABOUT[Figure.ACTIVE]) == "≤ 1.4 times systemd alone at 1000"
    assert promise(ABOUT[Figure.IDLE]) == "≤ 0.5 % at 1000"
    assert promise(ABOUT[Figure.WAKEUPS]) == ""


def test_gallery_has_two_charts_in_a_row() -> None:
    assert render_gallery(["a.svg", "b.svg", "c.svg"]).splitlines()[2:] == [
        "| ![a](charts/a.svg) | ![b](charts/b.svg) |",
        "| ![c](charts/c.svg) |  |",
    ]


def test_hops_add_up() -> None:
    table = render_hops(
        [Hop(what="there", values=(0.01, 0.03, 0.02)), Hop(what="back", values=(0.005,))]
    )
    assert "| there | 20.0 |" in table
    assert "| in all | 25.0 | |" in table
