"""The fleetctl program: global flags, the table of verbs, and what becomes of every error.

A verb's module is imported when the verb is used, and the libraries for the network after that.
Status: 0 for success, 1 for what went wrong, 2 for a command line that means nothing, 130 for
Ctrl-C; ssh, status and journal give the remote command's.
"""

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

import click

from cli.argv import Flag, Grammar, normalise
from cli.completion.candidates import any_file, candidate
from cli.settings import DEFAULT_ENDPOINT, DEFAULT_KNOWN_HOSTS, settings_from
from fleet import __version__
from fleet.errors import FleetError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

# Every verb with its summary; `list-units` is the command of the module `cli.fleetctl.list_units`.
VERBS = {
    "cat": "Print a unit file as its author wrote it",
    "completion": "Print the script that completes fleetctl's command lines in a shell",
    "destroy": "Stop units and remove them from the cluster",
    "events": "List what was done to the cluster, and what its engine decided",
    "fd-forward": "Join standard input and output to a socket (used by --tunnel)",
    "help": "Show the help of a command",
    "hold": "Show or give up the machines that vanished at once and are held",
    "journal": "Print the journal of a unit from the machine that runs it",
    "list-machines": "List the machines of the cluster",
    "list-unit-files": "List the units of the cluster, and where each is meant to run",
    "list-units": "List the units as systemd has them on each machine",
    "load": "Put units on machines without starting them",
    "restart": "Stop units and start them again where they are",
    "sandbox": "Boot real machines on this host to try fleet on",
    "ssh": "Open a shell, or run a command, on a machine or where a unit runs",
    "start": "Start units somewhere in the cluster, and wait until they run",
    "status": "Print systemctl status of units from the machines that run them",
    "stop": "Stop units where they run; they stay loaded there",
    "submit": "Store units in the cluster without running them",
    "unload": "Take units off their machines; they stay in the cluster",
    "verify": "Deprecated: signed units are no more",
    "version": "Print the version of fleetctl",
}
_HIDDEN = frozenset({"fd-forward", "verify"})
# Verbs that fleet 1.0 had not: they take no abbreviation away from those that it had.
_NEW = frozenset({"completion", "events", "hold", "sandbox"})
_DEBUG_FLAGS = frozenset({"--debug", "-debug", "--debug=true", "-debug=true"})
_HELP_FLAGS = ("-h", "--help")
# What a shell makes of a process that SIGPIPE ended: 128 + 13.
_EXIT_BROKEN_PIPE = 141
_EXIT_INTERRUPTED = 130

_F = TypeVar("_F", bound=Callable[..., Any])

_EXAMPLES = """\b
Examples:
  fleetctl list-machines
  fleetctl start web@1.service web@2.service
  fleetctl --tunnel host.example.com list-units
  fleetctl journal -f web@1.service

A verb may be shortened as long as it stays unique (list-m), and flags may stand before or after
it. Each global flag has a variable: FLEETCTL_TUNNEL for --tunnel; an empty one counts as unset.
"""


class _Fleetctl(click.Group):
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
        return verbs(ctx, None, incomplete)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, text) for name, text in sorted(VERBS.items()) if name not in _HIDDEN]
            )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] not in VERBS:
            raise click.UsageError(unknown_verb(args[0]), ctx)
        return super().resolve_command(ctx, args)


def _option(*names: str, **attributes: Any) -> Callable[[_F], _F]:
    """A global flag with its variable: FLEETCTL_ and the long name in capitals."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "FLEETCTL_" + long.removeprefix("--").upper().replace("-", "_")
    return click.option(*names, envvar=variable, **attributes)


@click.group(
    cls=_Fleetctl,
    invoke_without_command=True,
    context_settings={"help_option_names": list(_HELP_FLAGS), "max_content_width": 100},
    subcommand_metavar="COMMAND [ARGS]...",
    epilog=_EXAMPLES,
)
@_option(
    "--endpoint",
    default=DEFAULT_ENDPOINT,
    metavar="URL",
    show_default=True,
    help="Address of a fleetd API: unix:///path, http:// or https://.",
)
@_option("--tunnel", default="", metavar="HOST[:PORT]", help="Reach the endpoint through SSH.")
@_option(
    "--ssh-username",
    metavar="USER",
    help="User for SSH.  [default: of ssh_config, else core]",
)
@_option(
    "--ssh-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    help="Limit on setting up an SSH connection.",
)
@_option(
    "--ssh-config",
    metavar="FILE",
    shell_complete=any_file,
    help="An ssh_config to read.  [default: ~/.ssh/config]",
)
@_option(
    "--strict-host-key-checking/--no-strict-host-key-checking",
    default=True,
    show_default=True,
    help="Verify and record the host keys of machines.",
)
@_option(
    "--known-hosts-file",
    default=DEFAULT_KNOWN_HOSTS,
    metavar="FILE",
    shell_complete=any_file,
    show_default=True,
    help="Where the host keys are recorded.",
)
@_option(
    "--request-timeout",
    type=click.FloatRange(min=0, min_open=True),
    default=30.0,
    metavar="SECONDS",
    show_default=True,
    help="Limit on one request to the API; waiting for units has none.",
)
@_option(
    "--ca-file",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="Authority to check the endpoint against.",
)
@_option(
    "--cert-file",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="Certificate to show to the endpoint.",
)
@_option(
    "--key-file",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="Key of that certificate.",
)
@_option("--debug/--no-debug", default=False, help="Show requests, and tracebacks of errors.")
@_option("--driver", default="API", hidden=True)
@_option("--etcd-key-prefix", default="", hidden=True)
@_option("--experimental-api/--no-experimental-api", default=True, hidden=True)
@_option("--etcd-cafile", default="", hidden=True)
@_option("--etcd-certfile", default="", hidden=True)
@_option("--etcd-keyfile", default="", hidden=True)
@click.option("-v", "--version", is_flag=True, help="Print the version and leave.")
@click.pass_context
def fleetctl(ctx: click.Context, /, *, version: bool, **flags: Any) -> int | None:
    """Command a cluster of machines as if it were one systemd."""
    if version:
        click.echo(f"fleetctl version {__version__}")
        ctx.exit()
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
        ctx.exit()
    ctx.obj = settings_from(flags)
    if ctx.obj.debug:
        _trace()
    return None


def _trace() -> None:
    import logging

    logging.basicConfig(
        level=logging.DEBUG,
        format="%(asctime)s %(levelname)s %(filename)s:%(lineno)d: %(message)s",
        datefmt="%Y/%m/%d %H:%M:%S",
    )


def verbs(
    ctx: click.Context, param: click.Parameter | None, incomplete: str
) -> "list[CompletionItem[str]]":
    """The verbs that begin so, for completion."""
    shown = (name for name in sorted(VERBS) if name not in _HIDDEN)
    return [candidate(name, VERBS[name]) for name in shown if name.startswith(incomplete)]


def find_verb(typed: str) -> str | None:
    """The verb of that name, or the only one that begins so."""
    if typed in VERBS:
        return typed
    matching = [name for name in VERBS if name.startswith(typed) and name not in _HIDDEN]
    matching = [name for name in matching if name not in _NEW] or matching
    return matching[0] if typed and len(matching) == 1 else None


def unknown_verb(typed: str) -> str:
    """The complaint about a verb that does not exist, with those that may have been meant."""
    shown = [name for name in VERBS if name not in _HIDDEN]
    near = [name for name in shown if typed and name.startswith(typed)]
    near = near or difflib.get_close_matches(typed, shown)
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    return f"unknown command {typed!r}.{hint}"


def grammar_of(command: click.Command) -> Grammar:
    """The flags and subcommands of a click command, for `normalise`."""
    flags = {name: Flag(spelling=name) for name in _HELP_FLAGS}
    for parameter in command.params:
        if isinstance(parameter, click.Option):
            flags |= _flags_of(parameter)
    find = None
    if isinstance(command, click.Group):

        def find(name: str) -> tuple[str, Grammar] | None:
            inner = command.commands.get(name)
            return (name, grammar_of(inner)) if inner else None

    interspersed = command.context_settings.get("allow_interspersed_args", True)
    return Grammar(flags=flags, interspersed=interspersed or find is not None, find=find)


def _flags_of(option: click.Option) -> dict[str, Flag]:
    spelling = max(option.opts, key=len)
    off = option.secondary_opts[0] if option.secondary_opts else None
    takes_value = not (option.is_flag or option.count)
    flag = Flag(spelling=spelling, takes_value=takes_value, off=off)
    return {
        **dict.fromkeys(option.opts, flag),
        **{name: Flag(spelling=name, off=spelling) for name in option.secondary_opts},
    }


def root_grammar() -> Grammar:
    """The flags and verbs of fleetctl, for `normalise`."""

    def find(typed: str) -> tuple[str, Grammar] | None:
        verb = find_verb(typed)
        command = fleetctl.get_command(click.Context(fleetctl), verb) if verb else None
        return (verb, grammar_of(command)) if verb and command else None

    return Grammar(flags=grammar_of(fleetctl).flags, find=find)


def run(argv: Sequence[str]) -> int:
    """Run one command line and return its exit status; what went wrong is told on stderr."""
    debug = bool(os.environ.get("FLEETCTL_DEBUG")) or not _DEBUG_FLAGS.isdisjoint(argv)
    try:
        status = _invoke(argv)
        sys.stdout.flush()
        return status
    except click.UsageError as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        usage = error.ctx.get_usage() if error.ctx else "Usage: fleetctl COMMAND"
        click.echo(" ".join(usage.split()), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return _EXIT_INTERRUPTED
    except (FleetError, click.ClickException, OSError) as error:
        if debug:
            traceback.print_exc()
        click.echo(str(error), err=True)
        return 1
    except Exception as error:  # the last guard: a defect is one line, too
        if debug:
            traceback.print_exc()
        defect = f"{type(error).__name__}: {error}"
        click.echo(f"fleetctl is broken: {defect}. With --debug it says where.", err=True)
        return 1


def _invoke(argv: Sequence[str]) -> int:
    try:
        words = normalise(argv, root_grammar())
        with fleetctl.make_context("fleetctl", words) as context:
            status = fleetctl.invoke(context)
    except click.exceptions.Exit as leaving:
        return leaving.exit_code
    return status if isinstance(status, int) else 0


def main() -> None:
    """The console script `fleetctl`."""
    if "_FLEETCTL_COMPLETE" in os.environ:
        from cli.completion import shells

        sys.exit(shells.answer(fleetctl, root_grammar()))
    sys.exit(run(sys.argv[1:]))
