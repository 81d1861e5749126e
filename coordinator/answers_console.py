"""The console's JSON, as structs; see `answers` for the conventions."""

from typing import Literal, TypeAlias

import msgspec

Level: TypeAlias = Literal["ok", "warning", "critical"]


class Figure(msgspec.Struct, frozen=True, kw_only=True):
    """A value against its thresholds, all three in the same unit: `share` (0–1) or `seconds`."""

    name: str
    label: str
    unit: Literal["share", "seconds"]
    value: float
    warning: float
    critical: float | None
    level: Level
    action: str


class ConsoleSample(msgspec.Struct, frozen=True, kw_only=True):
    """The charts' numbers at one moment; totals are since the log began, so that the page can take differences."""

    at_ms: int
    queued: int
    open: int
    pending: int
    depth: int
    admitted_total: int
    confirmed_total: int
    rollbacks_total: dict[str, int]
    latency_p99_s: float
    locked_lamports: int
    memory_bytes: int
    workers_running: int
    workers_busy: float


class GraphNode(msgspec.Struct, frozen=True, kw_only=True):
    """A pending operation; `parents` are those that are pending too."""

    operation_id: str
    agent_id: str
    state: str
    depth: int
    speculative: bool
    parents: tuple[str, ...]


class WorkerTile(msgspec.Struct, frozen=True, kw_only=True):
    """A proof worker in a line."""

    worker_id: str
    state: str
    backend: str | None
    batch_id: str | None
    utilization: float
    batches: int
    failures: int


class ConsoleAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The console's every second: how the system stands, the figures with their levels, and one sample.

    `history`: the last ten minutes, only where it was asked for.
    """

    at: str
    version: str
    env: str
    generator: str
    status: str
    read_only: str | None
    score: float
    parts: dict[str, float]
    speculation: str
    mode: str
    max_depth: int
    rollout_percentage: int | float
    latch: str | None
    breaker: str
    breaker_reason: str
    connection: str
    slot: int
    workers_desired: int
    workers_limited_by: str | None
    workers: tuple[WorkerTile, ...]
    figures: tuple[Figure, ...]
    sample: ConsoleSample
    history: tuple[ConsoleSample, ...] = ()


class GraphAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The pending operations that were admitted first, at most 500, and how many there are."""

    total: int
    nodes: list[GraphNode]
