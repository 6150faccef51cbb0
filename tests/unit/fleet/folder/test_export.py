"""An export is a folder that makes the same units again."""

from pathlib import Path

import pytest

from fleet.errors import NotFound
from fleet.folder.assemble import assemble
from fleet.folder.difference import Inventory, StoredUnit, compare
from fleet.folder.export import export_files
from fleet.folder.reading import read_paths
from fleet.names import UnitName
from fleet.registry import text_digest
from fleet.states import TargetState
from fleet.unit import parse_unit

LAUNCHED, LOADED, INACTIVE = TargetState.LAUNCHED, TargetState.LOADED, TargetState.INACTIVE
WEB = "# mine\n[Service]\nExecStart=/bin/true\n"


def unit(
    name: str, target: TargetState = LAUNCHED, text: str | None = WEB, source: str = ""
) -> StoredUnit:
    file = parse_unit(text or WEB)
    return StoredUnit(
        name=UnitName(name),
        hash=file.hash,
        file=text_digest(file.text),
        target=target,
        text=text,
        source=source,
    )


def inventory(*units: StoredUnit) -> Inventory:
    return Inventory(units={unit.name: unit for unit in units})


@pytest.mark.parametrize(
    "there",
    [
        pytest.param(inventory(), id="nothing"),
        pytest.param(inventory(unit("a.service"), unit("b.timer", LOADED)), id="plain units"),
        pytest.param(
            inventory(
                unit("j@.service", INACTIVE),
                unit("j@1.service", LOADED),
                unit("j@2.service", LOADED),
                unit("j@3.service", INACTIVE),
                unit("j@4.service", LAUNCHED, "[Service]\nExecStart=/bin/other\n"),
                unit("j@5.service", LOADED, "[Service]\nExecStart=/bin/other\n"),
            ),
            id="a template with instances of several kinds",
        ),
        pytest.param(
            inventory(unit("j@1.service"), unit("j@2.service", LOADED)),
            id="instances without their template",
        ),
        pytest.param(inventory(unit(r"dev-disk\x2dby.mount", LOADED)), id="an escaped name"),
        pytest.param(inventory(unit("a.service", text="[Service]\r\nA=ü\r\n")), id="any text"),
    ],
)
def test_export_reads_back_as_the_same_units(there: Inventory, tmp_path: Path) -> None:
    for name, text in export_files(there).items():
        (tmp_path / name).write_bytes(text.encode())
    desired = assemble(read_paths([str(tmp_path)]))
    found = compare(desired, there, source="")
    assert (found.differing, found.unchanged) == ((), len(there.units))
    texts = {name: unit.file.text for name, unit in desired.units.items()}
    assert texts == {name: unit.text for name, unit in there.units.items()}


def test_instances_of_a_template_are_listed_and_have_no_files() -> None:
    there = inventory(unit("j@.service", INACTIVE), unit("j@1.service"), unit("j@2.service"))
    files = export_files(there)
    assert sorted(files) == ["fleet.toml", "j@.service"]
    assert files["fleet.toml"].endswith('[units."j@.service"]\ninstances = ["1", "2"]\n')


def test_source_that_all_units_have_is_the_folder_s() -> None:
    one, two = unit("a.service", source="shop"), unit("b.service", source="shop")
    assert 'source = "shop"\n' in export_files(inventory(one, two))["fleet.toml"]
    assert "source" not in export_files(inventory(one, unit("c.service")))["fleet.toml"]


def test_unit_whose_contents_are_missing_is_told() -> None:
    with pytest.raises(NotFound, match=r"the contents of a\.service are not in the cluster"):
        export_files(inventory(unit("a.service", text=None)))
