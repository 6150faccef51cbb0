"""Clusters of booted machines for tests.

`cluster` is a sandbox of three machines that all tests of a module share, whole at the start of
each; `make_sandbox` (sandboxes.py) makes one to a test's own measure.
"""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.sandboxes import make_module_sandbox, make_sandbox, pytest_runtest_makereport
from tests.cluster.steps import Operator

__all__ = ["make_module_sandbox", "make_sandbox", "pytest_runtest_makereport"]


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
