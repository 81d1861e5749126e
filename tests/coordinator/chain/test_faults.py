"""Faults are read as they are documented, and anything else is an error that says what is wrong."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.chain.faults import FORMS, FaultError, FaultPlan, Reorg, Window, WindowKind


def test_every_documented_form_is_read() -> None:
    plan = FaultPlan.parse(
        [
            "reject@op:a",
            "reject@op:b:c",
            "lie@op:d",
            "kill-worker@batch:3",
            "delay@t:1.5:2",
            "drop@t:0:0.25",
            "outage@t:10:1",
            "reorg@slot:20:2",
            "reorg@slot:7:9",
        ]
    )
    assert plan == FaultPlan(
        rejected_tasks=frozenset({"a", "b:c"}),
        lied_tasks=frozenset({"d"}),
        kill_worker_batches=frozenset({3}),
        windows=(
            Window(kind=WindowKind.DELAY, start_ms=1500, end_ms=3500),
            Window(kind=WindowKind.DROP, start_ms=0, end_ms=250),
            Window(kind=WindowKind.OUTAGE, start_ms=10_000, end_ms=11_000),
        ),
        reorgs=(Reorg(slot=7, depth=9), Reorg(slot=20, depth=2)),
    )
    assert FaultPlan.parse([]) == FaultPlan()


@given(task=st.text(min_size=1))
def test_any_task_id_can_be_named(task: str) -> None:
    assert FaultPlan.parse([f"reject@op:{task}"]).rejected_tasks == {task}


@pytest.mark.parametrize(
    ("spec", "detail"),
    [
        ("", "use reject@op:TASK"),
        ("reject", "use reject@op:TASK"),
        ("reject@op", "use reject@op:TASK"),
        ("reject@op:", "the task's id is missing"),
        ("Reject@op:a", "use reject@op:TASK"),
        ("delay@slot:1:2", "use reject@op:TASK"),
        ("kill-worker@batch:0", "N is a whole number from 1"),
        ("kill-worker@batch:-1", "N is a whole number from 1"),
        ("kill-worker@batch:²", "N is a whole number from 1"),
        ("kill-worker@batch:1.0", "N is a whole number from 1"),
        ("reorg@slot:5", "N:DEPTH is needed"),
        ("reorg@slot:5:0", "DEPTH is a whole number from 1"),
        ("reorg@slot::1", "N is a whole number from 1"),
        ("delay@t:1", "SECONDS:DURATION is needed"),
        ("delay@t:x:1", "SECONDS is a number of seconds"),
        ("delay@t:1:", "DURATION is a number of seconds"),
        ("delay@t:1:0", "DURATION is more than 0"),
        ("drop@t:-1:1", "SECONDS is between 0 and 1000000"),
        ("outage@t:nan:1", "SECONDS is between 0 and 1000000"),
        ("outage@t:1:inf", "DURATION is between 0 and 1000000"),
    ],
)
def test_what_cannot_be_read_is_named(spec: str, detail: str) -> None:
    with pytest.raises(FaultError) as caught:
        FaultPlan.parse(["reject@op:fine", spec])
    assert caught.value.spec == spec
    assert detail in caught.value.detail
    assert caught.value.code == "invalid_fault"


def test_the_advice_lists_every_kind() -> None:
    with pytest.raises(FaultError) as caught:
        FaultPlan.parse(["?"])
    for form in FORMS:
        assert form in str(caught.value)


def test_a_window_covers_its_start_and_not_its_end() -> None:
    plan = FaultPlan.parse(["delay@t:1:1", "delay@t:1.5:2", "drop@t:9:1"])
    covered = {t: plan.covering(WindowKind.DELAY, t) for t in (999, 1000, 1500, 1999, 2000, 3499, 3500)}
    first, second, _ = plan.windows
    assert covered == {
        999: None,
        1000: first,
        1500: second,
        1999: second,
        2000: second,
        3499: second,
        3500: None,
    }
    assert plan.covering(WindowKind.OUTAGE, 9000) is None
