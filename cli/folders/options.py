"""The arguments and flags that diff and apply share."""

from collections.abc import Callable
from typing import Any

import click

from cli.completion.candidates import unit_files

_Function = Callable[..., Any]


def paths_argument(function: _Function) -> _Function:
    return click.argument(
        "paths", nargs=-1, required=True, metavar="PATH...", shell_complete=unit_files
    )(function)


def name_option(function: _Function) -> _Function:
    return click.option(
        "--name",
        default="",
        metavar="UNIT",
        help="The unit that standard input is, if it is one alone.",
    )(function)


def source_option(function: _Function) -> _Function:
    return click.option(
        "--source",
        metavar="NAME",
        help="What the units belong to.  [default: fleet.toml's, else the folder's]",
    )(function)


def prune_flag(function: _Function) -> _Function:
    return click.option(
        "--prune", is_flag=True, help="Destroy units of this source that it no longer has."
    )(function)
