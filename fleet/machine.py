"""Machines: who they are, what they say of themselves, how people name them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NewType

from fleet.resources import NOTHING, Resources, decode_resources, encode_resources

MachineId = NewType("MachineId", str)

SHORT_ID_LENGTH = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Cordon:
    """An operator's word that a machine takes no new units; with `drain`, that they leave it.

    It outlives the machine. `at_s` is in seconds since the epoch, `why` the operator's own words.
    """

    by: str = ""
    at_s: float = 0.0
    why: str = ""
    drain: bool = False

    @property
    def told(self) -> str:
        """What the machine is, by whom and why, for a sentence: `drained by alice: new disks`."""
        state = "drained" if self.drain else "cordoned"
        return f"{state} by {self.by}" + (f": {self.why}" if self.why else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One machine of the cluster, alive as long as its lease is.

    `metadata` is what constraints see: the machine's own, with what operators set merged over it.
    `user` is the uid of the user whose own systemd runs the units, None where it is the system's.
    `cordon` is an operator's word, too, and no part of the registration. Of a machine that does not
    tell its resources nothing can be reserved.
    """

    id: MachineId
    address: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)
    version: str = ""
    boot_id: str = ""
    capabilities: Mapping[str, bool] = field(default_factory=dict)
    user: int | None = None
    resources: Resources = NOTHING
    cordon: Cordon | None = None

    @property
    def short_id(self) -> str:
        return self.id[:SHORT_ID_LENGTH]

    def answers_to(self, text: str) -> bool:
        """Whether the text is this machine's full id or its 8-character short form."""
        return text in (self.id, self.short_id)


def merge_metadata(own: Mapping[str, str], operator_set: Mapping[str, str]) -> dict[str, str]:
    """The machine's own metadata with the operator's over it; an empty value removes a key."""
    merged = {**own, **operator_set}
    return {key: value for key, value in merged.items() if value or key not in operator_set}


def encode_machine(machine: Machine) -> dict[str, Any]:
    return {
        "id": machine.id,
        "address": machine.address,
        "metadata": dict(machine.metadata),
        "version": machine.version,
        "boot_id": machine.boot_id,
        "capabilities": dict(machine.capabilities),
        "user": machine.user,
        "resources": encode_resources(machine.resources),
    }


def decode_machine(document: Mapping[str, Any]) -> Machine:
    """The machine that was stored; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    user = document.get("user")
    return Machine(
        id=MachineId(str(document["id"])),
        address=str(document.get("address", "")),
        metadata={str(k): str(v) for k, v in document.get("metadata", {}).items()},
        version=str(document.get("version", "")),
        boot_id=str(document.get("boot_id", "")),
        capabilities={str(k): bool(v) for k, v in document.get("capabilities", {}).items()},
        user=None if user is None else int(user),
        resources=decode_resources(document.get("resources", {})),
    )


def encode_cordon(cordon: Cordon) -> dict[str, Any]:
    return {"by": cordon.by, "at": cordon.at_s, "why": cordon.why, "drain": cordon.drain}


def decode_cordon(document: Any) -> Cordon:
    """The cordon that was stored; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    return Cordon(
        by=str(document["by"]),
        at_s=float(document.get("at", 0.0)),
        why=str(document.get("why", "")),
        drain=bool(document.get("drain", False)),
    )
