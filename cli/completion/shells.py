"""Answers a shell that asks how a command line may go on.

click does the finding; what is ours: lines in every style that `cli.argv` understands, global
flags behind the verb, and an answer that is never late, never asks and never complains.
"""

import os
import sys
from collections.abc import Iterable, Mapping

import click
from click.shell_completion import CompletionItem, ShellComplete

from cli.argv import Grammar, normalise, reads_flags
from cli.completion.line import Typed, escape, split_line
from cli.completion.scripts import SHELLS, script_of

VARIABLE = "_FLEETCTL_COMPLETE"
Item = CompletionItem[str]


def answer(cli: click.Command, grammar: Grammar) -> int:
    """Do what the variable in the environment asks: print a script, or candidates; the status."""
    shell, _, wish = os.environ[VARIABLE].partition("_")
    if shell not in SHELLS or wish not in ("source", "complete"):
        return 1
    if wish == "source":
        sys.stdout.write(script_of(shell))
        return 0
    _be_silent()
    completion = Completion(cli, grammar, shell, os.environ)
    sys.stdout.write("".join(f"{line}\n" for line in completion.lines()))
    sys.stdout.flush()
    # A thread may still be waiting for a cluster that does not answer.
    os._exit(0)


def _be_silent() -> None:
    """Nothing below may ask a question or print a word into the line that is being typed."""
    with open(os.devnull, "r+b", buffering=0) as nothing:
        os.dup2(nothing.fileno(), 0)
        os.dup2(nothing.fileno(), 2)


class Completion(ShellComplete):
    """One question of a shell."""

    name = "fleetctl"
    source_template = ""

    def __init__(
        self, cli: click.Command, grammar: Grammar, shell: str, asked: Mapping[str, str]
    ) -> None:
        super().__init__(cli, {}, "fleetctl", VARIABLE)
        self._grammar = grammar
        self._shell = shell
        self._typed = split_line(asked.get("_FLEETCTL_LINE", ""))
        self._word = asked.get("_FLEETCTL_WORD")

    def lines(self) -> list[str]:
        """A line for each candidate."""
        typed = self._typed
        flag, equals, value = typed.incomplete.partition("=")
        if not (equals and flag.startswith("-") and reads_flags(typed.words, self._grammar)):
            items = self.get_completions(list(typed.words), typed.incomplete)
        else:
            found = self.get_completions([*typed.words, flag], value)
            items = [_prefixed(f"{flag}=", item) for item in found]
        return [self.format_completion(item) for item in _each_once(items)]

    def get_completions(self, args: list[str], incomplete: str) -> list[Item]:
        is_flag = incomplete.startswith("-")
        if is_flag and not reads_flags(args, self._grammar):
            return []
        try:
            found = super().get_completions(normalise(args, self._grammar), incomplete)
            if is_flag and not found:
                found = super().get_completions([], incomplete)
        except click.ClickException:
            return []
        return found

    def format_completion(self, item: Item) -> str:
        value = item.value
        if self._shell != "fish" and not self._typed.quote:
            value = escape(value)
        if self._word is not None:
            value = _trimmed(value, self._typed, self._word)
        return "\t".join((item.type, value, " ".join((item.help or "").split())))


def _prefixed(prefix: str, item: Item) -> Item:
    return CompletionItem(prefix + item.value, type=item.type, help=item.help)


def _each_once(items: Iterable[Item]) -> list[Item]:
    return list({item.value: item for item in items}.values())


def _trimmed(value: str, typed: Typed, word: str) -> str:
    """What stands in for `word`, the part of the raw word that bash will replace.

    bash ends words at `=`, `:` and `@`, too.
    """
    before = typed.raw[: len(typed.raw) - len(word)]
    return value[len(before) :] if value.startswith(before) else value
