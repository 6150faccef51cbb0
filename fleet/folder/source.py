"""The name of the source that a folder is, if it gives itself none.

It has to be the same for everybody who applies the same folder: that of a clone is its remote's
name and the path below it, whichever protocol and user that remote is reached by, so that a clone
by SSH, one by HTTPS and a cluster that follows the repository agree.
"""

import re

_URL = re.compile(r"[a-z][a-z0-9+.-]*://(?:[^@/]*@)?(?P<host>[^/:]+)(?::\d+)?/(?P<path>.+)", re.I)
_SCP = re.compile(r"(?:[^@/:]*@)?(?P<host>[^@/:]{2,}):(?P<path>.+)")


def repository_source(url: str, prefix: str = "") -> str:
    """The source that the folder `prefix` of the repository is: `host/path:prefix`."""
    folder = prefix.strip("/")
    return f"{_repository(url)}:{folder}" if folder else _repository(url)


def _repository(url: str) -> str:
    if url.lower().startswith("file://"):
        url = url[len("file://") :]
    found = _URL.fullmatch(url) or _SCP.fullmatch(url)
    name = f"{found['host'].lower()}/{found['path'].strip('/')}" if found else url.rstrip("/")
    return name.removesuffix(".git")


def folder_source(hostname: str, path: str) -> str:
    """The source that a folder outside of any repository is."""
    return f"{hostname}:{path}"
