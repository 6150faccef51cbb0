"""fleetd from a directory of a machine's own, where another version can take its place."""

import re
import shutil
from pathlib import Path

import fleet
from cli.sandbox.cluster import Sandbox
from fleet import __version__
from tests.cluster.machines import FLEETCTL, eventually

_HOME = "/opt/fleet"
_PACKAGES = ("agent", "cli", "engine", "fleet")
_DROP_IN = "/etc/systemd/system/fleet.service.d/upgrade.conf"
_PROGRAM = f'#!/bin/sh\nexport PYTHONPATH={_HOME}\nexec {FLEETCTL.with_name("fleetd")} "$@"\n'


def replace_fleetd(sandbox: Sandbox, machine: str, version: str) -> None:
    """Put fleetd of this version in place of the one that runs, and restart it."""
    home = sandbox.path(machine, _HOME)
    for package in _PACKAGES:
        new = home / f"{package}.new"
        shutil.copytree(Path(fleet.__file__).parents[1] / package, new, dirs_exist_ok=True)
        shutil.rmtree(home / package, ignore_errors=True)
        new.rename(home / package)
    vocabulary = home / "fleet" / "__init__.py"
    text = vocabulary.read_text()
    assert __version__ in text
    vocabulary.write_text(text.replace(__version__, version))
    program = home / "fleetd"
    program.write_text(_PROGRAM)
    program.chmod(0o755)
    sandbox.path(machine, _DROP_IN).write_text(f"[Service]\nExecStart=\nExecStart={_HOME}/fleetd\n")
    sandbox.run(machine, ["systemctl", "daemon-reload"], check=True)
    sandbox.run(machine, ["systemctl", "restart", "fleet"], check=True)
    eventually(lambda: _version(sandbox, machine) == version)


def _version(sandbox: Sandbox, machine: str) -> str:
    """The version in the header of what the machine's socket answers, "" if it does not."""
    curl = "curl --silent --dump-header - --output /dev/null --unix-socket /run/fleet.sock"
    said = sandbox.run(machine, [*curl.split(), "http://fleet/fleet/v1/discovery"]).stdout
    return "".join(re.findall(r"(?m)^Server: fleetd/(\S+)", said))
