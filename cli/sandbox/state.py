"""What is remembered of a sandbox between two commands: a JSON file in its own directory."""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cli.sandbox.layout import Spec
from cli.sandbox.processes import Process


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeState:
    """A node's process while it has power, and whether its cable is pulled."""

    process: Process | None = None
    cut: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A sandbox as it was left: `ready` once `up` has finished; machine ids by name."""

    spec: Spec
    systemd: bool
    ready: bool = False
    machine_ids: Mapping[str, str] = field(default_factory=dict)
    nodes: Mapping[str, NodeState] = field(default_factory=dict)

    def with_node(self, name: str, **changes: Any) -> "State":
        node = replace(self.nodes.get(name, NodeState()), **changes)
        return replace(self, nodes={**self.nodes, name: node})


def encode_state(state: State) -> str:
    spec = state.spec
    document = {
        "spec": {
            "name": spec.name,
            "machines": spec.machines,
            "etcd": spec.etcd,
            "fleetd": spec.fleetd,
            "metadata": {name: dict(pairs) for name, pairs in spec.metadata.items()},
            "settings": dict(spec.settings),
            "binds": list(spec.binds),
            "capabilities": list(spec.capabilities),
        },
        "systemd": state.systemd,
        "ready": state.ready,
        "machine_ids": dict(state.machine_ids),
        "nodes": {name: _encode_node(node) for name, node in state.nodes.items()},
    }
    return json.dumps(document, indent=2) + "\n"


def _encode_node(node: NodeState) -> dict[str, Any]:
    process = node.process
    return {
        "process": {"pid": process.pid, "started": process.started} if process else None,
        "cut": node.cut,
    }


def decode_state(text: str) -> State:
    """The state that was written; raises KeyError, TypeError or ValueError if it is malformed."""
    document = json.loads(text)
    spec: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in document["spec"].items()
    }
    return State(
        spec=Spec(**spec),
        systemd=document["systemd"],
        ready=document["ready"],
        machine_ids=document["machine_ids"],
        nodes={name: _decode_node(node) for name, node in document["nodes"].items()},
    )


def _decode_node(document: Mapping[str, Any]) -> NodeState:
    process = document["process"]
    return NodeState(process=Process(**process) if process else None, cut=document["cut"])


def save(path: Path, state: State) -> None:
    """Replace the file at once: a reader sees the old state or the new one."""
    fresh = path.with_suffix(".new")
    fresh.write_text(encode_state(state))
    os.replace(fresh, path)


def load(path: Path) -> State | None:
    """The state in the file, None if there is none that can be read."""
    try:
        return decode_state(path.read_text())
    except (FileNotFoundError, NotADirectoryError, KeyError, TypeError, ValueError):
        return None
