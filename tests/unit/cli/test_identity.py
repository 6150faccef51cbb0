from pathlib import Path

import pytest

from cli.identity import describe_machine, read_machine_id
from fleet.config import Config
from fleet.errors import InvalidRequest
from fleet.machine import MachineId


def test_machine_id_is_the_files_text(tmp_path: Path) -> None:
    (tmp_path / "machine-id").write_text("0123abcd\n")

    assert read_machine_id(tmp_path / "machine-id") == "0123abcd"


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="an image that never booted"),
        pytest.param("../x", id="what would be another key"),
    ],
)
def test_machine_id_that_is_none_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "machine-id").write_text(text)

    with pytest.raises(InvalidRequest, match="systemd-machine-id-setup"):
        read_machine_id(tmp_path / "machine-id")


def test_machine_id_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="machine-id"):
        read_machine_id(tmp_path / "machine-id")


def test_machine_is_described_by_its_configuration() -> None:
    config = Config(public_ip="192.0.2.1", metadata={"disk": "ssd"}, disable_engine=True)

    machine = describe_machine(config, MachineId("a"), "boot")

    assert (machine.address, machine.boot_id) == ("192.0.2.1", "boot")
    assert machine.metadata == {"disk": "ssd"}
    assert machine.capabilities == {"DISABLE_ENGINE": True}
