"""Target states, and the state of a unit as the machine that has it reports it."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from fleet.errors import InvalidRequest
from fleet.machine import MachineId
from fleet.names import UnitName

# systemd's own words: `systemctl --state=help` of version 252; "refreshing" came with 256.
_ACTIVE = frozenset({"active", "reloading", "refreshing"})
_BROKEN = frozenset({"not-found", "bad-setting", "error", "masked"})
# `systemctl start` exits 0 for "exec-condition" as well; "" is a unit type without a result.
_SUCCESS = frozenset({"success", "exec-condition", ""})


class Health(StrEnum):
    """What a unit's HealthCommand said since it came up; of a unit without one it is not asked."""

    NOT_ASKED = ""
    CHECKING = "checking"
    OK = "ok"
    FAILED = "failed"


class TargetState(StrEnum):
    """How far a unit should go, or has gone: stored only, loaded on a machine, launched there."""

    INACTIVE = "inactive"
    LOADED = "loaded"
    LAUNCHED = "launched"


_TARGETS = {target.value: target for target in TargetState}


def parse_target(text: str) -> TargetState:
    """The target state of that name; raises InvalidRequest."""
    target = _TARGETS.get(text)
    if target is None:
        known = ", ".join(TargetState)
        raise InvalidRequest(f"invalid target state {text!r}: use one of {known}")
    return target


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitState:
    """What one machine last said of one unit.

    `current` is how far the agent has brought it; `load`, `active` and `sub` are systemd's own
    words. `result`, `exit_status` and `journal` (its last lines) tell of a failure; `job` is the
    result of the last start job (systemd's `JobRemoved`), empty while it runs. `since_s` is when
    `active` last changed, in seconds since the epoch, 0 if unknown. `health_reason` is how the
    HealthCommand ended last, if not well; once it has failed, `journal` has its last lines.
    """

    unit: UnitName
    machine: MachineId
    hash: str
    current: TargetState
    load: str
    active: str
    sub: str
    since_s: float = 0.0
    job: str = ""
    result: str = ""
    exit_status: str = ""
    journal: tuple[str, ...] = ()
    health: Health = Health.NOT_ASKED
    health_reason: str = ""

    @property
    def is_up(self) -> bool:
        """Whether the unit has come up, and its HealthCommand, if it has one, said so as well."""
        return self.has_come_up and self.health in (Health.NOT_ASKED, Health.OK)

    @property
    def has_come_up(self) -> bool:
        """Whether systemd has the unit active, or has run it to its end with success.

        One that was not to run, as its `Condition...=` says, looks just like one that ran.
        """
        if self.current is not TargetState.LAUNCHED or self.load != "loaded":
            return False
        if self.active in _ACTIVE:
            return True
        return self._has_ended and self.job == "done" and self.result in _SUCCESS

    @property
    def told_health(self) -> str:
        """What there is to say of the unit's health, as half a sentence; "" if that is nothing."""
        reason = f": {self.health_reason}" if self.health_reason else ""
        if self.health is Health.CHECKING:
            return f"its health is being checked{reason}"
        return f"its HealthCommand failed{reason}" if self.health is Health.FAILED else ""

    @property
    def has_failed(self) -> bool:
        """Whether systemd cannot load the unit, gave it up, or waits to try it once more.

        So has one that came up and was not healthy in time. A launched unit that has ended is up or
        failed as soon as its health is known, so waiting for it ends.
        """
        if self.load in _BROKEN or self.active == "failed":
            return True
        if self.has_come_up:
            return self.health is Health.FAILED
        if self.sub.startswith("auto-restart"):
            return self.result != "success"
        return self._has_ended

    @property
    def _has_ended(self) -> bool:
        """Whether a start job ran to its result and left the unit inactive."""
        launched = self.current is TargetState.LAUNCHED
        return launched and self.active == "inactive" and bool(self.job)


def encode_state(state: UnitState) -> dict[str, Any]:
    """The state as stored under its key, which itself names unit and machine."""
    document = {
        "hash": state.hash,
        "current": state.current,
        "load": state.load,
        "active": state.active,
        "sub": state.sub,
        "since": state.since_s,
        "job": state.job,
        "result": state.result,
        "exit_status": state.exit_status,
        "journal": list(state.journal),
    }
    if state.health:
        document |= {"health": state.health, "health_reason": state.health_reason}
    return document


def decode_state(unit: UnitName, machine: MachineId, document: Mapping[str, Any]) -> UnitState:
    """The state that was stored; raises MALFORMED (fleet/errors.py) if it cannot be read."""
    return UnitState(
        unit=unit,
        machine=machine,
        hash=str(document["hash"]),
        current=parse_target(document["current"]),
        load=str(document["load"]),
        active=str(document["active"]),
        sub=str(document["sub"]),
        since_s=float(document.get("since", 0.0)),
        job=str(document.get("job", "")),
        result=str(document.get("result", "")),
        exit_status=str(document.get("exit_status", "")),
        journal=tuple(str(line) for line in document.get("journal", ())),
        health=Health(document["health"]) if "health" in document else Health.NOT_ASKED,
        health_reason=str(document.get("health_reason", "")),
    )
