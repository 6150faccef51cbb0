"""What users ask of units."""

from dataclasses import dataclass

from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import UnitFile


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitChange:
    """What a user asks of one unit: new contents, a new target state, or both; or its removal.

    New contents without a target state make the unit inactive, as in fleet 1.0. Contents that
    systemd reads the same (other comments, other blanks) are stored and change nothing else, but
    not if they are `rendered`: made from options, they are nobody's own text. `source` names the
    folder that the unit comes from; None leaves that as it is. `max_unavailable` has new contents
    taken by so many of a kind at a time, as MaxUnavailable= in them would; 0 leaves it to that.
    """

    name: UnitName
    file: UnitFile | None = None
    target: TargetState | None = None
    destroy: bool = False
    rendered: bool = False
    source: str | None = None
    max_unavailable: int = 0
