"""The JSON of pipeline analysis and of profiles; see `answers` for the conventions. Times are in seconds."""

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from coordinator.settings_table import Value


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """A body that the server sends."""


class StageAnswer(_Answer, frozen=True):
    """One stage of the pipeline: seconds an operation spends in it, and what is in it now."""

    stage: str
    mean_seconds: float
    p50_seconds: float
    p99_seconds: float
    floor_seconds: float
    share: float
    operations_now: int
    oldest_seconds: float | None


class PipelineAnswer(_Answer, frozen=True):
    """The measured pipeline; `bottleneck` is null where no stage takes noticeably longer than it must."""

    window_seconds: int
    confirmed: int
    under_way: int
    sampled: int
    confirmed_per_second: float
    bottleneck: str | None
    stages: tuple[StageAnswer, ...]


class KnobAnswer(_Answer, frozen=True):
    """A configuration key: its value now, what is allowed, and what limits its effect."""

    key: str
    value: Value
    range: str
    limited_by: str | None


class BottleneckAnswer(_Answer, frozen=True):
    """A stage, its time above what it must take, and what would relieve it."""

    stage: str
    excess_seconds: float
    share: float
    operations_now: int
    action: str
    knob: KnobAnswer | None


class PipelineBottlenecks(_Answer, frozen=True):
    """The stages, the slowest above its floor first, and the one that is the bottleneck now."""

    bottleneck: str | None
    detail: str
    stages: tuple[BottleneckAnswer, ...]


class ProfileBody(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A profile to take: for how long, and of which proof worker (null: of the coordinator)."""

    duration_seconds: Annotated[int, Meta(ge=1, le=300)] = 30
    worker: str | None = None


class ProfileStarted(_Answer, frozen=True):
    """A profile that runs; `GET /admin/debug/profile/result` waits for its end."""

    status: Literal["running"]
    target: str
    duration_seconds: int
    started_at: str
    sampler: str
