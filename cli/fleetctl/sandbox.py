"""`fleetctl sandbox`: real systemd machines on this host, to try fleet on."""

import os
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from cli.completion.candidates import words
from cli.options import Option, examples
from cli.sandbox import host
from cli.sandbox.build import find_programs
from cli.sandbox.cluster import Sandbox, names, remove
from cli.sandbox.layout import DEFAULT_NAME, ETCD_SIZES, MAX_MACHINES, Kind, Place, Spec
from cli.sandbox.state import load
from cli.tables import render_plain
from fleet.config import OPTIONS, parse_config
from fleet.errors import InvalidRequest, Unavailable

_LIST_COLUMNS = ("MACHINE", "ID", "ADDRESS", "POWER", "NETWORK", "FLEETD")
_NOTHING = "-"
_TERMINATING = (signal.SIGTERM, signal.SIGHUP)


def _sandboxes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The sandboxes that are up, for completion."""
    return [name for name in names() if name.startswith(incomplete)]


def _nodes(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The machines and members of etcd of the sandbox, for completion."""
    state = load(Place(name=str(ctx.params.get("name") or DEFAULT_NAME)).state)
    nodes = state.spec.nodes if state else ()
    given = ctx.params.get("machines") or ()
    found = [node.name for node in nodes if node.name.startswith(incomplete)]
    return [name for name in found if name not in given]


def _machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """The machines alone."""
    return [name for name in _nodes(ctx, param, incomplete) if name.startswith("fleet")]


_name_option = click.option(
    "--name",
    default=DEFAULT_NAME,
    show_default=True,
    metavar="NAME",
    shell_complete=_sandboxes,
    help="Which sandbox, if there are several.",
)


class _InOrder(click.Group):
    """Subcommands in the order in which they are defined."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.commands)


@click.group(
    cls=_InOrder,
    epilog=examples(
        "fleetctl sandbox up",
        "fleetctl sandbox shell",
        "fleetctl sandbox kill fleet2",
        "fleetctl sandbox down",
    ),
)
def command() -> None:
    """Boot real machines on this host to try fleet on.

    Every machine is a whole systemd in a container over this host's own `/`: what it changes
    stays in memory and goes with `down`. The machines and etcd share a network that leads nowhere
    else. Nothing is downloaded. Needs root.
    """


@command.command(
    "up",
    short_help="Boot machines and etcd until they are one cluster",
    epilog=examples(
        "fleetctl sandbox up",
        "fleetctl sandbox up --machines 5 --etcd 3",
        "fleetctl sandbox up --metadata fleet1:disk=ssd,region=eu --agent-ttl 3s",
        "fleetctl sandbox up --name alone --machines 1 --etcd 0",
    ),
)
@_name_option
@click.option(
    "--machines",
    cls=Option,
    default=3,
    show_default=True,
    type=click.IntRange(1, MAX_MACHINES),
    metavar="N",
    help=f"How many machines, at most {MAX_MACHINES}.",
)
@click.option(
    "--etcd",
    default="1",
    show_default=True,
    type=click.Choice([str(size) for size in ETCD_SIZES]),
    help="How many members of etcd, or 0 for one machine with a store of its own.",
)
@click.option(
    "--agent-ttl", metavar="TIME", help="How soon a silent machine counts as lost.  [default: 6s]"
)
@click.option(
    "--metadata",
    multiple=True,
    metavar="MACHINE:K=V[,...]",
    help="Metadata of a machine, beside its host= and zone=.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="OPTION=VALUE",
    shell_complete=words(f"{option}=" for option in OPTIONS),
    help="A line for every machine's fleet.conf.",
)
@click.option("--no-fleetd", is_flag=True, help="Boot the machines without starting fleetd.")
@click.option("--hints/--no-hints", default=True, hidden=True)
def up(
    name: str,
    *,
    machines: int,
    etcd: str,
    agent_ttl: str | None,
    metadata: Sequence[str],
    settings: Sequence[str],
    no_fleetd: bool,
    hints: bool,
) -> None:
    """Boot machines and etcd, and wait until they are one cluster.

    Interrupted or failed, it removes what it has made.
    """
    began = time.monotonic()
    lines = {"agent_ttl": agent_ttl} if agent_ttl else {}
    lines |= dict(_pair(text, "--set OPTION=VALUE") for text in settings)
    check_settings(lines)
    spec = Spec(
        name=name,
        machines=machines,
        etcd=int(etcd),
        fleetd=not no_fleetd,
        metadata=parse_metadata(metadata),
        settings=lines,
    )
    _leave_when_terminated()
    sandbox = Sandbox.from_spec(spec, report=click.echo)
    took_s = time.monotonic() - began
    click.echo(f"sandbox {sandbox.name!r} is up in {took_s:.1f} s: {_contents(sandbox.spec)}")
    if hints:
        click.echo(_hints(sandbox.name))


def parse_metadata(texts: Iterable[str]) -> dict[str, dict[str, str]]:
    """`MACHINE:KEY=VALUE,KEY=VALUE` by machine; raises InvalidRequest if one is not like that."""
    found: dict[str, dict[str, str]] = {}
    for text in texts:
        machine, colon, pairs = text.partition(":")
        if not colon:
            raise InvalidRequest(f"{text!r} is not --metadata MACHINE:KEY=VALUE")
        usage = "--metadata MACHINE:KEY=VALUE"
        found.setdefault(machine, {}).update(_pair(pair, usage) for pair in pairs.split(","))
    return found


def check_settings(settings: Mapping[str, str]) -> None:
    """Raise InvalidRequest for a setting that fleetd would refuse or pass over."""
    _, warnings = parse_config("".join(f"{k}={v}\n" for k, v in settings.items()), "--set", {})
    for warning in warnings:
        raise InvalidRequest(warning)


def _pair(text: str, usage: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not (key and equals):
        raise InvalidRequest(f"{text!r} is not {usage}")
    return key, value


def _leave_when_terminated() -> None:
    """Let SIGTERM and SIGHUP unwind like Ctrl-C, so that what was made is removed."""

    def leave(number: int, _: FrameType | None) -> NoReturn:
        sys.exit(128 + number)

    for number in _TERMINATING:
        signal.signal(number, leave)


def _hints(name: str) -> str:
    option = "" if name == DEFAULT_NAME else f" --name {name}"
    rows = [
        (f"shell{option}", "a shell here whose fleetctl speaks to it"),
        (f"shell{option} fleet1", "a shell on a machine"),
        (f"kill{option} fleet1", "a power cut; `boot` ends it"),
        (f"down{option}", "remove it"),
    ]
    width = max(len(row[0]) for row in rows)
    program = _program()
    return "\n".join(f"  {program} sandbox {line:{width}}   {text}" for line, text in rows)


def _program() -> str:
    """How fleetctl can be called again from where the user is."""
    path = Path(sys.argv[0])
    if path.name != "fleetctl" or shutil.which("fleetctl") == str(path):
        return "fleetctl"
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)


def _contents(spec: Spec) -> str:
    machines = f"{spec.machines} machine{'s' * (spec.machines != 1)}"
    if not spec.etcd:
        return f"{machines}, no etcd"
    return f"{machines}, etcd with {spec.etcd} member{'s' * (spec.etcd != 1)}"


@command.command(
    "down",
    short_help="Remove a sandbox, or what is left of one",
    epilog=examples("fleetctl sandbox down", "fleetctl sandbox down --name alone"),
)
@_name_option
def down(name: str) -> None:
    """Remove a sandbox with all that runs in it, or what is left of one."""
    removed = remove(name)
    if not removed:
        click.echo(f"there is no sandbox {name!r}: nothing to remove")
        return
    click.echo(
        f"sandbox {name!r} removed: {removed.processes} processes ended, "
        f"{removed.mounts} mounts taken off"
    )


def _nodes_command(
    verb: str, short_help: str, *lines: str
) -> Callable[[Callable[..., None]], click.Command]:
    """A subcommand of one or more machines, or members of etcd, of a sandbox."""

    def wrap(function: Callable[..., None]) -> click.Command:
        function = click.argument(
            "machines", nargs=-1, required=True, metavar="MACHINE...", shell_complete=_nodes
        )(_name_option(function))
        return command.command(verb, short_help=short_help, epilog=examples(*lines))(function)

    return wrap


@_nodes_command(
    "kill",
    "Cut the power of machines",
    "fleetctl sandbox kill fleet2",
    "fleetctl sandbox kill fleet1 fleet2    # both at one instant",
    "fleetctl sandbox kill etcd1            # a member of etcd",
)
def kill(name: str, machines: Sequence[str]) -> None:
    """Cut the power of machines, or members of etcd, all at one instant.

    Nothing that runs there survives or says goodbye. The disk stays.
    """
    lost = Sandbox.open(name).kill(*machines)
    for machine in machines:
        click.echo(f"{machine} lost power" if machine in lost else f"{machine} has no power anyway")


@_nodes_command("boot", "Power machines on again", "fleetctl sandbox boot fleet2")
def boot(name: str, machines: Sequence[str]) -> None:
    """Power machines, or members of etcd, on again, with the disk they had."""
    booted = Sandbox.open(name).boot(*machines, report=click.echo)
    for machine in machines:
        if machine not in booted:
            click.echo(f"{machine} is on already")


@_nodes_command(
    "cut",
    "Pull the network cables of machines",
    "fleetctl sandbox cut fleet3",
    "fleetctl sandbox cut etcd1 etcd2       # etcd loses its quorum",
)
def cut(name: str, machines: Sequence[str]) -> None:
    """Pull the network cables of machines, or members of etcd; they run on, alone."""
    Sandbox.open(name).cut(*machines)
    for machine in machines:
        click.echo(f"{machine} is cut off from the network")


@_nodes_command(
    "heal", "Plug the network cables of machines in again", "fleetctl sandbox heal fleet3"
)
def heal(name: str, machines: Sequence[str]) -> None:
    """Plug the network cables in again."""
    Sandbox.open(name).heal(*machines)
    for machine in machines:
        click.echo(f"{machine} is on the network again")


@command.command(
    "list", short_help="List the machines of a sandbox", epilog=examples("fleetctl sandbox list")
)
@_name_option
def list_(name: str) -> None:
    """List the machines and members of etcd of a sandbox."""
    sandbox = _open(name)
    machines = {view.name: view for view in sandbox.machines}
    rows = []
    for node in sandbox.spec.nodes:
        on = sandbox.is_on(node.name)
        is_machine = node.kind is Kind.MACHINE
        rows.append(
            (
                node.name,
                machines[node.name].id[:8] if is_machine else _NOTHING,
                node.address,
                "on" if on else "off",
                "cut" if sandbox.is_cut(node.name) else "up",
                _fleetd(sandbox, node.name) if on and is_machine else _NOTHING,
            )
        )
    click.echo(render_plain(rows, _LIST_COLUMNS))


def _open(name: str) -> Sandbox:
    others = [other for other in names() if other != name]
    if others and name not in names():
        raise Unavailable(f"there is no sandbox {name!r}; up now: {', '.join(others)}")
    return Sandbox.open(name)


def _fleetd(sandbox: Sandbox, machine: str) -> str:
    return sandbox.run(machine, ["systemctl", "is-active", "fleet.service"]).stdout.strip()


@command.command(
    "shell",
    short_help="Open a shell that reaches the cluster, or one on a machine",
    context_settings={"allow_interspersed_args": False},
    epilog=examples(
        "fleetctl sandbox shell                  # here; leave it with exit",
        "fleetctl sandbox shell fleet1           # on that machine",
        "fleetctl sandbox shell fleet1 journalctl -u fleet -n 20",
    ),
)
@_name_option
@click.argument("machine", required=False, shell_complete=_machines)
@click.argument("argv", nargs=-1, metavar="[COMMAND...]")
def shell(name: str, machine: str | None, argv: Sequence[str]) -> None:
    """Open a shell here whose fleetctl speaks to the sandbox, or one on a machine.

    With a COMMAND, run that on the machine, and end with its status.
    """
    sandbox = _open(name)
    if machine is None:
        _shell_here(sandbox)
    else:
        inside = list(argv) or ["sh", "-c", "cd && exec bash -l"]
        terminal = {"TERM": os.environ.get("TERM", "dumb")}
        entering = sandbox.enter(machine, inside)
        _become(entering, {**host.ENVIRONMENT, **terminal})


def _shell_here(sandbox: Sandbox) -> None:
    on = [view.name for view in sandbox.machines if view.pid and not view.cut]
    if not on:
        raise Unavailable(
            f"no machine of sandbox {sandbox.name!r} can be reached: boot or heal one"
        )
    directory = str(find_programs().directory)
    environment = {
        **os.environ,
        "FLEETCTL_TUNNEL": on[0],
        "FLEETCTL_SSH_CONFIG": str(sandbox.ssh_config),
        "FLEETCTL_KNOWN_HOSTS_FILE": str(sandbox.known_hosts),
        "PATH": f"{directory}:{os.environ.get('PATH', host.PATH)}",
    }
    click.echo(f"fleetctl here speaks to sandbox {sandbox.name!r} through {on[0]}.")
    click.echo("Leave with exit; the sandbox stays until `fleetctl sandbox down`.")
    _become([os.environ.get("SHELL") or "/bin/sh"], environment)


def _become(argv: Sequence[str], environment: dict[str, Any]) -> NoReturn:
    sys.stdout.flush()
    os.execvpe(argv[0], list(argv), environment)  # noqa: S606  the user's own shell
