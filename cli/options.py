"""The arguments and flags that several verbs of fleetctl share."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import click

from cli.completion.candidates import Finder, listed_words

if TYPE_CHECKING:
    from click.types import OptionHelpExtra

_Function = Callable[..., Any]


class Option(click.Option):
    """A flag that help shows without its denial and without the range of its values."""

    def get_help_extra(self, ctx: click.Context) -> "OptionHelpExtra":
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return (record[0].partition(" / ")[0], record[1]) if record else None


def examples(*lines: str) -> str:
    """The end of a verb's help: command lines to learn from."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def units_argument(candidates: Finder) -> Callable[[_Function], _Function]:
    """UNIT..., of which none is allowed: that is fleet 1.0's `No units given`, status 0."""
    return click.argument("units", nargs=-1, metavar="UNIT...", shell_complete=candidates)


def ssh_port_option(function: _Function) -> _Function:
    return click.option(
        "--ssh-port",
        cls=Option,
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help="Port of sshd there.",
    )(function)


def no_block_flag(function: _Function) -> _Function:
    return click.option(
        "--no-block", is_flag=True, help="Return when the cluster has been told, without waiting."
    )(function)


def attempts_flag(function: _Function) -> _Function:
    return click.option(
        "--block-attempts",
        type=int,
        default=0,
        metavar="N",
        help="Wait about 2 x N seconds at most; 0 has no end.",
    )(function)


def replace_flag(function: _Function) -> _Function:
    return click.option(
        "--replace", is_flag=True, help="Replace stored units whose files here are different."
    )(function)


def sign_flag(function: _Function) -> _Function:
    return click.option("--sign", is_flag=True, hidden=True)(function)


def list_flags(default_fields: str, columns: Iterable[str]) -> Callable[[_Function], _Function]:
    """The flags of the list verbs: --full, --no-legend and --fields, one of these columns."""
    known = sorted(columns)

    def decorate(function: _Function) -> _Function:
        for option in (
            click.option(
                "--fields",
                default=default_fields,
                metavar="LIST",
                show_default=True,
                shell_complete=listed_words(known),
                help=f"Columns, separated by commas. Known: {', '.join(known)}.",
            ),
            click.option("--no-legend", is_flag=True, help="Leave the header out."),
            click.option("-l", "--full", is_flag=True, help="Do not shorten ids and hashes."),
        ):
            function = option(function)
        return function

    return decorate
