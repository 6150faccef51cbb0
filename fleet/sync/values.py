"""What a cluster is to follow, how far it has come, and what no longer agrees with it."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

from fleet.cluster import UnitRecord
from fleet.errors import InvalidRequest
from fleet.folder.assemble import Desired
from fleet.folder.source import repository_source
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.sync.wanted import Wanted
from fleet.unit import UnitFile
from fleet.writes import text_digest

MIN_INTERVAL_S = 5.0
_SCHEMES = ("https://", "http://", "ssh://", "file://")
_SCP = re.compile(r"(\w[\w.-]*@)?\w[\w.-]*:(?!:|//)\S+")
_SECRET = re.compile(r"[a-z]+://[^/@]*:[^/@]*@", re.I)
_BRANCH = re.compile(r"(?!-)[\w./+-]{1,200}")
_MAX_URL = 2000


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncSettings:
    """What to follow: a branch of a repository, and the folder in it.

    `credentials` is a file on every machine that may lead: a private key for SSH, git's own
    `credential-store` format for HTTPS. With `prune`, what the folder no longer has is destroyed.
    """

    url: str
    branch: str = "main"
    path: str = ""
    interval_s: float = 60.0
    credentials: str = ""
    prune: bool = True

    @property
    def source(self) -> str:
        """What the units belong to: the same as for whoever applies a clone by hand."""
        return repository_source(self.url, self.path)


@dataclass(frozen=True, slots=True, kw_only=True)
class Commit:
    """One commit of a repository; `at_s` is its committer's clock."""

    id: str
    author: str
    subject: str
    at_s: float

    def __str__(self) -> str:
        return f"{self.id[:10]} ({self.subject}, by {self.author})"


@dataclass(frozen=True, slots=True, kw_only=True)
class SyncStatus:
    """How far it has come: the commit that is applied, and the last one that was tried.

    `problem` says why the last one is not applied, `unreachable` why the repository could not be
    read the last time; `by` is the machine that says all this, `request` the revision of the last
    request for a look that was met. Times are in seconds since the epoch.
    """

    applied: Commit | None = None
    applied_at_s: float = 0.0
    result: str = ""
    tried: str = ""
    problem: str = ""
    unreachable: str = ""
    checked_at_s: float = 0.0
    by: str = ""
    request: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Drift:
    """One unit that is not as the applied commit has it, in words.

    `text` and `target` are the commit's, if they were asked for and the store still has them; the
    text is empty if the commit has no such unit.
    """

    unit: UnitName
    what: str
    text: str | None = None
    target: TargetState | None = None


def check_sync(settings: SyncSettings) -> SyncSettings:
    """The settings; raises InvalidRequest for what cannot be followed."""
    url = settings.url
    known = url.startswith((*_SCHEMES, "/")) or _SCP.fullmatch(url)
    if not known or not url.isprintable() or len(url) > _MAX_URL:
        raise InvalidRequest(
            f"{url[:100]!r} is no repository: give https://, ssh://, user@host:path or /path"
        )
    if _SECRET.match(url):
        raise InvalidRequest("the URL has a password in it; put it into a file (--credentials)")
    if not _BRANCH.fullmatch(settings.branch) or ".." in settings.branch:
        raise InvalidRequest(f"{settings.branch!r} cannot be the name of a branch")
    parts = settings.path.split("/")
    if settings.path.startswith("/") or ".." in parts or not settings.path.isprintable():
        raise InvalidRequest(f"{settings.path!r} is no folder within the repository")
    if settings.credentials and not settings.credentials.startswith("/"):
        raise InvalidRequest("credentials are a file on each machine: give a path from /")
    if not MIN_INTERVAL_S <= settings.interval_s <= 86400:
        raise InvalidRequest(f"the interval is from {MIN_INTERVAL_S:g} s to a day")
    return settings


def encode_settings(settings: SyncSettings) -> dict[str, Any]:
    return asdict(settings)


def decode_settings(document: Any) -> SyncSettings:
    """The settings of a document, checked; raises MALFORMED (fleet/errors.py)."""
    return check_sync(
        SyncSettings(
            url=str(document["url"]),
            branch=str(document.get("branch", "main")),
            path=str(document.get("path", "")).strip("/"),
            interval_s=float(document.get("interval_s", 60.0)),
            credentials=str(document.get("credentials", "")),
            prune=bool(document.get("prune", True)),
        )
    )


def encode_status(status: SyncStatus) -> dict[str, Any]:
    return asdict(status)


def decode_status(document: Any) -> SyncStatus:
    """The status of a document; raises MALFORMED (fleet/errors.py)."""
    applied = document.get("applied")
    return SyncStatus(
        applied=None
        if applied is None
        else Commit(
            id=str(applied["id"]),
            author=str(applied["author"]),
            subject=str(applied["subject"]),
            at_s=float(applied["at_s"]),
        ),
        applied_at_s=float(document.get("applied_at_s", 0.0)),
        result=str(document.get("result", "")),
        tried=str(document.get("tried", "")),
        problem=str(document.get("problem", "")),
        unreachable=str(document.get("unreachable", "")),
        checked_at_s=float(document.get("checked_at_s", 0.0)),
        by=str(document.get("by", "")),
        request=int(document.get("request", 0)),
    )


def wanted_of(desired: Desired, source: str) -> Wanted:
    units = {
        name: (unit.file.hash, text_digest(unit.file.text), unit.target.value)
        for name, unit in desired.units.items()
    }
    return Wanted(source=source, units=units)


def find_drift(
    wanted: Wanted, units: Mapping[UnitName, UnitRecord], *, prune: bool
) -> Iterator[Drift]:
    """What of the units is not as the applied commit has it, by name.

    Units that it no longer has are drift only where they are to go.
    """
    for name, (hash_, file, target) in sorted(wanted.units.items()):
        record = units.get(name)
        if record is None:
            yield Drift(unit=name, what="it is not in the cluster")
        elif record.hash != hash_:
            yield Drift(unit=name, what="its contents are others")
        elif record.target.value != target:
            yield Drift(unit=name, what=f"its target state is {record.target}, not {target}")
        elif record.file != file:
            yield Drift(unit=name, what="its comments are others")
    for name, record in sorted(units.items()) if prune else ():
        if wanted.source and record.source == wanted.source and name not in wanted.units:
            yield Drift(unit=name, what="the repository does not have it any more")


def tell_texts(
    drift: Iterable[Drift], wanted: Wanted, files: Mapping[str, UnitFile]
) -> Iterator[Drift]:
    """The drift, with what the commit has instead, as far as the files, by digest, are known."""
    for one in drift:
        _, digest, target = wanted.units.get(one.unit, ("", "", ""))
        if not digest:
            yield replace(one, text="")
        elif digest in files:
            yield replace(one, text=files[digest].text, target=TargetState(target))
        else:
            yield one
