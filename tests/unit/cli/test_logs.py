import logging

import pytest

from cli.logs import DaemonFormatter


@pytest.mark.parametrize(
    ("level", "for_journal", "expected"),
    [
        pytest.param(logging.INFO, False, "INFO loop.py:7: unit x\nis up", id="a person reads"),
        pytest.param(logging.WARNING, False, "WARN loop.py:7: unit x\nis up", id="go's word"),
        pytest.param(
            logging.ERROR,
            True,
            "<3>ERROR loop.py:7: unit x\n<3>is up",
            id="journald gets a priority on every line",
        ),
    ],
)
def test_formatter_writes_level_place_and_text(
    level: int, for_journal: bool, expected: str
) -> None:
    record = logging.LogRecord("engine", level, "/x/loop.py", 7, "unit %s\nis up", ("x",), None)

    assert DaemonFormatter(for_journal=for_journal).format(record) == expected
