"""What ssh_config says is done: addresses, users, keys, hops, commands."""

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import asyncssh
import pytest

from cli.tunnel import open_tunnel
from fleet.errors import Denied, InvalidRequest

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import ServeSsh, StartSshd, World

pytestmark = pytest.mark.realtime


async def test_ssh_config_names_address_port_and_user(world: "World", serve: "ServeSsh") -> None:
    users: list[str] = []

    class Recorder(asyncssh.SSHServer):
        def begin_auth(self, username: str) -> bool:
            users.append(username)
            return True

    async with serve(factory=Recorder) as port:
        world.configure(f"Host bastion\n HostName 127.0.0.1\n Port {port}\n User somebody")
        async with open_tunnel(world.settings(tunnel="bastion", ssh_username=None)):
            pass
        async with open_tunnel(world.settings(tunnel="bastion", ssh_username="flag")):
            pass
        async with open_tunnel(world.settings(tunnel="typed@bastion", ssh_username="flag")):
            pass
        async with open_tunnel(world.settings(tunnel=f"127.0.0.1:{port}", ssh_username=None)):
            pass
    assert users == ["somebody", "flag", "typed", "core"]


async def test_missing_ssh_config_is_refused(world: "World") -> None:
    with pytest.raises(InvalidRequest, match="--ssh-config"):
        async with open_tunnel(world.settings(tunnel="a", ssh_config="/no/such/file")):
            pass


async def test_broken_ssh_config_is_named_with_its_line(world: "World") -> None:
    world.config.write_text("Port many\n")
    with pytest.raises(InvalidRequest, match=r"ssh_config line 1: .*many"):
        async with open_tunnel(world.settings(tunnel="a")):
            pass


async def test_proxy_jump_leads_over_each_hop(world: "World", start_sshd: "StartSshd") -> None:
    outer, inner = start_sshd(), start_sshd()
    world.configure(
        f"Host outer\n HostName 127.0.0.1\n Port {outer.port}\n"
        f"Host inner\n HostName 127.0.0.1\n Port {inner.port}\n ProxyJump outer"
    )
    async with open_tunnel(world.settings(tunnel="inner")):
        pass
    logs = [(world.folder / f"sshd{number}" / "log").read_text() for number in (0, 1)]
    assert all("Accepted publickey" in log for log in logs)


async def test_proxy_jump_onto_itself_ends(world: "World") -> None:
    world.configure("Host a\n ProxyJump b\nHost b\n ProxyJump a")
    with pytest.raises(InvalidRequest, match="more than 8 hops"):
        async with open_tunnel(world.settings(tunnel="a")):
            pass


async def test_proxy_command_is_run(world: "World", start_sshd: "StartSshd") -> None:
    sshd = start_sshd()
    relay = world.folder / "relay.py"
    relay.write_text(
        "import socket, sys, threading\n"
        "s = socket.create_connection((sys.argv[1], int(sys.argv[2])))\n"
        "def up():\n"
        "    while data := sys.stdin.buffer.raw.read(65536):\n"
        "        s.sendall(data)\n"
        "    s.shutdown(socket.SHUT_WR)\n"
        "threading.Thread(target=up, daemon=True).start()\n"
        "while data := s.recv(65536):\n"
        "    sys.stdout.buffer.write(data); sys.stdout.buffer.flush()\n"
    )
    world.configure(
        f"Host behind\n HostName 127.0.0.1\n Port {sshd.port}\n"
        f" ProxyCommand /usr/bin/env python3 {relay} %h %p"
    )
    async with open_tunnel(world.settings(tunnel="behind")) as tunnel:
        assert tunnel.fault is None
    assert tunnel.fault is not None


@pytest.fixture
def agent(world: "World") -> Iterator[str]:
    """An ssh-agent that holds six keys no server knows, and then the right one."""
    path = str(world.folder / "agent.sock")
    process = subprocess.Popen(["ssh-agent", "-D", "-a", path], stdout=subprocess.DEVNULL)
    while not os.path.exists(path):
        time.sleep(0.01)
    for number in range(6):
        other = world.folder / f"other{number}"
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(other)
        other.chmod(0o600)
        add_key(path, str(other))
    add_key(path, str(world.key))
    yield path
    process.terminate()
    process.wait(10)


def add_key(agent: str, key: str) -> None:
    environment = {**os.environ, "SSH_AUTH_SOCK": agent}
    subprocess.run(["ssh-add", "-q", key], env=environment, check=True, capture_output=True)


async def test_agent_with_too_many_keys_is_explained(
    world: "World", start_sshd: "StartSshd", agent: str
) -> None:
    sshd = start_sshd()
    world.configure(f"Host *\n IdentityAgent {agent}")
    with pytest.raises(Denied, match="too many keys: set IdentityFile and IdentitiesOnly=yes"):
        async with open_tunnel(world.settings(tunnel=sshd.address)):
            pass


@pytest.mark.parametrize(
    "remaining",
    [
        pytest.param(("id_test", "id_test.pub"), id="both halves of the key"),
        pytest.param(("id_test",), id="only the private key: the agent is left out"),
        pytest.param(("id_test.pub",), id="only the public key: the agent has the other half"),
    ],
)
async def test_identities_only_shows_only_the_named_key(
    world: "World", start_sshd: "StartSshd", agent: str, remaining: tuple[str, ...]
) -> None:
    world.configure(f"Host *\n IdentityAgent {agent}\n IdentitiesOnly yes")
    authorized = world.folder / "authorized"
    shutil.copy(f"{world.key}.pub", authorized)
    sshd = start_sshd(f"AuthorizedKeysFile {authorized}")
    for name in ("id_test", "id_test.pub"):
        if name not in remaining:
            (world.folder / name).unlink()
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        assert tunnel.fault is None


async def test_identity_file_that_is_not_there_is_passed_over(
    world: "World", start_sshd: "StartSshd"
) -> None:
    sshd = start_sshd()
    world.configure("Host *\n IdentityFile /no/such/key")
    async with open_tunnel(world.settings(tunnel=sshd.address)) as tunnel:
        assert tunnel.fault is None
