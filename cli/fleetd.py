"""The fleetd program: its command line, its configuration, and its signals.

Exit status: 0 when it was asked to stop, 1 when it cannot run, 2 for an unknown flag.
"""

import asyncio
import gc
import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cli.crossing import cross_restart
from cli.logs import set_up_logging
from fleet import __version__
from fleet.config import Config, load_config
from fleet.errors import FleetError

USAGE = """\
fleetd: make this machine part of a cluster that schedules systemd units.

Usage:
  fleetd [--config FILE]     run; FILE is /etc/fleet/fleet.conf if it exists
  fleetd --version           print the version

Each option of the file has a variable that counts before it: FLEET_ETCD_SERVERS for
etcd_servers. Without etcd_servers the machine is a cluster of its own, kept in SQLite.

Signals: SIGTERM stops fleetd and leaves its units running (see on_stop), SIGHUP reads the
configuration again, SIGUSR1 prints what fleetd knows as a line of JSON.
"""


class BadUsage(Exception):
    """A command line that means nothing; the text says why."""


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the command line asks for."""

    config: Path | None = None
    wants_version: bool = False
    wants_help: bool = False


def parse_arguments(words: Sequence[str]) -> Arguments:
    """The arguments, with one dash or two as the original took them; raises BadUsage."""
    if list(words) == ["version"]:
        return Arguments(wants_version=True)
    config: Path | None = None
    rest = list(words)
    while rest:
        word = rest.pop(0)
        flag, equals, value = word.partition("=")
        name = flag.removeprefix("-").removeprefix("-") if flag.startswith("-") else None
        if name == "version":
            return Arguments(wants_version=True)
        if name in ("help", "h"):
            return Arguments(wants_help=True)
        if name != "config":
            raise BadUsage(f"unknown argument {word!r}; fleetd takes --config FILE and --version")
        if not equals and not rest:
            raise BadUsage("--config needs the path of a file")
        config = Path(value if equals else rest.pop(0))
    return Arguments(config=config)


def main() -> None:
    """The console script `fleetd`."""
    sys.exit(run(sys.argv[1:]))


def run(words: Sequence[str]) -> int:
    """Run fleetd until it is told to stop, and return its exit status."""
    try:
        arguments = parse_arguments(words)
    except BadUsage as error:
        print(f"{error}\n\n{USAGE}", file=sys.stderr, end="")
        return 2
    if arguments.wants_version or arguments.wants_help:
        print(f"fleetd version {__version__}" if arguments.wants_version else USAGE.rstrip())
        return 0
    try:
        return _serve(arguments)
    except FleetError as error:
        print(f"fleetd cannot run: {error}", file=sys.stderr)
        return 1


def _serve(arguments: Arguments) -> int:
    def load() -> tuple[Config, tuple[str, ...]]:
        return load_config(arguments.config, os.environ)

    config, warnings = load()
    set_up_logging(verbose=config.verbosity > 0)
    bridge = cross_restart(config)
    # Imported late: a wrong flag or configuration is told at once, and the lease renewed before.
    # What is imported lives as long as fleetd: nobody need look at it for garbage, then or later.
    gc.disable()
    from cli.daemon import Daemon

    gc.freeze()
    gc.enable()
    daemon = Daemon(config, reload=load, bridge=bridge)
    daemon.warn(warnings)
    return asyncio.run(daemon.run())
