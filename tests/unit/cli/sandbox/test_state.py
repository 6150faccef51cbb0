from pathlib import Path

import pytest

from cli.sandbox.layout import Spec
from cli.sandbox.processes import Process
from cli.sandbox.state import NodeState, State, decode_state, encode_state, load, save

STATE = State(
    spec=Spec(
        name="demo",
        machines=2,
        etcd=3,
        metadata={"fleet1": {"a": "b"}},
        settings={"agent_ttl": "3s"},
        binds=("/srv",),
        capabilities=("all",),
    ),
    systemd=True,
    ready=True,
    machine_ids={"fleet1": "0" * 32},
    nodes={"fleet1": NodeState(process=Process(pid=7, started=99)), "etcd1": NodeState(cut=True)},
)


def test_state_comes_back_as_it_was_written() -> None:
    assert decode_state(encode_state(STATE)) == STATE


def test_state_changes_one_node_at_a_time() -> None:
    changed = STATE.with_node("fleet1", cut=True).with_node("fleet2", cut=True)

    assert changed.nodes["fleet1"] == NodeState(process=Process(pid=7, started=99), cut=True)
    assert changed.nodes["fleet2"] == NodeState(cut=True)
    assert STATE.nodes["fleet1"].cut is False


def test_state_survives_in_its_file(tmp_path: Path) -> None:
    save(tmp_path / "state.json", STATE)

    assert load(tmp_path / "state.json") == STATE
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"),
        pytest.param("{", id="torn"),
        pytest.param("[]", id="not an object"),
        pytest.param('{"spec": {}}', id="fields missing"),
        pytest.param('{"spec": {"machines": 99}}', id="a spec that cannot be"),
    ],
)
def test_state_that_cannot_be_read_is_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "state.json").write_text(text)

    assert load(tmp_path / "state.json") is None


def test_state_that_is_not_there_is_none(tmp_path: Path) -> None:
    assert load(tmp_path / "nothing") is None
