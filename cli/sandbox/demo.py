"""`make demo`: three machines, units on them, a power cut, and the units elsewhere.

Everything it does is a command that the user can type, and is shown as such. The only thing it
does for itself is to find the machine whose loss is worth watching and to count the seconds.
"""

import asyncio
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cli.connect import connect
from cli.fleetctl.main import run as run_fleetctl
from cli.sandbox.cluster import Sandbox
from cli.sandbox.layout import Place
from cli.settings import Settings
from fleet.api.client import FleetClient
from fleet.config import Config
from fleet.errors import FleetError, NotFound, Unavailable
from fleet.names import UnitName

NAME = "demo"
EXAMPLES = Path(__file__).parents[2] / "examples"
WATCHED = UnitName("web.service")
UNITS = ("web", "worker@1", "worker@2", "log-shipper")
FAILOVER_DEADLINE_S = 60.0
_TICK_S = 0.1
_BOLD, _DIM, _PLAIN = "\x1b[1m", "\x1b[2m", "\x1b[0m"


def main() -> int:
    """Run the demo and leave its cluster up; the exit status is 1 if something went wrong."""
    if os.geteuid() != 0:
        print("make demo boots real machines, which takes root: sudo make demo", file=sys.stderr)
        return 1
    try:
        return _play()
    except FleetError as error:
        print(error, file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"\nstopped; to remove what is up: {fleetctl_path()} sandbox down --name {NAME}")
        return 130


def _play() -> int:
    say("Three machines, each with a systemd of its own, and an etcd beside them.")
    _remove_earlier()
    shown("sandbox", "up", "--name", NAME, "--machines", "3", hidden=("--no-hints",))
    settings = tunnel_settings("fleet1")
    say(f"From here on, fleetctl goes through an SSH tunnel, to {settings.tunnel}.")
    through("list-machines", settings=settings)
    say("A web server, two workers that avoid each other, and a log shipper for every machine.")
    _show(["cd", EXAMPLES.name])
    through("start", *UNITS, settings=settings)
    through("list-units", settings=settings)
    victim = asyncio.run(home_of(WATCHED, settings))
    settings = replace(settings, tunnel=survivor(victim))
    say(f"{WATCHED} runs on {victim}. Its power goes off now.")
    print(f"(A machine counts as lost {Config().agent_ttl_s:g} s after its last sign of life.)")
    shown("sandbox", "kill", "--name", NAME, victim)
    took_s = asyncio.run(count_until_elsewhere(WATCHED, victim, settings))
    say(f"{WATCHED} was active elsewhere {took_s:.1f} s after the power cut. What runs now:")
    through("list-units", settings=settings)
    say(farewell(victim))
    return 0


def farewell(victim: str) -> str:
    """How to go on playing: the lines that end the demo."""
    program = fleetctl_path()
    lines = [
        (f"{program} sandbox shell --name {NAME}", "a shell whose fleetctl speaks to it"),
        (f"{program} sandbox boot --name {NAME} {victim}", "the power comes back"),
        (f"{program} sandbox down --name {NAME}", "remove every trace of it"),
    ]
    width = max(len(command) for command, _ in lines)
    rows = [f"  {command:{width}}   {meaning}" for command, meaning in lines]
    return "\n".join(["The cluster stays up. Go on:", *rows])


def fleetctl_path() -> str:
    """How this fleetctl can be called from where the user is."""
    path = Path(sys.prefix) / "bin" / "fleetctl"
    here = Path.cwd()
    return str(path.relative_to(here)) if path.is_relative_to(here) else str(path)


def tunnel_settings(machine: str) -> Settings:
    """How to reach the demo's cluster through one of its machines."""
    place = Place(name=NAME)
    return Settings(
        tunnel=machine,
        ssh_config=str(place.ssh_config),
        known_hosts_file=str(place.top / "fleetctl_known_hosts"),
    )


def survivor(victim: str) -> str:
    """A machine to speak through while the victim is dead."""
    return next(name for name in ("fleet1", "fleet2") if name != victim)


async def home_of(unit: UnitName, settings: Settings) -> str:
    """The name of the machine that the unit runs on; raises Unavailable if it runs nowhere."""
    async with connect(settings) as client:
        machine = (await client.unit(unit)).machine
        names = await _names(client)
    if machine is None:
        raise Unavailable(f"{unit} is on no machine, so there is no loss of one to show")
    return names[machine]


async def count_until_elsewhere(unit: UnitName, victim: str, settings: Settings) -> float:
    """Show the seconds until the unit is up on another machine than the victim; those seconds."""
    began = time.monotonic()
    async with connect(settings) as client, asyncio.timeout(FAILOVER_DEADLINE_S):
        names = await _names(client)
        arrival = asyncio.ensure_future(_elsewhere(client, unit, names, victim))
        while not arrival.done():
            await asyncio.wait([arrival], timeout=_TICK_S)
            if sys.stdout.isatty():
                elapsed_s = time.monotonic() - began
                print(f"\r  {elapsed_s:4.1f} s  waiting for {unit} ...", end="", flush=True)
        took_s = time.monotonic() - began
        told = f"  {took_s:4.1f} s  {unit} is active on {arrival.result()}"
        print(f"\r{told}        " if sys.stdout.isatty() else told)
    return took_s


async def _elsewhere(
    client: FleetClient, unit: UnitName, names: Mapping[str, str], victim: str
) -> str:
    async for report in client.watch([unit]):
        for state in report.states:
            if state.is_up and names.get(state.machine, victim) != victim:
                return names[state.machine]
    raise Unavailable(f"the cluster stopped reporting on {unit}")


async def _names(client: FleetClient) -> dict[str, str]:
    """What the sandbox calls each machine, by id."""
    return {machine.id: machine.metadata["host"] for machine in await client.machines()}


def _remove_earlier() -> None:
    try:
        Sandbox.open(NAME)
    except NotFound:
        return
    shown("sandbox", "down", "--name", NAME)


def say(text: str) -> None:
    print(f"\n{_BOLD}{text}{_PLAIN}" if sys.stdout.isatty() else f"\n{text}", flush=True)


def shown(*words: str, hidden: tuple[str, ...] = ()) -> None:
    """Show a fleetctl command and run it; raises Unavailable if it fails.

    The hidden flags change what it says, not what it does.
    """
    _show(["fleetctl", *words])
    _check(run_fleetctl([*words, *hidden]), words)


def through(*words: str, settings: Settings) -> None:
    """Show a fleetctl command and run it through the tunnel; raises Unavailable if it fails."""
    _show([f"FLEETCTL_TUNNEL={settings.tunnel}", "fleetctl", *words])
    environment = {
        **os.environ,
        "FLEETCTL_TUNNEL": settings.tunnel,
        "FLEETCTL_SSH_CONFIG": settings.ssh_config or "",
        "FLEETCTL_KNOWN_HOSTS_FILE": settings.known_hosts_file,
    }
    program = str(Path(sys.prefix) / "bin" / "fleetctl")
    done = subprocess.run(  # noqa: S603
        [program, *words], env=environment, cwd=EXAMPLES, check=False
    )
    _check(done.returncode, words)


def _show(words: Sequence[str]) -> None:
    line = shlex.join(words)
    print(f"{_DIM}$ {line}{_PLAIN}" if sys.stdout.isatty() else f"$ {line}", flush=True)


def _check(status: int, words: Sequence[str]) -> None:
    if status:
        raise Unavailable(f"`fleetctl {shlex.join(words)}` failed with status {status}")


if __name__ == "__main__":
    sys.exit(main())
