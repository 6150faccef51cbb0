"""The cluster for the scenarios that fleet 1.0's functional tests proved, set as those had it.

Four machines with `agent_ttl=3s`, which leave in order when fleetd stops, as the original did; with
options that mean nothing any more, pages of five, and a TCP socket beside the Unix one on fleet1,
which asks nobody who they are.
"""

from collections.abc import Callable

import pytest

from cli.sandbox.cluster import Sandbox

# None that the kernel gives to connections that go out, as those to etcd.
TCP_PORT = 15472
_SETTINGS = {
    "verbosity": "2",
    "agent_ttl": "3s",
    "on_stop": "leave",
    "token_limit": "5",
    "api_insecure": "true",
    "enable_grpc": "true",
    "verify_units": "true",
    "authorized_keys_file": "/root/.ssh/authorized_keys",
}
_TCP_SOCKET = f"""\
[Socket]
ListenStream={TCP_PORT}
Service=fleet.service
"""


@pytest.fixture(scope="module")
def module_cluster(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """The cluster; in place of the one that other folders' modules have."""
    sandbox = make_module_sandbox(machines=4, settings=_SETTINGS)
    unit = sandbox.path("fleet1", "/etc/systemd/system/fleet-tcp.socket")
    unit.write_text(_TCP_SOCKET)
    script = (
        "systemctl daemon-reload && systemctl stop fleet.service && "
        "systemctl start fleet-tcp.socket && systemctl start fleet.service"
    )
    sandbox.run("fleet1", ["sh", "-c", script], check=True)
    return sandbox
