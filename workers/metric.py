"""How a metric is declared: name, type, unit, labels with their bounds, what it says and why it is there.

Both endpoints declare their metrics so, each in one table; the exposition, the docs and the tests read it.
"""

from dataclasses import KW_ONLY, dataclass
from enum import StrEnum


class MetricKind(StrEnum):
    """Prometheus's metric types."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@dataclass(frozen=True, slots=True)
class Label:
    """A label, and the most values it takes within one metric."""

    name: str
    bound: int


@dataclass(frozen=True, slots=True)
class Metric:
    """One metric. `unit` is of its value (a histogram's observations); `labels` stand in the exposition in this
    order; `buckets` are a histogram's upper bounds.
    """

    name: str
    kind: MetricKind
    help: str
    why: str
    _: KW_ONLY
    unit: str
    labels: tuple[Label, ...] = ()
    buckets: tuple[float, ...] = ()

    @property
    def most_series(self) -> int:
        """The most time series that the metric makes: label values multiplied, times a histogram's lines."""
        series = len(self.buckets) + 3 if self.kind is MetricKind.HISTOGRAM else 1
        for label in self.labels:
            series *= label.bound
        return series
