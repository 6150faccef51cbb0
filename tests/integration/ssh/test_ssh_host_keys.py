"""Host keys: known, unknown, accepted, changed, revoked; on every hop."""

import asyncio
import base64
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import asyncssh
import pytest

from cli.settings import Settings
from cli.tunnel import connect_machine, open_tunnel
from cli.tunnel.terminal import Console
from fleet.errors import Denied

if TYPE_CHECKING:
    from tests.integration.ssh.conftest import ServeSsh, World

pytestmark = pytest.mark.realtime


def line(hosts: str, key: asyncssh.SSHKey) -> str:
    text = base64.b64encode(key.public_data).decode()
    return f"{hosts} {key.get_algorithm()} {text}\n"


def write(path: Path, *lines: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(lines))


async def connect(world: "World", settings: Settings, answer: str | None = None) -> None:
    async with open_tunnel(settings, console=world.console(answer)):
        pass


def strict(world: "World", port: int) -> Settings:
    return world.settings(tunnel=f"127.0.0.1:{port}", strict_host_key_checking=True)


@pytest.fixture
def key() -> asyncssh.SSHKey:
    return asyncssh.generate_private_key("ssh-ed25519")


@pytest.mark.parametrize("answer", ["yes\n", "y\n", "YES\n", "yes"])
async def test_accepted_host_is_remembered(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey, answer: str
) -> None:
    async with serve(host_keys=[key]) as port:
        settings = strict(world, port)
        await connect(world, settings, answer)
        said = world.said.getvalue()
        assert f"127.0.0.1:{port} (127.0.0.1) is not known yet" in said
        assert key.get_fingerprint("sha256") in said
        assert key.get_fingerprint("md5") in said
        assert "ED25519" in said
        assert f"Permanently added the ED25519 key of [127.0.0.1]:{port}" in said
        assert world.known_hosts.read_text() == line(f"[127.0.0.1]:{port}", key)
        world.said.truncate(0)
        await connect(world, settings)
    assert world.said.getvalue() == ""


async def test_refused_host_is_not_remembered(world: "World", serve: "ServeSsh") -> None:
    async with serve() as port:
        with pytest.raises(Denied, match=r"host key verification failed: .* unauthorized host"):
            await connect(world, strict(world, port), "no\n")
    assert not world.known_hosts.exists()


async def test_nobody_to_ask_names_the_way_out(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    async with serve(host_keys=[key]) as port:
        with pytest.raises(Denied) as caught:
            await connect(world, strict(world, port))
        entry = line(f"[127.0.0.1]:{port}", key).strip()
    assert f"echo '{entry}' >> {world.known_hosts}" in str(caught.value)
    assert "in a terminal" in str(caught.value)


async def test_question_outlasts_the_time_limit(world: "World", serve: "ServeSsh") -> None:
    """The answer is read between two handshakes, so that neither waits for a person."""
    reading, writing = os.pipe()
    async with serve(login_timeout=0.2) as port:
        asyncio.get_running_loop().call_later(0.5, os.write, writing, b"yes\n")
        console = Console(stdin=reading, stderr=world.said)
        async with open_tunnel(strict(world, port), console=console):
            pass
    os.close(reading)
    os.close(writing)


async def test_changed_key_is_refused_with_its_line(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with serve(host_keys=[key]) as port:
        write(world.known_hosts, "# ours\n", line(f"[127.0.0.1]:{port}", other))
        with pytest.raises(Denied) as caught:
            await connect(world, strict(world, port), "yes\n")
    assert f"{world.known_hosts}:2" in str(caught.value)
    assert key.get_fingerprint("sha256") in str(caught.value)
    assert str(caught.value).endswith(f"host key mismatch for 127.0.0.1:{port}")


async def test_key_of_another_kind_alone_is_a_mismatch(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with serve(host_keys=[key]) as port:
        write(world.known_hosts, line(f"[127.0.0.1]:{port}", other))
        with pytest.raises(Denied, match=r"host key mismatch.*known_hosts:1"):
            await connect(world, strict(world, port), "yes\n")


async def test_host_that_hangs_up_on_the_kind_of_key_that_is_known_is_a_mismatch(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    first, ended = True, asyncio.Event()
    async with serve(host_keys=[key]) as port:

        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            nonlocal first
            refused, first = first, False
            if refused:
                await reader.readline()
                writer.close()
                return
            there, here = await asyncio.open_connection("127.0.0.1", port)
            await asyncio.gather(carry(reader, here), carry(there, writer))
            ended.set()

        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        front = server.sockets[0].getsockname()[1]
        other = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
        write(world.known_hosts, line(f"[127.0.0.1]:{front}", other))
        async with server:
            with pytest.raises(Denied, match=r"host key mismatch.*known_hosts:1"):
                await connect(world, strict(world, front), "yes\n")
            await ended.wait()


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
    writer.close()
    await writer.wait_closed()


async def test_host_is_asked_for_the_kind_of_key_that_is_known(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    known = asyncssh.generate_private_key("ecdsa-sha2-nistp256")
    async with serve(host_keys=[key, known]) as port:
        write(world.known_hosts, line(f"[127.0.0.1]:{port}", known))
        await connect(world, strict(world, port))


async def test_hosts_that_ssh_knows_are_known(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    async with serve(host_keys=[key]) as port:
        write(world.user_known_hosts, line(f"[127.0.0.1]:{port}", key))
        await connect(world, strict(world, port))
    assert not world.known_hosts.exists()


async def test_lines_of_wildcards_and_authorities_count(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    authority = asyncssh.generate_private_key("ssh-ed25519")
    certificate = authority.generate_host_certificate(key, "id", principals=["127.0.0.1"])
    async with serve(host_keys=[(key, certificate)]) as port:
        write(world.user_known_hosts, "@cert-authority " + line("*", authority))
        await connect(world, strict(world, port))


async def test_revoked_key_is_refused(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    async with serve(host_keys=[key]) as port:
        name = f"[127.0.0.1]:{port}"
        write(world.known_hosts, line(name, key), "@revoked " + line("*", key))
        with pytest.raises(Denied, match=r"revoked"):
            await connect(world, strict(world, port), "yes\n")


async def test_host_key_alias_is_the_only_name(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    world.configure("Host *\n HostKeyAlias the-cluster")
    async with serve(host_keys=[key]) as port:
        await connect(world, strict(world, port), "yes\n")
    assert world.known_hosts.read_text() == line("the-cluster", key)


async def test_known_hosts_of_none_in_ssh_config_does_not_switch_checking_off(
    world: "World", serve: "ServeSsh"
) -> None:
    world.configure("Host *\n UserKnownHostsFile none\n GlobalKnownHostsFile none")
    async with serve() as port:
        with pytest.raises(Denied, match=r"unauthorized host"):
            await connect(world, strict(world, port))


async def test_no_strict_checking_neither_checks_nor_stores(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    other = asyncssh.generate_private_key("ssh-ed25519")
    async with serve(host_keys=[key]) as port:
        write(world.user_known_hosts, line(f"[127.0.0.1]:{port}", other))
        await connect(world, world.settings(tunnel=f"127.0.0.1:{port}"))
    assert not world.known_hosts.exists()


class Bastion(asyncssh.SSHServer):
    """Lets clients through to every port."""

    def connection_requested(
        self, dest_host: str, dest_port: int, orig_host: str, orig_port: int
    ) -> bool:
        return True


def known(world: "World", *hosts: tuple[int, asyncssh.SSHKey]) -> Sequence[str]:
    lines = [line(f"[127.0.0.1]:{port}", key) for port, key in hosts]
    write(world.user_known_hosts, *lines)
    return lines


async def test_both_hops_are_checked(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    far = asyncssh.generate_private_key("ssh-ed25519")
    async with serve(factory=Bastion, host_keys=[key]) as near, serve(host_keys=[far]) as inner:
        known(world, (near, key))
        settings = strict(world, near)
        address = f"127.0.0.1:{inner}"
        async with open_tunnel(settings) as tunnel:
            nobody = world.console()
            with pytest.raises(Denied, match=r"unauthorized host"):
                async with connect_machine(settings, address, via=tunnel, console=nobody):
                    pass
            answer = world.console("yes\n")
            async with connect_machine(settings, address, via=tunnel, console=answer) as machine:
                assert machine.place == address
    assert world.known_hosts.read_text() == line(f"[127.0.0.1]:{inner}", far)


async def test_hops_of_ssh_config_are_checked_too(
    world: "World", serve: "ServeSsh", key: asyncssh.SSHKey
) -> None:
    far = asyncssh.generate_private_key("ssh-ed25519")
    async with serve(factory=Bastion, host_keys=[key]) as near, serve(host_keys=[far]) as inner:
        known(world, (inner, far))
        world.configure(
            f"Host jump\n HostName 127.0.0.1\n Port {near}\n"
            f"Host inner\n HostName 127.0.0.1\n Port {inner}\n ProxyJump jump"
        )
        settings = world.settings(tunnel="inner", strict_host_key_checking=True)
        with pytest.raises(Denied, match=rf"jump:{near} is an unauthorized host"):
            await connect(world, settings)
        await connect(world, settings, "yes\n")
