"""Receipts: a good one is accepted and says what was checked, and any other is refused for its reason."""

import base64
import copy
import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from workers.airs.blinding import SeededBlinding
from workers.airs.operation import OperationAir
from workers.airs.operation_trace import OperationTrace, operation_trace
from workers.batch_proof import Wire, verify_batch_proof
from workers.hashing import default_backend
from workers.receipt import (
    CHECKED,
    MAX_RECEIPT_BYTES,
    NOT_CHECKED,
    BatchPart,
    ChainPart,
    Check,
    ParametersPart,
    Problem,
    Receipt,
    ReceiptError,
    StatementPart,
    WorkPart,
    parse_receipt,
    verify_receipt,
    with_wire,
)
from workers.stark.errors import Refusal, VerificationError
from workers.stark.parameters import BY_NAME, PROVEN_100, STANDARD, TESTING, Parameters
from workers.stark.prover import prove
from workers.statement import OperationWitness, WitnessError, batch_root, compute_statements

DOMAIN = b"local:a4d268680017c0cf"


def make_batch() -> tuple[list[OperationWitness], OperationTrace]:
    def witness(number: int, parents: tuple[bytes, ...]) -> OperationWitness:
        return OperationWitness(
            task_id=f"tâche-{number}".encode(),
            agent_id=b"agent-%d" % number,
            output=b"result %d" % number,
            salt=bytes([number]) * 24,
            secret=bytes([100 + number]) * 24,
            parents=parents,
        )

    parent = witness(0, ())
    (known,) = compute_statements(DOMAIN, [parent])
    witnesses = [parent, *(witness(number, (known.output_commitment,)) for number in (1, 2))]
    return witnesses, operation_trace(DOMAIN, witnesses, blinding=SeededBlinding(3))


WITNESSES, BATCH = make_batch()


def receipt_of(index: int, parameters: Parameters, proof: bytes) -> dict[str, Any]:
    receipt = Receipt(
        operation=f"operation-{index}",
        statement=StatementPart.of(DOMAIN, WITNESSES[index], BATCH.statements[index]),
        batch=BatchPart(
            id="batch-1",
            n=BATCH.n,
            root=BATCH.root.hex(),
            statements=[statement.statement.hex() for statement in BATCH.statements],
            index=index,
        ),
        proof=proof,
        parameters=ParametersPart.of(parameters),
        chain=ChainPart(slot=12, transaction="5af"),
        work=WorkPart(worker="w1", backend="cpu", attempts=1, prove_ms=41.5, permutations=40),
        mock=False,
    )
    made: dict[str, Any] = json.loads(msgspec.json.encode(receipt))
    return made


@pytest.fixture(scope="module", params=["standard", "proven-100"])
def parameters(request: pytest.FixtureRequest) -> Parameters:
    return BY_NAME[request.param]


@pytest.fixture(scope="module")
def proofs() -> dict[str, bytes]:
    return {
        name: prove(OperationAir(), BATCH.trace, BATCH.public_values, chosen, default_backend()).proof
        for name, chosen in BY_NAME.items()
    }


@pytest.fixture
def receipt(proofs: dict[str, bytes]) -> dict[str, Any]:
    return receipt_of(1, STANDARD, proofs["standard"])


def problem(receipt: Any) -> Problem:
    with pytest.raises(ReceiptError) as refused:
        verify_receipt(receipt)
    return refused.value.code


@pytest.mark.parametrize("index", [0, 1, 2])
def test_the_receipt_of_every_operation_of_a_batch_is_accepted(
    proofs: dict[str, bytes], parameters: Parameters, index: int
) -> None:
    receipt = receipt_of(index, parameters, proofs[parameters.name])
    report = verify_receipt(receipt)
    assert verify_receipt(json.dumps(receipt).encode()) == report
    statement = BATCH.statements[index]
    assert report.agent_key == statement.agent_key.hex()
    assert report.constraint_hash == statement.constraint_hash.hex()
    assert (report.task_id, report.agent_id) == (f"tâche-{index}", f"agent-{index}")
    assert report.parents == tuple(parent.hex() for parent in WITNESSES[index].parents)
    assert (report.n, report.index, report.root) == (3, index, BATCH.root.hex())
    assert report.parameters is parameters


def test_a_report_says_what_was_checked_and_what_was_not(receipt: dict[str, Any]) -> None:
    report = verify_receipt(receipt)
    assert set(report.checked) | set(report.not_checked) == set(Check)
    assert (report.checked, report.not_checked) == (CHECKED, NOT_CHECKED)
    assert Check.CHAIN_CONFIRMED in report.not_checked
    assert report.claimed_chain == ChainPart(slot=12, transaction="5af")


def test_more_fields_are_welcome_and_a_place_on_the_chain_is_not_needed(receipt: dict[str, Any]) -> None:
    receipt |= {"note": "hello", "chain": None, "work": None}
    assert verify_receipt(receipt).claimed_chain is None


def test_the_json_has_the_fields_of_the_api(receipt: dict[str, Any]) -> None:
    assert receipt.keys() >= {"version", "operation", "statement", "batch", "proof", "parameters"}
    assert receipt.keys() >= {"chain", "work", "mock"}
    assert receipt["batch"].keys() == {"id", "n", "root", "statements", "index"}
    assert receipt["parameters"].keys() >= {"name", "conjectured_bits", "proven_bits", "wire"}
    assert base64.b64decode(receipt["proof"])[-1] == BATCH.log_rows
    api = {"constraint_hash", "output_commitment", "nullifier", "agent_key", "public_digest", "binding"}
    assert receipt["statement"].keys() >= api


def test_a_receipt_with_the_pruned_proof_says_the_same_in_far_fewer_bytes(
    proofs: dict[str, bytes], parameters: Parameters
) -> None:
    plain = parse_receipt(receipt_of(1, parameters, proofs[parameters.name]))
    pruned = with_wire(plain, Wire.PRUNED)
    assert (plain.parameters.wire, pruned.parameters.wire) == ("plonky3-0.6.2", "agenc-pruned-1")
    assert len(pruned.proof) <= 0.65 * len(plain.proof)
    assert verify_receipt(msgspec.json.encode(pruned)) == verify_receipt(msgspec.json.encode(plain))
    assert with_wire(pruned, Wire.PLAIN) == plain
    assert with_wire(pruned, Wire.PRUNED) == pruned


def test_a_proof_is_read_in_the_encoding_that_the_receipt_names_and_no_other(receipt: dict[str, Any]) -> None:
    pruned = with_wire(parse_receipt(receipt), Wire.PRUNED)
    receipt["parameters"]["wire"] = Wire.PRUNED.value
    assert problem(receipt) is Problem.PROOF
    receipt["proof"] = base64.b64encode(pruned.proof).decode()
    assert verify_receipt(receipt).index == 1
    receipt["parameters"]["wire"] = Wire.PLAIN.value
    assert problem(receipt) is Problem.PROOF
    with pytest.raises(ReceiptError) as refused:
        with_wire(parse_receipt(receipt), Wire.PRUNED)
    assert refused.value.code is Problem.PROOF


@pytest.mark.parametrize("place", [0.0, 0.1, 0.3, 0.6, 0.99])
def test_a_changed_byte_of_the_pruned_proof_is_refused(receipt: dict[str, Any], place: float) -> None:
    proof = bytearray(with_wire(parse_receipt(receipt), Wire.PRUNED).proof)
    proof[int(place * len(proof))] ^= 1
    receipt["parameters"]["wire"] = Wire.PRUNED.value
    receipt["proof"] = base64.b64encode(proof).decode()
    assert problem(receipt) is Problem.PROOF


def changed_digest(text: str) -> str:
    return ("1" if text[0] == "0" else "0") + text[1:]


STATEMENT_FIELDS = (
    "constraint_hash",
    "output_commitment",
    "nullifier",
    "agent_key",
    "public_digest",
    "statement",
    "binding",
)


@pytest.mark.parametrize("name", STATEMENT_FIELDS)
def test_no_digest_of_the_statement_can_be_another(receipt: dict[str, Any], name: str) -> None:
    receipt["statement"][name] = changed_digest(receipt["statement"][name])
    assert problem(receipt) is Problem.STATEMENT


@pytest.mark.parametrize("name", ["domain", "task_id", "agent_id"])
def test_the_statement_is_for_its_chain_task_and_agent_only(receipt: dict[str, Any], name: str) -> None:
    receipt["statement"][name] += "x"
    assert problem(receipt) is Problem.STATEMENT


def test_the_statement_is_for_its_parents_only(receipt: dict[str, Any]) -> None:
    for parents in ([], receipt["statement"]["parents"] * 2, [changed_digest("0" * 64)]):
        changed = copy.deepcopy(receipt)
        changed["statement"]["parents"] = parents
        assert problem(changed) is Problem.STATEMENT


def test_a_statement_made_up_consistently_is_not_in_the_batch(receipt: dict[str, Any]) -> None:
    """Somebody else's task, with all digests recomputed: only the batch can refuse it, and its root the
    batch's list."""
    other = OperationWitness(
        task_id=b"other",
        agent_id=b"agent-1",
        output=b"result 1",
        salt=bytes(24),
        secret=bytes(24),
        parents=WITNESSES[1].parents,
    )
    (forged,) = compute_statements(DOMAIN, [other])
    receipt["statement"] = msgspec.to_builtins(StatementPart.of(DOMAIN, other, forged))
    assert problem(receipt) is Problem.BATCH
    receipt["batch"]["statements"][1] = forged.statement.hex()
    assert problem(receipt) is Problem.BATCH
    receipt["batch"]["root"] = root_hex(receipt["batch"]["statements"])
    assert problem(receipt) is Problem.PROOF


def root_hex(statements: list[str]) -> str:
    return batch_root([bytes.fromhex(statement) for statement in statements]).hex()


CHANGES: dict[str, tuple[Callable[[dict[str, Any]], object], Problem]] = {
    "mock": (lambda r: r.update(mock=True), Problem.MOCK),
    "version": (lambda r: r.update(version=2), Problem.VERSION),
    "another set's name": (lambda r: r["parameters"].update(name="proven-100"), Problem.PARAMETERS),
    "an unknown set": (lambda r: r["parameters"].update(name="best"), Problem.PARAMETERS),
    "better bits": (lambda r: r["parameters"].update(proven_bits=128), Problem.PARAMETERS),
    "better conjecture": (lambda r: r["parameters"].update(conjectured_bits=128), Problem.PARAMETERS),
    "another wire": (lambda r: r["parameters"].update(wire="plonky3-0.7"), Problem.PARAMETERS),
    "another AIR": (lambda r: r["parameters"].update(air="poseidon2_1"), Problem.PARAMETERS),
    "index of another": (lambda r: r["batch"].update(index=0), Problem.BATCH),
    "index past the end": (lambda r: r["batch"].update(index=3), Problem.BATCH),
    "n too small": (lambda r: r["batch"].update(n=2), Problem.BATCH),
    "n too large": (lambda r: r["batch"].update(n=4), Problem.BATCH),
    "another root": (lambda r: r["batch"].update(root="00" * 32), Problem.BATCH),
    "a statement less": (lambda r: r["batch"]["statements"].pop(), Problem.BATCH),
    "statements rotated": (
        lambda r: r["batch"]["statements"].insert(0, r["batch"]["statements"].pop()),
        Problem.BATCH,
    ),
    "negative index": (lambda r: r["batch"].update(index=-2), Problem.MALFORMED),
    "n zero": (lambda r: r["batch"].update(n=0, statements=[]), Problem.MALFORMED),
    "an index that is a boolean": (lambda r: r["batch"].update(index=True), Problem.MALFORMED),
    "4097 statements": (lambda r: r["batch"].update(statements=["00" * 32] * 4097), Problem.MALFORMED),
    "a statement that is no digest": (
        lambda r: r["batch"].update(statements=["ff" * 32] * 3),
        Problem.MALFORMED,
    ),
    "upper case": (lambda r: r["batch"].update(root="AB" * 32), Problem.MALFORMED),
    "a parent that is no digest": (
        lambda r: r["statement"].update(parents=["ff" * 32]),
        Problem.MALFORMED,
    ),
    "a nullifier that is no digest": (
        lambda r: r["statement"].update(nullifier="ff" * 32),
        Problem.MALFORMED,
    ),
    "no task": (lambda r: r["statement"].update(task_id=""), Problem.MALFORMED),
    "a lone surrogate": (lambda r: r["statement"].update(task_id="\ud800"), Problem.MALFORMED),
    "a field left out": (lambda r: r.pop("statement"), Problem.MALFORMED),
    "mock left out": (lambda r: r.pop("mock"), Problem.MALFORMED),
    "a proof that is no base64": (lambda r: r.update(proof="§"), Problem.MALFORMED),
    "no proof": (lambda r: r.update(proof=""), Problem.PROOF),
    "a proof of nothing": (lambda r: r.update(proof=base64.b64encode(bytes(5000)).decode()), Problem.PROOF),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_receipt_is_refused_for_its_reason(receipt: dict[str, Any], change: str) -> None:
    apply, expected = CHANGES[change]
    apply(receipt)
    assert problem(receipt) is expected


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"null", b'"text"', b"\xff\xfe", b"[" * 100_000])
def test_bytes_that_are_no_receipt_are_malformed(data: bytes) -> None:
    assert problem(data) is Problem.MALFORMED


def test_a_receipt_that_is_too_long_is_not_even_read() -> None:
    assert problem(b" " * (MAX_RECEIPT_BYTES + 1)) is Problem.MALFORMED


def test_a_byte_of_the_proof_cannot_change(receipt: dict[str, Any]) -> None:
    proof = base64.b64decode(receipt["proof"])
    for place in range(0, len(proof), 9001):
        changed = proof[:place] + bytes([proof[place] ^ 1]) + proof[place + 1 :]
        receipt["proof"] = base64.b64encode(changed).decode()
        assert problem(receipt) is Problem.PROOF


def test_testing_parameters_count_only_where_they_are_asked_for(proofs: dict[str, bytes]) -> None:
    receipt = receipt_of(0, TESTING, proofs["testing"])
    assert problem(receipt) is Problem.PARAMETERS
    assert verify_receipt(receipt, accepted_parameters={"testing"}).parameters is TESTING
    receipt["parameters"] = msgspec.to_builtins(ParametersPart.of(STANDARD))
    assert problem(receipt) is Problem.PROOF


def test_a_batch_proof_is_of_its_statements_in_their_order(proofs: dict[str, bytes]) -> None:
    statements = [statement.statement for statement in BATCH.statements]
    verify_batch_proof(proofs["proven-100"], statements, parameters=PROVEN_100)
    for others in (statements[::-1], statements[:2], [*statements, statements[0]]):
        with pytest.raises(VerificationError) as refused:
            verify_batch_proof(proofs["proven-100"], others, parameters=PROVEN_100)
        assert refused.value.code is Refusal.CONSTRAINTS
    with pytest.raises(WitnessError):
        verify_batch_proof(proofs["proven-100"], [], parameters=PROVEN_100)


def test_a_batch_proof_is_no_taller_than_batches_are(proofs: dict[str, bytes]) -> None:
    statements = [statement.statement for statement in BATCH.statements]
    with pytest.raises(VerificationError) as refused:
        verify_batch_proof(proofs["standard"][:-1] + bytes([18]), statements, parameters=STANDARD)
    assert refused.value.code is Refusal.UNSUPPORTED_HEIGHT
