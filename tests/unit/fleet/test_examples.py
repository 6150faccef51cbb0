"""The unit files that users are given to start from are sound, and fleet knows all they ask."""

from pathlib import Path

import pytest

from fleet.names import parse_name, split_name
from fleet.options import check_unit, fleet_options, read_requirements, unknown_options
from fleet.unit import read_unit

_EXAMPLES = sorted(
    path
    for path in (Path(__file__).parents[3] / "examples").iterdir()
    if path.suffix in (".service", ".timer", ".socket", ".path", ".mount")
)


def test_there_are_examples() -> None:
    assert _EXAMPLES


@pytest.mark.parametrize("path", _EXAMPLES, ids=lambda path: path.name)
def test_example_is_sound(path: Path) -> None:
    name = parse_name(path.name)
    unit = read_unit(path.read_bytes(), path=path.name)

    check_unit(unit, path=path.name)
    assert unknown_options(unit) == ()
    assert unit.description
    if split_name(name).is_template:
        name = parse_name(name.replace("@.", "@1."))
    read_requirements(fleet_options(unit), name)
