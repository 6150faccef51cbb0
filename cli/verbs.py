"""The verbs of fleetctl: what there is, what a user may have meant, and how help shows them.

A verb's module is imported when the verb is used: `list-units` is the command of the module
`cli.fleetctl.list_units`.
"""

import importlib
from typing import TYPE_CHECKING

import click

from cli.completion.candidates import candidate

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Every verb with its summary, in the order in which a newcomer meets them.
_GROUPS = {
    "To run units": {
        "start": "Start units somewhere in the cluster, wait until they run",
        "stop": "Stop units where they run; they stay loaded there",
        "restart": "Stop units and start them again where they are",
        "scale": "Run so many instances of a template, and no more",
        "submit": "Store units in the cluster without running them",
        "load": "Put units on machines without starting them",
        "unload": "Take units off their machines; they stay in the cluster",
        "destroy": "Stop units and remove them from the cluster",
        "wait": "Wait until units are active, inactive or gone",
    },
    "To keep units in files": {
        "diff": "Show what would change if the cluster matched a folder",
        "apply": "Make the cluster match a folder of unit files",
        "export": "Write the cluster's units to a folder",
        "sync": "Have the cluster follow a git repository",
    },
    "To see what there is": {
        "list-machines": "List the machines of the cluster",
        "list-units": "List the units as systemd has them on each machine",
        "list-unit-files": "List the units, and where each is meant to run",
        "cat": "Print a unit file as its author wrote it",
        "why": "Say why a unit is where it is, and why not elsewhere",
        "history": "Tell what happened to a unit: when, by whom, why",
        "events": "List what was done to the cluster, and decided in it",
    },
    "To go where units run": {
        "status": "Print systemctl's status of units from their machines",
        "journal": "Print the journal of a unit from its machine",
        "ssh": "Open a shell, or run a command, on a unit's machine",
    },
    "To look after machines": {
        "cordon": "Let machines take no new units; what runs there stays",
        "drain": "Move units off machines, each only when it is up elsewhere",
        "uncordon": "Let machines take units again",
        "rebalance": "Move units to even out the load",
    },
    "And beside": {
        "sandbox": "Boot real machines on this host to try fleet on",
        "simulate": "Try where units would go in a cluster of any size",
        "hold": "Show, or give up, machines that vanished all at once",
        "completion": "Print the script that completes command lines in a shell",
        "help": "Show the help of a command",
        "version": "Print the version of fleetctl",
    },
}
_HIDDEN = {
    "fd-forward": "Join standard input and output to a socket (used by --tunnel)",
    "verify": "Deprecated: signed units are no more",
}
SHOWN_VERBS = {name: text for group in _GROUPS.values() for name, text in group.items()}
VERBS = {**SHOWN_VERBS, **_HIDDEN}
# The verbs that fleet 1.0 had: those that it had not take no abbreviation away from them.
_OF_FLEET_1 = frozenset(
    "cat destroy fd-forward help journal list-machines list-unit-files list-units load restart ssh "
    "start status stop submit unload verify version".split()
)


def find_verb(typed: str) -> str | None:
    """The verb of that name, or the only one that begins so."""
    if typed in VERBS:
        return typed
    matching = [name for name in SHOWN_VERBS if name.startswith(typed)]
    matching = [name for name in matching if name in _OF_FLEET_1] or matching
    return matching[0] if typed and len(matching) == 1 else None


def unknown_verb(typed: str) -> str:
    """The complaint about a verb that does not exist, with those that may have been meant."""
    import difflib  # a verb that exists does without

    near = sorted(name for name in SHOWN_VERBS if typed and name.startswith(typed))
    near = near or difflib.get_close_matches(typed, SHOWN_VERBS)
    hint = f"Did you mean {' or '.join(near)}?" if near else "fleetctl help lists what there is."
    return f"unknown command {typed!r}. {hint}"


def verbs_like(
    ctx: click.Context, param: click.Parameter | None, incomplete: str
) -> "list[CompletionItem[str]]":
    """The verbs that begin so, for completion."""
    found = sorted(name for name in SHOWN_VERBS if name.startswith(incomplete))
    return [candidate(name, SHOWN_VERBS[name]) for name in found]


class Verbs(click.Group):
    """The group of verbs, each imported on demand."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in VERBS:
            return None
        module = importlib.import_module(f"cli.fleetctl.{cmd_name.replace('-', '_')}")
        command: click.Command = module.command
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> "list[CompletionItem[str]]":
        if incomplete.startswith("-"):
            return click.Command.shell_complete(self, ctx, incomplete)
        return verbs_like(ctx, None, incomplete)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The verbs first: who reads this looks for one of them."""
        width = max(map(len, SHOWN_VERBS))
        for title, group in _GROUPS.items():
            with formatter.section(title):
                formatter.write_dl([(f"{name:{width}}", text) for name, text in group.items()])
        shown = [parameter.get_help_record(ctx) for parameter in self.get_params(ctx)]
        with formatter.section("Global options"):
            formatter.write_dl([record for record in shown if record])

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS:
            raise click.UsageError(unknown_verb(args[0]), ctx)
        return super().resolve_command(ctx, args)
