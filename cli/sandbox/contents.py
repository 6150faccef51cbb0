"""What is written over the host's `/` to make a machine of its own of it, as values.

A machine is Debian as the host has it, minus the host's own doings: `/etc/systemd` starts empty, so
nothing that is enabled on the host starts in a machine; generators and what a machine in a
sandbox has no use for are masked. What is kept is named in `_KEPT`, so a package that the
host gains cannot slow a machine's boot.
"""

import shlex
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from cli.sandbox.layout import Kind, Node, Place, Spec

ETCD_CLIENT_PORT = 2379
ETCD_PEER_PORT = 2380
# Directories of systemd's own units that are pulled in at boot.
BOOT_WANTS = (
    "sysinit.target.wants",
    "local-fs.target.wants",
    "sockets.target.wants",
    "timers.target.wants",
    "multi-user.target.wants",
)
# Not logind: without it a login over SSH starts no user manager and is done in half the time.
_KEPT = frozenset(
    {
        "dbus.service",
        "dbus.socket",
        "dev-mqueue.mount",
        "systemd-journal-flush.service",
        "systemd-journald-dev-log.socket",
        "systemd-journald.service",
        "systemd-journald.socket",
        "systemd-sysusers.service",
        "systemd-tmpfiles-setup-dev.service",
        "systemd-tmpfiles-setup.service",
        "systemd-user-sessions.service",
    }
)
_UNITS = "etc/systemd/system"
_SSHD_UNIT = """\
[Unit]
Description=OpenBSD Secure Shell server

[Service]
Type=notify
ExecStart=/usr/sbin/sshd -D -f /etc/ssh/sshd_config
KillMode=process
Restart=on-failure
RuntimeDirectory=sshd
RuntimeDirectoryMode=0755
"""
_SSHD_CONFIG = """\
HostKey /etc/ssh/ssh_host_ed25519_key
PermitRootLogin prohibit-password
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM yes
PrintMotd no
UseDNS no
AcceptEnv LANG LC_*
MaxStartups 100
Subsystem sftp internal-sftp
"""
_JOURNALD_CONFIG = """\
[Journal]
Storage=persistent
SystemMaxUse=64M
ForwardToSyslog=no
"""
# A member without peers has nobody to wait for: with etcd's 100 and 1000 ms it takes up to two
# seconds to elect itself.
_ALONE = ("--heartbeat-interval=20", "--election-timeout=200")
_RESOLV_CONF = "# A sandbox has no way out, and names come from /etc/hosts.\n"
_FSTAB = "# The disk of a machine in a sandbox is mounted by its host.\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Text:
    """A file with this text, in place of whatever is at the path."""

    path: str
    text: str
    mode: int = 0o644


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A symbolic link, in place of whatever is at the path."""

    path: str
    target: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Blank:
    """An empty directory, in place of whatever is at the path."""

    path: str
    mode: int = 0o755


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Nothing at the path."""

    path: str


Item = Text | Link | Blank | Gone


@dataclass(frozen=True, slots=True, kw_only=True)
class KeyPair:
    """A key of SSH as ssh-keygen writes it: two texts, the public one a line."""

    private: str
    public: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Vendor:
    """What the host's systemd and our own package bring: the input for masks and units.

    `wants` has the names in each directory of `BOOT_WANTS`; `units` the texts of fleet's own.
    """

    wants: frozenset[str]
    generators: frozenset[str]
    units: Mapping[str, str]
    sysusers: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """The user's key, and every machine's own by name."""

    user: KeyPair
    hosts: Mapping[str, KeyPair]


def furnish(
    node: Node, *, spec: Spec, machine_id: str, keys: Keys, vendor: Vendor, programs: str
) -> tuple[Item, ...]:
    """Everything that makes the machine itself, in the order to write it.

    `programs` is the directory of fleetd and fleetctl, as the machine will see it.
    """
    return (
        *_identity(node, spec, machine_id),
        *_boot(vendor),
        *_ssh(node, spec, keys),
        *_fleet(node, spec, vendor, programs),
    )


def _identity(node: Node, spec: Spec, machine_id: str) -> list[Item]:
    return [
        Text(path="etc/machine-id", text=f"{machine_id}\n", mode=0o444),
        Text(path="etc/hostname", text=f"{node.name}\n"),
        Text(path="etc/hosts", text=render_hosts(spec)),
        Text(path="etc/resolv.conf", text=_RESOLV_CONF),
        Text(path="etc/fstab", text=_FSTAB),
        Blank(path="var/log/journal"),
    ]


def _boot(vendor: Vendor) -> list[Item]:
    masked = [*sorted(vendor.wants - _KEPT), "systemd-logind.service"]
    return [
        Blank(path="etc/systemd"),
        # Its time stamp tells systemd that /etc is up to date, and then sysusers does not run.
        Gone(path="etc/.updated"),
        Text(path="etc/systemd/journald.conf", text=_JOURNALD_CONFIG),
        Link(path=f"{_UNITS}/default.target", target="/lib/systemd/system/multi-user.target"),
        *(Link(path=f"{_UNITS}/{name}", target="/dev/null") for name in dict.fromkeys(masked)),
        *(
            Link(path=f"etc/systemd/system-generators/{name}", target="/dev/null")
            for name in sorted(vendor.generators)
        ),
    ]


def _ssh(node: Node, spec: Spec, keys: Keys) -> list[Item]:
    own = keys.hosts[node.name]
    known_hosts = render_known_hosts(spec, keys)
    return [
        Blank(path="etc/ssh"),
        Text(path="etc/ssh/sshd_config", text=_SSHD_CONFIG),
        Text(path="etc/ssh/ssh_host_ed25519_key", text=own.private, mode=0o600),
        Text(path="etc/ssh/ssh_host_ed25519_key.pub", text=own.public),
        Text(path=f"{_UNITS}/ssh.service", text=_SSHD_UNIT),
        Link(path=f"{_UNITS}/sshd.service", target="ssh.service"),
        Link(path=f"{_UNITS}/multi-user.target.wants/ssh.service", target="../ssh.service"),
        Blank(path="root/.ssh", mode=0o700),
        Text(path="root/.ssh/authorized_keys", text=keys.user.public, mode=0o600),
        Text(path="root/.ssh/id_ed25519", text=keys.user.private, mode=0o600),
        Text(path="root/.ssh/known_hosts", text=known_hosts),
        Text(path="root/.ssh/config", text=_machine_ssh_config(spec)),
        Blank(path="root/.fleetctl", mode=0o700),
        Text(path="root/.fleetctl/known_hosts", text=known_hosts),
    ]


def _fleet(node: Node, spec: Spec, vendor: Vendor, programs: str) -> list[Item]:
    items: list[Item] = [
        Text(path="etc/sysusers.d/fleet.conf", text=vendor.sysusers),
        Text(path="etc/fleet/fleet.conf", text=render_fleet_conf(node, spec)),
        *(Text(path=f"{_UNITS}/{name}", text=text) for name, text in vendor.units.items()),
        Text(
            path=f"{_UNITS}/fleet.service.d/sandbox.conf",
            text=f"[Service]\nExecStart=\nExecStart={programs}/fleetd\n",
        ),
    ]
    if programs != "/usr/local/bin":
        items += [
            Link(path=f"usr/local/bin/{name}", target=f"{programs}/{name}")
            for name in ("fleetd", "fleetctl")
        ]
    if spec.fleetd:
        items += [
            Link(path=f"{_UNITS}/{wants}/{name}", target=f"../{name}")
            for name, wants in (
                ("fleet.service", "multi-user.target.wants"),
                ("fleet.socket", "sockets.target.wants"),
            )
            if name in vendor.units
        ]
    return items


def render_hosts(spec: Spec) -> str:
    """/etc/hosts of every machine: all nodes by name, and nothing else."""
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    return "\n".join([*lines, *(f"{node.address} {node.name}" for node in spec.nodes)]) + "\n"


def render_fleet_conf(node: Node, spec: Spec) -> str:
    """The machine's fleet.conf; without etcd it names none, so the machine keeps its own store."""
    options = {"public_ip": node.address}
    members = spec.of_kind(Kind.ETCD)
    if members:
        options["etcd_servers"] = ",".join(client_url(member) for member in members)
    options["metadata"] = ",".join(f"{k}={v}" for k, v in spec.metadata_of(node).items())
    options |= spec.settings
    return "".join(f'{key}="{value}"\n' for key, value in options.items())


def client_url(member: Node) -> str:
    """Where a member of etcd answers clients."""
    return f"http://{member.address}:{ETCD_CLIENT_PORT}"


def render_known_hosts(spec: Spec, keys: Keys) -> str:
    """A known_hosts with every machine by name and by address."""
    return "".join(
        f"{node.name},{node.address} {' '.join(keys.hosts[node.name].public.split()[:2])}\n"
        for node in spec.of_kind(Kind.MACHINE)
    )


def _machine_ssh_config(spec: Spec) -> str:
    names = " ".join(f"{node.name} {node.address}" for node in spec.of_kind(Kind.MACHINE))
    return f"Host {names}\n    User root\n"


def render_ssh_config(spec: Spec, place: Place, *, python: str, connect: str) -> str:
    """The ssh_config for the host's shell: every machine by its name, reached through the hub.

    `connect` is the program that joins stdin and stdout to a TCP connection, run by `python`.
    """
    machines = spec.of_kind(Kind.MACHINE)
    proxy = shlex.join(["nsenter", f"--net={place.hub}", python, "-I", "-S", connect])
    head = "".join(
        f"Host {node.name} {node.address}\n    HostName {node.address}\n" for node in machines
    )
    options = {
        "User": "root",
        "IdentityFile": place.identity,
        "IdentitiesOnly": "yes",
        "UserKnownHostsFile": place.known_hosts,
        "GlobalKnownHostsFile": "/dev/null",
        "StrictHostKeyChecking": "yes",
        "LogLevel": "ERROR",
        "ProxyCommand": f"{proxy} %h %p",
    }
    names = " ".join(f"{node.name} {node.address}" for node in machines)
    body = "".join(f"    {key} {value}\n" for key, value in options.items())
    return f"{head}Host {names}\n{body}"


def etcd_argv(program: str, *, spec: Spec, member: Node, place: Place) -> list[str]:
    """The command line of one member of etcd."""
    peers = {
        node.name: f"http://{node.address}:{ETCD_PEER_PORT}" for node in spec.of_kind(Kind.ETCD)
    }
    return [
        program,
        f"--name={member.name}",
        f"--data-dir={place.disk(member.name)}",
        f"--listen-client-urls={client_url(member)}",
        f"--advertise-client-urls={client_url(member)}",
        f"--listen-peer-urls={peers[member.name]}",
        f"--initial-advertise-peer-urls={peers[member.name]}",
        f"--initial-cluster={','.join(f'{name}={url}' for name, url in peers.items())}",
        f"--initial-cluster-token=fleet-{place.name}",
        "--initial-cluster-state=new",
        *(_ALONE if len(peers) == 1 else ()),
        "--logger=zap",
        "--log-outputs=stderr",
    ]


def nspawn_argv(
    *, node: Node, place: Place, binds: Sequence[str], capabilities: Iterable[str]
) -> list[str]:
    """The command line that boots a machine from its root, in its network namespace."""
    return [
        "systemd-nspawn",
        "--quiet",
        "--settings=no",
        "--register=no",
        "--keep-unit",
        "--boot",
        f"--directory={place.root(node.name)}",
        f"--machine={node.name}",
        f"--network-namespace-path={place.net(node.name)}",
        "--notify-ready=yes",
        "--link-journal=no",
        "--resolv-conf=off",
        "--timezone=off",
        f"--capability={','.join(capabilities)}",
        *(f"--bind-ro={escape_bind(path)}" for path in binds),
    ]


def escape_bind(path: str) -> str:
    """The path as systemd-nspawn's --bind-ro= takes it, where a colon separates."""
    return path.replace("\\", "\\\\").replace(":", "\\:")


def binds_for(
    paths: Iterable[str], *, shared_with_root: Iterable[str] = ("/usr", "/usr/local")
) -> tuple[str, ...]:
    """The directories to bind: each once, none below another, none that the overlay shows.

    `shared_with_root` are those that lie on the host's root file system, part of the overlay.
    """
    shown = {"/", *shared_with_root}
    wanted = sorted({path for path in paths if path not in shown})
    return tuple(
        path
        for path in wanted
        if not any(path != other and path.startswith(f"{other}/") for other in wanted)
    )
