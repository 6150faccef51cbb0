"""What help teaches: it fits a terminal of 80 columns, and its examples work."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.fleetctl.main import fleetctl as cli
from cli.fleetctl.main import run
from cli.verbs import SHOWN_VERBS, VERBS
from fleet.names import UnitName
from tests.unit.cli.fleetctl.cluster import Cluster, Fleetctl
from tests.zygote import run_fleetctl

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
# These need machines to go to, or would boot some; tests on booted machines run the like.
_ELSEWHERE = frozenset({"journal", "sandbox", "ssh", "status", "sync"})


def _commands() -> Iterator[tuple[str, ...]]:
    root = click.Context(cli)
    for verb in sorted(VERBS):
        yield (verb,)
        found = cli.get_command(root, verb)
        if isinstance(found, click.Group):
            for name in found.commands:
                yield verb, name


def _help(capsys: pytest.CaptureFixture[str], *argv: str) -> str:
    capsys.readouterr()
    assert run([*argv, "--help"]) == 0
    return capsys.readouterr().out


def _examples(text: str) -> list[str]:
    _, found, rest = text.partition("  Examples:\n")
    lines = rest.partition("\n\n")[0].splitlines() if found else []
    return [line.strip() for line in lines]


@pytest.mark.parametrize("command", [(), *_commands()], ids=lambda words: " ".join(words) or "none")
def test_help_fits_eighty_columns(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    text = _help(capsys, *command)
    assert [line for line in text.splitlines() if len(line) > 80] == []
    assert "<=" not in text, "a range of numbers is no sentence"


@pytest.mark.parametrize(
    "command",
    [command for command in _commands() if command[0] in SHOWN_VERBS],
    ids=" ".join,
)
def test_help_has_examples_of_the_command(
    capsys: pytest.CaptureFixture[str], command: tuple[str, ...]
) -> None:
    examples = _examples(_help(capsys, *command))
    assert examples
    name = f"fleetctl {' '.join(command)}"
    assert all(name in example for example in examples)


def test_help_names_every_verb_once(capsys: pytest.CaptureFixture[str]) -> None:
    text = _help(capsys)
    for verb in SHOWN_VERBS:
        assert len(re.findall(rf"^  {verb} ", text, re.MULTILINE)) == 1


def _do(example: str) -> subprocess.CompletedProcess[str]:
    """What a user would see of it; only what needs a shell gets one."""
    if re.fullmatch(r"fleetctl [\w ./@:=,%-]*", example):
        return run_fleetctl(example.split()[1:], env=os.environ, timeout_s=30)
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {example}"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize("verb", sorted(set(SHOWN_VERBS) - _ELSEWHERE))
def test_examples_work(
    fleetctl: Fleetctl, cluster: Cluster, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """Each example, in a fresh shell, in a folder with unit files and a cluster that has them."""
    for name in ("web.service", "web@.service"):
        Path(name).write_text(WEB)
        assert fleetctl("submit", name).status == 0
    if verb not in ("start", "load", "submit", "drain"):
        assert fleetctl("start", "web", "web@1").status == 0
    for name in ("units/db.service", "base/api.service", "prod/api.service.d/10-nice.conf"):
        Path(name).parent.mkdir(parents=True)
        Path(name).write_text(WEB)
    for example in _examples(_help(capsys, verb)):
        if verb == "destroy" and cluster.target("web.service") is None:
            assert fleetctl("start", "web").status == 0
        if any(word in example for word in ("source", "completion zsh", "--release", "4711")):
            continue
        if "until Ctrl-C" in example:
            continue  # test_asking.py has these
        done = _do(example)
        is_diff = "diff" in example or "--dry-run" in example
        expected = (0, 1) if is_diff else (0,)  # 1 is what a difference exits with
        assert done.returncode in expected, (example, done)
        assert "rror" not in done.stderr, (example, done)


def test_examples_of_start_start_what_they_say(fleetctl: Fleetctl, cluster: Cluster) -> None:
    Path("web@.service").write_text(WEB)
    subprocess.run(
        ["bash", "-c", "fleetctl start web@{1..3}"],
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )
    units = cluster.do(lambda registry: registry.cluster()).units
    assert sorted(units) == [UnitName(f"web@{number}.service") for number in (1, 2, 3)]
