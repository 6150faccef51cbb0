"""Sandboxes for tests that boot machines, and their journals when such a test fails.

`make_sandbox` makes one to a test's own measure. It is gone after the test, whatever happens in it.
A folder's conftest.py takes from here what its tests need, the hook above all.
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
