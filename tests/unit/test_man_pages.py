"""The man pages tell the truth: every command, flag and option stands in them, and no other."""

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from cli.fleetctl.main import fleetctl as cli
from cli.fleetd import USAGE
from cli.verbs import VERBS
from fleet.config import MEANINGLESS_OPTIONS, OPTIONS
from fleet.options import KNOWN_OPTIONS

_PAGES = Path(__file__).parents[2] / "docs" / "man"
_FONT = re.compile(r"\\f.")


def _text(page: str) -> str:
    """The page without fonts and escapes; macros stay."""
    source = (_PAGES / page).read_text()
    return _FONT.sub("", source).replace("\\-", "-").replace("\\e", "\\").replace("\\&", "")


def _section(text: str, title: str) -> str:
    found = re.search(rf"^\.SS {re.escape(title)}\n(.*?)(?=^\.S[SH] )", text, re.M | re.S)
    assert found, f"the page has no section on {title}"
    return found[1]


def _commands() -> Iterator[tuple[str, click.Command]]:
    root = click.Context(cli)
    for verb in VERBS:
        command = cli.get_command(root, verb)
        assert command is not None
        yield verb, command
        if isinstance(command, click.Group):
            yield from ((f"{verb} {name}", inner) for name, inner in command.commands.items())


def _flags(command: click.Command) -> Iterator[click.Option]:
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            yield parameter


def _has(flag: str, text: str) -> bool:
    return re.search(rf"(?<![\w-]){re.escape(flag)}(?![\w-])", text) is not None


@pytest.mark.parametrize(("name", "command"), [pytest.param(*c, id=c[0]) for c in _commands()])
def test_page_has_every_command_with_its_flags(name: str, command: click.Command) -> None:
    text = _text("fleetctl.1")
    section = _section(text, name)
    assert f"fleetctl {name}" in section
    for flag in _flags(command):
        if not flag.hidden:
            assert _has(max(flag.opts, key=len), section), f"{flag.opts} is not in {name}"
            assert all(_has(spelling, text) for spelling in flag.opts)
    assert ".EX\n" in section or isinstance(command, click.Group) or command.hidden


@pytest.mark.parametrize(("name", "command"), [pytest.param(*c, id=c[0]) for c in _commands()])
def test_page_has_no_flag_that_the_command_has_not(name: str, command: click.Command) -> None:
    own = {spelling for flag in _flags(command) for spelling in flag.opts}
    everywhere = {spelling for flag in _flags(cli) for spelling in flag.opts}
    synopsis = _section(_text("fleetctl.1"), name).partition(".PP\n")[0]
    assert set(re.findall(r"--[\w-]+", synopsis)) <= own | everywhere


def test_page_has_every_global_option_with_its_variable() -> None:
    text = _text("fleetctl.1")
    for flag in _flags(cli):
        assert all(_has(spelling, text) for spelling in flag.opts), flag.opts
        if not flag.hidden and flag.envvar:
            assert f"{max(flag.opts, key=len)}" in text
            assert f"({flag.envvar})" in text


def test_examples_of_the_page_are_those_of_the_help() -> None:
    text = _text("fleetctl.1")
    for name, command in _commands():
        block = re.search(r"^\.EX\n(.*?)^\.EE$", _section(text, name), re.M | re.S)
        if block and not command.hidden:
            assert command.epilog
            examples = [line.strip() for line in command.epilog.splitlines()]
            assert [line for line in block[1].splitlines() if line not in examples] == []


def test_configuration_page_has_every_option_and_no_other() -> None:
    source = (_PAGES / "fleet.conf.5").read_text()
    named = set(re.findall(r"^\\fB(\w+)\\fR=", source, re.M))
    assert named == set(OPTIONS)
    assert set(MEANINGLESS_OPTIONS) <= set(re.findall(r"\\fB(\w+)\\fR", source))


def test_unit_page_has_every_option_and_no_other() -> None:
    text = _text("fleet.unit.5")
    assert [name for name in sorted(KNOWN_OPTIONS) if not _has(name, text)] == []
    assert set(re.findall(r"^\.B ([A-Z]\w+)=$", text, re.M)) <= KNOWN_OPTIONS


def test_daemon_page_has_every_flag_and_signal() -> None:
    text = _text("fleetd.8")
    assert set(re.findall(r"--\w+", USAGE)) <= set(re.findall(r"--\w+", text))
    assert set(re.findall(r"SIG\w+", USAGE)) <= set(re.findall(r"SIG\w+", text))


@pytest.mark.parametrize("page", sorted(page.name for page in _PAGES.iterdir()))
def test_page_is_clean(page: str) -> None:
    groff = shutil.which("groff")
    if groff is None:
        pytest.skip("no groff here to check the page")
    done = subprocess.run(
        [groff, "-man", "-Tutf8", "-ww", "-z", _PAGES / page],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
