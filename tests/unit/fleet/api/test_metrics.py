"""Metrics as Prometheus reads them."""

import time

from fleet.api.metrics import Kind, Metric, Sample, process_metrics, render_metrics


def test_metric_is_rendered_with_its_help_type_and_samples() -> None:
    samples = (Sample(3, {"type": "run", "a": "b"}), Sample(0.25, {"type": 'a"\\\n'}))
    metric = Metric("fleet_tasks_total", Kind.COUNTER, "Tasks\nso far.", samples)
    assert render_metrics([metric]).decode().splitlines() == [
        "# HELP fleet_tasks_total Tasks\\nso far.",
        "# TYPE fleet_tasks_total counter",
        'fleet_tasks_total{a="b",type="run"} 3',
        'fleet_tasks_total{type="a\\"\\\\\\n"} 0.25',
    ]


def test_metric_without_labels_has_no_braces() -> None:
    assert b"\nfleet_up 1\n" in render_metrics([Metric("fleet_up", Kind.GAUGE, "", (Sample(1),))])


def test_process_tells_of_itself() -> None:
    values = {metric.name: metric.samples[0].value for metric in process_metrics()}
    assert values["process_resident_memory_bytes"] > 1_000_000
    assert values["process_cpu_seconds_total"] > 0
    assert values["process_virtual_memory_bytes"] > values["process_resident_memory_bytes"]
    assert 2 < values["process_open_fds"] < values["process_max_fds"]
    assert 0 < time.time() - values["process_start_time_seconds"] < 3600
