"""The program: its flags and variables, what it says of mistakes, and its exit status."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import click
import pytest

from cli.fleetctl.main import fleetctl, run
from cli.settings import Settings
from cli.verbs import SHOWN_VERBS, find_verb
from fleet import __version__


def _run(capsys: pytest.CaptureFixture[str], *argv: str) -> tuple[int, str, str]:
    status = run(argv)
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def _settings(*argv: str, **variables: str) -> Settings:
    seen: list[Settings] = []

    @click.pass_obj
    def probe(settings: Settings) -> None:
        seen.append(settings)

    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("FLEETCTL_"):
                patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(name, value)
        context = fleetctl.make_context("fleetctl", [*argv, "version"])
        context.invoked_subcommand = "version"
        with context:
            assert fleetctl.callback is not None
            context.invoke(fleetctl.callback, **context.params)
            return context.find_object(Settings) or Settings()


def test_settings_of_nothing_are_the_defaults() -> None:
    defaults = Settings()
    known_hosts = os.path.expanduser(defaults.known_hosts_file)
    assert _settings() == replace(defaults, known_hosts_file=known_hosts)


@pytest.mark.parametrize(
    ("argv", "variables", "field", "value"),
    [
        pytest.param(("--tunnel", "h"), {}, "tunnel", "h", id="flag"),
        pytest.param((), {"FLEETCTL_TUNNEL": "h"}, "tunnel", "h", id="variable"),
        pytest.param(("--tunnel", "f"), {"FLEETCTL_TUNNEL": "h"}, "tunnel", "f", id="flag wins"),
        pytest.param((), {"FLEETCTL_SSH_TIMEOUT": ""}, "ssh_timeout_s", 10.0, id="empty is unset"),
        pytest.param((), {"FLEETCTL_SSH_TIMEOUT": "2.5"}, "ssh_timeout_s", 2.5, id="seconds"),
        pytest.param(
            (),
            {"FLEETCTL_STRICT_HOST_KEY_CHECKING": "false"},
            "strict_host_key_checking",
            False,
            id="switch in a variable",
        ),
        pytest.param((), {"FLEETCTL_DEBUG": "1"}, "debug", True, id="debug"),
        pytest.param((), {"FLEETCTL_SSH_CONFIG": "/c"}, "ssh_config", "/c", id="ssh config"),
        pytest.param((), {}, "ssh_username", None, id="no user given"),
        pytest.param(("--ssh-username", "core"), {}, "ssh_username", "core", id="user given"),
        pytest.param(("--etcd-cafile", "/a"), {}, "ca_file", "/a", id="deprecated name"),
        pytest.param(
            ("--known-hosts-file", "~/k"), {}, "known_hosts_file", str(Path.home() / "k"), id="home"
        ),
    ],
)
def test_settings_come_from_flags_and_variables(
    argv: tuple[str, ...], variables: dict[str, str], field: str, value: object
) -> None:
    assert getattr(_settings(*argv, **variables), field) == value


def test_value_that_cannot_be_is_said_of_its_variable(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLEETCTL_SSH_TIMEOUT", "soon")
    status, _, err = _run(capsys, "list-machines")
    assert status == 2
    assert err.startswith(
        "Error: Invalid value for FLEETCTL_SSH_TIMEOUT: 'soon' is not a valid number of seconds.\n"
    )
    status, _, err = _run(capsys, "--ssh-timeout=late", "list-machines")
    assert err.startswith("Error: Invalid value for '--ssh-timeout': 'late' is not a valid")


@pytest.mark.parametrize(
    ("typed", "verb"),
    [
        pytest.param("stop", "stop", id="whole"),
        pytest.param("list-m", "list-machines", id="unique beginning"),
        pytest.param("list-unit", None, id="several begin so"),
        pytest.param("list-units", "list-units", id="whole, though others begin so"),
        pytest.param("fd", None, id="hidden verbs are not abbreviated"),
        pytest.param("", None, id="nothing"),
    ],
)
def test_verb_may_be_abbreviated(typed: str, verb: str | None) -> None:
    assert find_verb(typed) == verb


@pytest.mark.parametrize(
    ("argv", "message", "usage"),
    [
        pytest.param(("frob",), "unknown command 'frob'.", "fleetctl [OPTIONS] COMMAND", id="verb"),
        pytest.param(
            ("sotp", "web"), "Did you mean stop", "fleetctl [OPTIONS] COMMAND", id="near verb"
        ),
        pytest.param(("st",), "Did you mean start or status or stop?", "fleetctl", id="ambiguous"),
        pytest.param(
            ("start", "--replce", "web"), "No such option", "fleetctl start [OPTIONS]", id="flag"
        ),
        pytest.param(
            ("start", "--block-attempts=x", "web"), "'x' is not", "fleetctl start", id="value"
        ),
        pytest.param(
            ("list-units", "--ssh-timeout"), "requires an argument", "fleetctl", id="none"
        ),
        pytest.param(
            ("list-units", "--fields"),
            "'--fields' requires an argument",
            "fleetctl list-units [OPTIONS] [PATTERN]...",
            id="no value for a verb's flag",
        ),
        pytest.param(
            ("zzz",), "fleetctl help lists what there is", "fleetctl", id="nothing like it"
        ),
        pytest.param(
            ("completion",),
            "for which shell: bash, zsh or fish?",
            "fleetctl completion [OPTIONS] bash|zsh|fish",
            id="no shell",
        ),
        pytest.param(
            ("sandbox", "kil"), "Did you mean 'kill'?", "fleetctl sandbox", id="near subcommand"
        ),
        pytest.param(
            ("list-machines", "x"), "unexpected extra argument (x)", "fleetctl list-m", id="extra"
        ),
        pytest.param(
            ("journal", "--lines=-5", "web"), "-5 is not in the range", "fleetctl jou", id="range"
        ),
    ],
)
def test_usage_errors_exit_with_2_and_one_usage_line(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], message: str, usage: str
) -> None:
    status, out, err = _run(capsys, *argv)
    assert (status, out) == (2, "")
    lines = err.splitlines()
    assert message in lines[0]
    assert len(lines) == 2
    assert lines[1].startswith(f"Usage: {usage}")


@pytest.mark.parametrize(
    ("argv", "cause"),
    [
        pytest.param(("--endpoint", "var/run"), "URL scheme undefined", id="no scheme"),
        pytest.param(
            ("--endpoint", "unix://var/run/fleet.sock"),
            'unable to connect to host "var" with scheme "unix"',
            id="two slashes",
        ),
        pytest.param(("--driver", "x"), 'unrecognized driver "x"', id="driver"),
        pytest.param(("--driver", "etcd"), "the etcd driver is no more", id="etcd driver"),
    ],
)
def test_endpoint_that_means_nothing(
    capsys: pytest.CaptureFixture[str], argv: tuple[str, ...], cause: str
) -> None:
    status, out, err = _run(capsys, *argv, "list-units")
    assert (status, out) == (1, "")
    assert err.startswith(f"Unable to initialize client: {cause}")


def test_operational_error_is_a_sentence(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    socket = tmp_path / "none.sock"
    status, _, err = _run(capsys, "--endpoint", f"unix://{socket}", "list-units")
    assert status == 1
    assert str(socket) in err
    assert "Traceback" not in err
    _, _, err = _run(capsys, "--debug", "--endpoint", f"unix://{socket}", "list-units")
    assert "Traceback" in err


def test_group_without_a_subcommand_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run(capsys, "sandbox") == _run(capsys, "sandbox", "--help")


def test_version_is_told_in_all_ways(capsys: pytest.CaptureFixture[str]) -> None:
    for argv in (["version"], ["--version"], ["-v"], ["-version"], ["--debug=false", "--version"]):
        assert _run(capsys, *argv) == (0, f"fleetctl version {__version__}\n", "")


def test_help_is_told_in_all_ways(capsys: pytest.CaptureFixture[str]) -> None:
    general = _run(capsys, "help")
    assert general[0] == 0
    assert "list-machines" in general[1]
    for argv in ([], ["-h"], ["--help"], ["--h"]):
        assert _run(capsys, *argv) == general
    of_start = _run(capsys, "help", "start")
    assert of_start == _run(capsys, "start", "--help") == _run(capsys, "start", "-h")


@pytest.mark.parametrize("verb", sorted(SHOWN_VERBS))
def test_help_of_every_verb_has_examples(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    status, out, _ = _run(capsys, "help", verb)
    assert status == 0
    assert "Examples:" in out
    assert f"fleetctl {verb}" in out


def test_verify_is_deprecated(capsys: pytest.CaptureFixture[str]) -> None:
    status, _, err = _run(capsys, "verify", "web.service")
    assert status == 2
    assert "DEPRECATED" in err


_FOR_OTHERS = ("asyncssh", "aiohttp", "httpx", "httpcore", "anyio")
_OF_SERVERS = ("fleet.store.port", "fleet.registry", "fleet.cluster", "fleet.folder", "fleet.sync")


@pytest.mark.parametrize(
    ("words", "heavy"),
    [
        pytest.param(["--help"], ("h11", "asyncio", *_FOR_OTHERS, *_OF_SERVERS), id="help"),
        pytest.param(
            ["list-machines"], ("fleet.options", *_FOR_OTHERS, *_OF_SERVERS), id="list-machines"
        ),
        pytest.param(["list-units"], (*_FOR_OTHERS, *_OF_SERVERS), id="list-units"),
        pytest.param(["start", "web"], (*_FOR_OTHERS, *_OF_SERVERS), id="start"),
    ],
)
def test_command_imports_nothing_that_it_does_not_use(
    words: list[str], heavy: tuple[str, ...], tmp_path: Path
) -> None:
    argv = ["--endpoint", f"unix://{tmp_path}/none.sock", *words]
    code = (
        f"import sys; from cli.fleetctl.main import run; run({argv});"
        f"print('imported:', *sorted({set(heavy)} & sys.modules.keys()))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "imported:"


def test_closed_pipe_is_quiet() -> None:
    code = "from cli.fleetctl.main import run; import sys; sys.exit(run(['help']))"
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-c", code], stdout=writer, stderr=subprocess.PIPE, check=False
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")
