"""A cluster follows a real git repository: by path, over HTTPS with a password, over SSH."""

import asyncio
import base64
import contextlib
import os
import random
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import asyncssh
import pytest
from aiohttp import web

from cli.folders.following import show_drift
from engine.foresee import foresee
from engine.loop import Engine
from fleet.api.client import FleetClient
from fleet.api.server import ApiServer
from fleet.cluster import Leader
from fleet.errors import Unavailable
from fleet.keys import Keys
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import Registry, UnitChange, text_digest
from fleet.states import TargetState
from fleet.store.memory import MemoryStore
from fleet.sync.book import SyncBook, SyncState
from fleet.sync.follower import Follower
from fleet.sync.git import GitFailed, Repository
from fleet.sync.values import Drift, SyncSettings
from fleet.unit import parse_unit
from tests.integration.authority import Authority

pytestmark = pytest.mark.realtime

ME = MachineId("1" * 32)
WEB = "[Service]\nExecStart=/bin/sleep 100\n"
WAIT_S = 60
_WHO = ("-c", "user.name=Alice", "-c", "user.email=alice@example.com")


class Origin:
    """A bare repository, and a clone in which commits are made."""

    def __init__(self, folder: Path) -> None:
        self.bare = folder / "shop.git"
        self._clone = folder / "clone"
        self.units = self._clone / "units"
        self.git("init", "-q", "--bare", "-b", "main", str(self.bare), at=folder)
        self.git("init", "-q", "-b", "main", str(self._clone), at=folder)
        self.units.mkdir()

    def git(self, *arguments: str, at: Path | None = None) -> str:
        done = subprocess.run(
            ["git", *_WHO, *arguments],
            cwd=at or self._clone,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def give_away(self) -> None:
        """Have it belong to another user, if this one can."""
        if os.geteuid() == 0:
            for path in (self.bare, *self.bare.rglob("*")):
                shutil.chown(path, "nobody")

    def commit(self, subject: str = "change", **files: str | None) -> str:
        """Write files (None: remove) and push; the commit's id."""
        for name, text in files.items():
            path = self.units / name.replace("__", ".")
            path.unlink() if text is None else path.write_text(text)
        return self.push(subject)

    def push(self, subject: str) -> str:
        self.git("add", "-A")
        self.git("commit", "-q", "-m", subject)
        self.git("push", "-q", str(self.bare), "main")
        return self.git("rev-parse", "HEAD")


class Following:
    """A registry with a leader that follows."""

    def __init__(self, folder: Path) -> None:
        self.store = MemoryStore()
        self.registry = Registry(self.store, Keys())
        self.book = SyncBook(self.registry)
        self.leader: Leader | None = None
        self.follower = Follower(
            Registry(self.store.connect(), Keys()), folder / "sync", lambda: self.leader
        )

    async def until(self, holds: Callable[[SyncState], bool]) -> SyncState:
        async with asyncio.timeout(WAIT_S):
            while True:
                state, _ = await self.book.state()
                if holds(state):
                    return state
                await asyncio.sleep(0.05)

    async def until_drift(self, count: int) -> None:
        async with asyncio.timeout(WAIT_S):
            while True:
                if len((await self.book.state())[1]) == count:
                    return
                await asyncio.sleep(0.05)

    async def until_dropped(self, text: str) -> None:
        """Wait until the engine has dropped a text that nothing names."""
        async with asyncio.timeout(WAIT_S):
            while True:
                if not await self.registry.files([text_digest(text)]):
                    return
                await asyncio.sleep(0.05)

    async def until_tried(self, commit: str) -> SyncState:
        await self.book.request(by="test")
        return await self.until(lambda s: s.status is not None and s.status.tried == commit)

    async def units(self) -> dict[str, str]:
        units = (await self.registry.cluster()).units
        return {name: record.target.value for name, record in units.items()}

    async def events(self) -> list[str]:
        return [event.what for event in (await self.registry.events(1000)).events]


@contextlib.asynccontextmanager
async def following(folder: Path) -> AsyncIterator[Following]:
    made = Following(folder)
    lease = await made.store.grant(3600)
    made.leader = await made.registry.leadership.acquire(ME, lease)
    running = asyncio.create_task(made.follower.run())
    try:
        yield made
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)


@contextlib.asynccontextmanager
async def leading(made: Following) -> AsyncIterator[None]:
    """An engine that leads, and follows."""
    async with Engine(Registry(made.store.connect(), Keys()), machine=ME) as engine:
        running = asyncio.create_task(engine.run())
        async with asyncio.timeout(WAIT_S):
            while made.leader is None:
                await asyncio.sleep(0.05)
                made.leader = engine.leader
        following = asyncio.create_task(made.follower.run())
        try:
            yield
        finally:
            following.cancel()
            running.cancel()
            await asyncio.gather(following, running, return_exceptions=True)


@contextlib.asynccontextmanager
async def serving(made: Following, socket: Path) -> AsyncIterator[None]:
    server = ApiServer(made.registry, version="2.0.0", hostname="box", foresee=foresee)
    await server.start(unix_path=socket)
    try:
        yield
    finally:
        await server.stop()


@pytest.fixture
def origin(tmp_path: Path) -> Origin:
    return Origin(tmp_path)


def settings(origin: Origin) -> SyncSettings:
    return SyncSettings(url=str(origin.bare), path="units", interval_s=3600)


async def test_each_commit_is_applied_and_a_revert_is_a_rollback(
    origin: Origin, tmp_path: Path
) -> None:
    first = origin.commit("begin", web__service=WEB, db__service=WEB)
    async with following(tmp_path) as made:
        await made.book.set(settings(origin), by="alice")
        state = await made.until(lambda s: s.status is not None and s.status.tried == first)
        assert state.status is not None
        assert state.status.applied is not None
        assert (state.status.applied.author, state.status.applied.subject) == (
            "Alice <alice@example.com>",
            "begin",
        )
        assert state.status.result == "2 created"
        assert await made.units() == {"db.service": "launched", "web.service": "launched"}
        second = origin.commit("smaller", db__service=None, fleet__toml='target = "loaded"\n')
        state = await made.until_tried(second)
        assert state.status is not None
        assert state.status.result == "1 changed, 1 destroyed"
        assert await made.units() == {"web.service": "loaded"}
        origin.git("revert", "--no-edit", "HEAD")
        origin.git("push", "-q", str(origin.bare), "main")
        await made.until_tried(origin.git("rev-parse", "HEAD"))
        assert await made.units() == {"db.service": "launched", "web.service": "launched"}
        told = [what for what in await made.events() if what.startswith("applied commit")]
        assert [what.rpartition(": ")[2] for what in told] == [
            "2 created",
            "1 changed, 1 destroyed",
            "1 created, 1 changed",
        ]
        cluster = await made.registry.cluster()
        assert {record.source for record in cluster.units.values()} == {settings(origin).source}
        assert {record.by.partition(" ")[0] for record in cluster.units.values()} == {"sync"}


async def test_bad_commit_changes_nothing_and_says_why(origin: Origin, tmp_path: Path) -> None:
    first = origin.commit("begin", web__service=WEB)
    async with following(tmp_path) as made:
        await made.book.set(settings(origin), by="alice")
        await made.until(lambda s: s.status is not None and s.status.tried == first)
        bad = origin.commit("bad", web__service="[Service]\nnonsense\n", new__service=WEB)
        state = await made.until_tried(bad)
        assert state.status is not None
        assert state.status.applied is not None
        assert state.status.applied.id == first
        assert state.status.problem.startswith("web.service:2: 'nonsense' is neither")
        assert await made.units() == {"web.service": "launched"}
        assert any("changes nothing: web.service:2" in what for what in await made.events())
        good = origin.commit("good", web__service=WEB)
        state = await made.until_tried(good)
        assert state.status is not None
        assert state.status.problem == ""
        assert sorted(await made.units()) == ["new.service", "web.service"]


async def test_commit_too_large_for_one_write_changes_nothing_and_says_why(
    origin: Origin, tmp_path: Path
) -> None:
    chance = random.Random(1)
    async with following(tmp_path) as made:
        await made.book.set(settings(origin), by="alice")
        asked = (
            f"[X-Fleet]\nMachineMetadata=k={chance.randbytes(3500).hex()}\n" for _ in range(400)
        )
        large = {f"u{number}__service": f"{WEB}{each}" for number, each in enumerate(asked)}
        state = await made.until_tried(origin.commit("large", **large))
        assert state.status is not None
        assert "cannot be one write" in state.status.problem
        assert await made.units() == {}


@pytest.mark.parametrize(
    ("path", "told"),
    [
        pytest.param("none", "it has no folder 'none'", id="no such folder"),
        pytest.param("out", "it has no folder 'out'", id="a link out of the repository"),
        pytest.param("empty", "there are no unit files in it", id="an empty one"),
    ],
)
async def test_commit_without_the_folder_destroys_nothing(
    origin: Origin, tmp_path: Path, path: str, told: str
) -> None:
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "x.service").write_text(WEB)
    (origin.units.parent / "out").symlink_to(tmp_path / "secret")
    (origin.units.parent / "empty").mkdir()
    (origin.units.parent / "empty" / "README.md").write_text("nothing")
    commit = origin.commit("begin", web__service=WEB)
    async with following(tmp_path) as made:
        await made.book.set(replace(settings(origin), path=path), by="alice")
        state = await made.until(lambda s: s.status is not None and s.status.tried == commit)
        assert state.status is not None
        assert told in state.status.problem
        assert await made.units() == {}


async def test_leader_that_was_deposed_changes_nothing(origin: Origin, tmp_path: Path) -> None:
    commit = origin.commit("begin", web__service=WEB)
    async with following(tmp_path) as made:
        assert made.leader is not None
        made.leader = replace(made.leader, created=made.leader.created - 1)
        await made.book.set(settings(origin), by="alice")
        await asyncio.sleep(2)
        assert await made.units() == {}
        lease = await made.store.grant(3600)
        await made.store.commit([], [])
        entries = (await made.store.read(made.registry.keys.engine)).entries
        made.leader = Leader(machine=ME, created=entries[made.registry.keys.engine].created)
        await made.book.request(by="test")
        await made.until(lambda s: s.status is not None and s.status.tried == commit)
        await made.store.revoke(lease)
        assert await made.units() == {"web.service": "launched"}


async def test_repository_that_cannot_be_read_changes_nothing(
    origin: Origin, tmp_path: Path
) -> None:
    commit = origin.commit("begin", web__service=WEB)
    async with following(tmp_path) as made:
        away = origin.bare.rename(tmp_path / "away.git")
        await made.book.set(settings(origin), by="alice")
        state = await made.until(lambda s: s.status is not None and s.status.unreachable != "")
        assert state.status is not None
        assert "shop.git" in state.status.unreachable
        away.rename(origin.bare)
        state = await made.until_tried(commit)
        assert state.status is not None
        assert state.status.unreachable == ""


async def test_drift_is_told_and_put_right_when_asked(origin: Origin, tmp_path: Path) -> None:
    commit = origin.commit("begin", web__service=WEB, db__service=WEB)
    async with following(tmp_path) as made:
        await made.book.set(settings(origin), by="alice")
        await made.until(lambda s: s.status is not None and s.status.tried == commit)
        assert (await made.book.state())[1] == ()
        web, db = UnitName("web.service"), UnitName("db.service")
        by_hand = [
            UnitChange(name=web, target=TargetState.INACTIVE),
            UnitChange(name=db, destroy=True),
            UnitChange(name=UnitName("mine.service"), target=None, file=None, destroy=True),
        ]
        await made.registry.apply(by_hand, by="bob")
        assert (await made.book.state())[1] == (
            Drift(unit=db, what="it is not in the cluster"),
            Drift(unit=web, what="its target state is inactive, not launched"),
        )
        await made.book.request(by="bob")
        await made.until_drift(0)
        assert await made.units() == {"db.service": "launched", "web.service": "launched"}


async def test_drift_is_shown_as_a_diff_though_no_unit_has_the_committed_text_any_more(
    origin: Origin, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    commit, web, socket = origin.commit("begin", web__service=WEB), "web.service", tmp_path / "s"
    made = Following(tmp_path)
    async with leading(made), serving(made, socket), FleetClient(f"unix://{socket}") as client:
        await made.book.set(settings(origin), by="alice")
        await made.until(lambda s: s.status is not None and s.status.tried == commit)
        texts = [f"{WEB}# {word}\n" for word in ("soon", "by hand")]
        for text in texts:
            change = UnitChange(name=UnitName(web), file=parse_unit(text))
            await made.registry.apply([change], by="bob")
        await made.until_dropped(texts[0])
        assert await show_drift(client) == 1
        lines = capsys.readouterr().out.splitlines()
        assert [line for line in lines[:-1] if not line.startswith("  ")] == [
            "web.service: only its comments change",
            "--- web.service in the cluster",
            f"+++ web.service in commit {commit[:10]}",
            "@@ -1,3 +1,2 @@",
            " [Service]",
            " ExecStart=/bin/sleep 100",
            "-# by hand",
        ]
        await made.book.stop(by="alice")
        await made.until_dropped(WEB)


# Other ways to a repository


@contextlib.asynccontextmanager
async def https_server(folder: Path, authority: Authority) -> AsyncIterator[int]:
    """git's own HTTP backend behind TLS and a password; the port."""
    wanted = "Basic " + base64.b64encode(b"deploy:s3cret").decode()

    async def handle(request: web.Request) -> web.StreamResponse:
        if request.headers.get("Authorization") != wanted:
            return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="git"'})
        process = await asyncio.create_subprocess_exec(
            "git",
            "http-backend",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            env={
                **os.environ,
                "GIT_PROJECT_ROOT": str(folder),
                "GIT_HTTP_EXPORT_ALL": "1",
                "PATH_INFO": request.path,
                "QUERY_STRING": request.query_string,
                "REQUEST_METHOD": request.method,
                "CONTENT_TYPE": request.headers.get("Content-Type", ""),
                "HTTP_CONTENT_ENCODING": request.headers.get("Content-Encoding", ""),
                "REMOTE_USER": "deploy",
            },
        )
        out, _ = await process.communicate(await request.read())
        head, _, body = out.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().splitlines())
        status = int(headers.pop("Status", "200").split()[0])
        return web.Response(status=status, headers=headers, body=body)

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", handle)
    runner = web.AppRunner(app, auto_decompress=False)
    await runner.setup()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*authority.issue("localhost"))
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
    await site.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


class _Watch:
    """Notes the arguments of every process that runs while it is open."""

    def __init__(self) -> None:
        self.seen: set[str] = set()

    async def run(self) -> None:
        while True:
            self.seen |= _arguments()
            await asyncio.sleep(0.005)


def _arguments() -> set[str]:
    """The command lines of all processes."""
    found: set[str] = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            found.add(path.read_bytes().replace(b"\0", b" ").decode(errors="replace"))
    return found


async def test_https_takes_the_password_from_a_file_and_shows_it_to_nobody(
    origin: Origin, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit = origin.commit("begin", web__service=WEB)
    authority = Authority(tmp_path, "ca")
    monkeypatch.setenv("GIT_SSL_CAINFO", str(authority.file))
    file = tmp_path / "my credentials"
    async with https_server(tmp_path, authority) as port:
        file.write_text(f"https://deploy:s3cret@localhost:{port}\n")
        url = f"https://localhost:{port}/shop.git"
        wanted = SyncSettings(url=url, path="units", credentials=str(file))
        watch = _Watch()
        watching = asyncio.create_task(watch.run())
        fetched = await Repository(tmp_path / "sync", wanted).fetch()
        watching.cancel()
        assert fetched.id == commit
        assert any("http-backend" in words for words in watch.seen)
        assert not any("s3cret" in words for words in watch.seen)
        file.write_text(f"https://deploy:wrong@localhost:{port}\n")
        with pytest.raises(GitFailed) as refused:
            await Repository(tmp_path / "other", wanted).fetch()
        assert "wrong" not in str(refused.value)
        with pytest.raises(GitFailed):
            await Repository(tmp_path / "none", replace(wanted, credentials="")).fetch()


async def _feed(source: "asyncssh.SSHReader[bytes]", sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while part := await source.read(65536):
            sink.write(part)
        sink.close()


async def test_ssh_takes_the_key_from_a_file(origin: Origin, tmp_path: Path) -> None:
    commit = origin.commit("begin", web__service=WEB)
    key = asyncssh.generate_private_key("ssh-ed25519")
    file = tmp_path / "my key"
    key.write_private_key(str(file))
    file.chmod(0o600)
    key.write_public_key(str(tmp_path / "authorized"))

    async def serve(process: asyncssh.SSHServerProcess[bytes]) -> None:
        _, _, repository = (process.command or "").partition(" ")
        child = await asyncio.create_subprocess_exec(
            "git",
            "upload-pack",
            repository.strip("'"),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert child.stdin is not None
        assert child.stdout is not None
        feeding = asyncio.create_task(_feed(process.stdin, child.stdin))
        while part := await child.stdout.read(65536):
            process.stdout.write(part)
        status = await child.wait()
        feeding.cancel()
        process.exit(status)

    server = await asyncssh.listen(
        "127.0.0.1",
        0,
        server_host_keys=[asyncssh.generate_private_key("ssh-ed25519")],
        authorized_client_keys=str(tmp_path / "authorized"),
        process_factory=serve,
        encoding=None,
    )
    async with server:
        url = f"ssh://deploy@127.0.0.1:{server.get_port()}{origin.bare}"
        wanted = SyncSettings(url=url, credentials=str(file))
        assert (await Repository(tmp_path / "sync", wanted).fetch()).id == commit
        asyncssh.generate_private_key("ssh-ed25519").write_private_key(str(file))
        with pytest.raises(GitFailed, match="Permission denied"):
            await Repository(tmp_path / "sync", wanted).fetch()


async def test_repository_of_another_user_on_this_machine_is_read(
    origin: Origin, tmp_path: Path
) -> None:
    commit = origin.commit("begin", web__service=WEB)
    origin.give_away()
    assert (await Repository(tmp_path / "sync", settings(origin)).fetch()).id == commit


async def test_request_that_nobody_met_is_met_by_the_next_leader(
    origin: Origin, tmp_path: Path
) -> None:
    commit = origin.commit("begin", web__service=WEB)
    async with following(tmp_path) as made:
        await made.book.set(settings(origin), by="alice")
        await made.until(lambda s: s.status is not None and s.status.tried == commit)
        leader, made.leader = made.leader, None
        await made.registry.destroy(UnitName("web.service"), by="bob")
        await asyncio.sleep(1.5)
        await made.book.request(by="bob")
        made.leader = leader
        await made.until_drift(0)
        assert await made.units() == {"web.service": "launched"}


async def test_git_that_hangs_is_ended(tmp_path: Path) -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            await reader.read()
        writer.close()

    server = await asyncio.start_server(silent, "127.0.0.1", 0)
    async with server:
        port = server.sockets[0].getsockname()[1]
        wanted = SyncSettings(url=f"http://127.0.0.1:{port}/shop.git")
        with pytest.raises(Unavailable, match=r"did not come to an end within 0\.5 s"):
            await Repository(tmp_path / "sync", wanted, fetch_s=0.5).fetch()


async def test_url_that_would_run_a_command_is_no_protocol_of_git_here(tmp_path: Path) -> None:
    wanted = SyncSettings(url=f"ext::touch {tmp_path}/ran")
    with pytest.raises(GitFailed, match="not allowed"):
        await Repository(tmp_path / "sync", wanted).fetch()
    assert not (tmp_path / "ran").exists()
