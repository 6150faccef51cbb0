"""The API on TCP: clients are who their certificates say, and may do what those say."""

import asyncio
import contextlib
import os
import socket
import ssl
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from fleet.api.client import FleetClient
from fleet.api.endpoint import tls_context
from fleet.api.limits import Limits
from fleet.api.server import ApiServer
from fleet.api.tcp import ServerFiles, server_context
from fleet.errors import Denied, FleetError, InvalidRequest, Unavailable
from fleet.events import read_events
from fleet.keys import Keys
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.unit import parse_unit
from tests.integration.authority import Authority

pytestmark = pytest.mark.realtime

A = UnitName("a.service")
FILE = parse_unit("[Service]\nExecStart=/bin/true\n")
LAUNCH = [UnitChange(name=A, file=FILE, target=TargetState.LAUNCHED)]
DEADLINE_S = 20.0


@dataclass(frozen=True)
class Served:
    """A server on TCP with TLS, and the authority that it trusts."""

    store: MemoryStore
    authority: Authority
    port: int

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}"

    def client(self, cert: Path | None = None, key: Path | None = None) -> FleetClient:
        tls = tls_context(
            ca_file=str(self.authority.file), cert_file=str(cert or ""), key_file=str(key or "")
        )
        return FleetClient(self.url, tls=tls)

    async def authors(self) -> list[str]:
        events = (await self.store.read(Keys().events)).entries.values()
        return [told.by for each in events for told in read_events(each)]


@contextlib.asynccontextmanager
async def serving(tmp_path: Path) -> AsyncIterator[Served]:
    authority = Authority(tmp_path, "ours")
    cert, key = authority.issue("localhost")
    tls = server_context(ServerFiles(certfile=cert, keyfile=key, cafile=authority.file))
    store = MemoryStore()
    server = ApiServer(Registry(store, Keys()), version="2.0.0", tls=tls)
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    await server.start(unix_path=tmp_path / "fleet.sock", sockets=[listener])
    try:
        yield Served(store, authority, port)
    finally:
        async with asyncio.timeout(DEADLINE_S):
            await server.stop()
        await store.close()


@pytest.mark.parametrize(
    ("organisations", "reads", "writes"),
    [
        pytest.param(["fleet"], True, True, id="fleet"),
        pytest.param(["fleet-viewers"], True, False, id="fleet-viewers"),
        pytest.param(["ACME", "fleet"], True, True, id="fleet among others"),
        pytest.param(["ACME"], False, False, id="another organisation"),
        pytest.param([], False, False, id="none"),
    ],
)
async def test_organisation_decides_and_common_name_signs(
    tmp_path: Path, organisations: list[str], reads: bool, writes: bool
) -> None:
    async with serving(tmp_path) as served:
        files = served.authority.issue("alice", organisations=organisations)
        async with served.client(*files) as client:
            with contextlib.nullcontext() if reads else pytest.raises(Denied, match="alice@127"):
                assert await client.units() == ()
            with contextlib.nullcontext() if writes else pytest.raises(Denied, match="alice@127"):
                assert await client.apply(LAUNCH) == {A: True}
        assert await served.authors() == (["alice@127.0.0.1"] if writes else [])


@pytest.mark.parametrize(
    "case",
    [
        pytest.param("none", id="no certificate"),
        pytest.param("stranger", id="of another authority"),
        pytest.param("expired", id="one of yesterday"),
    ],
)
async def test_client_without_a_good_certificate_is_told_so(tmp_path: Path, case: str) -> None:
    async with serving(tmp_path) as served:
        files: tuple[Path, ...] = ()
        if case == "stranger":
            files = Authority(tmp_path, "theirs").issue("mallory", organisations=["fleet"])
        if case == "expired":
            files = served.authority.issue("alice", organisations=["fleet"], valid_for_s=-3600)
        async with served.client(*files) as client:
            with pytest.raises(Unavailable, match=r"broke.* --cert-file and --key-file"):
                await client.apply(LAUNCH)
        assert await served.authors() == []


async def test_plain_http_on_a_tls_socket_is_no_way_in(tmp_path: Path) -> None:
    async with (
        serving(tmp_path) as served,
        FleetClient(f"http://127.0.0.1:{served.port}") as client,
    ):
        with pytest.raises(Unavailable):
            await client.units()
        assert await served.authors() == []


async def test_unix_socket_beside_it_is_as_ever(tmp_path: Path) -> None:
    async with serving(tmp_path), FleetClient(f"unix://{tmp_path}/fleet.sock") as client:
        assert await client.units() == ()


async def test_fleetctl_writes_over_tls_as_its_certificate(tmp_path: Path) -> None:
    async with serving(tmp_path) as served:
        cert, key = served.authority.issue("alice", organisations=["fleet"])
        unit = tmp_path / "web.service"
        unit.write_text(FILE.text)
        flags = [f"--endpoint={served.url}", f"--ca-file={served.authority.file}"]
        shown = [f"--cert-file={cert}", f"--key-file={key}"]

        status, out, errors = await fleetctl(*flags, *shown, "submit", os.fspath(unit))
        assert (status, out, errors) == (0, "Unit web.service inactive\n", "")
        status, out, _ = await fleetctl(*flags, *shown, "list-unit-files", "--no-legend")
        assert (status, out.split()[0]) == (0, "web.service")
        status, out, errors = await fleetctl(*flags, "list-unit-files")
        assert (status, out) == (1, "")
        (sentence,) = errors.splitlines()
        assert "--cert-file" in sentence
        assert await served.authors() == ["alice@127.0.0.1"]


async def fleetctl(*words: str) -> tuple[int, str, str]:
    """Exit status, output and errors of the command."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-c", "from cli.fleetctl.main import main; main()"),
        *words,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        output, errors = await process.communicate()
    return process.returncode or 0, output.decode(), errors.decode()


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0", "::1"])
async def test_tcp_socket_without_certificates_is_refused(tmp_path: Path, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    server = ApiServer(Registry(MemoryStore(), Keys()), version="2.0.0")
    with socket.create_server((host, 0), family=family) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(InvalidRequest, match=rf"{port} .* api_certfile.* api_insecure=true"):
            await server.start(unix_path=tmp_path / "fleet.sock", sockets=[listener])
    assert not (tmp_path / "fleet.sock").exists()
    await server.stop()


@pytest.mark.parametrize(
    "broken",
    ["certfile", "keyfile", "cafile", "another key", "no certificate in cafile"],
)
def test_files_that_make_no_tls_are_named(tmp_path: Path, broken: str) -> None:
    authority = Authority(tmp_path, "ours")
    cert, key = authority.issue("localhost")
    files = {"certfile": cert, "keyfile": key, "cafile": authority.file}
    if broken in files:
        files[broken] = tmp_path / "none.pem"
    elif broken == "another key":
        _, files["keyfile"] = authority.issue("other")
    else:
        files["cafile"] = tmp_path / "empty.pem"
        files["cafile"].write_text("")
    named = files.get(broken, files["keyfile" if broken == "another key" else "cafile"])
    with pytest.raises(FleetError, match=str(named)):
        server_context(ServerFiles(**files))


async def test_handshakes_that_do_not_end_are_in_nobodys_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as served, contextlib.AsyncExitStack() as stack:
        for _ in range(Limits().connections + 50):
            _, mute = await asyncio.open_connection("127.0.0.1", served.port)
            stack.callback(mute.close)
        files = served.authority.issue("alice", organisations=["fleet"])
        async with served.client(*files) as client, asyncio.timeout(DEADLINE_S):
            assert await client.units() == ()


def test_old_protocols_are_not_spoken(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "ours")
    cert, key = authority.issue("localhost")
    context = server_context(ServerFiles(certfile=cert, keyfile=key, cafile=authority.file))
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert tls_context(ca_file=str(authority.file)).minimum_version >= ssl.TLSVersion.TLSv1_2
