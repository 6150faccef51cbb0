"""Making a sandbox's parts: network, keys, machines' roots, and the processes that run in it.

Where systemd is not PID 1, each machine gets a control group of its own. Without that, machines
would share one tree, and a `systemctl kill` in one would meet the other's processes.
"""

import os
import sys
import sysconfig
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cli
from cli.sandbox import contents, host
from cli.sandbox.contents import KeyPair, Keys, Vendor
from cli.sandbox.layout import (
    Kind,
    Node,
    Place,
    Spec,
    bridge_script,
    cable_script,
    inside,
    interface_script,
)
from cli.sandbox.processes import Process, spawn
from cli.sandbox.requirements import find_program

_UNIT_DIRECTORY = Path("/lib/systemd/system")
_GENERATOR_DIRECTORY = Path("/lib/systemd/system-generators")
# Parts of Debian's file system that may be mounted on their own and belong to a machine too.
_SEPARATE = ("/usr", "/usr/local", "/opt")
# systemd-nspawn --keep-unit ends with this status when the machine wants to reboot.
_LOOP = 'while "$@"; [ $? = 133 ]; do :; done'
_JOIN = 'for procs in $1; do echo $$ >"$procs"; done; shift; exec "$@"'


@dataclass(frozen=True, slots=True, kw_only=True)
class Programs:
    """Where our programs lie on the host, and so in a machine, and what they need beside them."""

    directory: Path
    needs: tuple[str, ...]


def find_programs() -> Programs:
    """The programs of the Python environment that runs us."""
    interpreter = Path(os.path.realpath(sys.executable))
    source = Path(cli.__file__).resolve().parents[1]
    needs = (sys.prefix, sys.base_prefix, str(interpreter.parents[1]), str(source))
    return Programs(directory=Path(sysconfig.get_path("scripts")), needs=needs)


def read_vendor() -> Vendor:
    """What the host's systemd starts at boot, and fleet's own units."""
    wants = [_UNIT_DIRECTORY / name for name in contents.BOOT_WANTS]
    own = Path(cli.__file__).parent / "systemd"
    return Vendor(
        wants=frozenset(name for path in wants if path.is_dir() for name in os.listdir(path)),
        generators=frozenset(os.listdir(_GENERATOR_DIRECTORY)),
        units={
            path.name: path.read_text()
            for path in sorted(own.iterdir())
            if path.suffix in (".service", ".socket")
        },
        sysusers=(own / "sysusers.conf").read_text(),
    )


def prepare(place: Place, spec: Spec) -> None:
    """Lay the sandbox's directory and the bridge that its cables end in."""
    host.mount_tmpfs(place.top)
    for path in (place.net("x"), place.root("x"), place.log("x"), place.notify("x")):
        path.parent.mkdir()
    for node in spec.nodes:
        place.disk(node.name).mkdir(parents=True, mode=0o700)
    host.make_namespace(place.hub)
    host.ip(place.hub, bridge_script())


def wire(place: Place, node: Node) -> None:
    """Give the node a fresh network interface with its address; the cable is not plugged in yet."""
    namespace = place.net(node.name)
    if namespace.exists():
        host.run(inside(place.hub, ["ip", "link", "delete", node.name]))
        host.unmount_below(namespace)
    host.make_namespace(namespace)
    host.ip(place.hub, cable_script(place, node))
    host.ip(namespace, interface_script(node))


def make_keys(place: Place, spec: Spec) -> Keys:
    """A key for the user and one for each machine's sshd."""
    place.identity.parent.mkdir(mode=0o700)
    machines = spec.of_kind(Kind.MACHINE)
    return Keys(
        user=_make_key(place.identity, f"sandbox {place.name}"),
        hosts={node.name: _make_key(place.host_key(node.name), node.name) for node in machines},
    )


def _make_key(path: Path, comment: str) -> KeyPair:
    host.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(path)])
    return KeyPair(private=path.read_text(), public=path.with_suffix(".pub").read_text())


def write_ssh_config(place: Place, spec: Spec, keys: Keys) -> None:
    """The files that let the host's ssh log in to the machines by name."""
    place.known_hosts.write_text(contents.render_known_hosts(spec, keys))
    connect = Path(__file__).with_name("connect.py")
    text = contents.render_ssh_config(
        spec, place, python=os.path.realpath(sys.executable), connect=str(connect)
    )
    place.ssh_config.write_text(text)


def furnish_machine(
    place: Place, node: Node, *, spec: Spec, keys: Keys, vendor: Vendor, programs: Programs
) -> str:
    """Lay the machine's root over the host's, and make it a machine of its own; returns its id."""
    root, disk = place.root(node.name), place.disk(node.name)
    host.mount_overlay("/", disk=disk / "root", root=root)
    for path in filter(os.path.ismount, _SEPARATE):
        part = path.strip("/").replace("/", "-")
        host.mount_overlay(path, disk=disk / part, root=root / path.strip("/"))
    machine_id = uuid.uuid4().hex
    items = contents.furnish(
        node,
        spec=spec,
        machine_id=machine_id,
        keys=keys,
        vendor=vendor,
        programs=str(programs.directory),
    )
    host.write_items(root, items)
    host.let_through(root, programs.needs)
    return machine_id


def start(place: Place, node: Node, *, spec: Spec, systemd: bool, programs: Programs) -> Process:
    """Start the node's process; it tells its notify socket when it is ready."""
    environment = {**host.ENVIRONMENT, "NOTIFY_SOCKET": str(place.notify(node.name))}
    if node.kind is Kind.ETCD:
        program = find_program("etcd", programs.directory) or "etcd"
        argv = contents.etcd_argv(program, spec=spec, member=node, place=place)
        argv = [*_scope(place, node, systemd), *argv]
        # etcd's own consent to processors it is not tested on.
        environment["ETCD_UNSUPPORTED_ARCH"] = "arm64"
    else:
        binds = contents.binds_for([*programs.needs, *spec.binds])
        argv = contents.nspawn_argv(
            node=node, place=place, binds=binds, capabilities=spec.capabilities
        )
        argv = ["sh", "-c", _LOOP, "sh", *_confine(place, node, systemd), *argv]
        if not systemd and host.has_unified_cgroups(host.cgroup_hierarchies()):
            environment["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
    return spawn(
        inside(place.net(node.name), argv), environment=environment, log=place.log(node.name)
    )


def _confine(place: Place, node: Node, systemd: bool) -> Sequence[str]:
    """What to put before a command so that it has a control group to itself."""
    if systemd:
        return _scope(place, node, systemd)
    files = host.make_cgroups(f"{place.cgroups}/{node.name}")
    return ["sh", "-c", _JOIN, "sh", " ".join(files)]


def _scope(place: Place, node: Node, systemd: bool) -> Sequence[str]:
    if not systemd:
        return []
    unit = f"--unit={place.unit(node.name)}"
    return ["systemd-run", "--scope", "--quiet", "--collect", unit, "--property=Delegate=yes"]
