"""D-Bus messages as values, and which of an answer and a signal knows better."""

import pytest

from agent.known import Known
from agent.systemd import SystemdState
from agent.wire import (
    apply_properties,
    escape_label,
    listed_state,
    type_interface,
    unescape_label,
    unit_of_path,
    unit_path,
    wanted_properties,
)
from fleet.names import UnitName

UNIT = UnitName("a.service")


@pytest.mark.parametrize(
    ("name", "label"),
    [
        pytest.param("web.service", "web_2eservice", id="a dot"),
        pytest.param("worker@1-2.service", "worker_401_2d2_2eservice", id="an instance"),
        pytest.param("1.service", "_31_2eservice", id="a digit in front"),
        pytest.param("a_b.service", "a_5fb_2eservice", id="an underscore"),
        pytest.param("x\\x2dy.mount", "x_5cx2dy_2emount", id="a backslash"),
        pytest.param("ü.service", "_c3_bc_2eservice", id="beyond ASCII"),
        pytest.param("", "_", id="nothing"),
    ],
)
def test_labels_go_there_and_back(name: str, label: str) -> None:
    assert escape_label(name) == label
    assert unescape_label(label) == name


@pytest.mark.parametrize("label", ["a_", "a_2", "a_zz"])
def test_stray_underscore_stands_for_itself(label: str) -> None:
    assert unescape_label(label) == label


def test_unit_of_its_path_and_of_others() -> None:
    assert unit_of_path(unit_path(UNIT)) == UNIT
    assert unit_of_path("/org/freedesktop/systemd1/job/7") is None
    assert unit_of_path(None) is None
    assert type_interface("a.automount") == "org.freedesktop.systemd1.Automount"


def listed(active: str, sub: str = "", load: str = "loaded") -> SystemdState:
    entry = [UNIT, "text", load, active, sub, "", "/path", 0, "", "/"]
    return listed_state(UNIT, entry)


@pytest.mark.parametrize(
    ("state", "names"),
    [
        pytest.param(listed("inactive", load="not-found"), [], id="unknown"),
        pytest.param(listed("inactive"), [], id="not in use: asking would load it"),
        pytest.param(listed("active"), ["ActiveEnterTimestamp"], id="active"),
        pytest.param(listed("activating"), ["InactiveExitTimestamp"], id="activating"),
        pytest.param(
            listed("failed"),
            ["InactiveEnterTimestamp", "Result", "ExecMainCode", "ExecMainStatus"],
            id="failed",
        ),
        pytest.param(
            listed("activating", "auto-restart"),
            ["InactiveExitTimestamp", "Result", "ExecMainCode", "ExecMainStatus"],
            id="restarting",
        ),
        pytest.param(listed("maintenance"), [], id="a state unheard of"),
    ],
)
def test_wanted_properties(state: SystemdState, names: list[str]) -> None:
    assert [name for _, name in wanted_properties(state)] == names


def test_result_is_success_until_something_goes_wrong() -> None:
    failed = apply_properties(
        listed("active"),
        {
            "ActiveState": "failed",
            "Result": "signal",
            "ExecMainCode": 2,
            "ExecMainStatus": 9,
            "InactiveEnterTimestamp": 2_500_000,
            "InvocationID": b"\x01\xff",
            "Unheard": object(),
        },
    )
    assert (failed.result, failed.exit_code, failed.exit_status) == ("signal", 2, 9)
    assert (failed.since_s, failed.invocation) == (2.5, "01ff")

    again = apply_properties(failed, {"ActiveState": "active", "ActiveEnterTimestamp": 0})
    assert (again.result, again.exit_code, again.exit_status) == ("success", 0, 0)
    assert again.since_s == 2.5


def known_with(*states: SystemdState) -> Known:
    known = Known()
    for number, state in enumerate(states, start=1):
        known.learn(state, number)
    return known


def test_signal_after_the_list_knows_better_though_the_list_is_read_later() -> None:
    known = known_with(listed("inactive", load="not-found"))
    known.signal(UNIT, {"ActiveState": "failed"}, arrived=8)
    known.learn(listed("active"), arrived=7)

    assert (known.state(UNIT).active, known.state(UNIT).load) == ("failed", "loaded")


def test_list_after_the_signal_knows_better() -> None:
    known = known_with(listed("active"))
    known.signal(UNIT, {"ActiveState": "deactivating"}, arrived=7)
    known.learn(listed("inactive"), arrived=8)

    assert known.state(UNIT).active == "inactive"


def test_details_are_asked_for_once_per_state() -> None:
    known = known_with(listed("active"))
    assert known.take_lacking([UNIT]) == {UNIT}
    known.learn(listed("active"), arrived=2)
    known.signal(UNIT, {"ActiveState": "inactive"}, arrived=3)
    assert known.take_lacking([UNIT]) == frozenset()
    known.signal(UNIT, {"ActiveState": "failed"}, arrived=4)

    assert known.take_lacking([UNIT]) == {UNIT}


def test_signal_that_tells_what_is_known_is_no_news() -> None:
    known = Known()
    known.asking([UNIT])
    assert known.signal(UNIT, {"ActiveState": "active"}, arrived=1)  # the answer may be older
    known.learn(listed("active", "running"), arrived=2)
    known.asking([UNIT])

    assert not known.signal(UNIT, {"ActiveState": "active", "Job": (0, "/")}, arrived=3)
    assert known.signal(UNIT, {"SubState": "exited"}, arrived=4)


def test_details_of_a_state_that_is_over_are_dropped() -> None:
    known = known_with(listed("failed"))
    asked = known.state(UNIT)
    known.signal(UNIT, {"ActiveState": "active"}, arrived=2)
    known.complete(asked, {"Result": "signal"})

    assert known.state(UNIT).result == "success"


def test_what_is_doubtful_is_asked_for_anew() -> None:
    known = known_with(listed("active"))
    other = UnitName("b.service")
    assert known.unknown([UNIT, other]) == [other]
    known.distrust([UNIT])
    known.date()
    assert known.unknown([UNIT]) == [UNIT]
    assert known.dated([UNIT, other]) == [UNIT]
    known.asking([UNIT])
    assert known.unknown([UNIT]) == []
    assert known.dated([UNIT]) == []
    assert known.forget(UNIT).active == "active"
    assert known.unknown([UNIT]) == [UNIT]
    assert UNIT not in known


def test_unit_that_starts_counts_as_loaded_though_a_list_missed_its_file() -> None:
    known = Known()
    known.learn(SystemdState(unit=UNIT, load="not-found"), 1)

    known.signal(UNIT, {"ActiveState": "active", "SubState": "running"}, 2)

    assert known.state(UNIT).load == "loaded"


def test_list_from_before_a_start_does_not_unload_what_runs() -> None:
    known = Known()
    known.learn(SystemdState(unit=UNIT, load="loaded"), 1)
    known.signal(UNIT, {"ActiveState": "active", "SubState": "running"}, 3)

    known.learn(SystemdState(unit=UNIT, load="not-found"), 2)

    assert (known.state(UNIT).load, known.state(UNIT).active) == ("loaded", "active")


def test_signal_that_overtakes_the_first_answer_has_the_unit_asked_about_again() -> None:
    known = Known()
    known.asking([UNIT])
    assert UNIT in known
    known.signal(UNIT, {"ActiveState": "active", "SubState": "running"}, 2)
    known.learn(listed("activating"), 1)
    assert known.unknown([UNIT]) == [UNIT]


def test_who_was_told_less_is_to_be_told_what_was_learned() -> None:
    known = Known()
    known.asking([UNIT])
    assert not known.learn(listed("inactive", load="not-found"), 1)
    known.distrust([UNIT])
    known.asking([UNIT])  # from here on nobody else asks, and is told what is known
    assert known.unknown([UNIT]) == []
    assert known.learn(listed("inactive"), 2)
    assert not known.learn(listed("inactive"), 3)


def test_start_that_systemd_took_says_that_the_unit_is_loaded_and_needs_no_look() -> None:
    known = Known()
    known.asking([UNIT])
    known.learn(listed("inactive", "dead", load="not-found"), 1)
    known.distrust([UNIT])
    known.started(UNIT)
    assert known.unknown([UNIT]) == []
    assert known.state(UNIT) == listed("inactive", "dead")


def test_start_of_a_unit_never_asked_about_leaves_it_to_be_asked_about() -> None:
    known = Known()
    known.started(UNIT)
    assert known.unknown([UNIT]) == [UNIT]
