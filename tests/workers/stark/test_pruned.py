"""The pruned form: the plain proof comes back byte for byte, nothing else is read as one, it is much shorter."""

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.backend import Backend, select
from kernels.field import P, from_monty, to_monty
from tests.workers.fib_air import FibAir, fib_trace
from tests.workers.stark.vector_proofs import NAMES, VectorProof, load_vector_proof
from workers.stark import pruned
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import STANDARD, TESTING, Parameters
from workers.stark.proof import ProofShape
from workers.stark.prover import prove
from workers.stark.pruned import expand, prune
from workers.stark.verifier import verify


@pytest.fixture(scope="module")
def backend() -> Backend:
    return select("cpu", 1)


def small(parameters: Parameters, backend: Backend) -> tuple[bytes, list[int]]:
    """A proof of the Fibonacci AIR, 16 rows, and its public values."""
    trace, public_values = fib_trace(3, 5, log_rows=4)
    return prove(FibAir(), to_monty(trace), public_values, parameters, backend).proof, public_values


def pruned_of(vector: VectorProof) -> bytes:
    return prune(vector.air, vector.proof, vector.public_values, parameters=STANDARD)


@pytest.mark.vectors
@pytest.mark.parametrize("name", NAMES)
def test_the_plain_proof_comes_back_from_its_pruned_form(name: str, vectors_dir: Path) -> None:
    vector = load_vector_proof(vectors_dir, name)
    short = pruned_of(vector)
    assert len(short) <= 0.65 * len(vector.proof)
    again = expand(vector.air, short, vector.public_values, parameters=STANDARD, log_rows=vector.log_rows)
    assert again == vector.proof


@pytest.mark.vectors
def test_each_tree_has_the_fewest_digests(vectors_dir: Path) -> None:
    known = json.loads((vectors_dir / "poseidon2_air_w24_h10.json").read_text())["replay"]
    leaves = np.unique(known["indices"])
    lengths = []
    for log_arity, depth in zip([0, *known["log_arities"]], [8, 5, 3, 0, 0], strict=True):
        leaves = np.unique(leaves >> log_arity)
        path = np.zeros((len(leaves), depth, 8), dtype=np.uint32)
        lengths.append(sum(map(len, pruned._missing_digests(leaves, path))))
    assert [lengths[0]] * 2 == known["input_multiproof_lens"]
    assert lengths[1:] == known["fri_multiproof_lens"]


@pytest.mark.vectors
@pytest.mark.parametrize("cap_height", [0, 1])
def test_digests_are_those_of_a_known_multiproof(
    cap_height: int, vectors_dir: Path, backend: Backend
) -> None:
    known = json.loads((vectors_dir / "poseidon2_air_w24_h10.json").read_text())
    expected = known[f"merkle_16x5_4x3_16x2_w24_cap{cap_height}"]["multiproof_5_3_5_12"]
    counting = [
        to_monty(np.arange(start, start + h * w).reshape(h, w))
        for start, h, w in ((0, 16, 5), (1000, 4, 3), (2000, 16, 2))
    ]
    tree = backend.merkle_tree(counting)
    leaves = np.array([3, 5, 12])
    digests = pruned._missing_digests(leaves, tree.open_many(leaves, cap_height)[1])
    assert from_monty(np.concatenate(digests)).tolist() == expected


@settings(deadline=None, max_examples=60)
@given(depth=st.integers(0, 6), data=st.data())
def test_paths_come_back_from_their_missing_digests(depth: int, data: st.DataObject) -> None:
    backend, cap_height = select("cpu", 1), data.draw(st.integers(0, depth))
    indices = data.draw(st.sets(st.integers(0, (1 << depth) - 1), min_size=1))
    leaves = np.array(sorted(indices))
    rows = np.random.default_rng(depth).integers(0, P, (1 << depth, 3), dtype=np.uint32)
    tree = backend.merkle_tree([rows])
    path = tree.open_many(leaves, cap_height)[1]
    words = np.concatenate(
        [d.reshape(-1) for d in pruned._missing_digests(leaves, path)] or [np.zeros(0, np.uint32)]
    )
    reader = pruned._Reader(words.astype("<u4").tobytes())
    parameters = Parameters(**{**vars(TESTING), "cap_height": cap_height})
    shape = ProofShape(width=3, reads_next=False, chunks=1, log_rows=depth, parameters=parameters)
    again = pruned._paths(reader, leaves, rows[leaves], depth, shape=shape, backend=backend)
    reader.finish()
    assert np.array_equal(again, path)


def changed_words(short: bytes, step: int) -> Iterator[bytes]:
    for at in range(0, len(short) // 4, step):
        words = np.frombuffer(short, dtype="<u4").copy()
        words[at] = (int(words[at]) + 1) % P
        yield words.tobytes()


def check(
    short: bytes, public_values: list[int], parameters: Parameters, log_rows: int | None = None
) -> None:
    plain = expand(FibAir(), short, public_values, parameters=parameters, log_rows=log_rows)
    verify(FibAir(), plain, public_values, parameters=parameters)


@pytest.mark.parametrize("parameters", [TESTING, STANDARD], ids=lambda p: p.name)
def test_a_changed_word_is_refused_wherever_it_stands(parameters: Parameters, backend: Backend) -> None:
    proof, public_values = small(parameters, backend)
    short = prune(FibAir(), proof, public_values, parameters=parameters)
    tried = 0
    for changed in changed_words(short, 1 if parameters is TESTING else 31):
        with pytest.raises(VerificationError):
            check(changed, public_values, parameters)
        tried += 1
    assert tried > 20


def test_every_wrong_length_is_refused(backend: Backend) -> None:
    proof, public_values = small(TESTING, backend)
    short = prune(FibAir(), proof, public_values, parameters=TESTING)
    for length in range(len(short)):
        with pytest.raises(VerificationError):
            expand(FibAir(), short[:length], public_values, parameters=TESTING)
    for more, code in ((b"\0", Refusal.TRUNCATED), (bytes(4), Refusal.TRAILING_BYTES)):
        with pytest.raises(VerificationError) as refused:
            expand(FibAir(), short + more, public_values, parameters=TESTING)
        assert refused.value.code is code


def test_an_element_from_p_on_is_refused_wherever_it_stands(backend: Backend) -> None:
    proof, public_values = small(TESTING, backend)
    short = prune(FibAir(), proof, public_values, parameters=TESTING)
    for at in range(1, len(short) // 4):
        words = np.frombuffer(short, dtype="<u4").copy()
        words[at] += P  # the same element, were it reduced
        with pytest.raises(VerificationError) as refused:
            expand(FibAir(), words.tobytes(), public_values, parameters=TESTING)
        assert refused.value.code is Refusal.NON_CANONICAL


@pytest.mark.parametrize("claimed", [0, 3, 5, 23, 24, 1 << 31, 2**32 - 1])
def test_another_height_is_refused(claimed: int, backend: Backend) -> None:
    proof, public_values = small(TESTING, backend)
    words = np.frombuffer(prune(FibAir(), proof, public_values, parameters=TESTING), dtype="<u4").copy()
    words[0] = claimed
    for demanded in (4, None):
        with pytest.raises(VerificationError):
            check(words.tobytes(), public_values, TESTING, demanded)


def test_other_public_values_are_refused(backend: Backend) -> None:
    proof, public_values = small(STANDARD, backend)
    short = prune(FibAir(), proof, public_values, parameters=STANDARD)
    for other in (
        public_values[:-1],
        [*public_values[:-1], (public_values[-1] + 1) % P],
        [P, *public_values[1:]],
    ):
        with pytest.raises(VerificationError):
            check(short, other, STANDARD)
    with pytest.raises(VerificationError):
        prune(FibAir(), proof[:-1], public_values, parameters=STANDARD)
