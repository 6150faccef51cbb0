import pytest

from cli.tables import (
    MACHINE_COLUMNS,
    MACHINE_FIELDS,
    STATE_COLUMNS,
    STATE_FIELDS,
    UNIT_COLUMNS,
    UNIT_FIELDS,
    View,
    align,
    parse_fields,
    render_list,
)
from fleet.api.schema import ListedState, Unit
from fleet.errors import InvalidRequest
from fleet.machine import Machine, MachineId
from fleet.names import UnitName
from fleet.states import TargetState
from fleet.unit import parse_unit

HERE = MachineId("113f16a7b5be4a7ba3a9d58bf1b0b2c1")
GONE = MachineId("2222bbbbb5be4a7ba3a9d58bf1b0b2c1")
VIEW = View(addresses={HERE: "172.17.8.103"})
FULL = View(full=True, addresses={HERE: "172.17.8.103"})
_HASH = "1c6fb6f3684bafb0c173d8b8b957ceff031180c1"

_STATE = ListedState(
    unit=UnitName("web.service"),
    machine=HERE,
    hash=_HASH,
    load="loaded",
    active="active",
    sub="running",
)
_BARE_STATE = ListedState(
    unit=UnitName("web.service"), machine=MachineId(""), hash="", load="", active="", sub=""
)


def _unit(text: str = "[Service]\nExecStart=/bin/sleep 100\n", **parts: object) -> Unit:
    return Unit(name=UnitName("web.service"), options=parse_unit(text).options, **parts)  # type: ignore[arg-type]


_PLACED = _unit(desired=TargetState.LAUNCHED, current=TargetState.LOADED, machine=HERE)
_GLOBAL = _unit("[Unit]\nDescription=all\n[X-Fleet]\nGlobal=true\n", current=TargetState.INACTIVE)


@pytest.mark.parametrize(
    ("thing", "key", "view", "cell"),
    [
        pytest.param(_STATE, "unit", VIEW, "web.service", id="unit"),
        pytest.param(_STATE, "machine", VIEW, "113f16a7.../172.17.8.103", id="machine"),
        pytest.param(_STATE, "machine", FULL, f"{HERE}/172.17.8.103", id="machine in full"),
        pytest.param(_STATE, "machine", View(), "113f16a7...", id="machine not listed"),
        pytest.param(_STATE, "hash", VIEW, "1c6fb6f", id="hash"),
        pytest.param(_STATE, "hash", FULL, _HASH, id="hash in full"),
        pytest.param(_STATE, "load", VIEW, "loaded", id="load"),
        pytest.param(_STATE, "active", VIEW, "active", id="active"),
        pytest.param(_STATE, "sub", VIEW, "running", id="sub"),
        *(
            pytest.param(_BARE_STATE, key, VIEW, "-", id=f"no {key}")
            for key in ("machine", "hash", "load", "active", "sub")
        ),
    ],
)
def test_state_cell(thing: ListedState, key: str, view: View, cell: str) -> None:
    assert STATE_COLUMNS[key](thing, view) == cell


@pytest.mark.parametrize(
    ("unit", "key", "view", "cell"),
    [
        pytest.param(_PLACED, "unit", VIEW, "web.service", id="unit"),
        pytest.param(_PLACED, "hash", VIEW, "1c6fb6f", id="hash"),
        pytest.param(_PLACED, "hash", FULL, _HASH, id="hash in full"),
        pytest.param(_PLACED, "dstate", VIEW, "launched", id="desired"),
        pytest.param(_PLACED, "state", VIEW, "loaded", id="current"),
        pytest.param(_PLACED, "target", VIEW, "113f16a7.../172.17.8.103", id="target"),
        pytest.param(_PLACED, "tmachine", FULL, f"{HERE}/172.17.8.103", id="old name of target"),
        pytest.param(_unit(machine=GONE), "target", VIEW, "2222bbbb...", id="target not listed"),
        pytest.param(_PLACED, "global", VIEW, "false", id="not global"),
        pytest.param(_PLACED, "desc", VIEW, "-", id="no description"),
        pytest.param(_unit(), "dstate", VIEW, "-", id="no desired state"),
        pytest.param(_unit(), "state", VIEW, "-", id="no current state"),
        pytest.param(_unit(), "target", VIEW, "-", id="no target"),
        pytest.param(_GLOBAL, "desc", VIEW, "all", id="description"),
        pytest.param(_GLOBAL, "global", VIEW, "true", id="global"),
        pytest.param(_GLOBAL, "target", VIEW, "global", id="target of a global unit"),
        pytest.param(_GLOBAL, "state", VIEW, "-", id="state of a global unit"),
    ],
)
def test_unit_cell(unit: Unit, key: str, view: View, cell: str) -> None:
    assert UNIT_COLUMNS[key](unit, view) == cell


@pytest.mark.parametrize(
    ("machine", "key", "view", "cell"),
    [
        pytest.param(Machine(id=HERE), "machine", VIEW, "113f16a7...", id="id"),
        pytest.param(Machine(id=HERE), "machine", FULL, HERE, id="id in full"),
        pytest.param(Machine(id=MachineId("ab")), "machine", VIEW, "ab...", id="short id"),
        pytest.param(Machine(id=HERE), "ip", VIEW, "-", id="no address"),
        pytest.param(Machine(id=HERE, address="10.0.0.1"), "ip", VIEW, "10.0.0.1", id="address"),
        pytest.param(Machine(id=HERE), "metadata", VIEW, "-", id="no metadata"),
        pytest.param(
            Machine(id=HERE, metadata={"b": "2", "a": "1"}), "metadata", VIEW, "a=1,b=2", id="some"
        ),
    ],
)
def test_machine_cell(machine: Machine, key: str, view: View, cell: str) -> None:
    assert MACHINE_COLUMNS[key](machine, view) == cell


def test_list_is_fleets_byte_for_byte() -> None:
    fields = parse_fields(STATE_FIELDS, STATE_COLUMNS)
    assert render_list([_STATE], STATE_COLUMNS, fields, VIEW) == (
        "UNIT\t\tMACHINE\t\t\t\tACTIVE\tSUB\n"
        "web.service\t113f16a7.../172.17.8.103\tactive\trunning\n"
    )


def test_units_and_machines_lists() -> None:
    units = render_list([_PLACED], UNIT_COLUMNS, parse_fields(UNIT_FIELDS, UNIT_COLUMNS), VIEW)
    assert units == (
        "UNIT\t\tHASH\tDSTATE\t\tSTATE\tTARGET\n"
        "web.service\t1c6fb6f\tlaunched\tloaded\t113f16a7.../172.17.8.103\n"
    )
    fields = parse_fields(MACHINE_FIELDS, MACHINE_COLUMNS)
    machine = Machine(id=HERE, address="172.17.8.103")
    assert render_list([machine], MACHINE_COLUMNS, fields, VIEW, legend_line=False) == (
        "113f16a7...\t172.17.8.103\t-\n"
    )


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        pytest.param([], "", id="nothing"),
        pytest.param([["a"]], "a\n", id="last column is not padded"),
        pytest.param([["1234567", "x"]], "1234567\tx\n", id="seven fit a stop"),
        pytest.param([["12345678", "x"]], "12345678\tx\n", id="eight go to the next stop"),
        pytest.param([["a", "x"], ["12345678", "y"]], "a\t\tx\n12345678\ty\n", id="tabs to align"),
        pytest.param([["", "x"]], "\tx\n", id="empty cell"),
    ],
)
def test_cells_are_aligned_with_tabs(rows: list[list[str]], text: str) -> None:
    assert align(rows) == text


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("", "Must define output format", id="empty"),
        pytest.param("unit,x", 'Invalid key in output format: "x"', id="unknown"),
        pytest.param("unit, sub", 'Invalid key in output format: " sub"', id="no blanks"),
    ],
)
def test_malformed_fields_are_refused(text: str, message: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse_fields(text, STATE_COLUMNS)
    assert str(caught.value).startswith(message)
