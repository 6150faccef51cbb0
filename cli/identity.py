"""What this machine is: its id, its boot, its address, as fleetd reports them."""

import os
from pathlib import Path

from fleet import __version__
from fleet.address import detect_public_ip
from fleet.config import Config
from fleet.errors import InvalidRequest
from fleet.machine import Machine, MachineId
from fleet.resources import Resources

MACHINE_ID = Path("/etc/machine-id")
# A random id that the kernel (or a container's manager) makes at each boot; random(4).
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


def read_machine_id(path: Path = MACHINE_ID) -> MachineId:
    """The machine's id; raises InvalidRequest if it has none, as before its first boot."""
    try:
        text = path.read_text().strip()
    except OSError as error:
        raise InvalidRequest(
            f"cannot read the machine's id from {path}: {error.strerror or error}; "
            "systemd-machine-id-setup makes one"
        ) from error
    if not text or "/" in text:
        raise InvalidRequest(
            f"{path} does not hold a machine id: remove it and run systemd-machine-id-setup"
        )
    return MachineId(text)


def read_boot_id(path: Path = BOOT_ID) -> str:
    """What tells this boot from every other; raises InvalidRequest if the kernel does not say."""
    try:
        return path.read_text().strip()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror or error}") from error


def describe_machine(config: Config, machine_id: MachineId, boot_id: str) -> Machine:
    """This machine as the cluster is to see it; its address is looked up anew."""
    return Machine(
        id=machine_id,
        boot_id=boot_id,
        address=config.public_ip or detect_public_ip(),
        metadata=config.metadata,
        version=__version__,
        capabilities={"DISABLE_ENGINE": config.disable_engine},
        user=os.geteuid() if config.systemd_user else None,
        resources=read_resources(),
    )


def read_resources() -> Resources:
    """The processors and the memory that the kernel shows here."""
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Resources(cpus=float(os.cpu_count() or 0), memory=memory)
