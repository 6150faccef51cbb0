"""The fleetctl program: its global flags, and what becomes of every error.

Status: 0 for success, 1 for what went wrong, 2 for a command line that means nothing, 130 for
Ctrl-C; ssh, status and journal give the remote command's.
"""

import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from cli.argv import Flag, Grammar, normalise
from cli.completion.candidates import any_file
from cli.options import Option, Seconds
from cli.settings import DEFAULT_ENDPOINT, DEFAULT_KNOWN_HOSTS, settings_from
from cli.verbs import Verbs, find_verb
from fleet import __version__
from fleet.errors import FleetError

_DEBUG_FLAGS = frozenset({"--debug", "-debug", "--debug=true", "-debug=true"})
_HELP_FLAGS = ("-h", "--help")
# What a shell makes of a process that SIGPIPE ended: 128 + 13.
_EXIT_BROKEN_PIPE = 141
_EXIT_INTERRUPTED = 130
# New objects between two looks for garbage: a short command, its imports included, makes fewer.
_GARBAGE = 100_000

_F = TypeVar("_F", bound=Callable[..., Any])

_EXAMPLES = f"""\b
Examples:
  fleetctl start web.service              # a file in this folder
  fleetctl list-units
  fleetctl journal -f web.service         # wherever it runs
  fleetctl --tunnel host.example.com list-machines

`fleetctl help COMMAND` teaches a command by example. Commands may be shortened as long as they
stay unique (list-m), and flags may stand before or after them. Each global flag has a variable,
FLEETCTL_TUNNEL for --tunnel; an empty one counts as unset.

fleetctl version {__version__}
"""


def _option(*names: str, **attributes: Any) -> Callable[[_F], _F]:
    """A global flag with its variable: FLEETCTL_ and the long name in capitals."""
    long = next(name for name in names if name.startswith("--")).partition("/")[0]
    variable = "FLEETCTL_" + long.removeprefix("--").upper().replace("-", "_")
    return click.option(*names, cls=Option, envvar=variable, **attributes)


@click.group(
    cls=Verbs,
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
    help="Where fleetd's API is: unix:///path, http:// or https://.",
)
@_option(
    "--tunnel",
    default="",
    metavar="HOST[:PORT]",
    help="Go there through SSH to this host.",
)
@_option(
    "--ssh-username",
    metavar="USER",
    help="SSH user.  [default: ssh_config's, else core]",
)
@_option(
    "--ssh-timeout",
    type=Seconds(),
    default=10.0,
    metavar="SECONDS",
    show_default=True,
    help="Limit on setting up SSH.",
)
@_option(
    "--ssh-config",
    metavar="FILE",
    shell_complete=any_file,
    help="ssh_config to read.  [default: ~/.ssh/config]",
)
@_option(
    "--strict-host-key-checking/--no-strict-host-key-checking",
    default=True,
    help="Check and record host keys, unless =false.",
)
@_option(
    "--known-hosts-file",
    default=DEFAULT_KNOWN_HOSTS,
    metavar="FILE",
    shell_complete=any_file,
    show_default=True,
    help="Where host keys are recorded and looked up.",
)
@_option(
    "--request-timeout",
    type=Seconds(),
    default=30.0,
    metavar="SECONDS",
    show_default=True,
    help="Limit on a request, not on waiting for units.",
)
@_option(
    "--ca-file",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="Authority that vouches for an https endpoint.",
)
@_option(
    "--cert-file",
    default="",
    metavar="FILE",
    shell_complete=any_file,
    help="Certificate to show to it.",
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
    except click.exceptions.NoArgsIsHelpError as error:
        error.show(sys.stdout)
        return 0
    except click.UsageError as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        usage = (error.ctx or _context_of(argv)).get_usage()
        click.echo(" ".join(usage.split()), err=True)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_BROKEN_PIPE
    except (KeyboardInterrupt, click.Abort):
        return _EXIT_INTERRUPTED
    except (FleetError, click.ClickException, OSError) as error:
        if debug:
            sys.excepthook(*sys.exc_info())
        click.echo(str(error), err=True)
        return 1
    except Exception as error:  # the last guard: a defect is one line, too
        if debug:
            sys.excepthook(*sys.exc_info())
        defect = f"{type(error).__name__}: {error}"
        click.echo(f"fleetctl is broken: {defect}. With --debug it says where.", err=True)
        return 1


def _context_of(argv: Sequence[str]) -> click.Context:
    """The context of the verb on the line, as far as it can be seen."""
    root = click.Context(fleetctl, info_name="fleetctl")
    verb = next(filter(None, map(find_verb, argv)), None)
    found = fleetctl.get_command(root, verb) if verb else None
    return click.Context(found, info_name=verb, parent=root) if found else root


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
    gc.set_threshold(_GARBAGE)
    status = run(sys.argv[1:])
    gc.freeze()  # nothing that is left is worth a search for cycles, a tenth of a short command
    sys.exit(status)
