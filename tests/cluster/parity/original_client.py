"""fleet 1.0's own fleetctl, as a fleetd sees it: what it sends, byte for byte where that counts.

It does what the Go program's API driver does, in its order and its rhythm: a unit after the other,
`?alt=json` behind every address, `%40` for `@`, page tokens followed as they are given, units asked
for every 250 ms until they are there, and the error texts of its HTTP library.
"""

import json
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from http.client import HTTPConnection
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from fleet.unit import UnitFile

POLL_S = 0.25
# After a unit is launched: how long until systemd has to have it active.
ACTIVE_S = 2.0
DEADLINE_S = 30.0
_HEADERS = {"User-Agent": "google-api-go-client/0.5", "Accept-Encoding": "gzip"}
Document = dict[str, Any]


class ApiError(Exception):
    """An answer beyond 299, in the words of the Go library."""

    def __init__(self, status: int, message: str) -> None:
        self.status = status
        super().__init__(f"googleapi: Error {status}: {message}")


class OriginalClient:
    """A session of the original's fleetctl; `connect` gives a socket to the server."""

    def __init__(self, connect: Callable[[], socket.socket], host: str) -> None:
        self._http = _Connection(host, connect)
        self.pages = 0
        """How many pages of lists were read."""

    @classmethod
    def on_unix(cls, path: Path) -> Self:
        """`--endpoint=unix://PATH`."""

        def connect() -> socket.socket:
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            connection.connect(str(path))
            return connection

        return cls(connect, "domain-sock")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._http.close()

    # Commands, as their users know them

    def submit(self, units: Mapping[str, UnitFile]) -> None:
        """Create each unit that is not there, and wait until it is inactive."""
        new = [name for name in units if self.unit(name) is None]
        for name in new:
            self.create(name, units[name])
        self._wait_for(new, "inactive")

    def start(self, units: Mapping[str, UnitFile]) -> list[str]:
        """Create, launch and wait; the lines on its stdout."""
        self.submit(units)
        changed = [name for name in units if self._set(name, "launched")]
        legends = {machine["id"]: machine.get("primaryIP", "") for machine in self.machines()}
        machines = {
            name: unit["machineID"] for name, unit in self._wait_for(changed, "launched").items()
        }
        self._wait_until_active(changed)
        return [
            f"Unit {name} launched on {machines[name][:8]}.../{legends[machines[name]]}"
            for name in changed
        ]

    def stop(self, *names: str) -> None:
        self._bring(names, "loaded")

    def unload(self, *names: str) -> None:
        self._bring(names, "inactive")

    def destroy(self, *names: str) -> None:
        for name in names:
            self.ask("DELETE", _item(name))

    def _bring(self, names: Sequence[str], state: str) -> None:
        stored = {unit["name"] for unit in self.units()}
        assert set(names) <= stored
        for name in names:
            self._set(name, state)
        self._wait_for(names, state)

    def _set(self, name: str, state: str) -> bool:
        unit = self.unit(name)
        assert unit is not None
        if unit["desiredState"] == state:
            return False
        self.put(name, {"name": name, "desiredState": state})
        return True

    def _wait_for(self, names: Sequence[str], state: str) -> dict[str, Document]:
        """Every unit as it was when it had come to the state."""
        deadline_s = time.monotonic() + DEADLINE_S
        found: dict[str, Document] = {}
        while found.keys() != set(names):
            assert time.monotonic() < deadline_s, f"of {names} only {list(found)} are {state}"
            time.sleep(POLL_S)
            for name in set(names) - found.keys():
                unit = self.unit(name)
                if unit is not None and unit.get("currentState") == state:
                    found[name] = unit
        return found

    def _wait_until_active(self, names: Sequence[str]) -> None:
        deadline_s = time.monotonic() + ACTIVE_S
        while True:
            active = {
                state["name"]
                for state in self.states()
                if (state["systemdLoadState"], state["systemdActiveState"]) == ("loaded", "active")
            }
            missing = set(names) - active
            if not missing:
                return
            assert time.monotonic() < deadline_s, f"Failed to find an active unit {missing}"
            time.sleep(POLL_S)

    # The API

    def units(self) -> list[Document]:
        return list(self._pages("units", "units"))

    def states(self) -> list[Document]:
        return list(self._pages("state", "states"))

    def machines(self) -> list[Document]:
        return list(self._pages("machines", "machines"))

    def unit(self, name: str) -> Document | None:
        """The unit; None after a 404, as the original takes it."""
        try:
            found = self.ask("GET", _item(name))
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        assert isinstance(found, dict)
        return found

    def create(self, name: str, file: UnitFile) -> None:
        options = [
            {"section": option.section, "name": option.name, "value": option.value}
            for option in file.options
        ]
        self.put(name, {"name": name, "desiredState": "inactive", "options": options})

    def put(self, name: str, unit: Document) -> None:
        self.ask("PUT", _item(name), unit)

    def patch_machines(self, operations: Sequence[Document]) -> None:
        self.ask("PATCH", "machines", list(operations))

    def _pages(self, path: str, kind: str) -> Iterator[Document]:
        token = ""
        while True:
            query = f"&nextPageToken={quote(token, safe='')}" if token else ""
            page = self.ask("GET", path, query=query)
            self.pages += 1
            yield from page.get(kind, [])
            token = page.get("nextPageToken", "")
            if not token:
                return

    def ask(self, method: str, path: str, document: object = None, *, query: str = "") -> Any:
        """One request, and the document of its answer; raises ApiError."""
        body = None if document is None else json.dumps(document).encode() + b"\n"
        status, headers, answer = self.send(
            method,
            f"/fleet/v1/{path}?alt=json{query}",
            body,
            {"Content-Type": "application/json"} if body else {},
        )
        if status > 299:
            raise ApiError(status, json.loads(answer)["error"]["message"])
        if answer:
            assert headers["Content-Type"] == "application/json"
        return json.loads(answer) if answer else None

    def send(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] = {}
    ) -> tuple[int, Mapping[str, str], bytes]:
        """One request as it is given, over the one connection that the session keeps."""
        self._http.request(method, target, body, {**_HEADERS, **headers})
        response = self._http.getresponse()
        return response.status, dict(response.headers), response.read()


class _Connection(HTTPConnection):
    def __init__(self, host: str, connect: Callable[[], socket.socket]) -> None:
        super().__init__(host, timeout=DEADLINE_S)
        self._make = connect

    def connect(self) -> None:
        self.sock = self._make()
        self.sock.settimeout(DEADLINE_S)


def _item(name: str) -> str:
    return f"units/{quote(name, safe='')}"
