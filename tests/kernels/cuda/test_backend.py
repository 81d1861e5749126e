"""Every method of the CUDA backend gives the CPU backend's words, on the emulated device or a GPU."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import backend as backends
from kernels.cuda import absorb, batches, hashing
from kernels.cuda import backend as cuda_backend
from kernels.cuda.backend import CudaBackend
from kernels.cuda.errors import ProgramTooLarge
from kernels.cuda.matrix import Matrix
from kernels.cuda.quotient import SLOTS
from kernels.deep import Opening
from kernels.field import EXT_ONE, U32, Ext, P, to_monty
from kernels.messages import pack
from kernels.program import Op, SymbolicProgram
from tests.kernels.cuda.emulated import EmulatedDevice, device_under_test
from tests.kernels.programs import Nodes, cube_program, programs

pytestmark = [pytest.mark.xdist_group("cuda"), pytest.mark.timeout(600)]  # its kernels compile for a while

CPU = backends.select("cpu", 1)
CUDA = CudaBackend(device_under_test(), threads=1)
POINT: Ext = (5, 1_000_000_007, 3, 2_000_000_000)
seeds = st.integers(0, 2**32 - 1)


def random(seed: int, *shape: int) -> U32:
    return to_monty(np.random.default_rng(seed).integers(0, P, shape))


def same(actual: object, expected: U32) -> None:
    np.testing.assert_array_equal(np.asarray(actual), expected)


@pytest.fixture
def on_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is small enough for the host."""
    monkeypatch.setattr(batches, "HOST_ROWS", 0)
    monkeypatch.setattr(batches, "HOST_BYTES", 0)


@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("width", [16, 24])
def test_permutations(width: int) -> None:
    states = random(1, 5, width)
    states[0], states[1] = 0, P - 1
    same(CUDA.permute(states), CPU.permute(states))


@pytest.mark.usefixtures("on_device")
def test_tagged_hashes_of_all_short_lengths() -> None:
    lengths = [0, 1, 7, 8, 9, 16, 17, 40]
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    elements, tags = random(2, int(offsets[-1])), np.arange(1, 9, dtype=np.uint32)
    same(CUDA.hash_tagged(elements, offsets, tags), CPU.hash_tagged(elements, offsets, tags))


@pytest.mark.long  # compiling for the host takes longer than the simulator, which is run every time
@pytest.mark.usefixtures("on_device")
@pytest.mark.parametrize("name", ["sha256", "blake3"])
def test_digests_of_messages(name: str) -> None:
    messages = pack([(bytes(range(256)) * 20)[:n] for n in (0, 55, 56, 64, 1_024, 1_025, 5_000)])
    same(getattr(CUDA, name)(*messages), getattr(CPU, name)(*messages))


@pytest.mark.usefixtures("on_device")
def test_rows_and_pairs_hashed_as_a_verifier_does() -> None:
    for width in (1, 8, 15, 16, 17, 40, 164):
        rows = random(width, 3, width)
        same(CUDA.hash_rows(rows), CPU.hash_rows(rows))
    left, right = random(3, 5, 8), random(4, 5, 8)
    same(CUDA.compress_pairs(left, right), CPU.compress_pairs(left, right))


def test_small_host_batches_stay_on_the_host() -> None:
    device = EmulatedDevice()
    backend = CudaBackend(device, threads=1)
    backend.permute(random(1, 1, 24))
    backend.hash_rows(random(1, 3, 20))
    assert device.launches == []


@pytest.mark.usefixtures("on_device")
def test_permutation_traces_on_the_host_keep_the_columns_beside_them() -> None:
    inputs = random(5, 6, 16)
    ours, theirs = random(6, 6, 170), random(6, 6, 170)
    CUDA.permutation_trace(inputs, out=ours)
    CPU.permutation_trace(inputs, out=theirs)
    same(ours, theirs)


@pytest.mark.parametrize("per_row", [1, 8])
def test_a_trace_made_on_the_device(per_row: int) -> None:
    inputs, extra = random(7, 4 * per_row, 16), random(8, 4, 3)
    trace, memory = CUDA.new_trace(4, 164 * per_row + 3, log_blowup=1)
    assert memory is None
    CUDA.permutation_trace(inputs, out=trace[:, : 164 * per_row])
    CUDA.write_columns(trace, 164 * per_row, extra)
    rows = CPU.permutation_trace(inputs, out=np.empty((4, 164 * per_row), np.uint32))
    same(trace, np.hstack((rows, extra)))
    same(CUDA.take(trace, np.array([3, 0, 3]), slice(1, 9)), rows[[3, 0, 3], 1:9])
    assert CUDA.take(trace, np.array([], np.int64), slice(1, 9)).shape == (0, 8)


@pytest.mark.parametrize("long_blocks", [0, 2, 100])
def test_sponges_leave_their_rows_in_a_trace_on_the_device(
    long_blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether each is a thread's work, a chain on the host, or some this and some that."""
    monkeypatch.setattr(absorb, "LONG_BLOCKS", long_blocks)
    lengths = np.array([1, 7, 8, 9, 40, 16, 17])
    offsets = np.concatenate(([0], np.cumsum(lengths)))
    blocks = int((-(-lengths // 8)).sum())
    inputs = random(2, int(offsets[-1])), offsets, np.arange(1, 8, dtype=np.uint32)
    rows = np.random.default_rng(1).permutation(blocks + 3)[:blocks]
    ours, _ = CUDA.new_trace(blocks + 3, 170, log_blowup=1)
    theirs = np.zeros((blocks + 3, 170), np.uint32)
    CUDA.write_columns(ours, 0, theirs)
    expected = CPU.absorb(*inputs, out=theirs, rows=rows)
    same(CUDA.absorb(*inputs, out=ours, rows=rows), expected)
    same(ours, theirs)


@settings(max_examples=40, deadline=None)
@given(
    log_rows=st.integers(0, 8),
    width=st.sampled_from([1, 2, 4, 9, 33]),
    log_blowup=st.integers(0, 3),
    out_shift=st.integers(1, P - 1),
    in_shift=st.integers(1, P - 1),
    seed=seeds,
)
def test_low_degree_extensions(
    log_rows: int, width: int, log_blowup: int, out_shift: int, in_shift: int, seed: int
) -> None:
    values = random(seed, 1 << log_rows, width)
    shifts = {"log_blowup": log_blowup, "out_shift": out_shift, "in_shift": in_shift}
    same(CUDA.coset_lde(values, **shifts), CPU.coset_lde(values, **shifts))


@pytest.mark.parametrize("log_rows", [13, 17, 18])
def test_tall_columns_fill_the_tiles(log_rows: int) -> None:
    values = random(log_rows, 1 << log_rows, 1)
    same(CUDA.coset_lde(values, log_blowup=1), CPU.coset_lde(values, log_blowup=1))


@settings(max_examples=25, deadline=None)
@given(
    sizes=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 40)), min_size=1, max_size=4),
    cap_height=st.integers(0, 6),
    seed=seeds,
)
def test_merkle_trees_of_any_mixture_of_heights(
    sizes: Sequence[tuple[int, int]], cap_height: int, seed: int
) -> None:
    matrices = [random(seed + i, 1 << height, width) for i, (height, width) in enumerate(sizes)]
    ours, theirs = CUDA.merkle_tree(matrices), CPU.merkle_tree(matrices)
    assert ours.depth == theirs.depth
    same(ours.cap(cap_height), theirs.cap(cap_height))
    indices = np.arange(1 << ours.depth)
    (our_rows, our_paths), (their_rows, their_paths) = (
        tree.open_many(indices, cap_height) for tree in (ours, theirs)
    )
    same(our_paths, their_paths)
    for mine, other in zip(our_rows, their_rows, strict=True):
        same(mine, other)
    last = len(indices) - 1
    same(ours.path(last, 0), theirs.path(last, 0))
    for mine, other in zip(ours.open_rows(last), theirs.open_rows(last), strict=True):
        same(mine, other)


def test_an_index_outside_the_tree_is_refused() -> None:
    tree = CUDA.merkle_tree([random(1, 4, 3)])
    with pytest.raises(AssertionError, match="outside"):
        tree.open_many(np.array([4]), 0)
    rows, paths = tree.open_many(np.array([], dtype=np.int64), 0)
    assert (rows[0].shape, paths.shape) == ((0, 3), (0, 2, 8))


@pytest.mark.parametrize(("bits", "waiting"), [(0, 3), (1, 0), (7, 15), (11, 4)])
def test_grinding_finds_the_smallest_witness(bits: int, waiting: int) -> None:
    state, pending = random(bits, 24), random(9, waiting)
    assert CUDA.grind(state, pending, bits) == CPU.grind(state, pending, bits)


def test_grinding_goes_on_in_the_next_window(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_backend, "_GRIND_BLOCKS", 1)
    state, pending = random(3, 24), random(4, 2)
    witness = CPU.grind(state, pending, 10)
    assert witness >= hashing.GRIND_CANDIDATES, "choose another seed: one window would do"
    assert CUDA.grind(state, pending, 10) == witness


def test_grinding_never_gives_a_number_that_is_no_element(monkeypatch: pytest.MonkeyPatch) -> None:
    class OnlyBeyond(EmulatedDevice):
        """Finds what is wanted in the last window, behind the last element."""

        def launch(self, kernel: object, size: int, *arguments: object) -> None:
            first, found = arguments[4], arguments[5]
            assert isinstance(first, int)
            assert isinstance(found, np.ndarray)
            found[:] = hashing.NOT_FOUND
            past = (P - first) // hashing.GRIND_CANDIDATES
            if past < size:
                found[past] = hashing.GRIND_CANDIDATES - 1

    monkeypatch.setattr(cuda_backend, "_GRIND_BLOCKS", 1 << 20)
    with pytest.raises(ArithmeticError):
        CudaBackend(OnlyBeyond(), threads=1).grind(random(1, 24), random(2, 1), 4)


def check_quotient(program: SymbolicProgram, log_rows: int, seed: int) -> None:
    log_blowup = max(1, program.num_quotient_chunks.bit_length() - 1)
    lde = random(seed, 1 << (log_rows + log_blowup), program.width)
    public = [int(x) for x in np.random.default_rng(seed).integers(0, P, program.num_public)]
    case = {"log_rows": log_rows, "public_values": public, "alpha": POINT}
    chunks = CUDA.quotient(program, lde, **case)
    expected = CPU.quotient(program, lde, **case)
    assert len(chunks) == len(expected)
    for ours, theirs in zip(chunks, expected, strict=True):
        same(ours, theirs)


@settings(max_examples=60, deadline=None)
@given(program=programs(), log_rows=st.integers(4, 6), seed=seeds)
def test_quotients_of_random_programs(program: SymbolicProgram, log_rows: int, seed: int) -> None:
    check_quotient(program, log_rows, seed)


def test_the_quotient_of_a_wide_program() -> None:
    check_quotient(cube_program(37), 5, 1)


def held_at_once(values: int) -> SymbolicProgram:
    """A program whose values are all needed to the end: products of neighbours, then a sum backwards."""
    graph = Nodes()
    cells = [graph.add(Op.LOCAL, column) for column in range(values)]
    products = [graph.add(Op.MUL, x, y) for x, y in itertools.pairwise(cells)]
    total = products[-1]
    for product in reversed(products):
        total = graph.add(
            Op.ADD, graph.add(Op.MUL, total, cells[0]) if total == products[-1] else total, product
        )
    nodes = tuple(graph.nodes)
    return SymbolicProgram(name="held", width=values, num_public=0, nodes=nodes, roots=(total, *products))


def test_a_program_takes_the_first_kernel_with_enough_slots() -> None:
    program = held_at_once(SLOTS[0] + 40)
    device = EmulatedDevice()
    lde = random(1, 64, program.width)
    case = {"log_rows": 4, "public_values": [], "alpha": POINT}
    chunks = CudaBackend(device, threads=1).quotient(program, lde, **case)
    assert f"quotient_{SLOTS[1]}" in device.launches
    for ours, theirs in zip(chunks, CPU.quotient(program, lde, **case), strict=True):
        same(ours, theirs)


def test_a_program_beyond_all_kernels_is_a_typed_error() -> None:
    program = held_at_once(SLOTS[-1] + 40)
    with pytest.raises(ProgramTooLarge, match="slots"):
        CUDA.quotient(program, random(1, 64, program.width), log_rows=4, public_values=[], alpha=POINT)


@pytest.mark.parametrize(("log_rows", "width"), [(1, 3), (4, 4), (5, 40), (12, 2)])
@pytest.mark.parametrize("with_next", [False, True])
def test_opened_columns(log_rows: int, width: int, with_next: bool) -> None:
    values = random(log_rows, 1 << log_rows, width)
    case = {"point": POINT, "shift": 11, "with_next": with_next}
    opened = CUDA.open_columns(values, **case)
    assert isinstance(opened, np.ndarray), "the transcript reads it"
    same(opened, CPU.open_columns(values, **case))


@pytest.mark.parametrize(("log_rows", "log_blowup", "width"), [(3, 1, 3), (5, 1, 40), (4, 2, 9)])
def test_an_extension_opens_and_combines_as_what_it_extends(
    log_rows: int, log_blowup: int, width: int
) -> None:
    extended = CUDA.coset_lde(random(log_rows, 1 << log_rows, width), log_blowup=log_blowup)
    on_host = np.asarray(extended)
    for with_next in (False, True):
        case = {"log_rows": log_rows, "point": POINT, "with_next": with_next}
        same(CUDA.open_extended(extended, **case), CPU.open_extended(on_host, **case))
    coefficients = random(2, width, 4)
    same(
        CUDA.combine_extended(extended, log_rows=log_rows, coefficients=coefficients),
        CPU.combine_extended(on_host, log_rows=log_rows, coefficients=coefficients),
    )


@pytest.mark.parametrize("width", [1, 4, 7, 164])
def test_combined_columns(width: int) -> None:
    values, coefficients = random(1, 16, width), random(2, width, 4)
    same(
        CUDA.combine_columns(values, coefficients=coefficients),
        CPU.combine_columns(values, coefficients=coefficients),
    )


@settings(max_examples=20, deadline=None)
@given(log_size=st.integers(4, 7), count=st.integers(1, 3), seed=seeds)
def test_reduced_openings(log_size: int, count: int, seed: int) -> None:
    openings = [
        Opening(
            combined=random(seed + i, 1 << log_size, 4), value=(i, 2, 3, P - 1), point=POINT, scale=EXT_ONE
        )
        for i in range(count)
    ]
    openings[-1] = Opening(combined=openings[-1].combined, value=POINT, point=(1, 2, 3, 4), scale=POINT)
    same(CUDA.reduced_opening(openings), CPU.reduced_opening(openings))


@pytest.mark.parametrize(("log_size", "log_arity"), [(1, 1), (4, 1), (5, 2), (6, 3), (3, 3)])
def test_folds(log_size: int, log_arity: int) -> None:
    values = random(log_size, 1 << log_size, 4)
    same(
        CUDA.fold(values, beta=POINT, log_arity=log_arity), CPU.fold(values, beta=POINT, log_arity=log_arity)
    )


def test_matrices_go_up_once_and_come_back_the_same() -> None:
    for shape in ((1, 1), (4, 4), (5, 8), (64, 9), (33, 70)):
        values = random(1, *shape)
        matrix = CUDA.upload(values)
        assert isinstance(matrix, Matrix)
        assert CUDA.upload(matrix) is matrix
        assert (matrix.shape, len(matrix), matrix.dtype) == (shape, shape[0], values.dtype)
        same(np.asarray(matrix), values)
        same(matrix[1:, : shape[1] // 2], values[1:, : shape[1] // 2])
    assert CUDA.upload(random(1, 8, 4)).reshape(-1, 16).shape == (2, 16)
    same(CUDA.upload(random(1, 8, 4)).reshape(2, 16), random(1, 8, 4).reshape(2, 16))
