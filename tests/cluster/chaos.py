"""Random days in the life of a cluster, and what has to be true at the end of each.

A day is a row of random deeds: of operators, at random machines' APIs and at each other's heels,
and of fate, which cuts power and cables, hangs etcd and kills fleetd. In the evening everything
is mended, and within a deadline the cluster has to be in order (tests/cluster/truth.py) and as the
operators last asked. A quiet night follows, in which trouble that must touch no unit does not, and
then a test of how soon single changes on a quiet cluster are seen.

The seed decides which deeds are done, not how they fall together, so a bad day may need a few
repetitions. To run many: `.venv/bin/python -m tests.cluster.chaos --days 20 --seed 1`.
"""

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import click

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Kind
from fleet.errors import Conflict, FleetError, NotFound
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from tests.cluster.deeds import Deed, Disorder, Operators
from tests.cluster.menu import PREFIX, contents
from tests.cluster.truth import bad_lines, faults, look, observe

TTL_S = 4.0
# The agent's full pass comes every 60 s, the mirror's every 300 s: what only they mend is late.
IN_ORDER_S = 25.0
REFLECTED_S = 2.0
HAMMERED = ("launched", "launched", "loaded", "inactive", "")
RESTART_FLEETD = "systemctl restart fleet"
KILL_FLEETD = "systemctl kill --kill-who=main --signal=KILL fleet"
RELOAD = "systemctl daemon-reload"
_SEEN = {"launched": ("loaded", "active", "running"), "loaded": ("loaded", "inactive", "dead")}


class Days:
    """Days on one sandbox. `tell` is given a line for each deed."""

    def __init__(self, sandbox: Sandbox, seed: int, tell: Callable[[str], None]) -> None:
        self._sandbox = sandbox
        self._rng = random.Random(seed)
        self._tell = tell
        self._began_s = time.monotonic()
        self._operators = Operators(sandbox, self._rng)
        self._read: dict[str, int] = {}
        self._machines = [node.name for node in sandbox.spec.of_kind(Kind.MACHINE)]
        self._members = [node.name for node in sandbox.spec.of_kind(Kind.ETCD)]

    def _say(self, line: str) -> None:
        self._tell(f"{time.monotonic() - self._began_s:7.2f}  {line}")

    async def day(self, deeds: int, *, trouble: float) -> None:
        """Do deeds, a part of them fate's, and have the cluster in order. Raises Disorder."""
        for _ in range(deeds):
            await self._hour(trouble)
        await self._mend()
        self._say(f"day: in order after {await self._until_in_order():.1f} s")

    async def _hour(self, trouble: float) -> None:
        if self._rng.random() < trouble:
            self._operators.troubled = True
            deeds = [self._fate()]
        else:
            deeds = [self._operators.draw() for _ in range(self._rng.choice((1, 1, 1, 2, 4, 10)))]
        await asyncio.gather(*(self._do(deed) for deed in deeds))
        await asyncio.sleep(self._rng.choice((0, 0, 0.05, 0.3, 1.0)))

    async def _do(self, deed: Deed) -> None:
        try:
            self._say(await deed())
        except (Conflict, NotFound) as error:
            self._say(f"refused: {error}")
        except FleetError as error:
            self._say(f"failed: {error}")
            if not self._operators.troubled:
                raise Disorder(f"a deed failed though nothing was wrong: {error}") from error

    # Fate

    def _fate(self) -> Deed:
        if self._rng.random() < 0.4:
            return self._operators.script(self._rng.choice((RESTART_FLEETD, KILL_FLEETD)))
        sandbox, machines, members = self._sandbox, self._machines, self._members
        machine, member = self._rng.choice(machines), self._rng.choice(members)
        fates: Sequence[tuple[Callable[..., object], Sequence[str]]] = (
            *[(sandbox.kill, [machine])] * 2,
            *[(sandbox.boot, machines)] * 2,
            (sandbox.cut, [machine]),
            *[(sandbox.heal, machines)] * 2,
            (sandbox.kill, [member]),
            *[(sandbox.boot, members)] * 2,
            (sandbox.pause, [member]),
            *[(sandbox.resume, members)] * 2,
        )
        act, names = self._rng.choice(fates)

        async def deed() -> str:
            await asyncio.to_thread(act, *names)
            return f"{act.__name__} {' '.join(names)}"

        return deed

    async def _mend(self) -> None:
        everything = (*self._members, *self._machines)
        for act in (self._sandbox.resume, self._sandbox.heal, self._sandbox.boot):
            await asyncio.to_thread(act, *everything)
        for machine in self._machines:
            start = ["systemctl", "start", "fleet"]
            await asyncio.to_thread(self._sandbox.run, machine, start, check=True)
        self._operators.troubled = False
        self._say("all is mended")

    # In the evening

    async def _until_in_order(self) -> float:
        """The seconds until the cluster is in order."""
        began_s = time.monotonic()
        while True:
            try:
                wrong = await asyncio.to_thread(self._faults)
            except FleetError as error:
                wrong = [str(error)]
            took_s = time.monotonic() - began_s
            if not wrong:
                return took_s
            if took_s > IN_ORDER_S:
                raise Disorder("\n".join(wrong[:20]))
            await asyncio.sleep(0.2)

    def _faults(self) -> list[str]:
        scene = observe(self._sandbox)
        return faults(scene, prefix=PREFIX) + self._operators.unfulfilled(scene.cluster)

    def check_journals(self) -> None:
        """No line of fleetd since the last time may speak of a fault of its own."""
        for machine in self._machines:
            lines = self._sandbox.journal(machine).splitlines()
            found = bad_lines(lines[self._read.get(machine, 0) :])
            self._read[machine] = len(lines)
            if found:
                raise Disorder("\n".join([f"{machine} said:", *found[:20]]))

    # At night

    async def night(self) -> None:
        """Trouble that touches no unit: fleetd restarts, and etcd hangs or loses power."""
        before = await asyncio.to_thread(self._lives)
        trouble = self._rng.choice((RESTART_FLEETD, KILL_FLEETD, RELOAD, "pause", "kill"))
        self._operators.troubled = True
        if trouble in ("pause", "kill"):
            act = self._sandbox.pause if trouble == "pause" else self._sandbox.kill
            await asyncio.to_thread(act, *self._members)
            await asyncio.sleep(self._rng.choice((0.0, 0.5, TTL_S, 2 * TTL_S)))
        else:
            for machine in self._rng.sample(self._machines, self._rng.randint(1, 3)):
                await asyncio.to_thread(self._sandbox.run, machine, ["sh", "-c", trouble])
        await self._mend()
        await asyncio.sleep(1.5 * TTL_S)
        took_s = await self._until_in_order()
        after = await asyncio.to_thread(self._lives)
        touched = sorted(k for k in before.keys() | after.keys() if before.get(k) != after.get(k))
        if touched:
            told = [f"{key}: {before.get(key)} -> {after.get(key)}" for key in touched[:10]]
            raise Disorder("\n".join([f"{trouble!r} touched {len(touched)} units:", *told]))
        self._say(
            f"night: {trouble!r} touched none of {len(before)}; in order after {took_s:.1f} s"
        )

    def _lives(self) -> dict[tuple[str, str], str]:
        """The invocation of every unit that lives, and how often each oneshot has run."""
        lives: dict[tuple[str, str], str] = {}
        for view in self._sandbox.machines:
            seen = look(self._sandbox, view)
            live = sorted(u for u in seen.files if seen.is_live(u) and "loop" not in u)
            shown = ["systemctl", "show", "--property=Id,InvocationID", *live]
            said = self._sandbox.run(view.name, shown, check=True).stdout if live else ""
            for block in filter(None, said.split("\n\n")):
                told = dict(line.split("=", 1) for line in block.splitlines() if line)
                lives[view.name, told["Id"]] = told["InvocationID"]
            for path in self._sandbox.path(view.name, "/var/tmp").glob("runs-*"):
                lives[view.name, path.name] = f"ran {len(path.read_text())} times"
        return lives

    # In the morning

    async def hammer(self, blows: int) -> None:
        """Change single units of a quiet cluster; each change is seen within REFLECTED_S."""
        worst_s = 0.0
        asked = dict.fromkeys((UnitName(f"{PREFIX}nail-{n}.service") for n in range(3)), "")
        for blow in range(blows + len(asked)):
            name = self._rng.choice(sorted(asked))
            target = self._rng.choice([each for each in HAMMERED if each != asked[name]])
            if blow >= blows:
                name, target = sorted(asked)[blow - blows], ""
            asked[name] = target
            if target:
                file = contents("quick", 0, self._rng.randrange(2))
                change = UnitChange(name=name, file=file, target=TargetState(target))
                await self._operators.change(change)
            else:
                await self._operators.destroy(name)
            if self._rng.random() < 0.7 or blow >= blows:  # else the next comes at its heels
                worst_s = max(worst_s, await self._until_seen(name, target))
        self._say(f"morning: {blows} changes seen, the slowest after {worst_s:.2f} s")

    async def _until_seen(self, name: UnitName, target: str) -> float:
        began_s = time.monotonic()
        expected = [_SEEN[target]] if target in _SEEN else []
        async with self._operators.api() as client:
            while True:
                seen = [(s.load, s.active, s.sub) for s in await client.states(unit=name)]
                took_s = time.monotonic() - began_s
                if seen == expected:
                    return took_s
                if took_s > REFLECTED_S:
                    raise Disorder(f"{name} is {seen}, not {expected}, after {took_s:.1f} s")
                await asyncio.sleep(0.02)


async def live_through(days: Days, *, count: int, deeds: int, blows: int) -> None:
    """So many days and nights, some of them without trouble. Raises Disorder."""
    for number in range(count):
        await days.day(deeds, trouble=(0.3, 0.0, 0.15)[number % 3])
        await days.night()
        await days.hammer(blows)
        days.check_journals()


@click.command()
@click.option("--seed", type=int, default=1)
@click.option("--days", type=int, default=5)
@click.option("--deeds", type=int, default=40, help="Deeds a day.")
@click.option("--blows", type=int, default=40, help="Single changes a morning.")
@click.option("--machines", type=int, default=3)
@click.option("--etcd", type=int, default=1)
@click.option("--name", default="chaos")
@click.option("--journals", type=click.Path(path_type=Path), default=Path("build/journals"))
def main(
    seed: int,
    days: int,
    deeds: int,
    blows: int,
    machines: int,
    etcd: int,
    name: str,
    journals: Path,
) -> None:
    """Live through random days on a sandbox; on disorder keep the journals."""
    settings = {"agent_ttl": f"{TTL_S:g}s"}
    with Sandbox.up(name, machines=machines, etcd=etcd, settings=settings) as sandbox:
        lived = Days(sandbox, seed, click.echo)
        try:
            asyncio.run(live_through(lived, count=days, deeds=deeds, blows=blows))
        except BaseException:
            sandbox.save_journals(journals / f"{name}-{seed}")
            raise


if __name__ == "__main__":
    main()
