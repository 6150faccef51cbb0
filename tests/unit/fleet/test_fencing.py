"""How long a unit's stop may take, and which units cannot be fenced."""

import pytest

from fleet.errors import InvalidUnit
from fleet.fencing import DEFAULT_STOP_S, KILL_S, parse_time_span, stop_limit_s
from fleet.options import check_unit
from fleet.unit import parse_unit

FOREVER = float("inf")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5", 5.0),
        ("1.5", 1.5),
        ("90s", 90.0),
        ("1min 30s", 90.0),
        ("1min30", 90.0),
        ("2 hours", 7200.0),
        ("500ms", 0.5),
        ("infinity", FOREVER),
        ("0", FOREVER),
    ],
)
def test_time_span_is_read_as_systemd_reads_it(text: str, seconds: float) -> None:
    assert parse_time_span(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["soon", "5 parsecs", "-1"])
def test_what_is_no_time_span_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no time span"):
        parse_time_span(text)


@pytest.mark.parametrize(
    ("lines", "seconds"),
    [
        pytest.param("", DEFAULT_STOP_S, id="systemd's-default"),
        pytest.param("TimeoutStopSec=5", 5, id="sigterm"),
        pytest.param("TimeoutSec=5", 5, id="both-timeouts-in-one"),
        pytest.param("TimeoutSec=5\nTimeoutStopSec=7", 7, id="the-last-counts"),
        pytest.param("TimeoutStopSec=5\nTimeoutStopSec=", DEFAULT_STOP_S, id="taken-back"),
        pytest.param("TimeoutStopSec=5\nTimeoutStopSec=soon", 5, id="malformed-is-passed-over"),
        pytest.param("TimeoutStopSec=5\nExecStop=/a", 10, id="a-command-then-sigterm"),
        pytest.param("TimeoutStopSec=5\nExecStop=/a\nExecStop=/b", 15, id="two-commands"),
        pytest.param("TimeoutStopSec=5\nExecStop=/a\nExecStop=", 5, id="command-taken-back"),
        pytest.param("TimeoutStopSec=5\nExecStopPost=/a", 15, id="after-it-and-sigterm-again"),
    ],
)
def test_stop_limit_counts_every_phase(lines: str, seconds: float) -> None:
    file = parse_unit(f"[Service]\nExecStart=/bin/true\n{lines}\n")

    assert stop_limit_s(file) == pytest.approx(seconds + KILL_S)


def test_timer_stops_at_once() -> None:
    assert stop_limit_s(parse_unit("[Timer]\nOnCalendar=daily\n")) == KILL_S


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[Service]\nExecStart=/a\nTimeoutStopSec=infinity\n", "a TimeoutStopSec without end"),
        ("[Service]\nExecStart=/a\nTimeoutStopSec=0\n", "a TimeoutStopSec without end"),
        ("[Service]\nExecStart=/a\nKillMode=process\n", "KillMode=process or none"),
        ("[Service]\nExecStart=/a\nKillMode=none\n", "KillMode=process or none"),
        ("[Service]\nExecStart=/a\nSendSIGKILL=no\n", "SendSIGKILL=no"),
        ("[Mount]\nWhat=/a\nWhere=/b\n", r"with \[Mount\]"),
    ],
)
def test_unit_whose_stop_has_no_end_cannot_be_fenced(text: str, problem: str) -> None:
    check_unit(parse_unit(text))
    with pytest.raises(InvalidUnit, match=problem):
        check_unit(parse_unit(f"{text}[X-Fleet]\nFenced=true\n"))


def test_global_unit_cannot_be_fenced() -> None:
    text = "[Service]\nExecStart=/a\n[X-Fleet]\nGlobal=true\nFenced=true\n"
    with pytest.raises(InvalidUnit, match="Global cannot be used with Fenced"):
        check_unit(parse_unit(text))
