"""The units of a random day: every kind of service that an operator may think of."""

from collections.abc import Mapping

from fleet.unit import UnitFile, parse_unit

PREFIX = "c-"
STEADY = "/bin/sh -c 'exec sleep 100000'"

# What stands in [Service], and in [X-Fleet]; %N is the number of a unit.
KINDS: Mapping[str, tuple[str, str]] = {
    "solo": (f"ExecStart={STEADY}\nRestart=always", ""),
    "quick": ("ExecStart=/bin/sleep 100000", ""),
    "once": ("Type=oneshot\nExecStart=/bin/sh -c 'echo >>/var/tmp/runs-%n'", ""),
    "kept": ("Type=oneshot\nRemainAfterExit=yes\nExecStart=/bin/true", ""),
    "fail": ("Type=oneshot\nExecStart=/bin/sh -c 'exit 3'", ""),
    "brief": ("ExecStart=/bin/sleep 0.2", ""),
    "loop": ("ExecStart=/bin/sh -c 'sleep 0.2; exit 1'\nRestart=always\nRestartSec=300ms", ""),
    "slow": (
        "ExecStart=/bin/sh -c 'trap : TERM; while :; do sleep 0.1; done'\nTimeoutStopSec=1500ms",
        "",
    ),
    "late": (f"ExecStartPre=/bin/sleep 0.7\nExecStart={STEADY}\nExecStop=/bin/sleep 0.5", ""),
    "apart": (f"ExecStart={STEADY}", "Conflicts=c-apart-*.service"),
    "mate": (f"ExecStart={STEADY}", "MachineOf=c-solo-%N.service"),
    "new": (f"ExecStart={STEADY}", "Replaces=c-quick-%N.service"),
    "ssd": (f"ExecStart={STEADY}", "MachineMetadata=disk=ssd"),
    "all": (f"ExecStart={STEADY}", "Global=true"),
    "allssd": (f"ExecStart={STEADY}", "Global=true\nMachineMetadata=disk=ssd"),
    "wanted": (f"ExecStart={STEADY}\n[Install]\nWantedBy=multi-user.target", ""),
    "broken": ("ExecStart=sleep", ""),
    "missing": ("ExecStart=/nonexistent", ""),
}
HOW_MANY = 4


def contents(kind: str, number: int, version: int) -> UnitFile:
    """A unit file of the kind; other versions have another hash."""
    service, fleet = KINDS[kind]
    lines = [f"[Unit]\nDescription=version {version}", "[Service]", service]
    if fleet:
        lines += ["[X-Fleet]", fleet.replace("%N", str(number))]
    return parse_unit("\n".join(lines) + "\n")
