"""systemd_user: a fleetd without any privilege, which drives the systemd of its own user."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Done

pytestmark = pytest.mark.systemd

MACHINE = "fleet4"
USER = "alice"
# A sandbox has no logind, which keeps a user's own systemd.
PREPARE = f"""\
set -e
rm -f /etc/systemd/system/systemd-logind.service
systemctl daemon-reload
systemctl start systemd-logind.service
id {USER} >/dev/null 2>&1 || useradd --create-home {USER}
loginctl enable-linger {USER}
id --user {USER}
"""
UNDO = f"""\
loginctl disable-linger {USER}
systemctl stop systemd-logind.service
ln -s /dev/null /etc/systemd/system/systemd-logind.service
systemctl daemon-reload
"""
UNIT = """\
[Unit]
Description=fleet of one user

[Service]
Type=notify
ExecStart=fleetd --config=%h/fleet.conf
ExecReload=/bin/kill -HUP $MAINPID
WatchdogSec=30
"""
CONF = """\
systemd_user=true
units_directory={runtime}/fleet/units/
data_directory={home}/.local/share/fleet
socket={runtime}/fleet.sock
public_ip=127.0.0.1
"""


class User:
    """Somebody on the machine who may do nothing but what every user may."""

    def __init__(self, sandbox: Sandbox, uid: int) -> None:
        self._sandbox = sandbox
        self.runtime = f"/run/user/{uid}"
        self.home = f"/home/{USER}"

    def run(self, *argv: str) -> Done:
        environment = [f"XDG_RUNTIME_DIR={self.runtime}", f"HOME={self.home}"]
        words = ["runuser", "--user", USER, "--", "env", f"--chdir={self.home}", *environment]
        return self._sandbox.run(MACHINE, [*words, *argv])

    @property
    def endpoint(self) -> str:
        return f"--endpoint=unix://{self.runtime}/fleet.sock"

    def fleetctl(self, *words: str) -> Done:
        return self.run("fleetctl", self.endpoint, *words)

    def as_root(self, *argv: str) -> Done:
        return self._sandbox.run(MACHINE, list(argv))

    def systemctl(self, *words: str) -> str:
        return self.run("systemctl", "--user", *words).stdout.strip()

    def path(self, path: str) -> Path:
        return self._sandbox.path(MACHINE, path)

    def write(self, path: str, text: str) -> None:
        done = self._sandbox.run(
            MACHINE,
            [
                "runuser",
                "--user",
                USER,
                "--",
                "sh",
                "-c",
                f"mkdir -p $(dirname {path}); cat >{path}",
            ],
            stdin=text,
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture
def user(cluster: Sandbox) -> Iterator[User]:
    """Somebody whose fleetd runs, as a service of their own."""
    uid = int(cluster.run(MACHINE, ["sh", "-c", PREPARE], check=True).stdout)
    user = User(cluster, uid)
    eventually(lambda: user.systemctl("is-active", "default.target") == "active")
    user.write(f"{user.home}/fleet.conf", CONF.format(runtime=user.runtime, home=user.home))
    user.write(f"{user.home}/.config/systemd/user/fleet.service", UNIT)
    user.systemctl("daemon-reload")
    started = user.run("systemctl", "--user", "start", "fleet.service")
    assert started.returncode == 0, started.stderr
    yield user
    user.systemctl("stop", "fleet.service")
    cluster.run(MACHINE, ["sh", "-c", UNDO])


def test_user_runs_units_in_their_own_systemd(user: User) -> None:
    health = "[X-Fleet]\nHealthCommand=/bin/sh -c 'id -un >health-of-%p'\n"
    user.write(f"{user.home}/hello.service", f"[Service]\nExecStart=/bin/sleep 1000\n{health}")
    # It lives for long enough for journald to see whose line that is.
    user.write(
        f"{user.home}/bad.service",
        "[Service]\nExecStart=/bin/sh -c 'echo oops; sleep 0.05; exit 3'\n",
    )
    machine_id = user.path("/etc/machine-id").read_text()[:8]

    done = user.fleetctl("start", "hello")
    assert done.stdout == f"Unit hello.service launched on {machine_id}.../127.0.0.1\n", done.stderr
    assert user.systemctl("is-active", "hello.service") == "active"
    assert user.systemctl("is-enabled", "hello.service") == "linked-runtime"
    pid = user.systemctl("show", "--property=MainPID", "--value", "hello.service")
    assert user.run("ps", "-o", "user=", pid).stdout.strip() == USER
    assert user.path(f"{user.home}/health-of-hello").read_text() == f"{USER}\n"

    failed = user.fleetctl("start", "bad")
    assert failed.returncode == 1
    assert "exit-code" in failed.stderr
    assert "oops" in failed.stderr

    looked = user.fleetctl("status", "hello")
    assert (looked.returncode, "active (running)" in looked.stdout) == (0, True), looked
    read = user.fleetctl("journal", "--output=cat", "bad")
    assert (read.returncode, "oops" in read.stdout.splitlines()) == (0, True), read
    by_root = user.as_root("fleetctl", user.endpoint, "status", "hello")
    assert (by_root.returncode, "active (running)" in by_root.stdout) == (0, True), by_root

    user.systemctl("restart", "fleet.service")
    assert user.systemctl("show", "--property=MainPID", "--value", "hello.service") == pid
    eventually(lambda: user.fleetctl("list-units").returncode == 0)
    assert user.fleetctl("destroy", "hello", "bad").returncode == 0
    assert user.systemctl("is-active", "hello.service") == "inactive"
