"""What binds a fenced unit to its machine's lease: a drop-in beside its link (`agent.fence`)."""

import os
from pathlib import Path

from fleet.fencing import stop_timeout_s
from fleet.names import UnitName
from fleet.unit import UnitFile

LEASE = UnitName("fleet-lease.service")
# The last drop-in of all, so that no other one counts after it.
_FILE = "zz-fleet-fence.conf"


def drop_in(file: UnitFile) -> str:
    """What binds a fenced unit to the lease, and keeps its stop as long as it is counted on."""
    text = f"[Unit]\nPartOf={LEASE}\nAssertPathExists=%t/fleet-lease\n"
    if file.has_section("Service"):
        text += (
            f"[Service]\nTimeoutStopSec={stop_timeout_s(file):g}s\n"
            "TimeoutStopFailureMode=terminate\nSendSIGKILL=yes\n"
        )
    return text


def drop_in_path(directory: Path, unit: UnitName) -> Path:
    return Path(f"{directory}/{unit}.d/{_FILE}")


def runtime_directory(*, user: bool) -> Path:
    """Where links and drop-ins are that hold until the next boot (systemd.unit(5))."""
    if not user:
        return Path("/run/systemd/system")
    runtime = os.environ.get("XDG_RUNTIME_DIR", f"/run/user/{os.getuid()}")
    return Path(runtime) / "systemd" / "user"
