"""The prover makes Plonky3's bytes, and proofs that the verifier accepts if the statement is true."""

import dataclasses
import itertools
import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from coordinator.cli import shapes
from kernels import buffers
from kernels.backend import Backend, select
from kernels.field import U32, P, from_monty, to_monty
from kernels.poseidon2 import trace_row
from tests.workers.fib_air import FibAir, fib_trace
from workers.airs.blinding import splitmix64
from workers.airs.operation_trace import LOG_BLOWUP
from workers.airs.poseidon2 import COLUMNS, Poseidon2Air
from workers.stark.air import Air, Builder, symbolic_program
from workers.stark.errors import VerificationError
from workers.stark.fri_prover import final_polynomial
from workers.stark.parameters import BY_NAME, STANDARD, TESTING, Parameters
from workers.stark.proof import decode
from workers.stark.prover import PHASES, prove
from workers.stark.verifier import verify

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture(scope="module", params=[1, 2], ids=["one thread", "two threads"])
def backend(request: pytest.FixtureRequest) -> Backend:
    return select("cpu", request.param)


def poseidon2_trace(backend: Backend, *, per_row: int, log_rows: int, seed: int = 1) -> U32:
    count = per_row << log_rows
    inputs = to_monty(splitmix64(seed, 16 * count) % np.uint64(P)).reshape(count, 16)
    trace = np.empty((count, COLUMNS), dtype=np.uint32)
    backend.permutation_trace(inputs, out=trace)
    return trace.reshape(1 << log_rows, COLUMNS * per_row)


def fib_case(log_rows: int) -> tuple[U32, tuple[int, ...]]:
    trace, public_values = fib_trace(3, 2_000_000_000, log_rows=log_rows)
    return to_monty(trace), public_values


@pytest.mark.vectors
@pytest.mark.parametrize(("per_row", "log_rows"), [(1, 6), (1, 10), (8, 6)])
def test_poseidon2_proofs_are_plonky3s_byte_for_byte(
    backend: Backend, vectors_dir: Path, per_row: int, log_rows: int
) -> None:
    trace = poseidon2_trace(backend, per_row=per_row, log_rows=log_rows)
    outcome = prove(Poseidon2Air(per_row), trace, [], STANDARD, backend)
    assert outcome.proof == (vectors_dir / f"seed1_v{per_row}_h{log_rows}.proof").read_bytes()
    assert outcome.rows == 1 << log_rows


@pytest.mark.vectors
def test_the_fibonacci_proof_is_plonky3s_byte_for_byte(backend: Backend, vectors_dir: Path) -> None:
    known = json.loads((vectors_dir / "fib_h6.json").read_text())
    trace, public_values = fib_case(6)
    assert list(public_values) == known["public_values"]
    outcome = prove(FibAir(), trace, public_values, STANDARD, backend)
    assert outcome.proof == (vectors_dir / "fib_h6.proof").read_bytes()


@pytest.mark.parametrize("log_rows", [4, 7])
def test_a_trace_given_up_to_its_extension_is_proved_the_same_and_lost(
    backend: Backend, log_rows: int
) -> None:
    kept, public_values = fib_case(log_rows)
    expected = prove(FibAir(), kept, public_values, TESTING, backend).proof
    assert (kept == fib_case(log_rows)[0]).all(), "without memory the trace stays"
    trace, memory = buffers.extensible(*kept.shape, TESTING.log_blowup)
    trace[:] = kept
    assert prove(FibAir(), trace, public_values, TESTING, backend, memory=memory).proof == expected
    assert (trace != kept).any()


def test_every_parameter_set_has_the_blowup_that_traces_leave_room_for() -> None:
    assert {parameters.log_blowup for parameters in BY_NAME.values()} == {LOG_BLOWUP} == {shapes.LOG_BLOWUP}


@dataclass(frozen=True, eq=False)
class SmallAir:
    """A counter of two columns that any rule of this module's may constrain."""

    rule: Callable[[Builder], None]
    name: str = "small"
    width: int = 2
    num_public: int = 1

    def constraints(self, builder: Builder) -> None:
        self.rule(builder)


def counting(builder: Builder) -> None:
    """Degree 2, one chunk: the selector of transitions has degree 0."""
    builder.when_transition(builder.next[0] - builder.local[0] - builder.public[0])
    builder.assert_zero(builder.local[0] * builder.local[0] - builder.local[1])


def squares_only(builder: Builder) -> None:
    """Degree 2, no next row, no selector."""
    builder.assert_zero(builder.local[0] * builder.local[0] - builder.local[1])


def linear_only(builder: Builder) -> None:
    """Degree 1."""
    builder.assert_zero(builder.local[0] - builder.local[0] + builder.public[0] - 5)


def counting_case(log_rows: int) -> tuple[U32, list[int]]:
    column = np.arange(1 << log_rows, dtype=np.int64) * 5 + 9
    return to_monty(np.stack((column, column * column % P), axis=1)), [5]


@pytest.mark.parametrize("rule", [counting, squares_only, linear_only])
@pytest.mark.parametrize("log_rows", [4, 5, 9])
def test_airs_of_low_degree_have_one_chunk_and_verify(
    backend: Backend, rule: Callable[[Builder], None], log_rows: int
) -> None:
    air = SmallAir(rule)
    trace, public_values = counting_case(log_rows)
    outcome = prove(air, trace, public_values, TESTING, backend)
    assert symbolic_program(air).num_quotient_chunks == 1
    verify(air, outcome.proof, public_values, parameters=TESTING, log_rows=log_rows)


VARIANTS = [
    dataclasses.replace(TESTING, commit_pow_bits=3),
    dataclasses.replace(TESTING, log_final_len=2),
    dataclasses.replace(TESTING, log_blowup=2, num_queries=5),
    dataclasses.replace(TESTING, log_blowup=3, log_final_len=1, max_log_arity=2, cap_height=0),
    dataclasses.replace(TESTING, max_log_arity=1, cap_height=20),
]


@pytest.mark.parametrize("parameters", VARIANTS, ids=range(len(VARIANTS)))
@pytest.mark.parametrize("log_rows", [4, 7])
def test_other_parameters_verify(backend: Backend, parameters: Parameters, log_rows: int) -> None:
    trace, public_values = fib_case(log_rows)
    outcome = prove(FibAir(), trace, public_values, parameters, backend)
    verify(FibAir(), outcome.proof, public_values, parameters=parameters)


def refused(air: Air, trace: U32, public_values: list[int], backend: Backend) -> bool:
    """Whether the verifier refuses the proof made of this trace and these public values."""
    outcome = prove(air, trace, public_values, TESTING, backend)
    try:
        verify(air, outcome.proof, public_values, parameters=TESTING)
    except VerificationError:
        return True
    return False


@pytest.mark.parametrize("column", range(8))
@pytest.mark.parametrize("row", [0, 9, 15])
def test_a_trace_with_one_wrong_cell_gives_a_refused_proof(row: int, column: int) -> None:
    backend = select("cpu", 1)
    trace, public_values = fib_case(4)
    assert not refused(FibAir(), trace, list(public_values), backend)
    trace[row, column] = (int(trace[row, column]) + 1) % P
    h_is_free = column == 7 and row == 0  # no constraint reads h of row 0, where e = 0
    assert refused(FibAir(), trace, list(public_values), backend) is not h_is_free


def test_wrong_public_values_give_a_refused_proof() -> None:
    trace, public_values = fib_case(4)
    for index in range(3):
        changed = list(public_values)
        changed[index] = (changed[index] + 1) % P
        assert refused(FibAir(), trace, changed, select("cpu", 1))


def test_the_proof_holds_the_tree_rows_of_the_extended_trace(backend: Backend) -> None:
    trace = to_monty(np.array([trace_row([i] * 16) for i in range(16)]))
    air = Poseidon2Air()
    proof = decode(
        prove(air, trace, [], TESTING, backend).proof,
        program=symbolic_program(air),
        log_rows=4,
        parameters=TESTING,
    )
    extended = backend.coset_lde(trace, log_blowup=1)
    for row in proof.fri.trace.rows:
        assert (extended == row).all(axis=1).any()


def test_phases_are_timed_by_the_clock_that_is_given(backend: Backend) -> None:
    ticks = itertools.count()
    trace, public_values = fib_case(4)
    outcome = prove(FibAir(), trace, public_values, TESTING, backend, clock=lambda: float(next(ticks)))
    assert tuple(outcome.phases) == PHASES
    assert all(seconds >= 1.0 for seconds in outcome.phases.values())
    assert outcome.phases["quotient"] == 1.0, "one interval of a clock that counts its readings"


def test_the_trace_is_left_as_it_was(backend: Backend) -> None:
    trace, public_values = fib_case(4)
    before = trace.copy()
    prove(FibAir(), trace, public_values, TESTING, backend)
    assert (trace == before).all()


def test_a_window_of_a_wider_array_gives_the_same_proof(backend: Backend) -> None:
    trace, public_values = fib_case(4)
    wider = np.zeros((16, 11), dtype=np.uint32)
    wider[:, 2:10] = trace
    proof = prove(FibAir(), trace, public_values, TESTING, backend).proof
    assert prove(FibAir(), wider[:, 2:10], public_values, TESTING, backend).proof == proof


@pytest.mark.parametrize("rows", [12, 8])
def test_unsupported_heights_are_assertions(backend: Backend, rows: int) -> None:
    with pytest.raises(AssertionError):
        prove(FibAir(), np.zeros((rows, 8), dtype=np.uint32), [1, 2, 3], TESTING, backend)


def test_a_degree_beyond_the_blowup_is_an_assertion(backend: Backend) -> None:
    def quartic(builder: Builder) -> None:
        square = builder.local[0] * builder.local[0]
        builder.assert_zero(square * square)

    with pytest.raises(AssertionError, match="degree 4"):
        prove(SmallAir(quartic), np.zeros((16, 2), dtype=np.uint32), [0], TESTING, backend)


def test_the_final_polynomial_is_interpolated_from_the_first_values() -> None:
    coefficients = [(3, 0, 0, 1), (5, 0, 2, 0)]
    root = 2130706432  # -1, the subgroup of order two
    values = [[(c0 + x * c1) % P for c0, c1 in zip(*coefficients, strict=True)] for x in (1, root)]
    vector = to_monty(np.array([*values, [0] * 4, [0] * 4]))
    assert from_monty(final_polynomial(vector, length=2)).tolist() == [list(c) for c in coefficients]
    assert (final_polynomial(vector, length=1) == vector[:1]).all()


WARM_START = """
from numba.core import event
from tests.workers.fib_air import FibAir, fib_trace
from kernels.backend import select
from kernels.field import to_monty
from workers.stark.parameters import TESTING
from workers.stark.prover import prove
trace, public_values = fib_trace(3, 5, log_rows=4)
with event.install_recorder("numba:compile") as recorder:
    prove(FibAir(), to_monty(trace), public_values, TESTING, select("cpu", 1))
print(len(recorder.buffer))
"""


def test_a_fresh_process_compiles_nothing() -> None:
    """Whatever the AIR: its constraints are data to a kernel that is compiled already."""
    trace, public_values = fib_case(4)
    prove(FibAir(), trace, public_values, TESTING, select("cpu", 1))  # fills the cache if it is cold
    fresh = subprocess.run(
        [sys.executable, "-c", WARM_START], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert fresh.stdout.split() == ["0"]
