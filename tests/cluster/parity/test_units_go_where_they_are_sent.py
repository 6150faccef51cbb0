"""fleet 1.0's unit_action scenarios: submit, load, start and back, many at once, and replacing."""

from collections import Counter

import pytest

from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

pytestmark = pytest.mark.systemd

GOODBYE = "[Service]\nExecStart=/bin/sleep 3000\n"


def _counts(operator: Operator) -> tuple[int, int, int]:
    """How many units are stored, are loaded on a machine, and are active there."""
    rows = operator.rows()
    stored = operator.ok("list-unit-files", "--no-legend").splitlines()
    return len(stored), len(rows), Counter(row.active for row in rows)["active"]


def test_unit_that_is_started_is_active(operator: Operator) -> None:
    operator.service("hello.service")

    operator.ok("start", "hello.service")

    (row,) = operator.rows()
    assert (row.unit, row.active, row.sub) == ("hello.service", "active", "running")


@pytest.mark.parametrize(
    ("forth", "back", "count", "reached", "left"),
    [
        pytest.param("submit", "destroy", 9, (9, 0, 0), (0, 0, 0), id="submit and destroy"),
        pytest.param("load", "unload", 6, (6, 6, 0), (6, 0, 0), id="load and unload"),
        pytest.param("start", "stop", 3, (3, 3, 3), (3, 3, 0), id="start and stop"),
    ],
)
def test_instances_go_forth_and_back_twice(
    operator: Operator,
    forth: str,
    back: str,
    count: int,
    reached: tuple[int, int, int],
    left: tuple[int, int, int],
) -> None:
    operator.service("hello@.service")
    names = [f"hello@{number}.service" for number in range(1, count + 1)]
    for _ in range(2):
        for verb, counts in ((forth, reached), (back, left)):
            done = operator.fleetctl(verb, *names)
            assert (done.returncode, "Error" in done.stderr) == (0, False), done
            # Who has waited for the command has waited for the result.
            assert _counts(operator) == counts


@pytest.mark.parametrize("verb", ["submit", "load", "start"])
def test_unit_is_replaced_by_a_changed_file(operator: Operator, verb: str) -> None:
    name = operator.service("hello.service")
    operator.ok(verb, name)
    before = operator.ok("cat", name)
    operator.write(name, GOODBYE)

    assert "differs from local unit file" in operator.fleetctl(verb, name).stderr
    assert operator.ok("cat", name) == before

    operator.ok(verb, "--replace", name)

    assert operator.ok("cat", name) == GOODBYE
    if verb == "start":
        home = operator.home(name)
        assert "sleep 3000" in operator.show(home, name, "ExecStart")["ExecStart"]
    assert "nothing to do" in operator.ok(verb, "--replace", name)


def test_old_process_has_stopped_before_its_replacement_starts(operator: Operator) -> None:
    log = "/var/tmp/serialization"
    text = "[Service]\nExecStartPre=/bin/sh -c 'echo {0} starts >>{1}'\nExecStart=/bin/sleep 1000\n"
    text += "ExecStopPost=/bin/sh -c 'sleep 0.3; echo {0} has stopped >>{1}'\n"
    text += f"[X-Fleet]\nMachineID={operator.machine_id('fleet2')}\n"
    operator.write("hello.service", text.format("old", log))
    operator.ok("start", "hello")
    operator.write("hello.service", text.format("new", log))

    operator.ok("start", "--replace", "hello")

    lines = operator.sandbox.path("fleet2", log).read_text().splitlines()
    assert lines == ["old starts", "old has stopped", "new starts"]


def test_restart_works_from_active_and_from_stopped(operator: Operator) -> None:
    operator.service("hello.service")
    operator.ok("start", "hello")
    home = operator.home("hello.service")
    first = operator.life(home, "hello.service")

    operator.ok("restart", "hello")
    second = operator.life(operator.home("hello.service"), "hello.service")
    assert second.invocation != first.invocation

    operator.ok("stop", "hello")
    operator.ok("restart", "hello")
    third = operator.life(operator.home("hello.service"), "hello.service")
    assert third.active == "active"
    assert third.invocation != second.invocation


def test_cat_shows_the_file_and_status_what_systemd_says(operator: Operator) -> None:
    text = (operator.folder / operator.service("hello.service")).read_text()
    operator.ok("submit", "hello")
    assert operator.ok("cat", "hello.service") == text
    assert operator.fleetctl("status", "hello.service").returncode == 3

    operator.ok("load", "hello")
    done = operator.inside("fleet1", "status", "hello.service")

    assert "Loaded: loaded" in done.stdout, done
    assert done.returncode == 3  # systemctl's own, of a unit that does not run


def test_unit_files_are_listed_in_order(operator: Operator) -> None:
    operator.service("hello@.service")
    names = [f"hello@{number}.service" for number in range(1, 21)]
    operator.ok("submit", *reversed(names))

    listed = operator.ok("list-unit-files", "--no-legend", "--fields", "unit").splitlines()

    assert listed == sorted(names)


def test_global_unit_runs_on_each_machine_and_answers_status_and_restart(
    operator: Operator,
) -> None:
    operator.service("hello.service")
    operator.service("everywhere.service", fleet="Global=true")
    operator.ok("start", "--no-block", "hello", "everywhere")
    machines = operator.powered()
    eventually(lambda: operator.homes("everywhere.service") == machines)
    before = operator.lives()

    # The flag means nothing for status; fleet 1.0 let it pass, and so scripts have it.
    done = operator.inside("fleet1", "status", "--no-block", "everywhere.service")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Active: active") == len(machines)
    operator.ok("restart", "--block-attempts=20", "everywhere.service")

    eventually(lambda: operator.homes("everywhere.service") == machines)
    after = operator.lives()
    for machine in machines:
        key = (machine, "everywhere.service")
        assert after[key].invocation != before[key].invocation
    home = operator.home("hello.service")
    assert after[home, "hello.service"] == before[home, "hello.service"]
