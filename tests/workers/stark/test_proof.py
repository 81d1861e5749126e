"""The wire: one encoding for each proof, and nothing else is read as one."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import P, from_monty, to_monty
from tests.workers.stark.vector_proofs import NAMES, VectorProof, load_vector_proof
from workers.stark.air import symbolic_program
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import STANDARD
from workers.stark.proof import Field, Proof, ProofShape, decode, encode, peek_log_rows
from workers.stark.wire import decode_varints, encode_varints

pytestmark = pytest.mark.vectors


def reference_varint(value: int) -> bytes:
    encoded = bytearray()
    while value >= 0x80:
        encoded.append(value & 0x7F | 0x80)
        value >>= 7
    encoded.append(value)
    return bytes(encoded)


def decoded(vector: VectorProof) -> Proof:
    return decode(
        vector.proof,
        program=symbolic_program(vector.air),
        log_rows=vector.log_rows,
        parameters=STANDARD,
    )


def refusal(vector: VectorProof, data: bytes) -> Refusal:
    with pytest.raises(VerificationError) as refused:
        decode(data, program=symbolic_program(vector.air), log_rows=vector.log_rows, parameters=STANDARD)
    return refused.value.code


@pytest.fixture(scope="module")
def fib(vectors_dir: Path) -> VectorProof:
    return load_vector_proof(vectors_dir, "fib_h6")


@settings(deadline=None)
@given(st.lists(st.one_of(st.integers(0, 2**32 - 1), st.integers(0, 300)), max_size=50))
def test_varints_are_the_minimal_ones_and_come_back(values: list[int]) -> None:
    data = encode_varints(np.array(values, dtype=np.uint32))
    assert data == b"".join(map(reference_varint, values))
    numbers, incomplete = decode_varints(data)
    assert numbers.tolist() == values
    assert not incomplete


@settings(deadline=None)
@given(st.binary(max_size=60))
def test_bytes_that_are_read_as_varints_are_what_writing_them_gives(data: bytes) -> None:
    minimal = re.fullmatch(rb"(?s:([\x00-\x7f]|[\x80-\xff]{1,4}[\x01-\x7f])*([\x80-\xff]*))", data)
    if minimal is None:
        with pytest.raises(VerificationError, match="malformed_varint"):
            decode_varints(data)
        return
    numbers, incomplete = decode_varints(data)
    written = b"".join(reference_varint(int(number)) for number in numbers)
    assert data[: len(written)] == written
    assert incomplete == (len(written) < len(data))


def test_an_element_is_written_in_montgomery_form() -> None:
    """1 is 2^32 mod p = 0x1fffffe. (The `postcard` vectors show the fixed width of later releases.)"""
    assert encode_varints(to_monty(np.array([1]))) == bytes([0xFE, 0xFF, 0xFF, 0x0F])


@pytest.mark.parametrize("name", NAMES)
def test_a_proof_of_plonky3_is_encoded_to_the_bytes_it_was_decoded_from(vectors_dir: Path, name: str) -> None:
    vector = load_vector_proof(vectors_dir, name)
    proof = decoded(vector)
    assert encode(proof, program=symbolic_program(vector.air), parameters=STANDARD) == vector.proof
    assert peek_log_rows(vector.proof) == vector.log_rows


def test_the_parts_are_those_that_plonky3_names(vectors_dir: Path) -> None:
    vector = load_vector_proof(vectors_dir, "seed1_v1_h10")
    known = json.loads((vectors_dir / "poseidon2_air_w24_h10.json").read_text())["replay"]
    proof = decoded(vector)
    assert from_monty(proof.trace_cap).tolist() == known["trace_cap"]
    assert from_monty(proof.quotient_cap).tolist() == known["quotient_cap"]
    assert from_monty(proof.opened.local[0]).tolist() == known["trace_local_first"]
    assert from_monty(proof.opened.local[-1]).tolist() == known["trace_local_last"]
    assert from_monty(proof.opened.chunks).tolist() == known["quotient_chunks"]
    assert [len(cap) for cap in proof.fri.caps] == known["fri_cap_lens"]
    assert from_monty(proof.fri.final_polynomial).tolist() == known["final_poly"]
    assert proof.fri.query_pow_witness == known["query_pow_witness"]
    assert proof.opened.next is None


def places(shape: ProofShape) -> list[tuple[Field, int]]:
    """Every field with the place of its first varint; the query's fields once, for the first query."""
    found = []
    place = 0
    for section, repeats in (
        (shape.layout.head, 1),
        (shape.layout.query, shape.parameters.num_queries),
        (shape.layout.tail, 1),
    ):
        size = sum(field.size for field in section)
        start = place
        for field in section:
            found.append((field, start))
            start += field.size
        place += size * repeats
    return found


@pytest.mark.parametrize("name", ["fib_h6", "seed1_v1_h6"])
@pytest.mark.parametrize("change", [-1, 1])
def test_every_length_option_and_arity_must_be_the_one_that_is_due(
    vectors_dir: Path, name: str, change: int
) -> None:
    vector = load_vector_proof(vectors_dir, name)
    numbers, _ = decode_varints(vector.proof)
    shape = ProofShape.of(symbolic_program(vector.air), log_rows=vector.log_rows, parameters=STANDARD)
    tried = 0
    for field, place in places(shape):
        if field.fixed is None or field.fixed + change < 0:
            continue
        changed = numbers.astype(np.uint32)
        changed[place] = field.fixed + change
        assert refusal(vector, encode_varints(changed)) is Refusal.WRONG_SHAPE, field.name
        tried += 1
    assert tried > 15


@pytest.mark.parametrize("value", [P, 2**32 - 1])
def test_every_element_must_be_below_p(fib: VectorProof, value: int) -> None:
    numbers, _ = decode_varints(fib.proof)
    shape = ProofShape.of(symbolic_program(fib.air), log_rows=fib.log_rows, parameters=STANDARD)
    for field, place in places(shape):
        if field.fixed is None and field.size:
            changed = numbers.astype(np.uint32)
            changed[place + field.size - 1] = value
            assert refusal(fib, encode_varints(changed)) is Refusal.NON_CANONICAL, field.name


def test_a_varint_of_more_than_32_bits_is_no_element(fib: VectorProof) -> None:
    start = fib.proof.index(b"\x08") + 1
    assert refusal(fib, fib.proof[:start] + b"\xff\xff\xff\xff\x7f" + fib.proof[start + 5 :]) in {
        Refusal.NON_CANONICAL,
        Refusal.TRUNCATED,
        Refusal.WRONG_SHAPE,
    }


def test_a_cut_proof_is_truncated_wherever_it_is_cut(fib: VectorProof) -> None:
    for length in [*range(0, len(fib.proof), 701), len(fib.proof) - 1]:
        assert refusal(fib, fib.proof[:length]) is Refusal.TRUNCATED, length


@pytest.mark.parametrize("tail", [b"\x00", b"\x06", b"\x80", b"\xff" * 9, b"\x01" * 1_000_000])
def test_nothing_may_follow_a_proof(fib: VectorProof, tail: bytes) -> None:
    assert refusal(fib, fib.proof + tail) in {Refusal.TRAILING_BYTES, Refusal.MALFORMED_VARINT}
    if len(tail) == 1:
        assert refusal(fib, fib.proof + tail) is Refusal.TRAILING_BYTES


def test_a_varint_must_be_minimal(fib: VectorProof) -> None:
    """The same numbers with a zero septet more: first at the first length, then at the height."""
    assert refusal(fib, b"\x88\x00" + fib.proof[1:]) is Refusal.MALFORMED_VARINT
    assert refusal(fib, fib.proof[:-1] + b"\x86\x00") is Refusal.MALFORMED_VARINT


def test_an_overlong_input_is_refused_before_it_is_read(
    fib: VectorProof, monkeypatch: pytest.MonkeyPatch
) -> None:
    def never(data: bytes) -> None:
        raise AssertionError("it was read")

    monkeypatch.setattr("workers.stark.proof.decode_varints", never)
    assert refusal(fib, bytes(10_000_000)) is Refusal.TRAILING_BYTES


def test_no_bytes_and_no_height_are_refused() -> None:
    with pytest.raises(VerificationError, match="empty") as refused:
        peek_log_rows(b"")
    assert refused.value.code is Refusal.TRUNCATED
    with pytest.raises(VerificationError) as refused:
        peek_log_rows(b"\x06\x86")
    assert refused.value.code is Refusal.UNSUPPORTED_HEIGHT
