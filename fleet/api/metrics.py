"""Metrics in the text format of Prometheus: values in, bytes out.

Source of the format: https://prometheus.io/docs/instrumenting/exposition_formats/
"""

import os
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Kind(StrEnum):
    """What a metric's value does over time."""

    COUNTER = "counter"
    GAUGE = "gauge"


@dataclass(frozen=True, slots=True)
class Sample:
    """One value of a metric, under its labels."""

    value: float
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Metric:
    """A metric with all its samples."""

    name: str
    kind: Kind
    explanation: str
    samples: tuple[Sample, ...]


def render_metrics(metrics: Iterable[Metric]) -> bytes:
    """The metrics as Prometheus reads them."""
    lines: list[str] = []
    for metric in metrics:
        lines.append(f"# HELP {metric.name} {_escape(metric.explanation)}")
        lines.append(f"# TYPE {metric.name} {metric.kind}")
        lines += [_line(metric.name, sample) for sample in metric.samples]
    return "".join(f"{line}\n" for line in lines).encode()


def process_metrics() -> tuple[Metric, ...]:
    """This process's own, under the names that Prometheus's clients give them."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/statm") as statm:
        sizes = [int(pages) * os.sysconf("SC_PAGE_SIZE") for pages in statm.read().split()[:2]]
    return (
        Metric(
            "process_cpu_seconds_total",
            Kind.COUNTER,
            "Total user and system CPU time spent in seconds.",
            (Sample(usage.ru_utime + usage.ru_stime),),
        ),
        Metric(
            "process_resident_memory_bytes",
            Kind.GAUGE,
            "Resident memory size in bytes.",
            (Sample(sizes[1]),),
        ),
        Metric(
            "process_virtual_memory_bytes",
            Kind.GAUGE,
            "Virtual memory size in bytes.",
            (Sample(sizes[0]),),
        ),
        Metric(
            "process_start_time_seconds",
            Kind.GAUGE,
            "Start time of the process since unix epoch in seconds.",
            (Sample(_started_at_s()),),
        ),
        Metric(
            "process_open_fds",
            Kind.GAUGE,
            "Number of open file descriptors.",
            (Sample(len(os.listdir("/proc/self/fd"))),),
        ),
        Metric(
            "process_max_fds",
            Kind.GAUGE,
            "Maximum number of open file descriptors.",
            (Sample(resource.getrlimit(resource.RLIMIT_NOFILE)[0]),),
        ),
    )


def _started_at_s() -> float:
    """When this process began, in seconds since 1970: the kernel counts ticks since the boot."""
    with open("/proc/self/stat") as stat:
        # The name before it, in parentheses, may hold blanks; see proc(5) for the fields.
        ticks = int(stat.read().rpartition(")")[2].split()[19])
    with open("/proc/stat") as stat:
        booted_at_s = next(int(line.split()[1]) for line in stat if line.startswith("btime "))
    return booted_at_s + ticks / os.sysconf("SC_CLK_TCK")


def _line(name: str, sample: Sample) -> str:
    labels = ",".join(f'{key}="{_quote(value)}"' for key, value in sorted(sample.labels.items()))
    value = float(sample.value)
    number = str(int(value)) if value.is_integer() else repr(value)
    return f"{name}{{{labels}}} {number}" if labels else f"{name} {number}"


def _escape(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _quote(text: str) -> str:
    return _escape(text).replace('"', '\\"')
