"""The arguments and flags that several verbs of fleetctl share."""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from cli.completion.candidates import Finder

if TYPE_CHECKING:
    from click.types import OptionHelpExtra

_Function = Callable[..., Any]


class Seconds(click.FloatRange):
    """A time in seconds, longer than none."""

    name = "number of seconds"

    def __init__(self) -> None:
        super().__init__(min=0, min_open=True)


class Option(click.Option):
    """A flag that help shows without its denial and without the range of its values."""

    def get_help_extra(self, ctx: click.Context) -> "OptionHelpExtra":
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra

    def get_error_hint(self, ctx: click.Context | None) -> str:
        """The variable, if it is that which has a value that cannot be."""
        source = ctx.get_parameter_source(self.name) if ctx and self.name else None
        if source is ParameterSource.ENVIRONMENT and isinstance(self.envvar, str):
            return self.envvar
        return super().get_error_hint(ctx)

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        record = super().get_help_record(ctx)
        return (record[0].partition(" / ")[0], record[1]) if record else None


def examples(*lines: str) -> str:
    """The end of a verb's help: command lines to learn from."""
    return "\b\nExamples:\n" + "\n".join(f"  {line}" for line in lines)


def units_argument(candidates: Finder) -> Callable[[_Function], _Function]:
    """UNIT...; none at all is fleet 1.0's `No units given`, status 0, and the verb is not asked."""

    def decorate(function: _Function) -> _Function:
        @functools.wraps(function)
        def unless_none(*args: Any, units: tuple[str, ...], **flags: Any) -> int:
            if not units:
                click.echo("No units given", err=True)
                return 0
            status: int = function(*args, units=units, **flags)
            return status

        argument = click.argument("units", nargs=-1, metavar="UNIT...", shell_complete=candidates)
        return argument(unless_none)

    return decorate


def ssh_port_option(function: _Function) -> _Function:
    return click.option(
        "--ssh-port",
        cls=Option,
        type=click.IntRange(1, 65535),
        metavar="PORT",
        help="Port of sshd there.",
    )(function)


def patience_flags(function: _Function) -> _Function:
    """--no-block and --block-attempts, which the verb gets as its `patience`."""
    no_block = click.option(
        "--no-block", is_flag=True, help="Return when the cluster has been told, without waiting."
    )
    return no_block(attempts_flag(function))


def attempts_flag(function: _Function) -> _Function:
    """--block-attempts alone, for a verb that has to wait."""

    @functools.wraps(function)
    def patient(*args: Any, block_attempts: int, no_block: bool = False, **flags: Any) -> int:
        from cli.carrying import Patience  # with all that waiting takes

        patience = Patience(block=not no_block, attempts=block_attempts)
        status: int = function(*args, patience=patience, **flags)
        return status

    return click.option(
        "--block-attempts",
        type=int,
        default=0,
        metavar="N",
        help="Wait about 2 x N seconds at most; 0 has no end.",
    )(patient)


def unavailable_option(help_text: str) -> Callable[[_Function], _Function]:
    """--max-unavailable, with what the verb does about it."""
    return click.option(
        "--max-unavailable",
        cls=Option,
        type=click.IntRange(1, 999_999),
        metavar="N",
        help=help_text,
    )


def creation_flags(function: _Function) -> _Function:
    """--replace, and --sign, which fleet 1.0 took and passed over."""

    @functools.wraps(function)
    def unsigned(*args: Any, sign: bool, **flags: Any) -> int:
        status: int = function(*args, **flags)
        return status

    replace = click.option(
        "--replace", is_flag=True, help="Replace stored units whose files here are different."
    )
    return replace(click.option("--sign", is_flag=True, hidden=True)(unsigned))
