"""What a sandbox looks like: its nodes, their addresses, its paths, and how its network is laid.

Pure: everything here is computed from the `Spec` and the name. A sandbox keeps all it owns below
one directory, which is a tmpfs of its own, and inside network namespaces that are bound to files
there. So "does this belong to the sandbox" has one answer for a mount (its path) and one for a
process (its network namespace), and removing the sandbox needs no memory of how it was made.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path

from fleet.errors import InvalidRequest, NotFound

BASE = Path("/run/fleet-sandbox")
DEFAULT_NAME = "default"
BRIDGE = "fleet0"
# As systemd-nspawn calls the container's end of its virtual cable.
INTERFACE = "host0"
# The same in every sandbox: each bridge stands in a namespace of its own, with no way out.
_SUBNET = "10.89.0."
_PREFIX_LENGTH = 24
HUB_ADDRESS = f"{_SUBNET}1"
_FIRST_ETCD = 2
_FIRST_MACHINE = 11
MAX_MACHINES = 60
ETCD_SIZES = (0, 1, 3)
_ZONES = "abc"
# A machine owns its network namespace, so it may set it up, as a machine may.
DEFAULT_CAPABILITIES = ("CAP_NET_ADMIN",)
# The name is part of paths of sockets (107 bytes at most) and of systemd's units.
_NAME = re.compile(r"[a-z][a-z0-9-]{0,19}")


class Kind(StrEnum):
    MACHINE = "machine"
    ETCD = "etcd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One thing with a cable to the bridge: a machine, or a member of etcd."""

    kind: Kind
    name: str
    address: str

    @property
    def mac(self) -> str:
        """The same after every boot, so that neighbours' ARP entries stay right."""
        return "02:fe:" + ":".join(f"{int(part):02x}" for part in self.address.split("."))


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    """What a user asked for: how many machines and members of etcd, and how they are set.

    `metadata` adds to each named machine's own; `settings` are lines for every machine's
    fleet.conf; `binds` are host directories shown read-only in every machine; `capabilities` are
    what a machine has beyond systemd-nspawn's default; without `fleetd` the machines boot bare.
    Raises InvalidRequest if it cannot be built.
    """

    name: str = DEFAULT_NAME
    machines: int = 3
    etcd: int = 1
    fleetd: bool = True
    metadata: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    binds: tuple[str, ...] = ()
    capabilities: tuple[str, ...] = DEFAULT_CAPABILITIES

    def __post_init__(self) -> None:
        check_name(self.name)
        if not 1 <= self.machines <= MAX_MACHINES:
            raise InvalidRequest(f"a sandbox has 1 to {MAX_MACHINES} machines, not {self.machines}")
        if self.etcd not in ETCD_SIZES:
            raise InvalidRequest(
                f"etcd in a sandbox has 1 or 3 members, or 0 for none, not {self.etcd}"
            )
        if self.etcd == 0 and self.machines > 1 and self.fleetd:
            raise InvalidRequest("without etcd a sandbox can have one machine only: --machines 1")
        strangers = sorted(set(self.metadata) - {machine_name(i) for i in range(self.machines)})
        if strangers:
            raise InvalidRequest(f"metadata for {strangers[0]!r}, which is not a machine here")

    @property
    def nodes(self) -> tuple[Node, ...]:
        """Members of etcd first: they start first."""
        members = [
            Node(kind=Kind.ETCD, name=f"etcd{i + 1}", address=f"{_SUBNET}{_FIRST_ETCD + i}")
            for i in range(self.etcd)
        ]
        machines = [
            Node(kind=Kind.MACHINE, name=machine_name(i), address=f"{_SUBNET}{_FIRST_MACHINE + i}")
            for i in range(self.machines)
        ]
        return (*members, *machines)

    def of_kind(self, kind: Kind) -> tuple[Node, ...]:
        return tuple(node for node in self.nodes if node.kind is kind)

    def node(self, name: str) -> Node:
        """The node of that name; raises NotFound with the names there are."""
        for node in self.nodes:
            if node.name == name:
                return node
        known = ", ".join(node.name for node in self.nodes)
        raise NotFound(f"sandbox {self.name!r} has no {name!r}; it has {known}")

    def metadata_of(self, node: Node) -> dict[str, str]:
        """What the machine says of itself: its name, a zone out of three, and what was asked."""
        index = self.of_kind(Kind.MACHINE).index(node)
        own = {"host": node.name, "zone": _ZONES[index % len(_ZONES)]}
        return own | dict(self.metadata.get(node.name, {}))


def machine_name(index: int) -> str:
    return f"fleet{index + 1}"


def check_name(name: str) -> None:
    """Raise InvalidRequest unless the text may name a sandbox."""
    if not _NAME.fullmatch(name):
        raise InvalidRequest(
            f"{name!r} cannot name a sandbox: lower-case letters, digits and '-', at most 20, "
            "a letter first"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a sandbox keeps what it owns; all of it lies below `top`."""

    name: str
    base: Path = BASE

    @property
    def top(self) -> Path:
        return self.base / self.name

    @property
    def lock(self) -> Path:
        return self.base / f"{self.name}.lock"

    @property
    def state(self) -> Path:
        return self.top / "state.json"

    @property
    def ssh_config(self) -> Path:
        return self.top / "ssh_config"

    @property
    def known_hosts(self) -> Path:
        return self.top / "known_hosts"

    @property
    def identity(self) -> Path:
        """The key of the user who may log in everywhere."""
        return self.top / "keys" / "user"

    @property
    def hub(self) -> Path:
        """The network namespace with the bridge."""
        return self.net("hub")

    def net(self, node: str) -> Path:
        return self.top / "net" / node

    def root(self, node: str) -> Path:
        return self.top / "root" / node

    def disk(self, node: str) -> Path:
        """What survives a power cut: a machine's changes over the host's `/`, etcd's data."""
        return self.top / "disk" / node

    def host_key(self, node: str) -> Path:
        return self.top / "keys" / node

    def log(self, node: str) -> Path:
        """A machine's console, or etcd's own log."""
        return self.top / "log" / f"{node}.log"

    def notify(self, node: str) -> Path:
        return self.top / "notify" / node

    def unit(self, node: str) -> str:
        """The name of the node's scope on a host whose PID 1 is systemd."""
        return f"fleet-sandbox-{self.name}-{node}.scope"

    @property
    def cgroups(self) -> str:
        """Its control groups, below each hierarchy's root, where no systemd hands them out."""
        return f"fleet-sandbox/{self.name}"


def bridge_script() -> str:
    """Commands for `ip -batch` in the hub: the bridge that every cable ends in."""
    return "\n".join(
        [
            "link set lo up",
            f"link add {BRIDGE} type bridge stp_state 0 forward_delay 0",
            f"address add {HUB_ADDRESS}/{_PREFIX_LENGTH} dev {BRIDGE}",
            f"link set {BRIDGE} up",
        ]
    )


def cable_script(place: Place, node: Node) -> str:
    """Commands for `ip -batch` in the hub: a cable to the node, not yet plugged in."""
    return "\n".join(
        [
            f"link add {node.name} type veth "
            f"peer name {INTERFACE} address {node.mac} netns {place.net(node.name)}",
            f"link set {node.name} master {BRIDGE}",
        ]
    )


def plug_script(nodes: Sequence[Node]) -> str:
    """Commands for `ip -batch` in the hub: plug the nodes' cables in."""
    return "\n".join(f"link set {node.name} up" for node in nodes)


def unplug_script(nodes: Sequence[Node]) -> str:
    """Commands for `ip -batch` in the hub: pull the nodes' cables; nothing is told to anyone."""
    return "\n".join(f"link set {node.name} down" for node in nodes)


def interface_script(node: Node) -> str:
    """Commands for `ip -batch` in the node's namespace: its address, and no route out."""
    return "\n".join(
        [
            "link set lo up",
            f"address add {node.address}/{_PREFIX_LENGTH} dev {INTERFACE}",
            f"link set {INTERFACE} up",
        ]
    )


def inside(namespace: Path, argv: Sequence[str]) -> list[str]:
    """The command, run in a network namespace; the process keeps its pid."""
    return ["nsenter", f"--net={namespace}", "--", *argv]
