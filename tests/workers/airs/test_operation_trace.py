"""The trace builder: known answers, agreement with a row-by-row telling, limits, blinding."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import U32, P, from_monty
from tests.workers.airs import lying
from tests.workers.airs.constraint_check import violated
from tests.workers.airs.statement_vectors import load_statement_cases
from workers.airs.blinding import SeededBlinding, SystemBlinding, splitmix64
from workers.airs.operation import CNT, LEFT, Y
from workers.airs.operation_trace import (
    BLINDED_CELLS,
    MAX_LOG_ROWS,
    BatchSizeError,
    OperationTrace,
    log_rows_for,
    operation_trace,
    rows_for,
)
from workers.encoding import digest_integers, group_words, string_words
from workers.statement import MAX_OUTPUT_BYTES, OperationWitness, compute_statements

DOMAIN = b"local:a4d268680017c0cf"


def witness(output: bytes, number: int = 0, *, parents: tuple[bytes, ...] = ()) -> OperationWitness:
    return OperationWitness(
        task_id=b"task-%d" % number,
        agent_id=b"agent",
        output=output,
        salt=bytes(range(24)),
        secret=bytes(range(100, 124)),
        parents=parents,
    )


def broken(batch: OperationTrace) -> set[str]:
    trace = from_monty(batch.trace).astype(np.uint64)
    return violated(trace[np.newaxis], [batch.public_values])[0]


@pytest.mark.vectors
@pytest.mark.parametrize("number", [0, 1])
def test_the_vectors_traces_come_out(vectors_dir: Path, number: int) -> None:
    known = json.loads((vectors_dir / "operation_vectors.json").read_text())["proofs"][number]
    case = load_statement_cases(vectors_dir)[known["case"]]
    batch = operation_trace(case.domain, case.witnesses, blinding=SeededBlinding(known["blind_seed"]))
    canonical = from_monty(batch.trace)
    for row, cells in known["rows"].items():
        assert canonical[int(row)].tolist() == cells, f"row {row}"
    assert hashlib.sha256(canonical.astype("<u4").tobytes()).hexdigest() == known["trace_sha256"]
    assert batch.public_values == known["public_values"]
    assert (batch.log_rows, batch.operation_rows) == (known["log_rows"], known["operation_rows"])
    assert batch.root == case.root


@pytest.mark.vectors
def test_every_case_of_statements_satisfies_all_constraints(vectors_dir: Path) -> None:
    for case in load_statement_cases(vectors_dir):
        batch = operation_trace(case.domain, case.witnesses)
        assert broken(batch) == set()
        assert batch.root == case.root


@settings(max_examples=25, deadline=None)
@given(st.lists(st.binary(max_size=120), min_size=1, max_size=5), st.integers(0, 2**64 - 1))
def test_any_batch_satisfies_all_constraints(outputs: list[bytes], seed: int) -> None:
    witnesses = [witness(output, number) for number, output in enumerate(outputs)]
    batch = operation_trace(DOMAIN, witnesses, blinding=SeededBlinding(seed))
    assert broken(batch) == set()
    assert batch.n == len(outputs)
    assert batch.operation_rows == sum(rows_for(len(output)) for output in outputs)
    assert list(batch.statements) == compute_statements(DOMAIN, witnesses)


@pytest.mark.parametrize("size", [*range(25), 45, 46, 69, 70])
def test_every_tail_and_every_size_of_the_last_block(size: int) -> None:
    batch = operation_trace(DOMAIN, [witness(bytes(range(1, size + 1)))])
    assert broken(batch) == set()


def test_the_rows_are_those_of_the_row_by_row_telling() -> None:
    """The telling that lies are told with is honest where it is not asked to lie: cell by cell the same
    rows."""
    outputs = (bytes(range(33)), bytes(range(100, 153)))
    witnesses = [witness(output, number) for number, output in enumerate(outputs)]
    batch = operation_trace(DOMAIN, witnesses)

    def elements(words: bytes) -> list[int]:
        return [int(x) for x in np.frombuffer(words, dtype="<u4")]

    told, public_values = lying.tell(
        [
            lying.Operation(
                public=digest_integers(statement.public_digest),
                secret=elements(group_words(given.secret)),
                salt=elements(group_words(given.salt)),
                elements=elements(string_words(given.output)),
            )
            for given, statement in zip(witnesses, batch.statements, strict=True)
        ]
    )
    rows = batch.operation_rows
    assert np.array_equal(from_monty(batch.trace[:rows]), told[:rows])
    assert batch.public_values == public_values


def test_a_large_output_is_one_proof() -> None:
    batch = operation_trace(DOMAIN, [witness(bytes(MAX_OUTPUT_BYTES)), witness(b"small", 1)])
    assert batch.operation_rows == rows_for(MAX_OUTPUT_BYTES) + rows_for(5) == 2731 + 11 + 12
    assert batch.log_rows == 12
    assert broken(batch) == set()


@pytest.mark.parametrize(("length", "rows"), [(0, 12), (21, 12), (22, 13), (1, 12), (45, 13), (46, 14)])
def test_rows_are_the_elements_in_eights_and_eleven(length: int, rows: int) -> None:
    assert rows_for(length) == rows


@pytest.mark.parametrize(
    ("operations", "log_rows"), [(1, 9), (21, 9), (22, 10), (64, 10), (65, 11), (10901, 17), (10902, 18)]
)
def test_the_height_holds_all_rows_and_256_of_padding(operations: int, log_rows: int) -> None:
    assert log_rows_for([0] * operations) == log_rows
    assert 1 << log_rows >= 12 * operations + 256 > (1 << (log_rows - 1)) or log_rows == 9


def test_a_batch_has_operations_but_not_too_many() -> None:
    with pytest.raises(BatchSizeError, match="0 operations"):
        operation_trace(DOMAIN, [])
    with pytest.raises(BatchSizeError, match="4097 operations"):
        operation_trace(DOMAIN, [witness(b"")] * 4097)
    with pytest.raises(BatchSizeError, match=str(MAX_LOG_ROWS)):
        operation_trace(DOMAIN, [witness(bytes(MAX_OUTPUT_BYTES))] * 48)


def padding_cells(batch: OperationTrace) -> U32:
    padding = batch.trace[batch.operation_rows :]
    return np.concatenate((padding[:, :16], padding[:, Y : Y + 8], padding[:, LEFT : LEFT + 1]), axis=1)


def test_all_free_cells_of_padding_come_from_the_blinding_in_order() -> None:
    batch = operation_trace(DOMAIN, [witness(b"x")], blinding=SeededBlinding(9))
    cells = from_monty(padding_cells(batch))
    expected = splitmix64(9, cells.size) % np.uint64(P)
    assert cells.shape == (500, BLINDED_CELLS)
    assert cells.reshape(-1).tolist() == expected.tolist()


def test_without_a_seed_every_trace_is_blinded_anew_and_only_there_it_differs() -> None:
    one, other = (operation_trace(DOMAIN, [witness(b"x")]) for _ in range(2))
    cells = padding_cells(one), padding_cells(other)
    assert (cells[0] == cells[1]).mean() < 0.001
    assert all(len(np.unique(column)) == 500 for column in cells[0].T)
    assert np.array_equal(one.trace[: one.operation_rows], other.trace[: other.operation_rows])
    assert one.public_values == other.public_values


def test_padding_keeps_the_root_and_the_count() -> None:
    batch = operation_trace(DOMAIN, [witness(b"a"), witness(b"b", 1)])
    padding = from_monty(batch.trace[batch.operation_rows :])
    assert (padding[:, 172:180] == padding[0, 172:180]).all()
    assert (padding[:, CNT] == 2).all()
    assert not padding[:, 180:190].any()


@pytest.mark.parametrize("make", [SystemBlinding, lambda: SeededBlinding(1)])
def test_blinding_is_canonical_and_covers_the_field(make: Callable[[], SystemBlinding]) -> None:
    elements = from_monty(make().elements(20_000))
    assert elements.shape == (20_000,)
    assert int(elements.max()) < P
    counts = np.histogram(elements, bins=16, range=(0, P))[0]
    assert counts.min() > 1000
    assert make().elements(0).size == 0


def test_the_stream_of_a_seed_is_splitmix64() -> None:
    """The first words of Vigna's reference implementation for seed 1234567."""
    assert splitmix64(1234567, 3).tolist() == [
        6457827717110365317,
        3203168211198807973,
        9817491932198370423,
    ]
