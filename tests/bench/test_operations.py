"""The benchmark of operations: what it compares, on a batch small enough for a test."""

import pytest

from bench.operations import compare, witnesses
from kernels.backend import select
from workers.airs.operation_trace import MAX_LOG_ROWS, log_rows_for
from workers.stark.parameters import TESTING
from workers.statement import MAX_OPERATIONS


@pytest.mark.parametrize("output_bytes", [0, 64, 1024, 65536])
@pytest.mark.parametrize("log_rows", [13, 16, MAX_LOG_ROWS])
def test_a_batch_fills_its_rows_or_is_full(output_bytes: int, log_rows: int) -> None:
    batch = witnesses(output_bytes, log_rows=log_rows)
    assert log_rows_for(len(witness.output) for witness in batch) <= log_rows
    one_more = [len(witness.output) for witness in [*batch, batch[0]]]
    assert len(batch) == MAX_OPERATIONS or log_rows_for(one_more) > log_rows


def test_the_figures_follow_from_what_was_measured() -> None:
    figures = compare(64, log_rows=9, rounds=1, parameters=TESTING, backend=select("cpu", 1))
    assert figures["rows"] == 512
    assert figures["operations"] == (512 - 256) // 14
    assert figures["rows_of_operations"] == 14 * figures["operations"]
    assert figures["operations_per_s"] == pytest.approx(figures["operations"] / figures["wall_s"])
    assert 0 < sum(figures["phases_cpu_s"].values()) <= figures["cpu_s"]
    assert figures["phases_cpu_s"].keys() == figures["poseidon2_phases_cpu_s"].keys()
    assert figures["verify_ms"] > 0
