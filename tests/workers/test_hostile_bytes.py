"""What comes from strangers is read within bounds: a proof, a pruned proof or a receipt made of anything at all is
refused with the reader's own error, takes memory in proportion to what it may be long, and ends soon."""

import base64
import contextlib
import copy
import json
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.field import to_monty
from tests.workers.fib_air import FibAir, fib_trace
from tests.workers.test_receipt import BATCH, receipt_of
from workers.airs.operation import OperationAir
from workers.hashing import default_backend
from workers.receipt import MAX_RECEIPT_BYTES, ReceiptError, verify_receipt
from workers.stark.air import symbolic_program
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import STANDARD, TESTING
from workers.stark.proof import ProofShape
from workers.stark.prover import prove
from workers.stark.pruned import expand, prune
from workers.stark.verifier import verify

AIR = FibAir()
LOG_ROWS = 6
TRACE, PUBLIC = fib_trace(3, 2_000_000_000, log_rows=LOG_ROWS)
PROOF = prove(AIR, to_monty(TRACE), PUBLIC, TESTING, default_backend()).proof
PRUNED = prune(AIR, PROOF, PUBLIC, parameters=TESTING)

_BYTES_A_BYTE = 80
"""Memory that reading takes for a byte of the longest proof of the shape; a varint of one byte becomes words of 8."""
_BASE_BYTES = 256 << 10


def verify_pruned(data: bytes) -> None:
    verify(AIR, expand(AIR, data, PUBLIC, parameters=TESTING), PUBLIC, parameters=TESTING)


def verify_plain(data: bytes) -> None:
    verify(AIR, data, PUBLIC, parameters=TESTING)


def refusal(read: Callable[[bytes], object], data: bytes, *, most_bytes: int) -> Refusal:
    """The reason for which `data` is refused, within `most_bytes` of memory."""
    tracemalloc.start()
    try:
        with pytest.raises(VerificationError) as refused:
            read(data)
        assert tracemalloc.get_traced_memory()[1] <= most_bytes
    finally:
        tracemalloc.stop()
    return refused.value.code


def longest(height: int) -> int:
    return ProofShape.of(symbolic_program(AIR), log_rows=height, parameters=TESTING).max_bytes


verify_plain(PROOF)  # what a process computes once, it has computed
verify_pruned(PRUNED)


BOMBS: dict[str, tuple[bytes, set[Refusal]]] = {
    "nothing": (b"", {Refusal.TRUNCATED}),
    "a height alone": (bytes([LOG_ROWS]), {Refusal.WRONG_SHAPE}),
    "megabytes of zeros": (bytes(8_000_000) + bytes([LOG_ROWS]), {Refusal.TRAILING_BYTES}),
    "a varint without an end": (b"\xff" * 8_000_000, {Refusal.UNSUPPORTED_HEIGHT}),
    "a varint of megabytes": (b"\x80" * 8_000_000 + bytes([LOG_ROWS]), {Refusal.TRAILING_BYTES}),
    "a varint as long as a proof": (b"\xff" * 3_000 + bytes([LOG_ROWS]), {Refusal.MALFORMED_VARINT}),
    "a first length of 2^32 - 1": (b"\xff\xff\xff\xff\x0f" + PROOF[1:], {Refusal.WRONG_SHAPE}),
    "a first length of 2^63": (b"\x80" * 9 + b"\x01" + PROOF[1:], {Refusal.MALFORMED_VARINT}),
    "every length 2^32 - 1": (b"\xff\xff\xff\xff\x0f" * 500 + bytes([LOG_ROWS]), {Refusal.WRONG_SHAPE}),
    "every number 1": (b"\x01" * 3_000 + bytes([LOG_ROWS]), {Refusal.WRONG_SHAPE}),
    "the proof twice": (PROOF + PROOF, {Refusal.TRAILING_BYTES}),
    "the proof and a megabyte": (PROOF + bytes(1 << 20) + bytes([LOG_ROWS]), {Refusal.TRAILING_BYTES}),
    "half the proof": (
        PROOF[: len(PROOF) // 2] + bytes([LOG_ROWS]),
        {Refusal.TRUNCATED, Refusal.WRONG_SHAPE},
    ),
    "the proof backwards": (
        PROOF[::-1][:-1] + bytes([LOG_ROWS]),
        {Refusal.WRONG_SHAPE, Refusal.MALFORMED_VARINT},
    ),
    "the pruned proof": (PRUNED + bytes([LOG_ROWS]), {Refusal.WRONG_SHAPE, Refusal.MALFORMED_VARINT}),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_in_little_memory(name: str) -> None:
    data, reasons = BOMBS[name]
    most = _BYTES_A_BYTE * min(len(data), longest(LOG_ROWS)) + _BASE_BYTES
    assert refusal(verify_plain, data, most_bytes=most) in reasons


@pytest.mark.parametrize("height", range(128))
def test_a_claimed_height_costs_no_more_than_bytes_that_are_there(height: int) -> None:
    data = PROOF[:-1] + bytes([height])
    if height != LOG_ROWS:
        refusal(verify_plain, data, most_bytes=_BYTES_A_BYTE * len(data) + _BASE_BYTES)


@pytest.mark.parametrize("words", [0, 1, 3, 100, 100_000, 2_000_000])
@pytest.mark.parametrize("height", [0, LOG_ROWS, 22, 23, 2**31, 2**32 - 1])
def test_a_bomb_in_the_pruned_form_is_refused_in_little_memory(words: int, height: int) -> None:
    data = height.to_bytes(4, "little") + bytes(4 * words)
    refusal(verify_pruned, data, most_bytes=40 * longest(22) + _BASE_BYTES)
    refusal(verify_pruned, data + b"\0", most_bytes=_BASE_BYTES)


edits = st.lists(
    st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 40), st.binary(max_size=40)),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, changes: list[tuple[float, int, bytes]]) -> bytes:
    for place, cut, put in changes:
        at = int(place * len(data))
        data = data[:at] + put + data[at + cut :]
    return data


@settings(deadline=None, max_examples=150)
@given(st.one_of(st.binary(max_size=500), edits.map(lambda changes: edited(PROOF, changes))))
def test_any_bytes_are_the_proof_or_refused(data: bytes) -> None:
    if data != PROOF:
        with pytest.raises(VerificationError):
            verify_plain(data)


@settings(deadline=None, max_examples=100)
@given(st.one_of(st.binary(max_size=500), edits.map(lambda changes: edited(PRUNED, changes))))
def test_any_bytes_are_the_pruned_proof_or_refused(data: bytes) -> None:
    if data != PRUNED:
        with pytest.raises(VerificationError):
            verify_pruned(data)


@pytest.fixture(scope="module")
def receipt() -> dict[str, Any]:
    proof = prove(OperationAir(), BATCH.trace, BATCH.public_values, TESTING, default_backend()).proof
    return receipt_of(1, TESTING, proof)


def read_receipt(data: bytes) -> None:
    verify_receipt(data, accepted_parameters={TESTING.name})


def places_of(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every field of a JSON value, by its path."""
    found = [path] if path else []
    if isinstance(value, dict):
        for name, inner in value.items():
            found += places_of(inner, (*path, name))
    elif isinstance(value, list):
        for at, inner in enumerate(value):
            found += places_of(inner, (*path, at))
    return found


IGNORED = {("operation",), ("batch", "id"), ("chain",), ("work",)}
"""What nothing binds: names, and the sender's word."""

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=80),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


@settings(deadline=None, max_examples=150)
@given(data=st.data())
def test_a_receipt_with_any_other_value_in_a_field_is_refused(
    receipt: dict[str, Any], data: st.DataObject
) -> None:
    places = [p for p in places_of(receipt) if not any(p[: len(ignored)] == ignored for ignored in IGNORED)]
    path = data.draw(st.sampled_from(places))
    changed = copy.deepcopy(receipt)
    holder = changed
    for step in path[:-1]:
        holder = holder[step]
    value = data.draw(json_values)
    if value == holder[path[-1]]:
        return
    holder[path[-1]] = value
    with pytest.raises(ReceiptError):
        read_receipt(json.dumps(changed).encode())


@settings(deadline=None, max_examples=100)
@given(changes=edits)
def test_a_receipt_of_any_bytes_raises_nothing_but_its_own_error(
    receipt: dict[str, Any], changes: list[tuple[float, int, bytes]]
) -> None:
    """It may be accepted: a name that nothing binds, or a blank, may be another."""
    with contextlib.suppress(ReceiptError):
        read_receipt(edited(json.dumps(receipt).encode(), changes))


RECEIPT_BOMBS: dict[str, Callable[[dict[str, Any]], object]] = {
    "a long task": lambda r: r["statement"].update(task_id="x" * 7_000_000),
    "many parents": lambda r: r["statement"].update(parents=["01000000" * 8] * 100_000),
    "many statements": lambda r: r["batch"].update(statements=["01000000" * 8] * 100_000),
    "a long proof of zeros": lambda r: r.update(proof=base64.b64encode(bytes(5_000_000) + b"\x09").decode()),
    "a long varint": lambda r: r.update(proof=base64.b64encode(b"\xff" * 5_000_000).decode()),
    "deep nesting": lambda r: r.update(note=json.loads("[" * 900 + "]" * 900)),
    "many fields": lambda r: r.update({f"field {i}": i for i in range(100_000)}, mock=True),
}


@pytest.mark.parametrize("name", RECEIPT_BOMBS)
def test_a_receipt_bomb_takes_memory_like_its_length(receipt: dict[str, Any], name: str) -> None:
    bomb = copy.deepcopy(receipt)
    RECEIPT_BOMBS[name](bomb)
    data = json.dumps(bomb).encode()
    tracemalloc.start()
    try:
        if name == "deep nesting":  # a field that nobody reads: the rest is a receipt
            read_receipt(data)
        else:
            with pytest.raises(ReceiptError):
                read_receipt(data)
        assert tracemalloc.get_traced_memory()[1] <= 3 * MAX_RECEIPT_BYTES
    finally:
        tracemalloc.stop()


def test_a_receipt_that_says_standard_is_not_taken_for_testing(receipt: dict[str, Any]) -> None:
    receipt = receipt | {"parameters": receipt["parameters"] | {"name": STANDARD.name}}
    with pytest.raises(ReceiptError):
        read_receipt(json.dumps(receipt).encode())
