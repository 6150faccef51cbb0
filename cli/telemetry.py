"""What fleetd tells Prometheus of its engine, under the names of fleet 1.0.

Counts are those of the engine in this process; an engine that does not lead has no start of
leading to tell of. Of the kinds of task, the two that fleet 1.0 knew have its names.
"""

from collections.abc import Mapping

from engine.loop import EngineStats
from engine.tasks import TaskKind
from fleet.api.metrics import Kind, Metric, Sample

_TYPES = {
    kind: {TaskKind.PLACE: "attemptscheduleunit", TaskKind.REMOVE: "unscheduleunit"}.get(
        kind, kind.value.replace(" ", "_")
    )
    for kind in TaskKind
}


def engine_metrics(stats: EngineStats) -> tuple[Metric, ...]:
    """The engine's metrics."""
    since = (stats.leads_since_s,) if stats.leads_since_s is not None else ()
    failures = {
        "machine_away": stats.removed_from_lost,
        "run": stats.failed_passes,
        "schedule": stats.done.get(TaskKind.REFUSE, 0),
    }
    return (
        Metric(
            "fleet_engine_leader_start_time",
            Kind.GAUGE,
            "When this engine began to lead, in seconds since 1970; none if it does not.",
            tuple(Sample(each) for each in since),
        ),
        _counter(
            "fleet_engine_reconcile_count_total",
            "How often the engine looked at the cluster and planned.",
            Sample(stats.passes),
        ),
        _counter(
            "fleet_engine_task_count_total",
            "Tasks that the engine has done.",
            *_by_type(stats.done),
        ),
        _counter(
            "fleet_engine_task_failure_count_total",
            "Tasks that could not be written to the store.",
            *_by_type(stats.failed),
        ),
        _counter(
            "fleet_engine_reconcile_failure_count_total",
            "Units taken from machines that are gone (machine_away), passes that failed (run), "
            "units that no machine could take (schedule).",
            *(Sample(count, {"type": reason}) for reason, count in failures.items()),
        ),
    )


def _counter(name: str, explanation: str, *samples: Sample) -> Metric:
    return Metric(name, Kind.COUNTER, explanation, samples)


def _by_type(counts: Mapping[TaskKind, int]) -> list[Sample]:
    return [Sample(counts.get(kind, 0), {"type": name}) for kind, name in _TYPES.items()]
