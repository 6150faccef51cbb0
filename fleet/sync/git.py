"""git, as a process: fetches one branch and lays its newest commit out in a folder.

It never asks anybody anything, runs only for a bounded time, reads no configuration but its own,
and speaks no protocols but those of `check_sync` (`ext::` would be a shell). Credentials stay in
their file: its path is all that git and ssh are told.
"""

import asyncio
import contextlib
import hashlib
import os
import shlex
import shutil
import signal
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from tempfile import mkdtemp

from fleet.errors import FleetError, InvalidRequest, Unavailable
from fleet.sync.values import Commit, SyncSettings

FETCH_S = 120.0
_LOCAL_S = 60.0
_HEAD = "refs/heads/followed"
# A repository on this machine may be another user's, and nothing of it is run; what tidies up must
# not outlive the time limit.
_CONFIGURATION = """\
[safe]
	directory = *
[core]
	hooksPath = /dev/null
[gc]
	autoDetach = false
[maintenance]
	autoDetach = false
"""
_PASSED_ON = ("GIT_SSL_CAINFO", "http_proxy", "https_proxy", "HTTPS_PROXY", "no_proxy", "NO_PROXY")
_FORMAT = "--format=%H%x00%an <%ae>%x00%ct%x00%s"
# How the lines begin that only say that something is wrong, or what is about to be done.
_PREFIXES = ("fatal: ", "error: ")
_TALK = ("warning: ", "hint: ", "Cloning ", "Warning: ")


class GitFailed(FleetError):
    """git could not do it, in its own words."""


class Repository:
    """What is kept of one repository, below a folder that is nobody else's."""

    def __init__(self, folder: Path, settings: SyncSettings, *, fetch_s: float = FETCH_S) -> None:
        name = hashlib.sha256(settings.url.encode()).hexdigest()[:16]
        self._home = folder
        self._bare = folder / f"{name}.git"
        self._configuration = folder / "gitconfig"
        self._settings = settings
        self._fetch_s = fetch_s

    async def fetch(self) -> Commit:
        """The newest commit of the branch, fetched; raises GitFailed and Unavailable."""
        if not (self._bare / "HEAD").exists():
            self._home.mkdir(parents=True, exist_ok=True, mode=0o700)
            self._configuration.write_text(_CONFIGURATION)
            await self._git("init", "--quiet", "--bare", str(self._bare), within=False)
        refspec = f"+refs/heads/{self._settings.branch}:{_HEAD}"
        url = self._settings.url
        shallow = () if url.startswith("/") else ("--depth=1",)
        fetch = ("fetch", "--quiet", "--no-tags", *shallow, "--", url, refspec)
        await self._git(*self._credentials(), *fetch, limit_s=self._fetch_s)
        told = await self._git("log", "-1", _FORMAT, _HEAD)
        id_, author, at_s, subject = told.rstrip("\n").split("\0", 3)
        return Commit(id=id_, author=author, subject=subject, at_s=float(at_s))

    @contextlib.asynccontextmanager
    async def laid_out(self, commit: Commit) -> AsyncIterator[Path]:
        """The folder of the settings as the commit has it, for as long as this lasts.

        Raises InvalidRequest if the commit has no such folder.
        """
        top = Path(mkdtemp(prefix="commit-", dir=self._home))
        try:
            index = {"GIT_INDEX_FILE": str(top / ".index")}
            tree = top / "tree"
            tree.mkdir()
            await self._git("read-tree", commit.id, more=index)
            checkout = ("checkout-index", "--all", f"--prefix={tree}/")
            await self._git("--work-tree", str(tree), *checkout, more=index)
            folder = tree / self._settings.path
            if not folder.is_dir() or not folder.resolve().is_relative_to(tree.resolve()):
                raise InvalidRequest(f"it has no folder {self._settings.path!r}")
            yield folder
        finally:
            await asyncio.to_thread(shutil.rmtree, top, ignore_errors=True)

    def _credentials(self) -> tuple[str, ...]:
        """The helper for HTTPS; what else is configured is passed over."""
        file = self._settings.credentials
        if not file or not self._settings.url.startswith("http"):
            return ("-c", "credential.helper=")
        store = f"store --file={shlex.quote(file)}"
        return ("-c", "credential.helper=", "-c", f"credential.helper={store}")

    def _environment(self) -> dict[str, str]:
        ssh = [
            "ssh",
            "-oBatchMode=yes",
            "-oConnectTimeout=10",
            "-oStrictHostKeyChecking=accept-new",
        ]
        ssh.append(f"-oUserKnownHostsFile={self._home / 'known_hosts'}")
        if self._settings.credentials:
            ssh += ["-oIdentitiesOnly=yes", "-i", self._settings.credentials]
        return {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self._home),
            "LC_ALL": "C",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": str(self._configuration),
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ASKPASS": "true",
            "SSH_ASKPASS": "true",
            "GIT_ALLOW_PROTOCOL": "file:http:https:ssh",
            "GIT_SSH_COMMAND": shlex.join(ssh),
            "GIT_HTTP_LOW_SPEED_LIMIT": "1",
            "GIT_HTTP_LOW_SPEED_TIME": "20",
            **{key: os.environ[key] for key in _PASSED_ON if key in os.environ},
        }

    async def _git(
        self,
        *arguments: str,
        within: bool = True,
        limit_s: float = _LOCAL_S,
        more: Mapping[str, str] | None = None,
    ) -> str:
        """What git prints; raises GitFailed, and Unavailable without git or an end in time."""
        place = (f"--git-dir={self._bare}",) if within else ()
        try:
            process = await asyncio.create_subprocess_exec(
                "git",
                *place,
                *arguments,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                env={**self._environment(), **(more or {})},
                start_new_session=True,
            )
        except FileNotFoundError as error:
            raise Unavailable("git is not installed on this machine") from error
        try:
            async with asyncio.timeout(limit_s):
                out, err = await process.communicate()
        except TimeoutError as error:
            raise Unavailable(f"git did not come to an end within {limit_s:g} s") from error
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                await process.wait()
        if process.returncode != 0:
            raise GitFailed(complaint(err.decode(errors="replace")))
        return out.decode(errors="replace")


def remove_leftovers(folder: Path) -> None:
    """Remove what commits were laid out in when fleetd was killed."""
    for path in folder.glob("commit-*"):
        shutil.rmtree(path, ignore_errors=True)


def complaint(text: str) -> str:
    """What git, and ssh before it, said is wrong."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = next((n for n, line in enumerate(lines) if line.startswith(_PREFIXES)), None)
    if fatal is None:
        return f"git: {lines[-1] if lines else 'it said nothing'}"
    before = [line for line in lines[:fatal] if not line.startswith(_TALK)][-1:]
    return f"git: {'; '.join([*before, lines[fatal].partition(': ')[2]])}"
