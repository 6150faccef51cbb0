"""Switching nodes on and off: all of a new sandbox, or some of one that is up."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from cli.sandbox import build, host
from cli.sandbox.layout import Kind, Node, Place, Spec, plug_script, unplug_script
from cli.sandbox.processes import end, held_signals, is_first
from cli.sandbox.readiness import Starting, listen, only_fleet_is_starting, wait_until_started
from cli.sandbox.state import NodeState, State, load, save
from cli.sandbox.sweep import running_in
from fleet.errors import NotFound, Unavailable

BOOT_DEADLINE_S = 60.0
_LOG_TAIL_LINES = 8

Report = Callable[[str], None]


def silent(_: str) -> None:
    """A report that nobody reads."""


def read_state(place: Place) -> State:
    """What is recorded of the sandbox now; raises NotFound once it is gone."""
    state = load(place.state)
    if state is None:
        raise NotFound(f"sandbox {place.name!r} is gone")
    return state


def first_pid(place: Place, machine: str) -> int | None:
    """PID 1 of the machine as the host counts, None while it has no power."""
    processes = running_in(place, machine)
    return next((each.pid for each in processes if is_first(each.pid)), None)


def entering(pid: int, argv: Sequence[str]) -> list[str]:
    """The command line, for the host, that runs a command inside the machine of this PID 1."""
    return ["nsenter", f"--target={pid}", "--all", "--", *argv]


def make(place: Place, spec: Spec, report: Report) -> None:
    """Make a sandbox where there is none, and start all its nodes."""
    programs = build.find_programs()
    build.prepare(place, spec)
    state = State(spec=spec, systemd=host.has_systemd())
    state = replace(state, nodes={node.name: NodeState() for node in spec.nodes})
    save(place.state, state)
    for node in spec.nodes:
        build.wire(place, node)
    keys, vendor = build.make_keys(place, spec), build.read_vendor()
    build.write_ssh_config(place, spec, keys)
    ids = {
        node.name: build.furnish_machine(
            place, node, spec=spec, keys=keys, vendor=vendor, programs=programs
        )
        for node in spec.of_kind(Kind.MACHINE)
    }
    save(place.state, replace(state, machine_ids=ids))
    start(place, spec.nodes, report)


def switch_on(place: Place, nodes: Sequence[Node], report: Report) -> None:
    """Start nodes that are off, each with a fresh network interface."""
    _end(place, nodes)
    for node in nodes:
        build.wire(place, node)
    start(place, nodes, report)


def switch_off(place: Place, nodes: Sequence[Node]) -> None:
    """Take the nodes' power at one instant: off the network first, so that none says goodbye."""
    if nodes:
        host.ip(place.hub, unplug_script(nodes))
        _end(place, nodes)


def _end(place: Place, nodes: Sequence[Node]) -> None:
    names = [node.name for node in nodes]
    if names:
        end(lambda: running_in(place, *names))
        if read_state(place).systemd:
            host.stop_units([place.unit(name) for name in names])


def start(place: Place, nodes: Sequence[Node], report: Report) -> None:
    """Start the nodes' processes and return when each is up.

    Raises Unavailable, with the last lines of their logs, if some do not get there.
    """
    state, programs = read_state(place), build.find_programs()
    host.ip(place.hub, plug_script([node for node in nodes if not state.nodes[node.name].cut]))
    pending: dict[str, Starting] = {}
    try:
        for node in nodes:
            with held_signals():  # what is there is recorded, process and socket
                notices = listen(place.notify(node.name))
                process = build.start(
                    place, node, spec=state.spec, systemd=state.systemd, programs=programs
                )
                pending[node.name] = Starting(
                    process=process, notices=notices, is_up=partial(_is_up, place, node)
                )
                state = state.with_node(node.name, process=process)
                save(place.state, state)
        _wait(place, pending, state.spec, report)
    finally:
        for name, starting in pending.items():
            starting.notices.close()
            place.notify(name).unlink(missing_ok=True)


def _wait(place: Place, pending: Mapping[str, Starting], spec: Spec, report: Report) -> None:
    def tell(name: str, took_s: float) -> None:
        verb = "booted" if spec.node(name).kind is Kind.MACHINE else "ready"
        report(f"{name} {verb} in {took_s:.1f} s")

    try:
        wait_until_started(pending, deadline_s=BOOT_DEADLINE_S, on_ready=tell)
    except Unavailable as error:
        logs = "".join(_last_words(place, name) for name in pending if name in str(error))
        raise Unavailable(f"{error}{logs}") from error


def _last_words(place: Place, name: str) -> str:
    lines = place.log(name).read_text(errors="replace").splitlines()[-_LOG_TAIL_LINES:]
    return "".join(f"\n  {name}: {line}" for line in lines)


def _is_up(place: Place, node: Node) -> bool:
    """Whether the machine has booted but for a fleetd that waits."""
    pid = first_pid(place, node.name) if node.kind is Kind.MACHINE else None
    if pid is None:
        return False
    try:
        jobs = host.run(entering(pid, ["systemctl", "list-jobs", "--plain", "--no-legend"]))
    except Unavailable:  # its systemd does not answer yet
        return False
    return only_fleet_is_starting(jobs)
