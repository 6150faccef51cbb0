import xml.etree.ElementTree as ET

import pytest

from tests.bench.chart import HEIGHT, WIDTH, axis_for, render_chart, spread_labels

_SVG = "{http://www.w3.org/2000/svg}"


def test_axis_holds_all_values_between_whole_powers_of_ten() -> None:
    axis = axis_for([0.3, 42.0], start=0.0, end=300.0)
    assert (axis.low, axis.high) == (0.1, 100.0)
    assert axis.ticks == [0.1, 1.0, 10.0, 100.0]
    assert axis.place(1.0) == pytest.approx(100.0)


def test_axis_of_one_value_has_some_length() -> None:
    axis = axis_for([10.0], start=0.0, end=1.0)
    assert axis.low < axis.high


def test_axis_puts_what_is_below_it_on_its_foot() -> None:
    assert axis_for([1.0, 5.0], start=7.0, end=9.0).place(0.0) == 7.0


def test_chart_draws_each_curve_with_its_points_and_name() -> None:
    text = render_chart("how long", "seconds", {"a <b>": [(1, 0.2), (10, 2.0)], "none": []})
    tree = ET.fromstring(text)
    assert len(tree.findall(f"{_SVG}polyline")) == 1
    circles = tree.findall(f"{_SVG}circle")
    assert len(circles) == 2
    for circle in circles:
        assert 0 < float(circle.attrib["cx"]) < WIDTH
        assert 0 < float(circle.attrib["cy"]) < HEIGHT
    told = [element.text for element in tree.findall(f"{_SVG}text")]
    assert "a <b> 2" in told
    assert {"how long", "seconds", "units in the cluster"} <= set(told)


def test_labels_do_not_lie_on_each_other() -> None:
    placed = spread_labels({"a": 100.0, "b": 101.0, "c": 200.0})
    assert placed["a"] == 100.0
    assert placed["b"] >= 114.0
    assert placed["c"] == 200.0
