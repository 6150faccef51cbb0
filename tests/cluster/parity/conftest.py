"""One cluster for all scenarios that fleet 1.0's functional tests proved, set as those had it.

Four machines with `agent_ttl=3s`, which leave in order when fleetd stops, as the original did; with
options that mean nothing any more, pages of five, and a TCP socket beside the Unix one on fleet1.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox

TCP_PORT = 54728
_FOLDER = Path(__file__).parent
_SETTINGS = {
    "verbosity": "2",
    "agent_ttl": "3s",
    "on_stop": "leave",
    "token_limit": "5",
    "enable_grpc": "true",
    "verify_units": "true",
    "authorized_keys_file": "/root/.ssh/authorized_keys",
}
_TCP_SOCKET = f"""\
[Socket]
ListenStream={TCP_PORT}
Service=fleet.service
"""
_PARITY = pytest.StashKey[Sandbox]()


@pytest.fixture(scope="session")
def module_cluster(
    make_session_sandbox: Callable[..., Sandbox], pytestconfig: pytest.Config
) -> Sandbox:
    """The cluster; in place of the one that other folders' modules have each for itself."""
    sandbox = make_session_sandbox(machines=4, settings=_SETTINGS)
    pytestconfig.stash[_PARITY] = sandbox
    unit = sandbox.path("fleet1", "/etc/systemd/system/fleet-tcp.socket")
    unit.write_text(_TCP_SOCKET)
    script = (
        "systemctl daemon-reload && systemctl stop fleet.service && "
        "systemctl start fleet-tcp.socket && systemctl start fleet.service"
    )
    sandbox.run("fleet1", ["sh", "-c", script], check=True)
    return sandbox


@pytest.hookimpl(trylast=True)
def pytest_runtest_teardown(item: pytest.Item, nextitem: pytest.Item | None) -> None:
    """Take the cluster down as soon as no test of this folder is left."""
    if nextitem is None or _FOLDER not in nextitem.path.parents:
        sandbox = item.config.stash.get(_PARITY, None)
        if sandbox is not None:
            sandbox.down()
