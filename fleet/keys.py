"""Where each thing lies in the store, below the cluster's key prefix."""

from dataclasses import dataclass

from fleet.errors import InvalidRequest
from fleet.machine import MachineId
from fleet.names import UnitName

DEFAULT_PREFIX = "/fleet/"


@dataclass(frozen=True, slots=True)
class Keys:
    """The keys of one cluster; `root` ends in a slash."""

    root: str = DEFAULT_PREFIX

    def __post_init__(self) -> None:
        if not (self.root.startswith("/") and self.root.endswith("/")):
            raise InvalidRequest(f"key prefix {self.root!r} has to start and end with a slash")

    @property
    def units(self) -> str:
        return f"{self.root}units/"

    @property
    def files(self) -> str:
        return f"{self.root}files/"

    @property
    def machines(self) -> str:
        return f"{self.root}machines/"

    @property
    def metadata(self) -> str:
        return f"{self.root}metadata/"

    @property
    def schedule(self) -> str:
        return f"{self.root}schedule/"

    @property
    def states(self) -> str:
        return f"{self.root}states/"

    @property
    def refusals(self) -> str:
        return f"{self.root}refusals/"

    @property
    def departures(self) -> str:
        return f"{self.root}departures/"

    @property
    def claims(self) -> str:
        return f"{self.root}claims/"

    @property
    def cordons(self) -> str:
        return f"{self.root}cordons/"

    @property
    def events(self) -> str:
        return f"{self.root}events/"

    @property
    def changes(self) -> str:
        """Users' changes of units on their way (`fleet.transaction`)."""
        return f"{self.root}changes/"

    @property
    def pending_change(self) -> str:
        """The list of writes of a change that is made but not yet completed."""
        return f"{self.changes}pending"

    @property
    def change_progress(self) -> str:
        return f"{self.changes}done"

    @property
    def latest_change(self) -> str:
        """Written with every change of any unit: its revision is that of the last one."""
        return f"{self.changes}latest"

    @property
    def latest_rows(self) -> str:
        """Written with whatever the engine decides: its revision is that of the last of it."""
        return f"{self.changes}rows"

    @property
    def uploads(self) -> str:
        """Marks of those who write contents that nothing names yet."""
        return f"{self.changes}uploads/"

    @property
    def sync(self) -> str:
        """What repository is followed, and how far that came (`fleet.sync`)."""
        return f"{self.root}sync/"

    @property
    def sync_wanted(self) -> str:
        """What the commit wants that is applied; the engine spares the files that it names."""
        return f"{self.sync}wanted"

    @property
    def engine(self) -> str:
        return f"{self.root}engine"

    @property
    def hold(self) -> str:
        """Where the brake is told of while it is on; who deletes it ends the hold."""
        return f"{self.engine}/hold"

    def unit(self, name: UnitName) -> str:
        return f"{self.units}{name}"

    def file(self, digest: str) -> str:
        return f"{self.files}{digest}"

    def upload(self, name: str) -> str:
        return f"{self.uploads}{name}"

    def machine(self, machine: MachineId) -> str:
        return f"{self.machines}{machine}"

    def departure(self, machine: MachineId) -> str:
        return f"{self.departures}{machine}"

    def cordon(self, machine: MachineId) -> str:
        return f"{self.cordons}{machine}"

    def metadatum(self, machine: MachineId, key: str) -> str:
        return f"{self.metadata}{machine}/{key}"

    def schedule_of(self, machine: MachineId) -> str:
        """The prefix of one machine's schedule: all that its agent watches."""
        return f"{self.schedule}{machine}/"

    def assignment(self, machine: MachineId, unit: UnitName) -> str:
        return f"{self.schedule}{machine}/{unit}"

    def claims_of(self, machine: MachineId) -> str:
        return f"{self.claims}{machine}/"

    def claim(self, machine: MachineId, unit: UnitName) -> str:
        return f"{self.claims}{machine}/{unit}"

    def states_of(self, machine: MachineId) -> str:
        return f"{self.states}{machine}/"

    def state(self, machine: MachineId, unit: UnitName) -> str:
        return f"{self.states}{machine}/{unit}"

    def refusal(self, unit: UnitName) -> str:
        return f"{self.refusals}{unit}"
