"""What operators do on a random day, and what they wished for by it.

Deeds are drawn first and done later, perhaps beside others: what is drawn depends on the seed only.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass

from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Kind
from fleet.api.client import FleetClient
from fleet.cluster import Cluster
from fleet.errors import FleetError, NotFound
from fleet.machine import MachineId
from fleet.names import UnitName
from fleet.registry import UnitChange
from fleet.states import TargetState
from tests.cluster.menu import HOW_MANY, KINDS, PREFIX, contents

COMMAND_S = 20
# How long an operator waits for an answer of the API.
PATIENCE_S = 8.0

Deed = Callable[[], Awaitable[str]]
"""Something to do; it returns a line about what was done, and raises FleetError if it fails."""


class Disorder(AssertionError):
    """The cluster is not as it has to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What was asked of a unit last; target "" is its absence."""

    target: str = ""
    hash: str = ""


class Operators:
    """Several people with the same cluster. While it is `troubled` they put up with errors."""

    def __init__(self, sandbox: Sandbox, rng: random.Random) -> None:
        self._sandbox = sandbox
        self._rng = rng
        self._machines = [node.name for node in sandbox.spec.of_kind(Kind.MACHINE)]
        # None: nobody can know, since it was changed by two at once, or the answer was lost.
        self._wishes: dict[UnitName, Wish | None] = {}
        self._busy: set[UnitName] = set()
        self.troubled = False

    def draw(self) -> Deed:
        """Something that one of them will do."""
        deeds: Sequence[Callable[[], Deed]] = (
            *[self._set_target] * 8,
            *[self._replace] * 3,
            *[self._destroy] * 3,
            self._destroy_and_start,
            *[self._bulk] * 2,
            self._two_at_once,
            self._metadata,
            self._by_hand,
            self._reload,
            self._command,
        )
        return self._rng.choice(deeds)()

    def unfulfilled(self, cluster: Cluster) -> list[str]:
        """What the store holds of units, where that is not what was asked for last."""
        wrong = []
        for name, wish in self._wishes.items():
            record = cluster.units.get(name)
            found = Wish(target=record.target, hash=record.hash) if record else Wish()
            if wish not in (None, found):
                wrong.append(f"{name} was to be {wish}, and is {found} in the store")
            self._wishes[name] = found
        return wrong

    # What all deeds are made of

    @asynccontextmanager
    async def api(self) -> AsyncIterator[FleetClient]:
        """The API of one of the machines that have power."""
        on = [name for name in self._machines if self._sandbox.is_on(name)]
        machine = self._rng.choice(on or self._machines)
        endpoint = f"unix://{self._sandbox.socket(machine)}"
        async with FleetClient(endpoint, read_s=PATIENCE_S) as client:
            yield client

    async def change(self, *changes: UnitChange) -> None:
        """Apply the changes, and remember them."""
        names = {change.name for change in changes}
        raced = self._begin(names)
        try:
            async with self.api() as client:
                await client.apply(changes)
            for change in changes:
                old = self._wishes.get(change.name) or Wish()
                target = change.target or (TargetState.INACTIVE if change.file else old.target)
                hash_ = change.file.hash if change.file else old.hash
                self._wishes[change.name] = Wish(target=str(target), hash=hash_)
        except BaseException:
            raced = names
            raise
        finally:
            self._end(names, raced)

    async def destroy(self, name: UnitName) -> None:
        """Destroy the unit, which need not be there, and remember it."""
        raced = self._begin({name})
        try:
            async with self.api() as client:
                await client.destroy(name)
            self._wishes[name] = Wish()
        except NotFound:
            pass
        except BaseException:
            raced = {name}
            raise
        finally:
            self._end({name}, raced)

    def _begin(self, names: set[UnitName]) -> set[UnitName]:
        raced = self._busy & names
        self._busy |= names
        return raced

    def _end(self, names: set[UnitName], raced: Iterable[UnitName]) -> None:
        self._busy -= names
        self._wishes |= dict.fromkeys(raced)

    def _pick(self) -> tuple[str, int, UnitName]:
        kind, number = self._rng.choice(sorted(KINDS)), self._rng.randrange(HOW_MANY)
        return kind, number, UnitName(f"{PREFIX}{kind}-{number}.service")

    # Deeds

    def _set_target(self) -> Deed:
        kind, number, name = self._pick()
        target = self._rng.choice([*[TargetState.LAUNCHED] * 4, *TargetState])

        async def deed() -> str:
            file = None if (self._wishes.get(name) or Wish()).hash else contents(kind, number, 0)
            await self.change(UnitChange(name=name, file=file, target=target))
            return f"{name} -> {target}"

        return deed

    def _replace(self) -> Deed:
        kind, number, name = self._pick()
        version = self._rng.randrange(4)

        async def deed() -> str:
            await self._launch(name, kind, number, version)
            return f"{name} version {version} -> launched"

        return deed

    def _destroy(self) -> Deed:
        _, _, name = self._pick()

        async def deed() -> str:
            await self.destroy(name)
            return f"{name} destroyed"

        return deed

    def _destroy_and_start(self) -> Deed:
        kind, number, name = self._pick()
        version = self._rng.randrange(4)

        async def deed() -> str:
            await self.destroy(name)
            await self._launch(name, kind, number, version)
            return f"{name} destroyed, and at once version {version} -> launched"

        return deed

    async def _launch(self, name: UnitName, kind: str, number: int, version: int) -> None:
        file = contents(kind, number, version)
        await self.change(UnitChange(name=name, file=file, target=TargetState.LAUNCHED))

    def _two_at_once(self) -> Deed:
        kind, number, name = self._pick()
        file = contents(kind, number, 0)
        other = self._rng.choice([TargetState.LAUNCHED, TargetState.LOADED, None])

        async def deed() -> str:
            second = (
                self.change(UnitChange(name=name, file=file, target=other))
                if other
                else self.destroy(name)
            )
            first = self._launch(name, kind, number, 0)
            for result in await asyncio.gather(first, second, return_exceptions=True):
                if isinstance(result, BaseException) and not isinstance(result, FleetError):
                    raise result
            return f"{name} -> launched and {other or 'destroyed'} at once"

        return deed

    def _bulk(self) -> Deed:
        size, first = self._rng.choice((30, 100, 150)), self._rng.choice((0, 100))
        target = self._rng.choice(("launched", "launched", "loaded", "inactive", ""))
        version = self._rng.choice((0, 0, 1))
        names = [UnitName(f"{PREFIX}bulk@{first + number}.service") for number in range(size)]

        async def deed() -> str:
            if target:
                file, state = contents("quick", 0, version), TargetState(target)
                await self.change(*(UnitChange(name=n, file=file, target=state) for n in names))
            for start in range(0, 0 if target else size, 30):
                await asyncio.gather(*(self.destroy(n) for n in names[start : start + 30]))
            return f"{size} units from {names[0]} -> {target or 'destroyed'}, version {version}"

        return deed

    def _metadata(self) -> Deed:
        machine = self._rng.choice(self._machines)
        value = self._rng.choice(("ssd", "ssd", "hdd", None))

        async def deed() -> str:
            machine_id = MachineId(self._sandbox.machine(machine).id)
            async with self.api() as client:
                await client.set_metadata([(machine_id, "disk", value)])
            return f"metadata disk={value} on {machine}"

        return deed

    def _by_hand(self) -> Deed:
        _, _, name = self._pick()
        verb = self._rng.choice(("stop", "stop", "restart", "kill", "reset-failed"))
        return self.script(f"systemctl {verb} {name}")

    def _reload(self) -> Deed:
        return self.script("systemctl daemon-reload")

    def script(self, script: str) -> Deed:
        """A shell script on one of the machines, if it has power."""
        machine = self._rng.choice(self._machines)

        async def deed() -> str:
            if self._sandbox.is_on(machine):
                await asyncio.to_thread(self._sandbox.run, machine, ["sh", "-c", script])
            return f"{script} on {machine}"

        return deed

    def _command(self) -> Deed:
        """A fleetctl that waits, on a machine; not while the cluster is troubled."""
        name = UnitName(f"{PREFIX}{self._rng.choice(('solo', 'quick'))}-9.service")
        verb = self._rng.choice(("restart", "start", "stop", "unload", "destroy"))
        machine = self._rng.choice(self._machines)
        script = f"mkdir -p /run/desk && cd /run/desk && cat >{name} && fleetctl {verb} {name}"
        argv = ["timeout", f"{COMMAND_S}", "sh", "-c", script]
        text = contents("quick", 9, 0).text

        async def deed() -> str:
            if self.troubled:
                return f"no fleetctl {verb} {name}"
            done = await asyncio.to_thread(self._sandbox.run, machine, argv, stdin=text)
            self._wishes[name] = None
            said = (done.stdout + done.stderr).strip().replace("\n", " | ")
            if done.returncode == 124:
                raise Disorder(f"fleetctl {verb} {name} waited for {COMMAND_S} s: {said}")
            return f"fleetctl {verb} {name}: {done.returncode} {said}"

        return deed
