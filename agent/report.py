"""What is reported of a unit: systemd's state and fleet's own part in it, as one `UnitState`.

Pure. The exit codes' names are those of systemd.exec(5), "Process Exit Codes".
"""

import signal
from dataclasses import dataclass

from agent.local import LocalUnit
from agent.systemd import DONE, SystemdState
from fleet.machine import MachineId
from fleet.names import UnitName, split_name
from fleet.states import TargetState, UnitState
from fleet.unit import UnitFile

JOURNAL_LINES = 10
MAX_LINE = 500
# A service of Type=simple counts as active before its program was even found; it is not reported
# as active sooner than this, so that "started" does not mean "about to fail". While systemd begins
# many, it gets to how each of them fares only in between: some hundred of them a second.
SETTLE_S = 0.1
SETTLE_EACH_S = 0.01
LONGEST_SETTLE_S = 3.0

_CLD_EXITED = 1
_CLD_DUMPED = 3
_EXIT_NAMES = dict(
    enumerate(
        "CHDIR NICE FDS EXEC MEMORY LIMITS OOM_ADJUST SIGNAL_MASK STDIN STDOUT CHROOT IOPRIO "
        "TIMERSLACK SECUREBITS SETSCHEDULER CPUAFFINITY GROUP USER CAPABILITIES CGROUP SETSID "
        "CONFIRM STDERR".split(),
        start=200,
    )
) | dict(
    enumerate(
        "PAM NETWORK NAMESPACE NO_NEW_PRIVILEGES SECCOMP SELINUX_CONTEXT PERSONALITY APPARMOR "
        "ADDRESS_FAMILIES RUNTIME_DIRECTORY".split(),
        start=224,
    )
)
_EXIT_NAMES |= dict(
    enumerate(
        "CHOWN SMACK_PROCESS_LABEL KEYRING STATE_DIRECTORY CACHE_DIRECTORY LOGS_DIRECTORY "
        "CONFIGURATION_DIRECTORY NUMA_POLICY CREDENTIALS BPF".split(),
        start=235,
    )
)


def settle_s(jobs: int) -> float:
    """How long a simple service has to be active to be believed, beside so many jobs under way."""
    return min(SETTLE_S + jobs * SETTLE_EACH_S, LONGEST_SETTLE_S)


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Why a unit is not where it should be: `refused` if it cannot come up as things are."""

    reason: str
    refused: bool = False


def unit_state(
    machine: MachineId,
    local: LocalUnit,
    state: SystemdState,
    *,
    starting: bool = False,
    trouble: Trouble | None = None,
    wanted_hash: str = "",
    journal: tuple[str, ...] = (),
) -> UnitState:
    """The report of one unit, whose journal's lines belong to it if it failed."""
    if trouble is not None and trouble.refused and not local.is_loaded:
        return _refused(machine, local.unit, wanted_hash, trouble.reason)
    refused = trouble is not None and trouble.refused
    lines = (*journal, trouble.reason) if trouble else journal
    current = TargetState.LOADED if local.hash else TargetState.INACTIVE
    if local.is_launched or refused:
        current = TargetState.LAUNCHED
    return UnitState(
        unit=local.unit,
        machine=machine,
        hash=local.hash or wanted_hash,
        current=current,
        load=state.load,
        active=state.active,
        sub=state.sub,
        since_s=state.since_s,
        job="refused" if refused else job_result(local, state, starting=starting),
        result=state.result,
        exit_status=exit_text(state) if state.has_gone_wrong else "",
        journal=tuple(line[:MAX_LINE] for line in lines[-JOURNAL_LINES:]),
    )


def _refused(machine: MachineId, unit: UnitName, hash_: str, reason: str) -> UnitState:
    return UnitState(
        unit=unit,
        machine=machine,
        hash=hash_,
        current=TargetState.INACTIVE,
        load="error",
        active="inactive",
        sub="dead",
        result="refused",
        journal=(reason[:MAX_LINE],),
    )


def has_failed(local: LocalUnit, state: SystemdState) -> bool:
    """Whether the journal can say why the unit is not up."""
    job = local.note.job if local.note is not None and local.note.launched else ""
    return state.has_gone_wrong or (not state.is_live and job not in ("", DONE, "canceled"))


def job_result(local: LocalUnit, state: SystemdState, *, starting: bool) -> str:
    """The result of the last start job; if fleetd was away when it ended, what must have been it.

    systemd remembers a failure, so a unit that is inactive without one ran to its end.
    """
    note = local.note
    if note is None or not note.launched or note.job or starting:
        return note.job if note else ""
    if state.active in ("activating", "deactivating"):
        return ""
    return "failed" if state.has_gone_wrong else DONE


def exit_text(state: SystemdState) -> str:
    """How the main process ended, as systemctl says it; empty if it has not."""
    code, status = state.exit_code, state.exit_status
    if not code:
        return ""
    if code == _CLD_EXITED:
        name = _EXIT_NAMES.get(status, "")
        return f"code=exited, status={status}{'/' if name else ''}{name}"
    try:
        name = signal.Signals(status).name.removeprefix("SIG")
    except ValueError:
        name = "?"
    how = "dumped" if code == _CLD_DUMPED else "killed"
    return f"code={how}, status={status}/{name}"


def is_simple(unit: UnitName, file: UnitFile) -> bool:
    """Whether systemd calls the service active as soon as it has forked."""
    kinds = file.values("Service", "Type")
    by_default = not kinds and not file.values("Service", "BusName")
    return split_name(unit).suffix == "service" and (by_default or kinds[-1:] == ("simple",))
