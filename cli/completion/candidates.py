"""What may stand where: units, unit files, machines, columns. click asks these functions.

The cluster is asked for at most LIMIT_S; if it cannot be reached there are no candidates.
"""

import os
from collections.abc import Awaitable, Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click

from cli.settings import Settings, settings_from
from fleet.errors import FleetError
from fleet.names import ADDRESSABLE_TYPES, split_name

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from fleet.api.client import FleetClient
    from fleet.api.schema import Unit
    from fleet.machine import Machine

    Items = list[CompletionItem[str]]

Finder = Callable[[click.Context, click.Parameter, str], "Items"]
_T = TypeVar("_T")

# A person waits no longer for a key to answer.
LIMIT_S = 1.0
_PART = "part"


def candidate(value: str, explanation: str = "", *, is_part: bool = False) -> "CompletionItem[str]":
    """A candidate with a word on it; after a part there is more to be typed."""
    from click.shell_completion import CompletionItem

    return CompletionItem(value, type=_PART if is_part else "plain", help=explanation)


# Units


def known_units(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """The units of the cluster, templates too."""
    return _units(ctx, param, incomplete, lambda _: True)


def placeable_units(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """The units of the cluster that can run, which a template cannot."""
    return _units(ctx, param, incomplete, lambda unit: not split_name(unit.name).is_template)


def templates(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """The templates of the cluster and of the folder."""
    found = [*_files(incomplete), *known_units(ctx, param, incomplete)]
    named = {
        item.value: item
        for item in found
        if item.type == _PART or split_name(os.path.basename(item.value)).is_template
    }
    return list(named.values())


def unit_files(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """The unit files of the folder, and the folders below it."""
    return _fresh(ctx, param, _files(incomplete))


def runnable_units(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """Unit files and the units of the cluster; of a template, the beginning of an instance."""
    found = [*_files(incomplete), *known_units(ctx, param, incomplete)]
    return _fresh(ctx, param, (_as_instance(item) for item in found))


def _as_instance(item: "CompletionItem[str]") -> "CompletionItem[str]":
    if not split_name(os.path.basename(item.value)).is_template:
        return item
    return candidate(item.value.rpartition("@")[0] + "@", "an instance", is_part=True)


def _units(
    ctx: click.Context,
    param: click.Parameter,
    incomplete: str,
    fits: "Callable[[Unit], bool]",
) -> "Items":
    async def ask(client: "FleetClient") -> "Sequence[Unit]":
        return await client.units()

    units = _ask(ctx, ask) or ()
    found = (
        candidate(unit.name, str(unit.desired or ""))
        for unit in units
        if unit.name.startswith(incomplete) and fits(unit)
    )
    return _fresh(ctx, param, found)


def _fresh(
    ctx: click.Context, param: click.Parameter, items: "Iterable[CompletionItem[str]]"
) -> "Items":
    """The candidates that are not on the line yet."""
    value = ctx.params.get(param.name or "")
    given = value if isinstance(value, tuple) else ()
    return [item for item in items if item.value not in given]


def _files(incomplete: str) -> "Items":
    folder = incomplete.rpartition("/")[0] + "/" if "/" in incomplete else ""
    prefix = incomplete[len(folder) :]
    try:
        entries = sorted(Path(os.path.expanduser(folder) or ".").iterdir())
    except OSError:
        return []
    found = []
    for entry in entries:
        name = entry.name
        if not name.startswith(prefix) or (name.startswith(".") and not prefix):
            continue
        if entry.is_dir():
            found.append(candidate(f"{folder}{name}/", is_part=True))
        elif name.rpartition(".")[2] in ADDRESSABLE_TYPES and "." in name:
            found.append(candidate(folder + name, "unit file"))
    return found


# Machines


def machines(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """The machines of the cluster, by the beginning of the id and by address."""
    return _machine_names(_ask(ctx, _machines) or (), incomplete)


def places(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """Where `fleetctl ssh` can go: machines and units; what follows is for the shell there."""
    if any(ctx.params.get(name) for name in ("words", "machine", "unit")):
        return []

    async def ask(client: "FleetClient") -> "tuple[Sequence[Machine], Sequence[Unit]]":
        return await client.machines(), await client.units()

    there, units = _ask(ctx, ask) or ((), ())
    return _machine_names(there, incomplete) + [
        candidate(unit.name, str(unit.desired or ""))
        for unit in units
        if unit.machine and unit.name.startswith(incomplete)
    ]


async def _machines(client: "FleetClient") -> "Sequence[Machine]":
    return await client.machines()


def _machine_names(there: "Sequence[Machine]", incomplete: str) -> "Items":
    found = []
    shorts = [machine.short_id for machine in there]
    for machine in there:
        is_short = len(incomplete) <= len(machine.short_id) and shorts.count(machine.short_id) == 1
        name = machine.short_id if is_short else machine.id
        told = [machine.address, *(f"{k}={v}" for k, v in sorted(machine.metadata.items()))]
        found.append(candidate(name, " ".join(filter(None, told))))
    found += [candidate(m.address, m.short_id) for m in there if m.address]
    return [item for item in found if item.value.startswith(incomplete)]


def _ask(ctx: click.Context, question: "Callable[[FleetClient], Awaitable[_T]]") -> _T | None:
    """The cluster's answer, None if it does not come in time.

    In a thread of its own: neither a name server that is silent nor the end of a connection that
    hangs may hold up the answer.
    """
    import queue
    import threading

    settings = settings_from(ctx.find_root().params)
    answers: queue.SimpleQueue[_T | None] = queue.SimpleQueue()

    def ask() -> None:
        try:
            answers.put(_session(settings, question))
        except (FleetError, OSError):
            answers.put(None)

    threading.Thread(target=ask, daemon=True).start()
    try:
        return answers.get(timeout=LIMIT_S)
    except queue.Empty:
        return None


def _session(settings: Settings, question: "Callable[[FleetClient], Awaitable[_T]]") -> _T:
    import asyncio

    from cli.connect import connect

    async def session() -> _T:
        async with connect(settings) as client:
            return await question(client)

    return asyncio.run(session())


# What is known without the cluster


def any_file(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
    """Files, which the shell itself completes best."""
    from click.shell_completion import CompletionItem

    return [CompletionItem(incomplete, type="file")]


def words(known: Iterable[str]) -> Finder:
    """One of these words."""
    listed = list(known)

    def find(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
        fitting = (word for word in listed if word.startswith(incomplete))
        return [candidate(word, is_part=word.endswith("=")) for word in fitting]

    return find


def listed_words(known: Iterable[str]) -> Finder:
    """Some of these words, with commas between."""
    listed = list(known)

    def find(ctx: click.Context, param: click.Parameter, incomplete: str) -> "Items":
        before, comma, half = incomplete.rpartition(",")
        chosen = before.split(",")
        return [
            candidate(f"{before}{comma}{word}", is_part=True)
            for word in listed
            if word.startswith(half) and word not in chosen
        ]

    return find
