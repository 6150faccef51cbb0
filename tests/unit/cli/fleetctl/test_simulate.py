"""fleetctl simulate: what it prints, and what it refuses. It asks no cluster."""

from pathlib import Path

import pytest

from cli.fleetctl.main import run

PICKY = "[Service]\nExecStart=/bin/true\n[X-Fleet]\nMachineMetadata=disk=ssd\nConflicts=%p@*\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("db@.service").write_text(PICKY)


def printed(capsys: pytest.CaptureFixture[str], *argv: str) -> list[str]:
    capsys.readouterr()
    assert run(["--endpoint", "unix:///nowhere", "simulate", *argv]) == 0
    return capsys.readouterr().out.splitlines()


def test_simulate_says_where_unit_files_would_go(capsys: pytest.CaptureFixture[str]) -> None:
    metadata = "--metadata=disk=hdd:0.5,ssd"
    lines = printed(capsys, "db@.service", "--copies=2", "--machines=2", metadata, "--kill=0")
    assert lines[0] == "db@1.service: machine 00000002 (disk=ssd)"
    assert lines[1] == "db@2.service: nowhere"
    assert lines[2].startswith("1 of 2 units placed on 2 machines in ")
    refused = next(line for line in lines if "refused" in line)
    assert refused.startswith("1 refused: no machine suits it; machine 00000001: the unit asks for")
    assert "it conflicts with db@1.service here" in refused


def test_simulate_imagines_units_and_deaths(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--machines=20", "--units=200", "--mix=plain=1", "--kill=3")
    assert lines[0].startswith("200 of 200 units placed on 20 machines in ")
    assert lines[1] == "units on a machine: 10 at least, 10 in the median, 10 at most"
    assert lines[2].startswith("one more unit: ")
    assert lines[3].startswith("one machine dies: 10 units placed elsewhere in ")
    assert lines[4].startswith("2 machines die at once: 2")
    assert lines[5].startswith("peak memory: ")


def test_simulate_says_when_nothing_would_move(capsys: pytest.CaptureFixture[str]) -> None:
    lines = printed(capsys, "--machines=5", "--units=10", "--kill=4")
    assert "so nothing moves for a while" in lines[4]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        pytest.param(["--metadata=disk"], "write KEY=VALUE", id="metadata without a value"),
        pytest.param(["--metadata=disk=ssd:much"], "a part is a number", id="part no number"),
        pytest.param(["--metadata=a=b:0.8,c:0.7"], "at most 1 in all", id="parts too large"),
        pytest.param(["--mix=odd=1"], "not KIND=NUMBER", id="unknown kind"),
        pytest.param(["--mix=plain=0"], "it leaves no unit", id="empty mix"),
        pytest.param(["--machines=2", "--kill=3"], "there are 2 machines", id="too many deaths"),
    ],
)
def test_simulate_refuses_what_means_nothing(
    capsys: pytest.CaptureFixture[str], argv: list[str], said: str
) -> None:
    assert run(["simulate", *argv]) == 2
    assert said in capsys.readouterr().err


def test_simulate_names_a_file_that_it_cannot_read(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["simulate", "absent.service"]) == 1
    assert "absent.service cannot be read" in capsys.readouterr().err
