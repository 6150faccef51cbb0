"""A sandbox as an object: machines that boot in a second, lose power, and are cut off.

`Sandbox.up` returns when every machine has booted, etcd serves, and fleetd on each machine lists
all of them; if it is interrupted or fails, nothing of it stays. Every method acts on the real
thing and keeps its record in the sandbox's own directory, so that several processes may hold the
same sandbox: the commands of `fleetctl sandbox` and the tests use this alike.
"""

import subprocess
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Self

from cli.sandbox import build, host
from cli.sandbox.layout import (
    BASE,
    DEFAULT_NAME,
    Kind,
    Place,
    Spec,
    check_name,
    plug_script,
    unplug_script,
)
from cli.sandbox.lock import exclusive
from cli.sandbox.power import (
    Report,
    entering,
    first_pid,
    make,
    read_state,
    silent,
    switch_off,
    switch_on,
)
from cli.sandbox.processes import held_signals
from cli.sandbox.readiness import wait_until_one_cluster
from cli.sandbox.requirements import check_host, check_root
from cli.sandbox.state import State, load, save
from cli.sandbox.sweep import Removed, running_in, sweep
from fleet.errors import Conflict, NotFound, Unavailable

CLUSTER_DEADLINE_S = 30.0
_RUN_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineView:
    """A machine as it is now; `pid` is its PID 1 as the host counts, None without power."""

    name: str
    address: str
    id: str
    pid: int | None
    cut: bool


class Sandbox:
    """A sandbox that is up; made by `up`, found again by `open`, left behind by nobody."""

    def __init__(self, place: Place) -> None:
        self._place = place

    @classmethod
    def up(
        cls,
        name: str = DEFAULT_NAME,
        *,
        machines: int = 3,
        etcd: int = 1,
        report: Report = silent,
        base: Path = BASE,
        **options: object,
    ) -> Self:
        """Boot machines and etcd, and return when they are one cluster.

        `options` are further fields of `Spec`. Raises InvalidRequest for a spec that cannot be,
        Conflict if the name is up already, Unavailable for what the host lacks or what does not
        start. Remains of an interrupted sandbox of that name are removed first.
        """
        spec = Spec(name=name, machines=machines, etcd=etcd, **options)  # type: ignore[arg-type]
        return cls.from_spec(spec, report=report, base=base)

    @classmethod
    def from_spec(cls, spec: Spec, *, report: Report = silent, base: Path = BASE) -> Self:
        """`up`, with everything in one value."""
        check_root()
        check_host(etcd=spec.etcd > 0, programs=build.find_programs().directory)
        sandbox = cls(Place(name=spec.name, base=base))
        with exclusive(sandbox._place):
            sandbox._refuse_if_up()
            try:
                if sweep(sandbox._place):
                    report(f"removed what was left of an earlier sandbox {spec.name!r}")
                sandbox._come_up(spec, report)
            except BaseException:
                with held_signals():
                    sweep(sandbox._place)
                raise
        return sandbox

    @classmethod
    def open(cls, name: str = DEFAULT_NAME, *, base: Path = BASE) -> Self:
        """The sandbox of that name; raises NotFound if there is none that came up."""
        check_root()
        check_name(name)
        place = Place(name=name, base=base)
        state = load(place.state)
        if state is None or not state.ready:
            option = "" if name == DEFAULT_NAME else f" --name {name}"
            raise NotFound(
                f"there is no sandbox {name!r}: make one with `fleetctl sandbox up{option}`"
            )
        return cls(place)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.down()

    # What it is

    @property
    def name(self) -> str:
        return self._place.name

    @property
    def spec(self) -> Spec:
        return self._state.spec

    @property
    def ssh_config(self) -> Path:
        """For `ssh -F` and `fleetctl --ssh-config`: every machine by its name."""
        return self._place.ssh_config

    @property
    def known_hosts(self) -> Path:
        return self._place.known_hosts

    @property
    def machines(self) -> tuple[MachineView, ...]:
        state = self._state
        return tuple(
            MachineView(
                name=node.name,
                address=node.address,
                id=state.machine_ids[node.name],
                pid=self.pid(node.name),
                cut=state.nodes[node.name].cut,
            )
            for node in state.spec.of_kind(Kind.MACHINE)
        )

    def machine(self, name: str) -> MachineView:
        """The machine of that name; raises NotFound."""
        self.spec.node(name)
        return next(view for view in self.machines if view.name == name)

    def is_on(self, name: str) -> bool:
        """Whether the machine, or member of etcd, has power."""
        node = self.spec.node(name)
        if node.kind is Kind.MACHINE:
            return self.pid(name) is not None
        return bool(running_in(self._place, name))

    def is_cut(self, name: str) -> bool:
        return self._state.nodes[self.spec.node(name).name].cut

    def pid(self, machine: str) -> int | None:
        """PID 1 of the machine as the host counts, None while it has no power."""
        return first_pid(self._place, self.spec.node(machine).name)

    def socket(self, machine: str) -> Path:
        """The machine's /run/fleet.sock, as a path that the host can connect to."""
        return self.path(machine, "/run/fleet.sock")

    def path(self, machine: str, path: str) -> Path:
        """A path inside a running machine as the host sees it; raises Unavailable if it is off."""
        return Path(f"/proc/{self._pid_of(machine)}/root{path}")

    def disk(self, machine: str) -> Path:
        """The machine's `/` without what it keeps in memory; there with or without power."""
        return self._place.root(self.spec.node(machine).name)

    def log(self, name: str) -> Path:
        """The machine's console, or the log of the member of etcd."""
        return self._place.log(self.spec.node(name).name)

    # What can be done to it

    def run(
        self,
        machine: str,
        argv: Sequence[str],
        *,
        stdin: str = "",
        timeout_s: float = _RUN_TIMEOUT_S,
        check: bool = False,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command inside the machine, as root.

        With `check` a status other than 0 raises Unavailable with what the command said.
        """
        done = subprocess.run(  # noqa: S603  the caller's argv, in the caller's machine
            self.enter(machine, argv),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            env=host.ENVIRONMENT,
        )
        if check and done.returncode:
            said = (done.stderr or done.stdout).strip()
            raise Unavailable(
                f"`{' '.join(argv)}` on {machine} ended with {done.returncode}: {said}"
            )
        return done

    def enter(self, machine: str, argv: Sequence[str]) -> list[str]:
        """The command line, for the host, that runs a command inside the machine."""
        return entering(self._pid_of(machine), argv)

    def kill(self, *names: str) -> tuple[str, ...]:
        """Power cut, at one instant for all of them: no process survives, no packet says goodbye.

        Their disks stay. Returns the names of those that had power.
        """
        nodes = [self.spec.node(name) for name in names]
        with exclusive(self._place):
            on = [node for node in nodes if running_in(self._place, node.name)]
            switch_off(self._place, on)
        return tuple(node.name for node in on)

    def boot(self, *names: str, report: Report = silent) -> tuple[str, ...]:
        """Power on: the same machine id and disk, a fresh /run and boot id.

        Returns the names of those that were off; a pulled cable stays pulled. Raises Unavailable
        if one does not boot.
        """
        nodes = [self.spec.node(name) for name in names]
        with exclusive(self._place):
            off = [node for node in nodes if not self.is_on(node.name)]
            switch_on(self._place, off, report)
        return tuple(node.name for node in off)

    def cut(self, *names: str) -> None:
        """Pull the network cables, all at once; nobody is told."""
        self._set_cables(names, cut=True)

    def heal(self, *names: str) -> None:
        """Plug the network cables in again."""
        self._set_cables(names, cut=False)

    def pause(self, *names: str) -> None:
        """Stop every process of a machine or member of etcd where it is, as if it hung."""
        self._pause(names, on=True)

    def resume(self, *names: str) -> None:
        """Let the processes of a paused machine or member of etcd go on."""
        self._pause(names, on=False)

    def journal(self, machine: str) -> str:
        """The machine's journal, all boots; it can be read after a power cut too."""
        directory = self.disk(machine) / "var/log/journal"
        argv = ["journalctl", f"--directory={directory}", "--no-pager", "--output=short-precise"]
        return host.run(argv)

    def save_journals(self, directory: Path) -> None:
        """Write every machine's journal and console, and etcd's logs, into the directory."""
        directory.mkdir(parents=True, exist_ok=True)
        for node in self.spec.nodes:
            console = self.log(node.name).read_text(errors="replace")
            (directory / f"{node.name}.log").write_text(console)
            if node.kind is Kind.MACHINE:
                (directory / f"{node.name}.journal").write_text(self.journal(node.name))

    def wait_until_one_cluster(self, *, deadline_s: float = CLUSTER_DEADLINE_S) -> float:
        """Return the seconds until fleetd on every machine lists all machines.

        Raises Unavailable, with what each fleetd said last, if they do not in time.
        """
        names = [node.name for node in self.spec.of_kind(Kind.MACHINE)]
        try:
            return wait_until_one_cluster(
                {name: self.socket(name) for name in names},
                machine_ids=self._state.machine_ids.values(),
                deadline_s=deadline_s,
            )
        except Unavailable as error:
            words = "".join(self._last_words(name) for name in names)
            raise Unavailable(f"{error}{words}") from error

    def down(self) -> Removed:
        """Remove the sandbox with everything that runs in it."""
        return remove(self.name, base=self._place.base)

    # How it is done

    def _pid_of(self, machine: str) -> int:
        pid = self.pid(machine)
        if pid is None:
            raise Unavailable(f"{machine} in sandbox {self.name!r} has no power")
        return pid

    @property
    def _state(self) -> State:
        return read_state(self._place)

    def _refuse_if_up(self) -> None:
        state = load(self._place.state)
        if state and state.ready:
            count = state.spec.machines
            option = "" if self.name == DEFAULT_NAME else f" --name {self.name}"
            raise Conflict(
                f"sandbox {self.name!r} is up already, with {count} machine{'s' * (count > 1)}: "
                f"`fleetctl sandbox down{option}` removes it"
            )

    def _come_up(self, spec: Spec, report: Report) -> None:
        make(self._place, spec, report)
        if spec.fleetd:
            took_s = self.wait_until_one_cluster()
            names = ", ".join(node.name for node in spec.of_kind(Kind.MACHINE))
            report(f"fleetd on {names}: one cluster after {took_s:.1f} s more")
        save(self._place.state, replace(self._state, ready=True))

    def _last_words(self, machine: str) -> str:
        """What fleetd on the machine said last, a line each."""
        match = "_SYSTEMD_UNIT=fleet.service"  # and not what systemd says of it
        argv = ["journalctl", match, "--output=cat", "--no-pager", "--lines=4"]
        lines = self.run(machine, argv).stdout.splitlines() if self.is_on(machine) else ["no power"]
        return "".join(f"\n  {machine}: {line}" for line in lines)

    def _set_cables(self, names: Sequence[str], *, cut: bool) -> None:
        nodes = [self.spec.node(name) for name in names]
        with exclusive(self._place):
            state = self._state
            live = [node for node in nodes if running_in(self._place, node.name)]
            host.ip(self._place.hub, unplug_script(nodes) if cut else plug_script(live))
            for node in nodes:
                state = state.with_node(node.name, cut=cut)
            save(self._place.state, state)

    def _pause(self, names: Sequence[str], *, on: bool) -> None:
        nodes = [self.spec.node(name).name for name in names]
        host.pause_all((process.pid for process in running_in(self._place, *nodes)), on=on)


def remove(name: str, *, base: Path = BASE) -> Removed:
    """Remove the sandbox of that name, or what is left of one; nothing there is no error."""
    check_root()
    check_name(name)
    place = Place(name=name, base=base)
    if not (place.top.exists() or place.lock.exists()):
        return Removed()
    with exclusive(place), held_signals():
        return sweep(place)


def names(*, base: Path = BASE) -> tuple[str, ...]:
    """The names of the sandboxes that are up."""
    states = [load(path / "state.json") for path in sorted(base.glob("*")) if path.is_dir()]
    return tuple(state.spec.name for state in states if state and state.ready)
