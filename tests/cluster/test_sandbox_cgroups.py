"""Where systemd is not PID 1, machines have their own control groups however these are mounted."""

import subprocess

import pytest

from cli.sandbox.cluster import remove
from cli.sandbox.host import has_systemd
from tests.cluster.machines import FLEETCTL, fresh_name

pytestmark = pytest.mark.systemd

# In a mount namespace of the test's own; nothing here reaches the host's mounts.
UNIFIED = "umount --recursive /sys/fs/cgroup && mount -t cgroup2 none /sys/fs/cgroup"
V1_ONLY = "mkdir -p /sys/fs/cgroup/unified && { umount /sys/fs/cgroup/unified || true; }"
SCRIPT = """\
set -e
{mounts}
{fleetctl} sandbox up --name {name} --machines 2 --no-fleetd >&2
for machine in fleet1 fleet2; do
    {fleetctl} sandbox shell --name {name} $machine systemd-run -q --unit=same sleep 1000
done
{fleetctl} sandbox shell --name {name} fleet1 systemctl stop same
{fleetctl} sandbox shell --name {name} fleet1 systemctl is-active same || true
{fleetctl} sandbox shell --name {name} fleet2 systemctl is-active same
{fleetctl} sandbox down --name {name} >&2
find /sys/fs/cgroup -path '*/fleet-sandbox/{name}*'
"""


@pytest.mark.parametrize(
    "mounts", [pytest.param(UNIFIED, id="v2 alone"), pytest.param(V1_ONLY, id="v1 alone")]
)
def test_machines_have_control_groups_of_their_own(mounts: str) -> None:
    if has_systemd():
        mounts = "true"  # systemd hands the groups out, in the one layout it has
    name = fresh_name()
    script = SCRIPT.format(mounts=mounts, fleetctl=FLEETCTL, name=name)
    try:
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-c", script], capture_output=True, text=True, timeout=100
        )
        assert (done.returncode, done.stdout) == (0, "inactive\nactive\n"), done.stderr
    finally:
        remove(name)
