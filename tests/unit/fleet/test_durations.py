"""Go's durations."""

import pytest

from fleet.durations import InvalidDuration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        pytest.param("0", 0.0, id="zero needs no unit"),
        pytest.param("0s", 0.0, id="zero seconds"),
        pytest.param("30s", 30.0, id="seconds"),
        pytest.param("+5s", 5.0, id="a plus sign"),
        pytest.param("1m30s", 90.0, id="minutes and seconds"),
        pytest.param("1h1m1s", 3661.0, id="three units"),
        pytest.param("30s1m", 90.0, id="in any order"),
        pytest.param("1s1s", 2.0, id="a unit twice"),
        pytest.param("500ms", 0.5, id="milliseconds are not minutes"),
        pytest.param("1.5h", 5400.0, id="a fraction"),
        pytest.param(".5s", 0.5, id="a fraction alone"),
        pytest.param("1.s", 1.0, id="a point alone"),
        pytest.param("10us", 1e-5, id="microseconds"),
        pytest.param("10\u00b5s", 1e-5, id="with the micro sign"),
        pytest.param("10\u03bcs", 1e-5, id="with the Greek letter"),
        pytest.param("5ns", 5e-9, id="nanoseconds"),
    ],
)
def test_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="nothing"),
        pytest.param("30", id="no unit"),
        pytest.param("1m30", id="no unit at the end"),
        pytest.param("s", id="no number"),
        pytest.param(".s", id="a point is no number"),
        pytest.param("-30s", id="negative"),
        pytest.param("+", id="a sign"),
        pytest.param("1d", id="Go has no days"),
        pytest.param("30 s", id="a blank"),
        pytest.param("30S", id="the wrong case"),
        pytest.param("1.2.3s", id="two points"),
        pytest.param("1e3s", id="an exponent"),
        pytest.param("٣s", id="digits of another script"),
        pytest.param("9" * 400 + "s", id="longer than any time"),
    ],
)
def test_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(InvalidDuration, match="is no duration: write for example 30s"):
        parse_duration(text)
