"""What is read of the cluster before anything is done: no more than it takes."""

from collections.abc import Iterable, Sequence

import pytest

from cli.carrying import stored_units
from fleet.api.client import FleetClient
from fleet.api.schema import Unit
from fleet.errors import NotFound
from fleet.names import UnitName

WANTED = [UnitName(f"w{number:02}.service") for number in range(20)]
OTHERS = [UnitName(f"o{number:02}.service") for number in range(50)]


class Shelf(FleetClient):
    """A cluster of these units, that notes what it is asked for."""

    def __init__(self, names: Iterable[UnitName]) -> None:
        self._units = {name: Unit(name=name) for name in names}
        self.asked: list[str] = []

    async def units(
        self, *, texts: bool = False, contents: bool = True, placed: bool = True
    ) -> tuple[Unit, ...]:
        what = {"texts": texts, "contents": contents, "placed": placed}
        self.asked.append(" ".join(name for name, wanted in what.items() if wanted) or "names")
        return tuple(self._units.values())

    async def unit(self, name: UnitName) -> Unit:
        self.asked.append(name)
        try:
            return self._units[name]
        except KeyError:
            raise NotFound(name) from None


@pytest.mark.parametrize(
    ("there", "asked"),
    [
        pytest.param([], ["names"], id="none of them is there"),
        pytest.param(WANTED[:2], ["names", *WANTED[:2]], id="few of them are there"),
        pytest.param(WANTED, ["names", "texts contents placed"], id="all are there"),
    ],
)
async def test_contents_of_all_units_are_read_only_if_many_of_them_are_wanted(
    there: Sequence[UnitName], asked: list[str]
) -> None:
    shelf = Shelf([*OTHERS, *there])
    found = await stored_units(shelf, WANTED, texts=True)
    assert list(found) == list(there)
    assert sorted(shelf.asked) == sorted(asked)


async def test_few_units_are_asked_for_one_by_one() -> None:
    shelf = Shelf([*OTHERS, WANTED[0]])
    found = await stored_units(shelf, WANTED[:3], texts=True)
    assert list(found) == WANTED[:1]
    assert sorted(shelf.asked) == WANTED[:3]


async def test_units_without_contents_are_one_list() -> None:
    shelf = Shelf([*OTHERS, *WANTED])
    found = await stored_units(shelf, WANTED, contents=False, placed=False)
    assert (list(found), shelf.asked) == (WANTED, ["names"])
