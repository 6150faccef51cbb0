"""A cluster with units of every kind, to which something happens, and the judgement of it.

A trial is one fault: it begins when all is well and ends with the fault. Then the cluster has one
lease to be in order again (`tests/cluster/truth.py`), has to stay so, and what was done to units
is held against what was asked for (`tests/faults/record.py`).
"""

import asyncio
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

from cli.sandbox import host
from cli.sandbox.contents import client_url
from cli.sandbox.layout import Kind
from fleet.api.client import FleetClient
from fleet.errors import FleetError
from tests.cluster.deeds import PATIENCE_S
from tests.cluster.machines import eventually
from tests.cluster.steps import Lives, Operator
from tests.cluster.truth import bad_lines, faults, observe
from tests.faults.asking import PATTERN, Asking
from tests.faults.cast import GLOBAL, PREFIX, changes
from tests.faults.record import Allowed, Happening, parse_happenings, violations

# A machine's lease by default; the promises are made for it.
TTL_S = 6.0
# What a cluster on two busy processors may take beyond one lease until it is in order.
SLACK_S = 5.0
_LOOK_S = 0.2
_FIELDS = "UNIT,MESSAGE_ID,INVOCATION_ID"


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a trial came to: how long until all was in order, and what was wrong."""

    units: int
    in_order_s: float
    acknowledged: int
    refused: int
    wrong: tuple[str, ...]

    def __str__(self) -> str:
        asked = f"{self.acknowledged} changes acknowledged, {self.refused} refused"
        return (
            f"{self.units} units, {asked}; in order after {self.in_order_s:.1f} s; "
            f"{len(self.wrong)} violations"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """The cluster, and whom to `tell` of each outcome."""

    operator: Operator
    tell: Callable[[Outcome], None]
    ttl_s: float = TTL_S

    @property
    def machines(self) -> tuple[str, ...]:
        return tuple(n.name for n in self.operator.sandbox.spec.of_kind(Kind.MACHINE))

    @property
    def members(self) -> tuple[str, ...]:
        return tuple(n.name for n in self.operator.sandbox.spec.of_kind(Kind.ETCD))

    def others(self, *machines: str) -> tuple[str, ...]:
        return tuple(machine for machine in self.machines if machine not in machines)

    def sh(self, machine: str, script: str) -> str:
        """Run a shell script on a machine; what it printed."""
        return self.operator.sandbox.run(machine, ["sh", "-c", script], check=True).stdout

    def fleetd(self, machine: str) -> str:
        """The pid of fleetd on the machine, as the machine counts."""
        return self.operator.life(machine, "fleet.service").pid

    def etcdctl(self, *words: str) -> str:
        """Run etcdctl against all members; what it printed."""
        members = ",".join(self.etcd_url(member) for member in self.members)
        argv = ["env", "ETCDCTL_API=3", "etcdctl", f"--endpoints={members}", *words]
        return self.operator.sandbox.run(self.machines[0], argv, check=True).stdout

    def etcd_url(self, member: str) -> str:
        return client_url(self.operator.sandbox.spec.node(member))

    def set_up(self) -> None:
        """Start units of every kind, and have all of them where they belong."""
        asyncio.run(self._start())
        eventually(lambda: self.faults() == [])

    async def _start(self) -> None:
        async with self._api(self.machines[0]) as client:
            await client.apply(changes())

    def _api(self, machine: str) -> FleetClient:
        return FleetClient(f"unix://{self.operator.sandbox.socket(machine)}", read_s=PATIENCE_S)

    # Trials

    @contextmanager
    def trial(
        self,
        *,
        lost: Sequence[str] = (),
        dead: Sequence[str] = (),
        asking: bool = True,
        bites: bool = False,
    ) -> Iterator[None]:
        """The fault happens within, and is over at its end; AssertionError tells what is wrong.

        The cluster may lose the `lost` machines for longer than a lease; the `dead` lose power.
        systemd's watchdog may end a fleetd if it `bites`.
        """
        allowed = Allowed(
            asked=(PATTERN,),
            lost=frozenset(lost) | frozenset(dead),
            dead=frozenset(dead),
            everywhere=frozenset({GLOBAL}),
        )
        before, since_us = self.operator.lives(), time.time_ns() // 1000
        asked = Asking(self.operator.sandbox, seed=since_us)
        with asked if asking else nullcontext():
            yield
        in_order_s, wrong = self._until_in_order(asked)
        wrong = wrong or self._after_a_while(asked)
        outcome = Outcome(
            units=len(before),
            in_order_s=in_order_s,
            acknowledged=asked.acknowledged,
            refused=asked.refused,
            wrong=(
                *wrong,
                *self._touched(before, since_us, allowed),
                *([] if bites else self._said(since_us)),
            ),
        )
        self.tell(outcome)
        assert not outcome.wrong, "\n".join(outcome.wrong)

    def _until_in_order(self, asked: Asking) -> tuple[float, list[str]]:
        """How long it took until nothing was wrong, and what still is at the deadline."""
        began_s = time.monotonic()
        while wrong := self.faults(asked):
            if time.monotonic() - began_s > self.ttl_s + SLACK_S:
                break
            time.sleep(_LOOK_S)
        return time.monotonic() - began_s, wrong

    def _after_a_while(self, asked: Asking) -> list[str]:
        """What is wrong once every lease and amnesty of the time before is over."""
        time.sleep(self.ttl_s + 1)
        return self.faults(asked)

    def faults(self, asked: Asking | None = None) -> list[str]:
        """What is wrong with the cluster now."""
        try:
            scene = observe(self.operator.sandbox)
            listed = asyncio.run(self._listed())
        except FleetError as error:
            return [str(error)]
        unfulfilled = asked.unfulfilled(scene.cluster) if asked else []
        return faults(scene, prefix=PREFIX) + unfulfilled + listed

    async def _listed(self) -> list[str]:
        """Whether every machine's API tells of the same units in the same states."""
        lists = {}
        for machine in self.machines:
            async with self._api(machine) as client:
                lists[machine] = set(await client.states())
        return [
            f"list-units differs between {machine} and {self.machines[0]}"
            for machine, states in lists.items()
            if states != lists[self.machines[0]]
        ]

    def _touched(self, before: Lives, since_us: int, allowed: Allowed) -> list[str]:
        happened = [h for machine in self.machines for h in self.happenings(machine, since_us)]
        return violations(before, self.operator.lives(), happened, allowed)

    def happenings(self, machine: str, since_us: int) -> list[Happening]:
        """What the machine's systemd noted of units since then, in all its boots."""
        since = f"--since=@{since_us // 1_000_000}"
        wanted = (f"--output-fields={_FIELDS}", "--output=json", "--no-pager", since, "_PID=1")
        lines = host.run(["journalctl", self._journal(machine), *wanted]).splitlines()
        return parse_happenings(machine, lines, since_us=since_us)

    def _said(self, since_us: int) -> list[str]:
        """What fleetd should not have said since then."""
        since = f"--since=@{since_us // 1_000_000}"
        wanted = ("--output=short-precise", "--no-pager", since)
        return [
            f"{machine} said: {line}"
            for machine in self.machines
            for line in bad_lines(
                host.run(["journalctl", self._journal(machine), *wanted]).splitlines()
            )
        ]

    def _journal(self, machine: str) -> str:
        return f"--directory={self.operator.sandbox.disk(machine)}/var/log/journal"
