"""Stages for faults, and a table of what each trial came to at the end of the run."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cli.sandbox.cluster import Sandbox
from tests.cluster.sandboxes import make_sandbox, pytest_runtest_makereport
from tests.cluster.steps import Operator
from tests.faults.stage import TTL_S, Stage

__all__ = ["make_sandbox", "pytest_runtest_makereport"]

_TRIAL = "trial"


@pytest.fixture
def make_stage(
    make_sandbox: Callable[..., Sandbox],
    record_property: Callable[[str, object], None],
    tmp_path: Path,
) -> Callable[..., Stage]:
    """A stage on a fresh sandbox; keywords are `Sandbox.up`'s, and `ttl_s`."""

    def make(*, ttl_s: float = TTL_S, settings: dict[str, str] | None = None, **up: int) -> Stage:
        chosen = {"agent_ttl": f"{ttl_s:g}s", **(settings or {})}
        operator = Operator(sandbox=make_sandbox(settings=chosen, **up), folder=tmp_path)
        stage = Stage(
            operator=operator,
            tell=lambda outcome: record_property(_TRIAL, str(outcome)),
            ttl_s=ttl_s,
        )
        stage.set_up()
        return stage

    return make


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """The table: every trial with its outcome."""
    reports = [
        report
        for reports in terminalreporter.stats.values()
        for report in reports
        if isinstance(report, pytest.TestReport)
    ]
    told = [
        (report.nodeid.partition("::")[2], value)
        for report in reports
        if report.when == "call"
        for name, value in report.user_properties
        if name == _TRIAL
    ]
    if told:
        terminalreporter.section(f"{len(told)} trials")
        for name, outcome in told:
            terminalreporter.write_line(f"{name}\n    {outcome}")
