"""Poseidon2: the definition against Plonky3's known answers, the compiled batches against the definition."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import backend as backends
from kernels import poseidon2
from kernels.field import MONTY_R, P, from_monty, to_monty
from kernels.lanes import LANES

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "poseidon2_air_w24_h10.json").read_text())

CPU = backends.select("cpu", 2)
SINGLE = backends.select("cpu", 1)
SIZES = [1, 2, LANES - 1, LANES, LANES + 1, 5 * LANES + 3, 40 * LANES + 1]


def elements(seed: int, *shape: int) -> np.ndarray[Any, np.dtype[np.int64]]:
    """Canonical elements, with the extremes of the field among them."""
    generator = np.random.default_rng(seed)
    values = generator.integers(0, P, shape)
    return np.where(generator.random(shape) < 0.1, generator.choice([0, 1, P - 1], shape), values)


def test_known_answers_of_plonky3() -> None:
    assert poseidon2.permute(list(range(16))) == VECTORS["poseidon2_16_of_0_15"]
    assert poseidon2.permute(list(range(24))) == VECTORS["poseidon2_24_of_0_23"]
    assert list(poseidon2.sponge24(range(1, 38))) == VECTORS["sponge_1_37"]["w24"]
    assert list(poseidon2.compress(range(8), range(100, 108))) == VECTORS["compress_0_7_100_107"]
    assert poseidon2.trace_row(VECTORS["inputs_seed1_first2"][0]) == VECTORS["trace_row0"]


def test_other_widths_are_refused() -> None:
    with pytest.raises(ValueError, match="widths 16 and 24"):
        poseidon2.permute([0] * 8)


@pytest.mark.parametrize("width", [16, 24])
@pytest.mark.parametrize("count", SIZES)
def test_batches_of_permutations_equal_the_definition(width: int, count: int) -> None:
    states = elements(count, count, width)
    permuted = CPU.permute(to_monty(states))
    assert permuted.max() < P
    for row in {0, 1, count // 2, count - 1} & set(range(count)):
        assert from_monty(permuted[row]).tolist() == poseidon2.permute(states[row].tolist())
    assert (SINGLE.permute(to_monty(states)) == permuted).all()


@pytest.mark.parametrize("extreme", [0, 1, P - 1, P - 2])
@pytest.mark.parametrize("width", [16, 24])
def test_extreme_states_stay_canonical(width: int, extreme: int) -> None:
    """The raw words 0 and p - 1 in every element, where a correction forgotten would show."""
    raw = np.full((1, width), extreme, np.uint32)
    expected = poseidon2.permute(from_monty(raw[0]).tolist())
    assert from_monty(CPU.permute(raw)[0]).tolist() == expected


@settings(deadline=None, max_examples=40)
@given(count=st.integers(1, 3 * LANES), width=st.integers(0, 70), seed=st.integers(0, 2**32))
def test_leaf_rows_of_any_width_and_number(count: int, width: int, seed: int) -> None:
    rows = elements(seed, count, width)
    digests = from_monty(CPU.hash_rows(to_monty(rows)))
    assert digests.shape == (count, 8)
    for row in {0, count - 1}:
        assert tuple(digests[row].tolist()) == poseidon2.sponge24(rows[row].tolist())


def test_rows_may_be_a_window_of_a_wider_matrix() -> None:
    wide = to_monty(elements(3, 20, 40))
    assert (CPU.hash_rows(wide[:, 5:25]) == CPU.hash_rows(wide[:, 5:25].copy())).all()


@pytest.mark.parametrize("count", SIZES)
def test_compressions_equal_the_definition(count: int) -> None:
    left, right = elements(1, count, 8), elements(2, count, 8)
    digests = from_monty(CPU.compress_pairs(to_monty(left), to_monty(right)))
    for row in {0, count - 1}:
        expected = poseidon2.compress(left[row].tolist(), right[row].tolist())
        assert tuple(digests[row].tolist()) == expected


@settings(deadline=None, max_examples=40)
@given(
    inputs=st.lists(st.lists(st.integers(0, P - 1), max_size=40), min_size=1, max_size=2 * LANES),
    seed=st.integers(0, 99),
)
def test_tagged_hashes_of_mixed_lengths_equal_the_definition(inputs: list[list[int]], seed: int) -> None:
    tags = np.random.default_rng(seed).integers(0, 9, len(inputs)).astype(np.uint32)
    offsets = np.concatenate(([0], np.cumsum([len(x) for x in inputs]))).astype(np.int64)
    flat = to_monty(np.array([e for x in inputs for e in x], dtype=np.int64))
    digests = from_monty(CPU.hash_tagged(flat, offsets, tags))
    for digest, tag, values in zip(digests, tags, inputs, strict=True):
        assert tuple(digest.tolist()) == poseidon2.hash_tagged(int(tag), values)


def test_tagged_hash_of_nothing_is_one_permutation_and_tag_and_length_matter() -> None:
    assert poseidon2.hash_tagged(3, []) == tuple(poseidon2.permute([0] * 8 + [3] + [0] * 7)[:8])
    assert len({poseidon2.hash_tagged(t, [0] * n) for t in range(3) for n in range(10)}) == 30


def enc(data: bytes) -> list[int]:
    return [len(data), *(int.from_bytes(data[i : i + 3], "little") for i in range(0, len(data), 3))]


@pytest.mark.vectors
def test_digests_of_the_statement_vectors(vectors_dir: Path) -> None:
    """Constraint hash, output commitment and agent key, which need no statement code."""
    batches = json.loads((vectors_dir / "statements.json").read_text())
    operations = [operation for batch in batches for operation in batch["operations"]]
    assert operations
    for operation in operations:
        texts = {name: bytes.fromhex(operation["input"][name]) for name in ("output", "salt", "secret")}
        constraint = poseidon2.hash_tagged(1, enc(texts["output"]))
        assert list(constraint) == operation["constraint_hash"]
        committed = [*constraint, *enc(texts["salt"])[1:]]
        assert list(poseidon2.hash_tagged(2, committed)) == operation["output_commitment"]
        assert list(poseidon2.hash_tagged(4, enc(texts["secret"])[1:])) == operation["agent_key"]


@pytest.mark.parametrize("count", SIZES)
def test_permutation_trace_rows_into_a_wider_matrix(count: int) -> None:
    inputs = elements(7, count, 16)
    wide = np.full((count, 400), 5, np.uint32)
    window = wide[:, 3 : 3 + 170]
    assert CPU.permutation_trace(to_monty(inputs), out=window) is window
    for row in {0, count // 2, count - 1}:
        assert from_monty(window[row, :164]).tolist() == poseidon2.trace_row(inputs[row].tolist())
    assert (wide[:, :3] == 5).all()
    assert (wide[:, 3 + 164 :] == 5).all()


def test_montgomery_form_of_one_is_what_the_kernels_assume() -> None:
    assert to_monty([1]).tolist() == [MONTY_R]
