"""fleet 1.0's metrics, of this engine's counts."""

from cli.telemetry import engine_metrics
from engine.loop import EngineStats
from engine.tasks import TaskKind
from fleet.api.metrics import render_metrics


def _values(stats: EngineStats) -> dict[str, float]:
    lines = render_metrics(engine_metrics(stats)).decode().splitlines()
    pairs = (line.rsplit(" ", 1) for line in lines if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


def test_counts_have_the_originals_names() -> None:
    stats = EngineStats(
        leads_since_s=1700000000.5,
        passes=7,
        failed_passes=2,
        done={TaskKind.PLACE: 5, TaskKind.REMOVE: 4, TaskKind.REFUSE: 3, TaskKind.DROP_FILE: 1},
        failed={TaskKind.PLACE: 6},
        removed_from_lost=1,
    )
    values = _values(stats)
    shown = {name.removeprefix("fleet_engine_"): value for name, value in values.items() if value}
    assert shown == {
        "leader_start_time": 1700000000.5,
        "reconcile_count_total": 7,
        'task_count_total{type="attemptscheduleunit"}': 5,
        'task_count_total{type="unscheduleunit"}': 4,
        'task_count_total{type="refuse"}': 3,
        'task_count_total{type="drop_file"}': 1,
        'task_failure_count_total{type="attemptscheduleunit"}': 6,
        'reconcile_failure_count_total{type="machine_away"}': 1,
        'reconcile_failure_count_total{type="run"}': 2,
        'reconcile_failure_count_total{type="schedule"}': 3,
    }


def test_engine_that_does_not_lead_has_no_start_time_and_its_counts_are_nought() -> None:
    values = _values(EngineStats())
    assert "fleet_engine_leader_start_time" not in values
    assert values["fleet_engine_reconcile_count_total"] == 0
    assert values['fleet_engine_task_count_total{type="attemptscheduleunit"}'] == 0
    assert set(values.values()) == {0}
