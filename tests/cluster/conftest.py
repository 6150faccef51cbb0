"""Clusters of booted machines for tests, and their journals when a test fails.

`cluster` is a sandbox of three machines that all tests of a module share, whole at the start of
each. `make_sandbox` makes one to a test's own measure. Both are gone after the tests, whatever
happens in them.
"""

import os
import re
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from fleet.errors import FleetError
from tests.cluster.machines import fresh_name
from tests.cluster.steps import Operator

_OPEN = pytest.StashKey[list[Sandbox]]()
JOURNALS = Path(os.environ.get("FLEET_TEST_JOURNALS", "build/journals"))


@pytest.fixture(scope="module")
def make_module_sandbox(request: pytest.FixtureRequest) -> Iterator[Callable[..., Sandbox]]:
    """`Sandbox.up` with a fresh name, removed after the module's tests."""
    yield from _factory(request.config)


@pytest.fixture
def make_sandbox(request: pytest.FixtureRequest) -> Iterator[Callable[..., Sandbox]]:
    """`Sandbox.up` with a fresh name, removed after the test."""
    yield from _factory(request.config)


def _factory(config: pytest.Config) -> Iterator[Callable[..., Sandbox]]:
    stash = config.stash.setdefault(_OPEN, [])
    with ExitStack() as stack:

        def make(**options: object) -> Sandbox:
            sandbox = stack.enter_context(Sandbox.up(fresh_name(), **options))  # type: ignore[arg-type]
            stash.append(sandbox)
            stack.callback(stash.remove, sandbox)
            return sandbox

        yield make


@pytest.fixture(scope="module")
def module_cluster(make_module_sandbox: Callable[..., Sandbox]) -> Sandbox:
    """Three machines and one etcd, one cluster; shared by the module's tests."""
    return make_module_sandbox()


@pytest.fixture
def cluster(module_cluster: Sandbox) -> Sandbox:
    """The module's cluster, with every machine on, healed, and known to all the others."""
    names = [node.name for node in module_cluster.spec.nodes]
    module_cluster.resume(*names)
    module_cluster.heal(*names)
    module_cluster.boot(*names)
    module_cluster.wait_until_one_cluster()
    return module_cluster


@pytest.fixture
def operator(cluster: Sandbox, tmp_path: Path) -> Operator:
    """Somebody with an empty folder and the module's cluster, whole and without any unit."""
    operator = Operator(sandbox=cluster, folder=tmp_path)
    operator.clear()
    return operator


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Keep the journals of all open sandboxes as they are at the moment a test fails."""
    report = yield
    if report.failed:
        for sandbox in item.config.stash.get(_OPEN, []):
            directory = JOURNALS / re.sub(r"[^\w.-]+", "_", item.name) / sandbox.name
            try:
                sandbox.save_journals(directory)
                report.sections.append(("journals", f"saved in {directory}"))
            except FleetError as error:
                report.sections.append(("journals", f"of {sandbox.name} are lost: {error}"))
    return report
