"""An operator's session: fleetctl on units that they wrote, and what systemd says they came to.

`Operator` speaks of machines by the sandbox's names (fleet1), never by ids. What it reads about a
unit's life comes from systemd on the machine itself, not from fleet, so that fleet's own words can
be checked against it.
"""

import json
import os
import subprocess
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Kind
from tests.cluster.machines import DEADLINE_S, eventually
from tests.zygote import run_fleetctl

Done = subprocess.CompletedProcess[str]
UNITS_DIRECTORY = "/run/fleet/units"
STEADY = "sleep 100000"
# systemd's message ids, which `journalctl --catalog` explains; source: sd-messages.h.
UNIT_STARTED = "39f53479d3a045ac8e11786248231fbf"
UNIT_STOPPING = "de5b426a63be47a7b6ac3eaac82e2f6f"


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Row:
    """A line of `fleetctl list-units`, with the machine's name; "" while it is on none."""

    unit: str
    machine: str
    active: str
    sub: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Life:
    """One run of a unit on one machine: equal before and after means that nobody touched it.

    Times are the machine's monotonic clock in microseconds.
    """

    active: str
    sub: str
    invocation: str
    pid: str
    entered: str
    left: str
    restarts: str


_PROPERTIES = {
    "active": "ActiveState",
    "sub": "SubState",
    "invocation": "InvocationID",
    "pid": "MainPID",
    "entered": "ActiveEnterTimestampMonotonic",
    "left": "InactiveEnterTimestampMonotonic",
    "restarts": "NRestarts",
}
Lives = Mapping[tuple[str, str], Life]


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """Somebody at the host with a folder of unit files, who speaks to the machine `through`."""

    sandbox: Sandbox
    folder: Path
    through: str = "fleet1"

    def at(self, machine: str) -> "Operator":
        """The same operator, who speaks to that machine."""
        return replace(self, through=machine)

    # Unit files

    def write(self, name: str, text: str) -> str:
        """Write a unit file into the folder; its name."""
        (self.folder / name).write_text(text)
        return name

    def service(
        self,
        name: str,
        command: str = STEADY,
        *,
        fleet: str = "",
        service: str = "",
        unit: str = "",
    ) -> str:
        """Write a service of one shell command; `fleet` are lines of its [X-Fleet]. Its name."""
        lines = ["[Unit]", unit, "[Service]", f"ExecStart=/bin/sh -c '{_exec(command)}'", service]
        lines += ["[X-Fleet]", fleet] if fleet else []
        return self.write(name, "\n".join(filter(None, lines)) + "\n")

    # fleetctl

    def fleetctl(
        self,
        *words: str,
        through: str = "",
        tunnel: str = "",
        timeout_s: float = DEADLINE_S,
        stdin: str = "",
    ) -> Done:
        """Run fleetctl in the folder: on a machine's socket, or through a tunnel to a machine."""
        return run_fleetctl(
            words,
            cwd=self.folder,
            env=self._environment(through or self.through, tunnel),
            stdin=stdin,
            timeout_s=timeout_s,
        )

    def at_once(self, *commands: Sequence[str], timeout_s: float = DEADLINE_S) -> list[Done]:
        """Run several fleetctl beside each other."""
        with ThreadPoolExecutor(len(commands)) as pool:
            running = [pool.submit(self.fleetctl, *c, timeout_s=timeout_s) for c in commands]
            return [future.result() for future in running]

    def inside(self, machine: str, *words: str, timeout_s: float = DEADLINE_S) -> Done:
        """Run fleetctl on a machine, as root there, in a copy of the folder."""
        copy = self.sandbox.path(machine, "/run/desk")
        copy.mkdir(exist_ok=True)
        for path in self.folder.iterdir():
            (copy / path.name).write_bytes(path.read_bytes())
        script = 'cd /run/desk && exec fleetctl "$@"'
        return self.sandbox.run(machine, ["sh", "-c", script, "sh", *words], timeout_s=timeout_s)

    def ok(self, *words: str, through: str = "", tunnel: str = "") -> str:
        """Run fleetctl, which has to succeed; what it printed."""
        done = self.fleetctl(*words, through=through, tunnel=tunnel)
        assert done.returncode == 0, f"{words}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout

    def _environment(self, through: str, tunnel: str) -> dict[str, str]:
        environment = {k: v for k, v in os.environ.items() if not k.startswith("FLEETCTL_")}
        if not tunnel:
            return environment | {"FLEETCTL_ENDPOINT": f"unix://{self.sandbox.socket(through)}"}
        return environment | {
            "FLEETCTL_TUNNEL": tunnel,
            "FLEETCTL_SSH_CONFIG": str(self.sandbox.ssh_config),
            "FLEETCTL_KNOWN_HOSTS_FILE": str(self.sandbox.known_hosts),
        }

    # What fleet says

    def name_of(self, machine_id: str) -> str:
        """The sandbox's name of a machine; the id itself, or its start, if it is none of them."""
        for view in self.sandbox.machines:
            if view.id == machine_id:
                return view.name
        return machine_id

    def machine_id(self, machine: str) -> str:
        return self.sandbox.machine(machine).id

    def rows(self, *patterns: str, through: str = "") -> tuple[Row, ...]:
        """`fleetctl list-units`, sorted."""
        flags = ("--full", "--no-legend", "--fields=unit,machine,active,sub")
        text = self.ok("list-units", *flags, *patterns, through=through)
        found = (line.split() for line in text.splitlines())
        return tuple(
            sorted(
                Row(unit=unit, machine=self._machine_name(cell), active=active, sub=sub)
                for unit, cell, active, sub in found
            )
        )

    def _machine_name(self, cell: str) -> str:
        return "" if cell == "-" else self.name_of(cell.partition("/")[0])

    def stored(self, *, through: str = "") -> str:
        """`fleetctl list-unit-files` in full: what the cluster is to do, as it stands."""
        flags = ("--full", "--fields=unit,hash,dstate,state,target")
        return self.ok("list-unit-files", *flags, through=through)

    def homes(self, unit: str, *, through: str = "") -> tuple[str, ...]:
        """The machines where fleet says that the unit is active."""
        rows = self.rows(unit, through=through)
        return tuple(row.machine for row in rows if row.unit == unit and row.active == "active")

    def home(self, unit: str, *, through: str = "") -> str:
        """The one machine where the unit is active."""
        homes = self.homes(unit, through=through)
        assert len(homes) == 1, f"{unit} is active on {homes or 'no machine'}"
        return homes[0]

    def wait_home(
        self,
        unit: str,
        *,
        on: Iterable[str] = (),
        through: str = "",
        deadline_s: float = DEADLINE_S,
    ) -> str:
        """The machine, one of `on` if given, where the unit is active alone, once it is."""
        wanted = tuple(on)

        def arrived() -> str:
            home = self.home(unit, through=through)
            assert not wanted or home in wanted, f"{unit} is active on {home}, not in {wanted}"
            return home

        return eventually(arrived, deadline_s=deadline_s)

    # What systemd says

    def show(self, machine: str, unit: str, *properties: str) -> dict[str, str]:
        """`systemctl show` of a unit on a machine."""
        listed = ",".join(properties)
        done = self.sandbox.run(machine, ["systemctl", "show", f"--property={listed}", unit])
        return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)

    def is_active(self, machine: str, unit: str) -> bool:
        return self.show(machine, unit, "ActiveState").get("ActiveState") == "active"

    def files(self, machine: str) -> tuple[str, ...]:
        """The units whose files fleet has on the machine."""
        directory = self.sandbox.path(machine, UNITS_DIRECTORY)
        if not directory.exists():
            return ()
        found = (path.name for path in directory.iterdir())
        return tuple(sorted(name for name in found if not name.startswith(".")))

    def life(self, machine: str, unit: str) -> Life:
        """How the unit lives on the machine."""
        return self._lives(machine, [unit])[unit]

    def lives(self, *machines: str) -> Lives:
        """Every unit of fleet on these machines (on all that have power), and how it lives."""
        chosen = machines or self.powered()
        return {
            (machine, unit): life
            for machine in chosen
            for unit, life in self._lives(machine, self.files(machine)).items()
        }

    def _lives(self, machine: str, units: Sequence[str]) -> dict[str, Life]:
        if not units:
            return {}
        listed = ",".join(_PROPERTIES.values())
        argv = ["systemctl", "show", f"--property={listed}", *units]
        blocks = self.sandbox.run(machine, argv).stdout.split("\n\n")
        return {unit: _life(block) for unit, block in zip(units, blocks, strict=True)}

    def unit_times(self, machine: str, message: str) -> Mapping[str, int]:
        """When systemd there last said that of each unit, in microseconds since the epoch.

        The machines of a sandbox have one clock.
        """
        journal = ["journalctl", "--output=json", f"MESSAGE_ID={message}"]
        lines = self.sandbox.run(machine, journal, check=True).stdout.splitlines()
        entries = [json.loads(line) for line in lines]
        return {entry["UNIT"]: int(entry["_SOURCE_REALTIME_TIMESTAMP"]) for entry in entries}

    def powered(self) -> tuple[str, ...]:
        return tuple(view.name for view in self.sandbox.machines if view.pid is not None)

    @contextmanager
    def assert_untouched(self, *machines: str, may_grow: bool = False) -> Iterator[Lives]:
        """No unit of these machines is stopped, started, restarted or removed within.

        None is added either, unless the machines `may_grow`.
        """
        chosen = machines or self.powered()
        before = self.lives(*chosen)
        assert before, f"no unit of fleet on {chosen}, so nothing would be proved"
        yield before
        after = self.lives(*chosen)
        assert {key: after.get(key) for key in before} == before
        assert may_grow or after == before

    def store(self, *parts: str) -> dict[str, str]:
        """What etcd holds below these parts of fleet's keys (all, if none is named), by key."""
        said = json.loads(self._etcdctl("get", "/fleet/", "--prefix", "--write-out=json"))
        found: dict[str, str] = {}
        for entry in said.get("kvs", ()):
            key, value = (b64decode(entry.get(k, "")) for k in ("key", "value"))
            # What is compressed is no text, and no test looks into it.
            found[key.decode().removeprefix("/fleet/")] = value.decode(errors="replace")
        return {key: value for key, value in found.items() if key.startswith(parts or "")}

    def leader(self) -> str:
        """The machine whose engine leads, once one does."""
        said = eventually(lambda: self.store("engine"))
        return self.name_of(json.loads(said["engine"])["machine"])

    def etcd_leader(self) -> str:
        """The member of etcd that leads the others, once one does."""
        return eventually(self._etcd_leader)

    def _etcd_leader(self) -> str:
        for member in json.loads(self._etcdctl("endpoint", "status", "--write-out=json")):
            address = member["Endpoint"].removeprefix("http://").partition(":")[0]
            status = member["Status"]
            if status["leader"] == status["header"]["member_id"]:
                return next(n.name for n in self.sandbox.spec.nodes if n.address == address)
        return ""

    def _etcdctl(self, *words: str) -> str:
        members = ",".join(f"http://{n.address}:2379" for n in self.sandbox.spec.of_kind(Kind.ETCD))
        argv = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={members}", *words]
        powered = self.powered()
        machine = self.through if self.through in powered else powered[0]
        return self.sandbox.run(machine, argv, check=True).stdout

    def clear(self) -> None:
        """Destroy all units; returns when no machine has any."""
        self.ok("destroy", "*")
        eventually(lambda: not any(self.files(machine) for machine in self.powered()))


def _life(block: str) -> Life:
    """A unit's part of what `systemctl show` of several prints."""
    shown = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
    return Life(**{name: shown.get(key, "") for name, key in _PROPERTIES.items()})


def _exec(command: str) -> str:
    assert "'" not in command, "the command stands in single quotes"
    return command
