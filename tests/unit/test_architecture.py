"""Who may import what, read from the syntax trees, imports hidden in functions included.

The rules are those of docs/architecture.md. A break is told as `path:line imports module`.
"""

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import pytest

_ROOT = Path(__file__).parents[2]

_FOLDERS = {
    "fleet": {"fleet"},
    "agent": {"agent", "fleet"},
    "engine": {"engine", "fleet"},
    "cli": {"cli", "agent", "engine", "fleet"},
}
"""The folders of the program, and those of them that each one may import."""

_THIRD_PARTY = {
    "h11": ("fleet/http/wire.py",),
    "h2": ("fleet/http/grpc.py",),
    "google": ("fleet/store/etcd_messages.py",),
    "aiohappyeyeballs": ("fleet/http/carrier.py",),
    "aiohttp": ("fleet/api/server.py", "fleet/api/exchange.py"),
    "dbus_fast": ("agent/bus.py", "agent/calls.py", "agent/dbus.py"),
    "asyncssh": ("cli/tunnel/*",),
    "click": ("cli/*",),
    "tabulate": ("cli/tables.py",),
}
"""Where each foreign package may be imported; any other one nowhere. A star crosses folders."""

_PURE = (
    "fleet/names.py",
    "fleet/unit.py",
    "fleet/globs.py",
    "fleet/options.py",
    "fleet/conditions.py",
    "fleet/constraints.py",
    "fleet/resources.py",
    "fleet/machine.py",
    "fleet/states.py",
    "fleet/cluster.py",
    "fleet/keys.py",
    "fleet/errors.py",
    "fleet/durations.py",
    "fleet/store/etcd_wire.py",
    "fleet/store/keyspace.py",
    "fleet/api/discovery.py",
    "fleet/api/lost.py",
    "fleet/api/pages.py",
    "fleet/api/happenings.py",
    "fleet/api/members.py",
    "fleet/api/reports.py",
    "fleet/api/schema.py",
    "fleet/api/stories.py",
    "agent/plan.py",
    "agent/wire.py",
    "engine/board.py",
    "engine/facts.py",
    "engine/lanes.py",
    "engine/losses.py",
    "engine/outcomes.py",
    "engine/packs.py",
    "engine/plan.py",
    "engine/reasons.py",
    "engine/relations.py",
    "engine/reopening.py",
    "engine/scheduler.py",
    "engine/settle.py",
    "engine/tasks.py",
    "engine/traits.py",
    "engine/rollout.py",
    "engine/scheduler.py",
    "engine/settle.py",
    "engine/tasks.py",
    "engine/wishes.py",
    "cli/tables.py",
    "cli/waiting.py",
)
"""Modules that decide: no loop, clock, chance, socket or process, nor anything foreign."""

_IMPURE = frozenset(
    "asyncio http multiprocessing queue random secrets select selectors signal socket "
    "socketserver sqlite3 ssl subprocess tempfile threading time urllib.request uuid".split()
)
_FORMATS = {"cli/tables.py": {"tabulate"}, "fleet/store/etcd_messages.py": {"google"}}
"""A pure module that may have a foreign package all the same: it formats, and no more."""

_MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One module that a file imports."""

    path: str
    line: int
    module: str

    @property
    def top(self) -> str:
        return self.module.partition(".")[0]

    def __str__(self) -> str:
        return f"{self.path}:{self.line} imports {self.module}"


def _files(root: Path) -> list[Path]:
    return sorted(path for folder in _FOLDERS for path in (root / folder).rglob("*.py"))


def _imports(path: Path, root: Path) -> Iterator[Import]:
    relative = path.relative_to(root).as_posix()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), filename=relative)):
        for module in _modules(node, relative):
            yield Import(relative, getattr(node, "lineno", 0), module)


def _modules(node: ast.AST, relative: str) -> list[str]:
    """The modules that a node imports, each name of a `from` import as if it were one."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    if isinstance(node, ast.ImportFrom):
        package = relative.split("/")[: -node.level] if node.level else []
        base = ".".join([*package, *filter(None, [node.module])])
        return [f"{base}.{alias.name}" for alias in node.names]
    if isinstance(node, ast.Call):
        function = node.func
        called = function.attr if isinstance(function, ast.Attribute) else ast.unparse(function)
        if called in ("import_module", "__import__") and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                return [name.value]
    return []


def _layer_breaks(root: Path) -> list[str]:
    return [
        str(found)
        for path in _files(root)
        for found in _imports(path, root)
        if found.top in {*_FOLDERS, "tests"}
        and found.top not in _FOLDERS[found.path.partition("/")[0]]
    ]


def _third_party_breaks(root: Path) -> list[str]:
    known = {*sys.stdlib_module_names, *_FOLDERS, "tests"}
    return [
        str(found)
        for path in _files(root)
        for found in _imports(path, root)
        if found.top not in known
        and not any(fnmatch(found.path, place) for place in _THIRD_PARTY.get(found.top, ()))
    ]


def _purity_breaks(root: Path) -> list[str]:
    """What pure modules import that is impure, themselves or through modules of ours."""
    return sorted(
        {
            f"{found} ({start} is pure)" if found.path != start else str(found)
            for start in _PURE
            if (root / start).exists()
            for found in _reached(start, root)
            if _is_impure(found, allowed=_FORMATS.get(found.path, set()))
        }
    )


def _reached(start: str, root: Path) -> Iterator[Import]:
    """Every import of the module and of the modules of ours that it imports, directly or not."""
    seen, waiting = {start}, [start]
    while waiting:
        for found in _imports(root / waiting.pop(), root):
            yield found
            ours = _file_of(found.module, root) if found.top in _FOLDERS else None
            if ours and ours not in seen:
                seen.add(ours)
                waiting.append(ours)


def _file_of(module: str, root: Path) -> str | None:
    """The file of a module, or of the module that a name is imported from."""
    parts = module.split(".")
    for length in (len(parts), len(parts) - 1):
        stem = "/".join(parts[:length])
        for candidate in (f"{stem}.py", f"{stem}/__init__.py"):
            if (root / candidate).is_file():
                return candidate
    return None


def _is_impure(found: Import, *, allowed: set[str]) -> bool:
    if found.top in {*_FOLDERS, *allowed}:
        return False
    if found.top not in sys.stdlib_module_names:
        return True
    parts = found.module.split(".")
    return any(".".join(parts[:length]) in _IMPURE for length in range(1, len(parts) + 1))


def _too_long(root: Path) -> list[str]:
    sizes = {path: len(path.read_text(encoding="utf-8").splitlines()) for path in _files(root)}
    return [
        f"{path.relative_to(root)} has {size} lines, the limit is {_MAX_LINES}"
        for path, size in sizes.items()
        if size > _MAX_LINES
    ]


def test_folders_import_only_what_lies_below_them() -> None:
    assert _layer_breaks(_ROOT) == []


def test_foreign_packages_stay_behind_their_adapters() -> None:
    assert _third_party_breaks(_ROOT) == []


def test_modules_that_decide_do_nothing_else() -> None:
    assert _purity_breaks(_ROOT) == []


def test_no_file_is_too_long() -> None:
    assert _too_long(_ROOT) == []


def test_tests_are_no_packages() -> None:
    assert [str(path) for path in (_ROOT / "tests").rglob("__init__.py")] == []


def _plant(root: Path, **files: str) -> None:
    for name, text in files.items():
        path = root / f"{name.replace('__', '/')}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        pytest.param(
            "agent/a.py", "import engine", ["agent/a.py:1 imports engine"], id="a sibling"
        ),
        pytest.param(
            "engine/a.py",
            "x = 1\nfrom agent.plan import plan",
            ["engine/a.py:2 imports agent.plan.plan"],
            id="a part of a sibling",
        ),
        pytest.param(
            "fleet/a/b.py",
            "def f():\n    import cli.tables",
            ["fleet/a/b.py:2 imports cli.tables"],
            id="hidden in a function",
        ),
        pytest.param(
            "fleet/a.py",
            "import importlib\nimportlib.import_module('agent')",
            ["fleet/a.py:2 imports agent"],
            id="imported by its name",
        ),
        pytest.param(
            "fleet/a.py",
            "from tests import conftest",
            ["fleet/a.py:1 imports tests.conftest"],
            id="the tests",
        ),
        pytest.param("cli/a.py", "import agent, engine, fleet", [], id="cli may have all"),
        pytest.param("fleet/a/b.py", "from . import c\nfrom .. import d", [], id="relative ones"),
    ],
)
def test_layer_that_is_broken_is_told(
    place: str, text: str, told: list[str], tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)

    assert _layer_breaks(tmp_path) == told


@pytest.mark.parametrize(
    ("place", "text", "told"),
    [
        pytest.param("fleet/a.py", "import h11", ["fleet/a.py:1 imports h11"], id="astray"),
        pytest.param("fleet/http/wire.py", "import h11", [], id="in its adapter"),
        pytest.param(
            "cli/a.py", "import requests", ["cli/a.py:1 imports requests"], id="one of no rule"
        ),
        pytest.param(
            "engine/a.py", "from click import x", ["engine/a.py:1 imports click.x"], id="click"
        ),
        pytest.param("cli/fleetctl/a.py", "import click", [], id="click in cli"),
        pytest.param("agent/a.py", "import os.path, fleet.unit", [], id="none"),
    ],
)
def test_foreign_package_astray_is_told(
    place: str, text: str, told: list[str], tmp_path: Path
) -> None:
    (tmp_path / place).parent.mkdir(parents=True)
    (tmp_path / place).write_text(text)

    assert _third_party_breaks(tmp_path) == told


@pytest.mark.parametrize(
    ("text", "told"),
    [
        pytest.param("import time", ["engine/plan.py:1 imports time"], id="a clock"),
        pytest.param(
            "from random import choice", ["engine/plan.py:1 imports random.choice"], id="chance"
        ),
        pytest.param(
            "from urllib import request",
            ["engine/plan.py:1 imports urllib.request"],
            id="a request",
        ),
        pytest.param("from urllib.parse import urlsplit", [], id="a parser"),
        pytest.param("import tabulate", ["engine/plan.py:1 imports tabulate"], id="foreign"),
        pytest.param(
            "from fleet.clock import now",
            ["fleet/clock.py:2 imports time (engine/plan.py is pure)"],
            id="through a module of ours",
        ),
    ],
)
def test_module_that_decides_and_does_is_told(text: str, told: list[str], tmp_path: Path) -> None:
    _plant(tmp_path, engine__plan=text, fleet__clock="\nimport time\n")

    assert _purity_breaks(tmp_path) == told


def test_tables_may_format() -> None:
    assert not _is_impure(Import("cli/tables.py", 1, "tabulate"), allowed={"tabulate"})


def test_file_that_is_too_long_is_told(tmp_path: Path) -> None:
    _plant(tmp_path, fleet__long="x = 1\n" * 401, fleet__short="x = 1\n" * 400)

    assert _too_long(tmp_path) == ["fleet/long.py has 401 lines, the limit is 400"]
