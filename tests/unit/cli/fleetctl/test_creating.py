"""submit, load and start: what is created, from which file, and what is said of it."""

import signal
import subprocess
import sys
from pathlib import Path
from subprocess import PIPE

import pytest

from tests.unit.cli.fleetctl.cluster import LEGEND, Cluster, Fleetctl, wait_until

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
OTHER = "[Service]\nExecStart=/bin/sleep 200\n"
GLOBAL = f"{WEB}[X-Fleet]\nGlobal=true\n"


def _write(name: str, text: str = WEB) -> None:
    path = Path(name)
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)


@pytest.mark.parametrize(
    "verb", ["submit", "load", "start", "stop", "unload", "destroy", "restart"]
)
def test_no_units_given_is_said_and_is_no_failure(fleetctl: Fleetctl, verb: str) -> None:
    outcome = fleetctl(verb)
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "No units given\n")


def test_submit_stores_the_text_as_it_is(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service", f"# mine\n{WEB}")
    outcome = fleetctl("submit", "web.service")
    assert (outcome.status, outcome.out, outcome.err) == (0, "Unit web.service inactive\n", "")
    assert cluster.text("web.service") == f"# mine\n{WEB}"
    assert cluster.target("web.service") == "inactive"


def test_start_waits_until_the_unit_is_active(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    cluster.slow.add("web.service")
    outcome = fleetctl("start", "web")
    assert outcome.out == f"Unit web.service launched on {LEGEND}\n"
    assert (outcome.status, outcome.err) == (0, "")


def test_load_puts_the_unit_on_a_machine(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("units/web.service")
    outcome = fleetctl("load", "units/web")
    assert (outcome.status, outcome.out) == (0, f"Unit web.service loaded on {LEGEND}\n")
    assert cluster.target("web.service") == "loaded"


def test_replaced_units_get_their_former_contents_back_if_one_fails(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    _write("web.service", f"# mine\n{WEB}")
    _write("db.service")
    fleetctl("start", "web", "db")
    _write("web.service", OTHER)
    _write("db.service", OTHER)
    cluster.failing["db.service"] = {"active": "failed", "sub": "failed", "result": "exit-code"}
    outcome = fleetctl("start", "--replace", "--rollback", "web", "db")
    assert outcome.status == 1
    assert "Going back to the former contents of web.service db.service\n" in outcome.err
    assert outcome.out.count("Unit web.service launched on") == 2
    assert cluster.text("web.service") == f"# mine\n{WEB}"
    assert cluster.text("db.service") == WEB


@pytest.mark.parametrize("flags", [("--rollback",), ("--rollback", "--replace", "--no-block")])
def test_rollback_needs_something_to_go_back_to_and_to_wait_for(
    fleetctl: Fleetctl, flags: tuple[str, ...]
) -> None:
    _write("web.service")
    assert fleetctl("start", *flags, "web").status == 2


def test_replaced_units_take_their_contents_so_many_at_a_time_and_go_back_alike(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    _write("web.service")
    fleetctl("start", "web")
    _write("web.service", OTHER)
    _write("new.service")
    fleetctl("start", "--replace", "--max-unavailable", "2", "web", "new")
    assert [cluster.limit(name) for name in ("web.service", "new.service")] == [2, 2]
    _write("web.service", f"{WEB}Nice=1\n")
    cluster.failing["web.service"] = {"active": "failed", "sub": "failed", "result": "exit-code"}
    fleetctl("start", "--replace", "--rollback", "--max-unavailable", "1", "web")
    assert (cluster.text("web.service"), cluster.limit("web.service")) == (OTHER, 1)


@pytest.mark.parametrize("flags", [("1",), ("0", "--replace"), ("many", "--replace")])
def test_number_at_a_time_is_one_and_goes_with_replace(
    fleetctl: Fleetctl, flags: tuple[str, ...]
) -> None:
    _write("web.service")
    assert fleetctl("start", "web", "--max-unavailable", *flags).status == 2


def test_start_of_a_started_unit_says_nothing(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    fleetctl("start", "web")
    events = cluster.events()
    outcome = fleetctl("start", "web")
    assert (outcome.status, outcome.out, outcome.err) == (0, "", "")
    assert cluster.events() == events


def test_many_units_go_in_one_request(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web@.service")
    outcome = fleetctl("start", *(f"web@{number}" for number in range(30)))
    assert outcome.status == 0
    assert len(outcome.out.splitlines()) == 30
    assert cluster.history == [(f"web@{n}.service", "launched") for n in sorted(range(30), key=str)]


def test_no_block_says_what_was_triggered(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    _write("all.service", GLOBAL)
    outcome = fleetctl("start", "--no-block", "web", "all")
    assert outcome.out.splitlines() == [
        "Triggered global unit all.service start",
        "Triggered unit web.service start",
    ]


def test_global_units_are_not_waited_for(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("all.service", GLOBAL)
    assert fleetctl("submit", "all").out == "Unit all.service \n"
    cluster.deaf.add("all.service")
    assert fleetctl("start", "all").out == "Triggered global unit all.service start\n"


# Templates


def test_instance_is_a_copy_of_the_local_template(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("units/web@.service", f"# of a template\n{WEB}")
    assert fleetctl("start", "units/web@1").status == 0
    assert cluster.text("web@1.service") == f"# of a template\n{WEB}"
    assert cluster.target("web@.service") is None


def test_instance_is_a_copy_of_the_stored_template(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web@.service", f"# of a template\n{WEB}")
    fleetctl("submit", "web@.service")
    Path("web@.service").unlink()
    assert fleetctl("start", "web@1").status == 0
    assert cluster.text("web@1.service") == f"# of a template\n{WEB}"


def test_stored_template_wins_over_a_different_local_one(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    _write("web@.service")
    fleetctl("submit", "web@.service")
    _write("web@.service", OTHER)
    outcome = fleetctl("submit", "web@1")
    assert cluster.text("web@1.service") == WEB
    assert outcome.err == (
        "WARNING: Unit web@.service in registry differs from local unit file web@.service."
        " Add --replace to override.\n"
    )
    fleetctl("submit", "--replace", "web@2")
    assert cluster.text("web@2.service") == OTHER


def test_own_file_of_an_instance_wins_over_its_template(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    _write("web@.service")
    _write("web@1.service", OTHER)
    fleetctl("submit", "web@1")
    assert cluster.text("web@1.service") == OTHER


def test_template_itself_is_not_started(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web@.service")
    outcome = fleetctl("start", "web@")
    assert outcome.status == 1
    assert "web@.service" in outcome.err
    assert cluster.target("web@.service") is None


# Other comments


@pytest.mark.parametrize(
    ("verb", "flags"),
    [
        pytest.param("submit", [], id="submit"),
        pytest.param("submit", ["--replace"], id="submit --replace"),
        pytest.param("start", ["--replace"], id="start --replace"),
    ],
)
def test_other_comments_are_stored_and_nothing_restarts(
    fleetctl: Fleetctl, cluster: Cluster, verb: str, flags: list[str]
) -> None:
    _write("web.service")
    fleetctl("start", "web")
    _write("web.service", f"# why it is so\n{WEB}")
    outcome = fleetctl(verb, *flags, "web")
    told = "Unit web.service means the same; only its text is replaced, and nothing restarts\n"
    assert (outcome.status, outcome.out, outcome.err) == (0, told, "")
    assert cluster.text("web.service") == f"# why it is so\n{WEB}"
    assert cluster.history == [("web.service", "launched")]


def test_other_comments_of_many_are_stored(fleetctl: Fleetctl, cluster: Cluster) -> None:
    names = [f"web{number}" for number in range(20)]
    for name in names:
        _write(f"{name}.service")
    fleetctl("submit", *names)
    _write("web7.service", f"# why it is so\n{WEB}")
    assert len(fleetctl("submit", *names).out.splitlines()) == 1
    assert cluster.text("web7.service") == f"# why it is so\n{WEB}"


def test_start_by_name_keeps_the_stored_comments(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service", f"# mine\n{WEB}")
    fleetctl("submit", "web")
    _write("web.service")
    assert fleetctl("start", "web").status == 0
    assert cluster.text("web.service") == f"# mine\n{WEB}"


# What cannot be created


@pytest.mark.parametrize(
    ("argument", "text", "message"),
    [
        pytest.param(
            "gone",
            None,
            "unable to find Unit(gone.service) in Registry or on filesystem",
            id="gone",
        ),
        pytest.param(
            "t@1",
            None,
            "failed getting Unit(t@1.service) from template: unable to find template "
            "Unit(t@.service) in Registry or on filesystem",
            id="no template",
        ),
        pytest.param(
            "bad",
            "[Service]\nExecStart\n",
            "failed getting Unit(bad.service) from file: bad.service:2: ",
            id="malformed",
        ),
        pytest.param("a b", None, "invalid character ' ' in unit name", id="no name"),
        pytest.param(
            "bad",
            f"{WEB}[X-Fleet]\nMachineID=1\nGlobal=true\n",
            "bad.service: MachineID cannot be used with Global",
            id="contradiction",
        ),
        pytest.param("bad", "", "bad.service: the unit file has no options", id="empty"),
    ],
)
def test_one_bad_argument_and_nothing_is_sent(
    fleetctl: Fleetctl, cluster: Cluster, argument: str, text: str | None, message: str
) -> None:
    _write("web.service")
    if text is not None:
        _write(f"{argument}.service", text)
    outcome = fleetctl("start", "web", argument)
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err.startswith(f"Error creating units: {message}")
    assert cluster.target("web.service") is None


@pytest.mark.parametrize(
    ("argument", "hint"),
    [
        pytest.param("wbe", "did you mean web.service?", id="a letter is in the wrong place"),
        pytest.param("wep@1", "did you mean web.service?", id="a template that is not there"),
        pytest.param("multi-user.target", "no units of type target", id="a type without a name"),
        pytest.param("web*", "no file here matches 'web*'", id="a pattern"),
    ],
)
def test_name_that_is_nowhere_comes_with_a_hint(
    fleetctl: Fleetctl, argument: str, hint: str
) -> None:
    _write("web.service")
    outcome = fleetctl("start", argument)
    assert outcome.status == 1
    assert hint in outcome.err
    assert len(outcome.err.splitlines()) == 1


def test_every_bad_argument_is_named(fleetctl: Fleetctl) -> None:
    outcome = fleetctl("submit", "one", "two")
    assert [line.split("(")[1].split(")")[0] for line in outcome.err.splitlines()] == [
        "one.service",
        "two.service",
    ]


def test_unknown_option_is_warned_of_with_the_nearest(fleetctl: Fleetctl) -> None:
    _write("web.service", f"{WEB}[X-Fleet]\nMachineOff=db.service\n")
    outcome = fleetctl("submit", "web")
    assert outcome.status == 0
    assert outcome.err == (
        "WARNING: Unit web.service: unrecognized requirement in [X-Fleet] section: "
        '"MachineOff" (did you mean MachineOf?)\n'
    )


# What is stored already


def test_different_local_file_is_warned_of(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    fleetctl("start", "web")
    _write("web.service", OTHER)
    outcome = fleetctl("start", "./web.service")
    assert outcome.status == 0
    assert outcome.err == (
        "WARNING: Unit web.service in registry differs from local unit file web.service."
        " Add --replace to override.\n"
    )
    assert cluster.text("web.service") == WEB


def test_different_local_template_is_warned_of(fleetctl: Fleetctl) -> None:
    _write("web@.service")
    fleetctl("start", "web@1")
    _write("web@.service", OTHER)
    assert "from local template unit file web@.service." in fleetctl("start", "web@1").err


@pytest.mark.parametrize(
    ("brought_by", "replaced_by", "is_allowed"),
    [
        ("submit", "submit", True),
        ("submit", "load", True),
        ("submit", "start", True),
        ("load", "submit", False),
        ("load", "load", True),
        ("load", "start", True),
        ("start", "submit", False),
        ("start", "load", False),
        ("start", "start", True),
    ],
)
def test_replace_is_bound_to_how_far_the_unit_is(
    fleetctl: Fleetctl, cluster: Cluster, brought_by: str, replaced_by: str, is_allowed: bool
) -> None:
    _write("web.service")
    fleetctl(brought_by, "web")
    before = cluster.target("web.service")
    _write("web.service", OTHER)
    outcome = fleetctl(replaced_by, "--replace", "web")
    assert outcome.status == 0
    assert cluster.text("web.service") == (OTHER if is_allowed else WEB)
    refusal = (
        f"Warning: can not replace Unit(web.service) in state '{before}',"
        " use the appropriate command\n"
    )
    assert outcome.err == ("" if is_allowed else refusal)


def test_replace_works_when_the_verb_is_abbreviated(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    fleetctl("start", "web")
    _write("web.service", OTHER)
    assert fleetctl("star", "--replace", "web").out == f"Unit web.service launched on {LEGEND}\n"
    assert cluster.text("web.service") == OTHER


def test_replace_by_the_same_is_nothing_to_do(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    fleetctl("submit", "web")
    events = cluster.events()
    outcome = fleetctl("submit", "--replace", "web")
    assert outcome.out == "Found same Unit(web.service) in Registry, nothing to do\n"
    assert cluster.events() == events


def test_replace_needs_a_file(fleetctl: Fleetctl) -> None:
    _write("web.service")
    fleetctl("submit", "web")
    Path("web.service").unlink()
    outcome = fleetctl("submit", "--replace", "web")
    assert outcome.status == 1
    assert "unable to find Unit(web.service) on filesystem" in outcome.err


# What does not come up


def test_failed_start_tells_all_and_exits_with_1(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    cluster.failing["web.service"] = {
        "active": "failed",
        "sub": "failed",
        "result": "exit-code",
        "exit_status": "code=exited, status=3",
        "journal": ("no such table",),
    }
    outcome = fleetctl("start", "web")
    assert (outcome.status, outcome.out) == (1, "")
    assert outcome.err == (
        f"Unit web.service failed on {LEGEND}: exit-code (code=exited, status=3)\n"
        "    no such table\n"
        "It stays launched in the cluster, and systemd has given it up; "
        "to try again: fleetctl restart web.service\n"
    )


def test_start_of_a_unit_that_has_failed_says_so(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    cluster.failing["web.service"] = {"active": "failed", "sub": "failed", "journal": ("x",)}
    fleetctl("start", "web")
    outcome = fleetctl("start", "web")
    assert outcome.status == 1
    assert "failed on" in outcome.err


def test_oneshot_that_has_run_is_success(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service", "[Service]\nType=oneshot\nExecStart=/bin/true\n")
    cluster.failing["web.service"] = {"active": "inactive", "sub": "dead"}
    outcome = fleetctl("start", "web")
    assert (outcome.status, outcome.out) == (0, f"Unit web.service launched on {LEGEND}\n")


def test_unit_that_no_machine_takes_stays_wanted(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    cluster.refused.add("web.service")
    outcome = fleetctl("start", "web")
    assert outcome.status == 1
    assert outcome.err.splitlines() == [
        "Unit web.service runs nowhere, because no machine can take it:",
        f"  {LEGEND}  the machine has no tape",
        "It stays launched in the cluster and starts when a machine fits.",
    ]
    assert cluster.target("web.service") == "launched"


def test_block_attempts_bound_the_wait(fleetctl: Fleetctl, cluster: Cluster) -> None:
    _write("web.service")
    cluster.deaf.add("web.service")
    outcome = fleetctl("start", "--block-attempts=1", "web")
    assert outcome.status == 1
    assert outcome.err.splitlines() == [
        "Error waiting for units: timed out waiting for unit web.service to report state launched",
        "    no machine has been chosen for it yet",
    ]


def test_ctrl_c_is_quiet_and_leaves_what_was_asked_for(
    fleetctl: Fleetctl, cluster: Cluster
) -> None:
    _write("web.service")
    cluster.deaf.add("web.service")
    code = "import sys; from cli.fleetctl.main import run; sys.exit(run(sys.argv[1:]))"
    with subprocess.Popen(
        [sys.executable, "-c", code, "start", "web"], stdout=PIPE, stderr=PIPE
    ) as waiting:
        wait_until(lambda: cluster.target("web.service") == "launched")
        waiting.send_signal(signal.SIGINT)
        assert waiting.communicate(timeout=10) == (b"", b"")
    assert waiting.returncode == 130
    assert cluster.target("web.service") == "launched"
