from pathlib import Path

import pytest

from cli.fleetd import Arguments, BadUsage, parse_arguments, run
from fleet import __version__


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        pytest.param([], Arguments(), id="nothing"),
        pytest.param(["--config", "/a"], Arguments(config=Path("/a")), id="two dashes"),
        pytest.param(["-config", "/a"], Arguments(config=Path("/a")), id="one dash"),
        pytest.param(["-config=/a"], Arguments(config=Path("/a")), id="equals sign"),
        pytest.param(["-version"], Arguments(wants_version=True), id="version flag"),
        pytest.param(["version"], Arguments(wants_version=True), id="version word"),
        pytest.param(["--help"], Arguments(wants_help=True), id="help"),
    ],
)
def test_arguments_are_read_in_the_originals_styles(words: list[str], expected: Arguments) -> None:
    assert parse_arguments(words) == expected


@pytest.mark.parametrize("words", [["--nope"], ["serve"], ["--config"]])
def test_arguments_that_mean_nothing_are_refused(words: list[str]) -> None:
    with pytest.raises(BadUsage):
        parse_arguments(words)


def test_a_wrong_flag_exits_2_with_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--nope"]) == 2

    shown = capsys.readouterr()
    assert "unknown argument '--nope'" in shown.err
    assert "Usage:" in shown.err
    assert shown.out == ""


def test_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0

    assert capsys.readouterr().out == f"fleetd version {__version__}\n"


def test_a_configuration_that_is_missing_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--config", "/does/not/exist.conf"]) == 1

    assert "/does/not/exist.conf" in capsys.readouterr().err
