"""Units that stay where they were until they are up elsewhere, if their neighbours bear it."""

from engine.board import Board
from engine.facts import Facts
from engine.outcomes import Settlement
from fleet.machine import MachineId
from fleet.names import UnitName


class Lingering:
    """Who lingers on the board, by the facts and by what is settled so far."""

    def __init__(self, facts: Facts, board: Board, settlement: Settlement) -> None:
        self._facts = facts
        self._board = board
        self._settlement = settlement

    def recall(self, unit: UnitName) -> None:
        """The unit goes on leaving what its rows say it leaves, unless it has arrived."""
        rows = self._facts.rows_of(unit)
        left = [m for m, row in rows.items() if row.leaving and m in self._facts.machines]
        if not left or unit in self._facts.globals:
            return
        if self._facts.problem_of(unit) or not self.has_arrived(unit):
            for machine in sorted(left):
                self._let_leave(unit, machine)

    def begin(self, unit: UnitName, home: MachineId) -> None:
        """Keep the unit where it is until it has arrived, as far as the neighbours bear that."""
        rows = self._facts.rows_of(unit)
        if unit in self._facts.globals:
            return
        for machine in sorted(rows) if rows else ():
            if machine == home or machine not in self._facts.machines:
                continue
            if self.has_arrived(unit):
                self._board.has_left(unit, machine)
            else:
                self._let_leave(unit, machine)

    def _let_leave(self, unit: UnitName, machine: MachineId) -> None:
        if self._facts.is_idle(unit, machine):
            return  # nothing runs there that could bridge the time until it has arrived
        asked = self._facts.wanted[unit].requirements
        if not self._board.is_repelled(unit, asked, machine):
            self._board.let_leave(unit, asked, machine)

    def end(self, unit: UnitName) -> int:
        """Nothing keeps the unit where it was; on how many machines that makes room."""
        rows = self._facts.rows_of(unit)
        living = [machine for machine in rows if machine in self._facts.machines]
        return sum(self._board.has_left(unit, machine) for machine in living)

    def has_arrived(self, unit: UnitName) -> bool:
        """Whether the unit is where it should be, as far as is decided."""
        return self._facts.has_arrived(unit, self._settlement.homes[unit])
