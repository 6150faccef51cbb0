"""The page on parity names tests and files that there are."""

import re
from pathlib import Path

import pytest

_TESTS = Path(__file__).parents[1]
_PAGE = (_TESTS.parent / "docs" / "parity.md").read_text()
_QUOTED = sorted(set(re.findall(r"`([\w/]+(?:\.py)?)`", _PAGE)))
_DEFINED = {
    name
    for path in _TESTS.rglob("test_*.py")
    for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
}


@pytest.mark.parametrize("name", [word for word in _QUOTED if word.endswith(".py")])
def test_file_is_there(name: str) -> None:
    assert (_TESTS / name).exists() or list(_TESTS.rglob(name))


@pytest.mark.parametrize("name", [word for word in _QUOTED if re.fullmatch(r"test_\w+", word)])
def test_test_is_there(name: str) -> None:
    assert name in _DEFINED
