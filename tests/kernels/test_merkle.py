"""Merkle trees: Plonky3's caps, and openings that lead to the cap for any mixture of heights."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import backend as backends
from kernels import poseidon2
from kernels.field import U32, P, from_monty, to_monty

VECTORS = json.loads((Path(__file__).parents[1] / "vectors" / "poseidon2_air_w24_h10.json").read_text())

CPU = backends.select("cpu", 2)
SINGLE = backends.select("cpu", 1)

shapes = st.lists(st.tuples(st.integers(0, 5), st.integers(1, 20)), min_size=1, max_size=4)


def matrices_of(sizes: Sequence[tuple[int, int]], seed: int) -> list[U32]:
    generator = np.random.default_rng(seed)
    return [to_monty(generator.integers(0, P, (1 << log_height, width))) for log_height, width in sizes]


def walk(rows: Sequence[U32], heights: Sequence[int], path: U32, index: int) -> tuple[int, list[int]]:
    """(index in the cap, digest) from opened rows, by the definition of the tree alone."""

    def leaf(height: int) -> tuple[int, ...]:
        chosen = [r for r, h in zip(rows, heights, strict=True) if h == height]
        return poseidon2.sponge24([int(x) for r in chosen for x in from_monty(r)])

    height = max(heights)
    digest = leaf(height)
    for sibling in from_monty(path).tolist():
        digest = poseidon2.compress(*((sibling, digest) if index & 1 else (digest, sibling)))
        index, height = index >> 1, height >> 1
        if height in heights:
            digest = poseidon2.compress(digest, leaf(height))
    return index, list(digest)


def known_matrices() -> list[U32]:
    """16 x 5, 4 x 3 and 16 x 2, counting from 0, 1000 and 2000."""
    return [
        to_monty(np.arange(start, start + h * w).reshape(h, w))
        for start, h, w in ((0, 16, 5), (1000, 4, 3), (2000, 16, 2))
    ]


@pytest.mark.parametrize("cap_height", [0, 1])
def test_known_caps_of_plonky3(cap_height: int) -> None:
    known = VECTORS[f"merkle_16x5_4x3_16x2_w24_cap{cap_height}"]
    tree = CPU.merkle_tree(known_matrices())
    assert from_monty(tree.cap(cap_height)).tolist() == known["cap"]


@pytest.mark.parametrize("cap_height", [0, 1])
def test_known_multiproof_of_plonky3_has_the_siblings_of_our_paths(cap_height: int) -> None:
    known = VECTORS[f"merkle_16x5_4x3_16x2_w24_cap{cap_height}"]["multiproof_5_3_5_12"]
    tree = CPU.merkle_tree(known_matrices())
    siblings = {
        tuple(digest) for index in (5, 3, 12) for digest in from_monty(tree.path(index, cap_height)).tolist()
    }
    assert {tuple(digest) for digest in known} <= siblings


@settings(deadline=None, max_examples=60)
@given(sizes=shapes, cap_height=st.integers(0, 6), seed=st.integers(0, 2**32))
def test_every_opening_leads_to_the_cap(sizes: list[tuple[int, int]], cap_height: int, seed: int) -> None:
    matrices = matrices_of(sizes, seed)
    tree = CPU.merkle_tree(matrices)
    heights = [len(m) for m in matrices]
    cap = from_monty(tree.cap(cap_height))
    assert len(cap) == min(1 << cap_height, max(heights))
    index = seed % max(heights)
    rows = tree.open_rows(index)
    for row, matrix in zip(rows, matrices, strict=True):
        assert (row == matrix[index * len(matrix) // max(heights)]).all()
    at, digest = walk(rows, heights, tree.path(index, cap_height), index)
    assert digest == cap[at].tolist()


def test_an_altered_row_or_sibling_leads_elsewhere() -> None:
    matrices = matrices_of([(4, 5), (2, 3)], 1)
    tree = CPU.merkle_tree(matrices)
    heights = [len(m) for m in matrices]
    rows, path = tree.open_rows(6), tree.path(6, 1)
    cap = from_monty(tree.cap(1)).tolist()
    assert walk(rows, heights, path, 6)[1] == cap[0]
    for changed in (*rows, *path):
        changed[0] ^= 1
        assert walk(rows, heights, path, 6)[1] not in cap
        changed[0] ^= 1


@settings(deadline=None, max_examples=30)
@given(sizes=shapes, cap_height=st.integers(0, 4), seed=st.integers(0, 2**32))
def test_batched_openings_equal_single_ones(sizes: list[tuple[int, int]], cap_height: int, seed: int) -> None:
    matrices = matrices_of(sizes, seed)
    tree = CPU.merkle_tree(matrices)
    leaves = max(len(m) for m in matrices)
    indices = np.random.default_rng(seed).integers(0, leaves, 7)
    rows, paths = tree.open_many(indices, cap_height)
    for at, index in enumerate(indices):
        assert [r[at].tolist() for r in rows] == [r.tolist() for r in tree.open_rows(int(index))]
        assert (paths[at] == tree.path(int(index), cap_height)).all()


def test_a_tree_of_one_row_is_its_leaf() -> None:
    tree = CPU.merkle_tree([to_monty(np.array([[1, 2, 3]]))])
    assert tree.depth == 0
    assert tuple(from_monty(tree.cap(3))[0].tolist()) == poseidon2.sponge24([1, 2, 3])
    assert tree.path(0, 0).shape == (0, 8)


def test_thread_counts_give_equal_trees() -> None:
    matrices = matrices_of([(11, 20), (10, 4)], 2)
    for one, two in zip(SINGLE.merkle_tree(matrices).layers, CPU.merkle_tree(matrices).layers, strict=True):
        assert (one == two).all()


def test_heights_and_indices_out_of_place_are_assertions() -> None:
    with pytest.raises(AssertionError, match="power of two"):
        CPU.merkle_tree([np.zeros((3, 1), np.uint32)])
    tree = CPU.merkle_tree([np.zeros((4, 1), np.uint32)])
    with pytest.raises(AssertionError, match="outside the tree"):
        tree.open_many(np.array([4]), 0)
