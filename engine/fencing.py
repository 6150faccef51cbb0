"""When a fenced unit may be placed: not before it must have stopped wherever it may run.

Theory of operation. A machine that starts a fenced unit has claimed it before (`fleet.claims`), and
its systemd stops the unit a margin before the machine's lease can have ended (`agent.fence`). So a
unit that is claimed by a machine
- that lives and is to have it, is where it belongs;
- that lives and is not to have it, is waited for until the machine has stopped it and has given the
  claim back: a fenced unit breaks before it is made anew;
- that is gone, has stopped when its stop time has passed since the machine was first missed: then
  the claim is taken away, if the machine is still gone, and the unit is placed like any other.
The end of a lease is seen later than it comes, never earlier, so the time is always long enough. A
new leader, and one that had lost sight of the store, counts from when it first misses the machine.
Between two looks of one leader no machine comes and goes unseen: its lease alone is longer than a
leader's term is good for without a renewal.

A row of a fenced unit is removed on the condition that its claim is as it was seen: either the
machine's claim comes first, and the leader looks again, or the removal does, and the claim fails.
"""

from collections.abc import Iterator, Mapping, Set
from dataclasses import dataclass

from engine.facts import Facts
from engine.reasons import short
from engine.settle import Settler
from engine.tasks import Task, TaskKind
from fleet.claims import Claim
from fleet.cluster import Assignment, UnitRecord
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.states import UnitState


@dataclass(frozen=True, slots=True, kw_only=True)
class Wait:
    """Why a fenced unit is not placed now, and until when, by the leader's clock.

    Without a time it is until a machine that is there says that the unit has stopped.
    """

    reason: str
    until_s: float = 0.0


class Fences:
    """What is known of where fenced units may run, and what follows from it for this plan."""

    def __init__(
        self,
        facts: Facts,
        *,
        live: Set[MachineId],
        missing_since_s: Mapping[MachineId, float],
        now_s: float,
    ) -> None:
        self._facts = facts
        self._live = live
        self._now_s = now_s
        claiming = {machine for _, machine in facts.claims} - live
        self.missing_since_s = {m: missing_since_s.get(m, now_s) for m in sorted(claiming)}
        """When the machines that have claims and are gone were first missed."""
        self._claims: dict[UnitName, list[Claim]] = {}
        for claim in facts.claims.values():
            self._claims.setdefault(claim.unit, []).append(claim)
        self.waits: dict[UnitName, Wait] = {}

    @property
    def wake_at_s(self) -> float | None:
        """When the first claim of a machine that is gone may be taken away."""
        ends = (self._end_s(claim) for claim in self._facts.claims.values() if self._is_lost(claim))
        return min((end_s for end_s in ends if end_s != float("inf")), default=None)

    @property
    def is_waiting(self) -> bool:
        """Whether what a machine says of a unit can end a wait."""
        return any(not wait.until_s for wait in self.waits.values())

    def settle(self, settler: Settler) -> Set[UnitName]:
        """Have it settled, with no unit placed that may still run elsewhere; of whom was told."""
        fenced = sorted(self._facts.fenced)
        for unit in fenced:
            self._hold_back(unit, self._why_not_yet(unit))
        self._withhold(frozenset())
        stirred = self._facts.take_stirred()
        settler.settle(stirred)
        moving = [unit for unit in fenced if unit not in self.waits and settler.outcome(unit).homes]
        for unit in moving:
            self._hold_back(unit, self._why_break_first(unit, settler.outcome(unit).homes))
        leaving = self.waits.keys() & set(moving)
        if leaving:
            self._withhold(leaving)
            settler.settle_again(self._facts.take_stirred())
        return stirred.told

    def _withhold(self, withdrawn: Set[UnitName]) -> None:
        reasons = {unit: wait.reason for unit, wait in self.waits.items()}
        self._facts.withhold(reasons, withdrawn)

    def tasks(self) -> Iterator[Task]:
        """The claims that have come to their end are taken away."""
        for claim in self._facts.claims.values():
            if self._is_lost(claim) and self._now_s >= self._end_s(claim):
                yield Task(
                    kind=TaskKind.FREE,
                    unit=claim.unit,
                    machine=claim.machine,
                    claim_revision=claim.revision,
                    reason=f"it has stopped there, {claim.stop_s:g} s after the machine was lost",
                )

    def claim_revision(self, row: Assignment, record: UnitRecord | None) -> int | None:
        """The revision of the claim on which the row's removal depends; None if on none."""
        if record is None or not record.requirements.is_fenced:
            return None
        claims = self._claims.get(row.unit, ())
        return next((c.revision for c in claims if c.machine == row.machine), 0)

    def _hold_back(self, unit: UnitName, wait: Wait | None) -> None:
        if wait is not None:
            self.waits[unit] = wait

    def _why_not_yet(self, unit: UnitName) -> Wait | None:
        """Why the unit cannot be placed wherever it is to go, None if nothing speaks against it."""
        lost = [claim for claim in self._claims.get(unit, ()) if self._is_lost(claim)]
        if lost:
            last = max(sorted(lost, key=lambda claim: claim.machine), key=self._end_s)
            return Wait(reason=_lost_reason(last), until_s=self._end_s(last))
        rows = self._facts.stored_rows_of(unit).values()
        staying = {row.machine for row in rows if not row.leaving}
        return _wait_for(self._living(unit) - staying)

    def _why_break_first(self, unit: UnitName, homes: Set[MachineId]) -> Wait | None:
        return _wait_for(self._living(unit) - homes)

    def _living(self, unit: UnitName) -> frozenset[MachineId]:
        """The living machines that may run the unit, or say that they do."""
        states = (s for s in self._facts.states.get(unit, {}).values() if is_live(s))
        return frozenset(
            {c.machine for c in self._claims.get(unit, ()) if not self._is_lost(c)}
            | {state.machine for state in states}
        )

    def _is_lost(self, claim: Claim) -> bool:
        return claim.machine not in self._live

    def _end_s(self, claim: Claim) -> float:
        return self.missing_since_s[claim.machine] + claim.stop_s


def is_live(state: UnitState) -> bool:
    """Whether systemd runs, starts or stops anything of the unit there."""
    return state.active not in ("inactive", "failed", "")


def _wait_for(machines: Set[MachineId]) -> Wait | None:
    if not machines:
        return None
    names = ", ".join(short(machine) for machine in sorted(machines))
    return Wait(reason=f"it is fenced, and waits until machine {names} has stopped it")


def _lost_reason(claim: Claim) -> str:
    machine = short(claim.machine)
    if claim.stop_s == float("inf"):
        return f"it is fenced, and may run on machine {machine}, which is lost, until it is back"
    return (
        f"it is fenced, and may run on machine {machine} until {claim.stop_s:g} s after that was "
        "lost"
    )
