"""What the proof commands share: the benchmark statement, its deterministic trace, and the limits."""

from typing import TYPE_CHECKING

from coordinator.cli.errors import CliError

if TYPE_CHECKING:
    from kernels.backend import Backend
    from kernels.field import U32
    from workers.airs.poseidon2 import Poseidon2Air
    from workers.stark.parameters import Parameters

MAX_PROOF_BYTES = 64 * 2**20
MIN_LOG_ROWS = 3
MAX_LOG_ROWS = 22
MAX_PER_ROW = 8
LOG_BLOWUP = 1
"""That of every parameter set."""


def benchmark_air(name: str, *, log_rows: int, per_row: int) -> "Poseidon2Air":
    """The Poseidon2 AIR of that shape.

    Raises:
        CliError: another AIR, or a shape out of range.
    """
    from workers.airs.poseidon2 import Poseidon2Air

    if name != "poseidon2":
        raise CliError(
            f"--air {name}: here it is poseidon2 (a batch of operations is checked by its receipt)"
        )
    if not MIN_LOG_ROWS <= log_rows <= MAX_LOG_ROWS:
        raise CliError(f"--log-rows {log_rows}: expected {MIN_LOG_ROWS} to {MAX_LOG_ROWS}")
    if per_row not in (1, MAX_PER_ROW):
        raise CliError(f"--per-row {per_row}: expected 1 or {MAX_PER_ROW}")
    return Poseidon2Air(per_row=per_row)


def parameter_set(name: str) -> "Parameters":
    """The parameter set of that name.

    Raises:
        CliError: there is none.
    """
    from workers.stark.parameters import UnknownParametersError, by_name

    try:
        return by_name(name)
    except UnknownParametersError as error:
        raise CliError(f"--parameters: {error}") from None


def benchmark_inputs(*, seed: int, count: int) -> "U32":
    """The inputs of `count` permutations, U32[count, 16], Montgomery form: the splitmix64 stream of `seed`,
    each word mod p, permutation by permutation, element 0 first (specification "The proof", section 6)."""
    import numpy as np

    from kernels.field import P, to_monty
    from workers.airs.blinding import splitmix64
    from workers.airs.poseidon2 import STATE_WIDTH

    words = splitmix64(seed, count * STATE_WIDTH) % np.uint64(P)
    return to_monty(words).reshape(count, STATE_WIDTH)


def fill_trace(air: "Poseidon2Air", inputs: "U32", *, backend: "Backend") -> "tuple[U32, U32 | None]":
    """The trace U32[len(inputs) / air.per_row, air.width] of these permutations, made where the backend computes,
    and the memory that it and its extension may share (`workers.stark.prover.prove`)."""
    trace, memory = backend.new_trace(len(inputs) // air.per_row, air.width, log_blowup=LOG_BLOWUP)
    return backend.permutation_trace(inputs, out=trace), memory


def benchmark_trace(air: "Poseidon2Air", *, seed: int, log_rows: int, backend: "Backend") -> "U32":
    """The deterministic trace U32[2^log_rows, air.width], Montgomery form."""
    return fill_trace(air, benchmark_inputs(seed=seed, count=air.per_row << log_rows), backend=backend)[0]
