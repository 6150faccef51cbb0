"""Unit files at random: whatever comes is read or refused, and reading it loses nothing."""

import time
from collections.abc import Callable
from typing import TypeVar

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from fleet.errors import InvalidUnit
from fleet.options import MAX_LETTERS, MAX_WORDS, check_unit, fleet_options, read_requirements
from fleet.unit import (
    MAX_UNIT_BYTES,
    UnitFile,
    UnitOption,
    parse_unit,
    read_unit,
    unit_from_options,
)

pytestmark = pytest.mark.fuzz

_T = TypeVar("_T")

# What the grammar looks at, so that random text often means something.
_SIGNS = [
    *("\n", "\\", "\\\n", "[", "]", "=", "#", ";", '"', " ", "\t", "\r", "\ufeff", "\0"),
    *(
        "%n",
        "%i",
        "*",
        "?",
        "\udcff",
        "\x85",
        "\u2028",
        "[Unit]\n",
        "[Service]\n",
        "[X-Fleet]\n",
        "\n\n",
    ),
    *("ExecStart=/bin/true\n", "Global=true\n", "Conflicts=", "MachineMetadata=", "MachineOf="),
    *("Replaces=", "MachineID=", "a", "b.service", "key=value"),
]
_pieces = st.one_of(st.sampled_from(_SIGNS), st.text(max_size=5))
texts = st.lists(_pieces, max_size=60).map("".join)
values = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=20)
options = st.builds(UnitOption, values, values, values)


def attempt(act: Callable[[], _T]) -> _T | None:
    """What it gives, or None where it is refused, which has to be in few words."""
    try:
        return act()
    except InvalidUnit as error:
        words = str(error)
    assert len(words) < 1500
    return None


def read(text: str) -> UnitFile | None:
    return attempt(lambda: parse_unit(text, path="a.service"))


@given(texts)
def test_any_text_is_read_without_loss_or_refused(text: str) -> None:
    file = read(text)
    assume(file is not None)
    assert file is not None
    assert file.text == text
    assert read_unit(text.encode()) == file
    assert all(text.split("\n")[option.line - 1].strip() for option in file.options)


@given(texts)
def test_canonical_text_is_its_own_and_keeps_the_hash(text: str) -> None:
    file = read(text)
    # A backslash at the very end continues into nothing; fleet 1.0 read it as it stands.
    assume(file is not None and not any(o.value.endswith("\\") for o in file.options))
    assert file is not None
    again = parse_unit(file.canonical)
    assert again.canonical == file.canonical
    assert again.hash == file.hash
    assert sorted(map(_content, again.options)) == sorted(map(_content, file.options))


def _content(option: UnitOption) -> tuple[str, str, str]:
    return option.section, option.name, option.value


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    file = attempt(lambda: read_unit(data))
    assert file is None or file.text.encode() == data


@given(texts)
def test_wishes_of_any_unit_are_understood_or_refused(text: str) -> None:
    file = read(f"[X-Fleet]\n{text}")
    assume(file is not None)
    assert file is not None
    attempt(lambda: check_unit(file))
    attempt(lambda: read_requirements(fleet_options(file), "a@b.service"))


@given(st.lists(options, max_size=8))
def test_any_options_make_a_file_that_says_them_or_none(given_options: list[UnitOption]) -> None:
    file = attempt(lambda: unit_from_options(given_options))
    assert file is None or parse_unit(file.text).options == file.options


_FULL = MAX_UNIT_BYTES - 100


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("\n" * _FULL, id="empty lines"),
        pytest.param("[" * _FULL, id="one bracket after the other"),
        pytest.param("[S]\n" + "x" * _FULL, id="one long line"),
        pytest.param("[S]\nA=\\\n" + "\\\n" * (_FULL // 2 - 9), id="a value without end"),
        pytest.param("#\\\n" * (_FULL // 3), id="a comment without end"),
        pytest.param("[S]\n" + "A=\n" * (_FULL // 3 - 2), id="very many options"),
        pytest.param("".join(f"[{n}]\nA=\n" for n in range(_FULL // 14)), id="very many sections"),
        pytest.param("[X-Fleet]\nConflicts=" + "*a" * (_FULL // 2 - 20), id="a pattern of stars"),
        pytest.param("[X-Fleet]\n" + "Conflicts=*a*\n" * (_FULL // 15), id="many patterns"),
        pytest.param(
            "[X-Fleet]\n" + "Conflicts=*a*b\nMachineOf=a.service\n" * (_FULL // 40),
            id="many patterns and many peers",
        ),
        pytest.param("[X-Fleet]\nConflicts=" + "%n" * (MAX_LETTERS // 2), id="a name many times"),
        pytest.param("[X-Fleet]\n" + "Conflicts=*a*\n" * (MAX_WORDS + 1), id="one too many"),
    ],
)
def test_unit_of_the_largest_size_stalls_nobody(text: str) -> None:
    began_s = time.process_time()
    file = read(text)
    if file is not None:
        wishes = fleet_options(file)
        attempt(lambda: read_requirements(wishes, f"{'a' * 240}.service"))
        attempt(lambda: check_unit(file))
    # Before there were bounds, three of them took from 20 to 200 seconds.
    assert time.process_time() - began_s < 15
