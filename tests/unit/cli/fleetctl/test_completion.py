"""Completion: what fleetctl answers a shell, and what becomes of it in a real bash."""

import os
import pty
import re
import select
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.completion.scripts import SHELLS, script_of
from cli.completion.shells import Completion
from cli.fleetctl.main import fleetctl as cli
from cli.fleetctl.main import root_grammar
from tests.unit.cli.fleetctl.cluster import Cluster, Fleetctl

WEB = "[Service]\nExecStart=/bin/sleep 100\n"
BIN = Path(sys.executable).parent


@pytest.fixture
def folder(fleetctl: Fleetctl, cluster: Cluster, tmp_path: Path) -> Path:
    """A folder with unit files, and a cluster with units."""
    for name in ("web@.service", "db.service", r"mnt-a\x2db.mount"):
        Path(name).write_text(WEB)
    assert fleetctl("submit", "web@.service").status == 0
    assert fleetctl("start", "web@1", "web@2", "db", r"mnt-a\x2db.mount").status == 0
    for name in ("db.service", r"mnt-a\x2db.mount"):
        Path(name).unlink()
    for name in ("api.service", "my unit.service", "notes.txt", ".hidden.service"):
        Path(name).write_text(WEB)
    Path("units").mkdir()
    Path("units/tick.timer").write_text(WEB)
    return tmp_path


def _ask(line: str, shell: str = "fish", **more: str) -> list[list[str]]:
    asked = {"_FLEETCTL_LINE": line, **more}
    return [row.split("\t") for row in Completion(cli, root_grammar(), shell, asked).lines()]


def _values(line: str) -> list[str]:
    return [row[1] for row in _ask(f"fleetctl {line}")]


_LISTS = ["list-machines", "list-unit-files", "list-units"]
_OTHER_COLUMNS = ["active", "hash", "load", "machine", "sub"]


@pytest.mark.parametrize(
    ("line", "values"),
    [
        pytest.param("sta", ["start", "status"], id="verbs"),
        pytest.param("--debug li", _LISTS, id="verbs after a global flag"),
        pytest.param("-tunnel h li", _LISTS, id="a flag with one dash"),
        pytest.param("fd", [], id="hidden verbs are not shown"),
        pytest.param("help jo", ["journal"], id="help of a verb"),
        pytest.param("frob ", [], id="after a verb that there is not"),
        pytest.param("st ", [], id="after an ambiguous verb"),
        pytest.param("start --re", ["--replace"], id="flags of the verb"),
        pytest.param("start --tun", ["--tunnel"], id="global flags after the verb"),
        pytest.param("start --replace --re", ["--request-timeout"], id="a flag is not given twice"),
        pytest.param("stop db", ["db.service"], id="units of the cluster"),
        pytest.param("stop w", ["web@1.service", "web@2.service"], id="templates cannot run"),
        pytest.param("stop web@1.service w", ["web@2.service"], id="units not named yet"),
        pytest.param(
            "cat web@",
            ["web@.service", "web@1.service", "web@2.service"],
            id="templates can be shown",
        ),
        pytest.param(
            "sto --block-attempts 5 d",
            ["db.service"],
            id="an abbreviated verb and a flag with a value",
        ),
        pytest.param(
            "submit ",
            ["api.service", "my unit.service", "units/", "web@.service"],
            id="files and folders",
        ),
        pytest.param("submit units/", ["units/tick.timer"], id="files of a folder"),
        pytest.param("submit .h", [".hidden.service"], id="hidden files on request"),
        pytest.param("submit nowhere/", [], id="no such folder"),
        pytest.param(
            "start w", ["web@", "web@1.service", "web@2.service"], id="instances of a template"
        ),
        pytest.param("scale w", ["web@.service"], id="templates alone, each once"),
        pytest.param("scale un", ["units/"], id="a folder may have templates"),
        pytest.param("scale d", [], id="what is no template cannot be scaled"),
        pytest.param("start d", ["db.service"], id="stored units can be started without a file"),
        pytest.param("ssh 1", ["113f16a7", "172.17.8.103"], id="machines by id and address"),
        pytest.param("ssh 113f16a7b", ["113f16a7b5be4a7ba3a9d58bf1b0b2c1"], id="more of an id"),
        pytest.param("ssh d", ["db.service"], id="the machine of a unit"),
        pytest.param("ssh 113f16a7 d", [], id="a command there is not ours"),
        pytest.param("ssh 113f16a7 ls -", [], id="nor are its flags"),
        pytest.param("ssh --machine 11", ["113f16a7"], id="machine as a flag's value"),
        pytest.param(
            "journal --machine=11", ["--machine=113f16a7"], id="machine after an equals sign"
        ),
        pytest.param("list-units --fields su", ["sub"], id="a column"),
        pytest.param(
            "list-units --fields=unit,",
            [f"--fields=unit,{column}" for column in _OTHER_COLUMNS],
            id="further columns",
        ),
        pytest.param("journal -o json-p", ["json-pretty"], id="journalctl's formats"),
        pytest.param("sandbox k", ["kill"], id="verbs of the sandbox"),
        pytest.param("sandbox up --etcd ", ["0", "1", "3"], id="a choice"),
        pytest.param("sandbox up --set on_", ["on_stop="], id="options of fleetd"),
        pytest.param("sandbox kill --name nowhere ", [], id="machines of no sandbox"),
        pytest.param("completion ", ["bash", "zsh", "fish"], id="shells"),
        pytest.param("--endpoint unix:///nowhere stop d", [], id="no cluster by a flag before"),
        pytest.param("stop --endpoint unix:///nowhere d", [], id="no cluster by a flag behind"),
        pytest.param("--driver etcd stop d", [], id="flags that lead nowhere"),
        pytest.param("--ssh-timeout x stop d", ["db.service"], id="a bad value does not matter"),
    ],
)
def test_line_may_go_on_with(folder: Path, line: str, values: list[str]) -> None:
    assert _values(line) == values


def test_variables_say_which_cluster(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLEETCTL_ENDPOINT", "unix:///nowhere")
    monkeypatch.setenv("FLEETCTL_SSH_TIMEOUT", "")
    assert _values("stop d") == []
    assert _values(f"--endpoint unix://{folder}/fleet.sock stop d") == ["db.service"]


def test_candidates_say_what_they_are(folder: Path) -> None:
    assert _ask("fleetctl stop d") == [["plain", "db.service", "launched"]]
    assert _ask("fleetctl ssh 11") == [["plain", "113f16a7", "172.17.8.103 disk=ssd"]]
    assert _ask("fleetctl start we")[0] == ["part", "web@", "an instance"]
    assert _ask("fleetctl --ca-file /e") == [["file", "/e", ""]]


@pytest.mark.parametrize(
    ("line", "word", "value"),
    [
        pytest.param("stop web@1", "@1", "@1.service", id="bash ends a word at the at sign"),
        pytest.param("list-units --fields=su", "su", "sub", id="and at an equals sign"),
        pytest.param("list-units --fields=unit,su", "unit,su", "unit,sub", id="not at a comma"),
        pytest.param("stop 'web@1", "web@1", "web@1.service", id="nothing ends within quotes"),
        pytest.param(r"stop mnt", "mnt", r"mnt-a\\x2db.mount", id="what bash reads is escaped"),
        pytest.param(r"stop 'mnt", "mnt", r"mnt-a\x2db.mount", id="but not within quotes"),
        pytest.param(r"submit my\ u", r"my\ u", r"my\ unit.service", id="typed with an escape"),
    ],
)
def test_bash_gets_what_it_puts_in_place_of_its_word(
    folder: Path, line: str, word: str, value: str
) -> None:
    rows = _ask(f"fleetctl {line}", "bash", _FLEETCTL_WORD=word)
    assert [row[1] for row in rows] == [value]


def test_cluster_that_does_not_answer_is_not_waited_for(tmp_path: Path) -> None:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "deaf.sock"))
    listener.listen()
    asked = {
        **os.environ,
        "FLEETCTL_ENDPOINT": f"unix://{tmp_path}/deaf.sock",
        "_FLEETCTL_COMPLETE": "bash_complete",
        "_FLEETCTL_LINE": "fleetctl stop w",
    }
    done = subprocess.run(
        [BIN / "fleetctl"], env=asked, capture_output=True, timeout=10, check=False
    )
    listener.close()
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


@pytest.mark.parametrize("shell", SHELLS)
def test_script_is_printed(fleetctl: Fleetctl, shell: str) -> None:
    outcome = fleetctl("completion", shell)
    assert (outcome.status, outcome.out, outcome.err) == (0, script_of(shell), "")
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"no {shell} here to check the script")
    Path("script").write_text(outcome.out)
    done = subprocess.run([program, "-n", "script"], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_shell_that_is_not_known_is_a_usage_error(fleetctl: Fleetctl) -> None:
    outcome = fleetctl("completion", "tcsh")
    assert outcome.status == 2
    assert "'tcsh' is not one of 'bash', 'zsh', 'fish'" in outcome.err


# In bash


class Terminal:
    """bash on a terminal of its own; Control-G prints the line as it stands."""

    def __init__(self, folder: Path) -> None:
        (folder / "rc").write_text(
            "PS1='ready> '\n"
            'eval "$(fleetctl completion bash)"\n'
            "bind 'set bell-style none'\n"
            r"""bind -x '"\C-g": printf "<%s>\n" "$READLINE_LINE"'""" + "\n"
        )
        environment = {**os.environ, "PATH": f"{BIN}:{os.environ['PATH']}", "TERM": "dumb"}
        self._descriptor, inner = pty.openpty()
        argv = ["bash", "--noprofile", "--rcfile", str(folder / "rc"), "-i"]
        self._process = subprocess.Popen(
            argv, env=environment, stdin=inner, stdout=inner, stderr=inner, start_new_session=True
        )
        os.close(inner)
        self._read_until(rb"ready> ")

    def complete(self, typed: str) -> str:
        """What is on the line after the typed text and the tabulator key."""
        os.write(self._descriptor, typed.encode() + b"\t\x07\x15")
        return self._read_until(rb"<(.*?)>\r\n")[1].decode()

    def _read_until(self, pattern: bytes) -> re.Match[bytes]:
        seen = b""
        deadline = time.monotonic() + 20
        while not (found := re.search(pattern, seen)):
            ready, _, _ = select.select([self._descriptor], [], [], deadline - time.monotonic())
            assert ready, f"bash is silent after {seen!r}"
            seen += os.read(self._descriptor, 65536)
        return found

    def close(self) -> None:
        os.write(self._descriptor, b"exit\r")
        self._process.wait(10)
        os.close(self._descriptor)


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    made = Terminal(folder)
    yield made
    made.close()


def test_bash_completes(terminal: Terminal) -> None:
    for typed, completed in (
        ("sto", "stop "),
        ("stop db", "stop db.service "),
        ("stop web@1", "stop web@1.service "),
        ("stop 'web@1", "stop 'web@1.service' "),
        ("cat mn", r"cat mnt-a\\x2db.mount "),
        ("submit my", r"submit my\ unit.service "),
        ("start un", "start units/"),
        ("list-units --fields=unit,su", "list-units --fields=unit,sub"),
        ("--ca-file ap", "--ca-file api.service "),
        ("--endpoint unix:///nowhere stop d", "--endpoint unix:///nowhere stop d"),
        ("ssh 17", "ssh 172.17.8.103 "),
    ):
        assert terminal.complete(f"true; fleetctl {typed}") == f"true; fleetctl {completed}"
