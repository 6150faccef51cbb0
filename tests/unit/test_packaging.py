"""What a wheel of fleet has in it: all four packages, both commands, the types."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

import fleet

_ROOT = Path(__file__).parents[2]
_PACKAGES = ("fleet", "agent", "engine", "cli")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((_ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def test_wheel_has_the_four_packages(project: dict[str, Any]) -> None:
    assert project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"] == list(_PACKAGES)


def test_every_package_at_the_top_is_in_the_wheel() -> None:
    found = {path.parent.name for path in _ROOT.glob("*/__init__.py")}

    assert found == set(_PACKAGES)


@pytest.mark.parametrize("package", _PACKAGES)
def test_package_is_typed(package: str) -> None:
    assert (_ROOT / package / "py.typed").is_file()


def test_commands_are_declared(project: dict[str, Any]) -> None:
    scripts = project["project"]["scripts"]

    assert set(scripts) == {"fleetd", "fleetctl"}
    for script in scripts.values():
        module, _, function = script.partition(":")
        assert module.startswith("cli.")
        assert function == "main"


def test_version_is_the_packages_own(project: dict[str, Any]) -> None:
    assert "version" in project["project"]["dynamic"]
    assert project["tool"]["hatch"]["version"]["path"] == "fleet/__init__.py"
    assert fleet.__version__.count(".") == 2


def test_what_is_imported_is_what_is_depended_on(project: dict[str, Any]) -> None:
    declared = {
        requirement.partition(">=")[0].replace("-", "_")
        for requirement in project["project"]["dependencies"]
    }

    assert declared == {
        "aiohappyeyeballs",
        "aiohttp",
        "asyncssh",
        "click",
        "dbus_fast",
        "h11",
        "h2",
        "protobuf",
        "tabulate",
    }
