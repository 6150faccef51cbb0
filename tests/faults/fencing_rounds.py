"""Rounds of faults over fenced units, decided by a witness that knows nothing of fleet.

    python -m tests.faults.fencing_rounds --rounds 30 --seed 1

Every fenced unit runs a small program that writes, fifty times a second, when it was last alive, by
the monotonic clock, which all sandbox machines share with the host. After some rounds the lives of
a unit's processes are compared: two on different machines that overlap are a violation. Some of
the programs take their time to stop, some have to be killed.
"""

import argparse
import contextlib
import json
import random
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import click

from cli.sandbox.cluster import Sandbox
from tests.cluster.machines import eventually
from tests.cluster.steps import Operator

MACHINES = ("fleet1", "fleet2", "fleet3")
TTL_S = 2.0
STOP_S = 1.0
UNITS = tuple(f"solo@{number}.service" for number in range(1, 5))
WITNESSED = "/var/lib/witness"
SETTLED_S = 90.0
ROUNDS_TOGETHER = 3
_LIFE = struct.Struct("dd")

# Its life is a file of two numbers: since when it runs, and when it was last seen to.
PROGRAM = """
import os, random, signal, struct, sys, time
began = time.monotonic()
os.makedirs("{folder}", exist_ok=True)
life = os.open(f"{folder}/{{sys.argv[1]}}-{{began}}", os.O_WRONLY | os.O_CREAT)
end = None
def stop(*_):
    global end
    end = time.monotonic() + random.choice([0, 0, 0.3, 0.8, 60])
signal.signal(signal.SIGTERM, stop)
while end is None or time.monotonic() < end:
    os.pwrite(life, struct.pack("dd", began, time.monotonic()), 0)
    time.sleep(0.02)
"""

FENCED = "Fenced=true\n"
UNIT = f"""\
[Service]
ExecStart={sys.executable} -P /var/lib/witness.py %i
Restart=always
RestartSec=0
TimeoutStopSec={STOP_S:g}

[X-Fleet]
"""


@dataclass(frozen=True, slots=True)
class Life:
    """One process of a unit: on which machine, since when, and when it was last alive."""

    unit: str
    machine: str
    began_s: float
    alive_s: float


def overlaps(lives: Sequence[Life]) -> list[tuple[Life, Life]]:
    """Pairs of lives of one unit on different machines that have a moment in common."""
    ordered = sorted(lives, key=lambda life: life.began_s)
    return [
        (first, second)
        for number, first in enumerate(ordered)
        for second in ordered[number + 1 :]
        if first.unit == second.unit
        and first.machine != second.machine
        and second.began_s <= first.alive_s
    ]


@dataclass
class Rounds:
    """A cluster under fault, and what was done to it."""

    operator: Operator
    chance: random.Random
    unit: str
    faults: Counter[str] = field(default_factory=Counter)
    moves: int = 0

    @property
    def sandbox(self) -> Sandbox:
        return self.operator.sandbox

    def lives(self) -> Iterator[Life]:
        for machine in MACHINES:
            for path in (self.sandbox.disk(machine) / WITNESSED[1:]).glob("*-*"):
                data = path.read_bytes()
                if len(data) == _LIFE.size:
                    unit = f"solo@{path.name.partition('-')[0]}.service"
                    yield Life(unit, machine, *_LIFE.unpack(data))

    def prepare(self) -> None:
        for machine in MACHINES:
            program = self.sandbox.path(machine, "/var/lib/witness.py")
            program.write_text(PROGRAM.format(folder=WITNESSED))
        self.operator.write("solo@.service", self.unit)
        self.operator.ok("start", *UNITS)

    def all_up(self) -> dict[str, str]:
        """Where each unit is active, once each is active once."""

        def homes() -> dict[str, str]:
            time.sleep(0.2)
            found = {}
            for key, value in self.operator.store("states/").items():
                _, machine, unit = key.split("/")
                assert unit not in found, f"{unit} is on two machines"
                assert json.loads(value)["active"] == "active", key
                found[unit] = self.operator.name_of(machine)
            assert sorted(found) == list(UNITS), found
            return found

        return eventually(homes, deadline_s=SETTLED_S)

    def play(self) -> int:
        """Rounds on all machines beside each other, then peace; how many there were.

        A round is a fault and its end, after a random while, on one machine.
        """
        homes = self.all_up()
        plan = sorted(step for machine in MACHINES for step in self._steps(machine))
        began_s = time.monotonic()
        mends: dict[str, Callable[[], object]] = {}
        for at_s, machine, fault in plan:
            time.sleep(max(0.0, began_s + at_s - time.monotonic()))
            if fault:
                self.faults[fault] += 1
                click.echo(f"  {time.monotonic():.2f} {machine}: {fault}")
                mends[machine] = self._faults[fault](machine)
            else:
                mends.pop(machine)()
        self.operator = self.operator.at(self.chance.choice(MACHINES))
        after = self.all_up()
        self.moves += sum(homes[unit] != after[unit] for unit in UNITS)
        return ROUNDS_TOGETHER * len(MACHINES)

    def _steps(self, machine: str) -> Iterator[tuple[float, str, str]]:
        """When which fault comes to the machine, and when it ends."""
        at_s = 0.0
        for _ in range(ROUNDS_TOGETHER):
            at_s += self.chance.uniform(0.1, 3.0)
            yield at_s, machine, self.chance.choice(sorted(self._faults))
            at_s += self.chance.uniform(0.2, 2.5 * TTL_S)
            yield at_s, machine, ""

    @property
    def _faults(self) -> dict[str, Callable[[str], Callable[[], object]]]:
        return {
            "network cut": self._cut,
            "power cut": self._kill,
            "fleetd killed": self._kill_fleetd,
            "fleetd frozen": self._freeze_fleetd,
            "fleetd stopped": self._stop_fleetd,
            "D-Bus gone": self._stop_bus,
            "told to move": self._move,
            "shut down": self._shut_down,
        }

    def _cut(self, machine: str) -> Callable[[], object]:
        self.sandbox.cut(machine)
        return lambda: self.sandbox.heal(machine)

    def _kill(self, machine: str) -> Callable[[], object]:
        self.sandbox.kill(machine)
        return lambda: self.sandbox.boot(machine)

    def _shut_down(self, machine: str) -> Callable[[], object]:
        self.sandbox.run(machine, ["systemctl", "poweroff", "--no-block"])

        def boot() -> None:
            eventually(lambda: not self.sandbox.is_on(machine))
            self.sandbox.boot(machine)

        return boot

    def _kill_fleetd(self, machine: str) -> Callable[[], object]:
        self._signal(machine, "KILL")
        return lambda: None

    def _freeze_fleetd(self, machine: str) -> Callable[[], object]:
        self._signal(machine, "STOP")
        return lambda: self._signal(machine, "CONT")

    def _signal(self, machine: str, name: str) -> None:
        script = f"p=$(systemctl show --value -p MainPID fleet); [ $p = 0 ] || kill -{name} $p"
        self.sandbox.run(machine, ["sh", "-c", script])

    def _stop_fleetd(self, machine: str) -> Callable[[], object]:
        self.sandbox.run(machine, ["systemctl", "stop", "fleet"])
        return lambda: self.sandbox.run(machine, ["systemctl", "start", "fleet"])

    def _stop_bus(self, machine: str) -> Callable[[], object]:
        both = ["dbus.socket", "dbus.service"]
        self.sandbox.run(machine, ["systemctl", "stop", *both])
        return lambda: self.sandbox.run(machine, ["systemctl", "start", *both])

    def _move(self, machine: str) -> Callable[[], object]:
        """A unit has to go to a machine, or may go anywhere again."""
        unit = self.chance.choice(UNITS)
        where = f"MachineMetadata=host={self.chance.choice(MACHINES)}\n"
        self.operator.write(unit, self.unit + self.chance.choice([where, ""]))
        with contextlib.suppress(subprocess.TimeoutExpired):
            words = ["start", "--replace", "--no-block", unit]
            self.operator.at(machine).fleetctl(*words, timeout_s=5)
        return lambda: None


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="play no longer")
    parser.add_argument("--unfenced", action="store_true", help="see that the witness would tell")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--journals", type=Path, default=Path("build/journals/fencing"))
    asked = parser.parse_args(argv)
    settings = {"agent_ttl": f"{TTL_S:g}s", "mass_loss_hold": "4s"}
    name = f"fencing{asked.seed}"
    with (
        tempfile.TemporaryDirectory() as folder,
        Sandbox.up(name, machines=len(MACHINES), settings=settings) as sandbox,
    ):
        operator = Operator(sandbox=sandbox, folder=Path(folder))
        unit = UNIT if asked.unfenced else UNIT + FENCED
        rounds = Rounds(operator, random.Random(asked.seed), unit)
        rounds.prepare()
        played = 0
        violations: list[tuple[Life, Life]] = []
        end_s = time.monotonic() + asked.seconds
        try:
            while played < asked.rounds and not violations and time.monotonic() < end_s:
                click.echo(f"after {played} rounds")
                played += rounds.play()
                violations = overlaps(list(rounds.lives()))
        finally:
            sandbox.save_journals(asked.journals / name)
            told = {
                "seed": asked.seed,
                "rounds": played,
                "faults": dict(sorted(rounds.faults.items())),
                "processes": len(list(rounds.lives())),
                "moves": rounds.moves,
                "violations": len(violations),
            }
            click.echo(json.dumps(told))
        for first, second in violations:
            click.echo(f"VIOLATION: {first} and {second}")
    return 1 if violations else 0


if __name__ == "__main__":
    raise SystemExit(main())
