"""Statement cases: the JSON file that `agenc statement` and `agenc prove --air operation` read.

A list of cases, each `{"operations": [{"input": {...}, …digests}], "root", "n"}`; bytes are hex, digests are
8 canonical integers. Only the inputs are read: whatever digests stand in the file are computed anew.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from coordinator.cli.errors import CliError
from workers.encoding import digest_integers
from workers.statement import OperationWitness, Statement, WitnessError, batch_root, compute_statements

MAX_FILE_BYTES = 256 * 2**20

_Integers = Annotated[list[int], msgspec.Meta(min_length=8, max_length=8)]


class _Input(msgspec.Struct, forbid_unknown_fields=True):
    domain: str
    task: str
    agent: str
    output: str
    salt: str
    secret: str
    parents: list[_Integers]


class _Operation(msgspec.Struct):
    input: _Input


class _Case(msgspec.Struct):
    operations: Annotated[list[_Operation], msgspec.Meta(min_length=1, max_length=4096)]


@dataclass(frozen=True)
class Case:
    """One batch: every operation's inputs as the file has them, its domain, and the witness made of them."""

    inputs: tuple[_Input, ...]
    domains: tuple[bytes, ...]
    witnesses: tuple[OperationWitness, ...]

    def statements(self) -> list[Statement]:
        """Every operation's digests, computed from its inputs."""
        return [
            compute_statements(domain, [witness])[0]
            for domain, witness in zip(self.domains, self.witnesses, strict=True)
        ]

    def as_json(self) -> dict[str, Any]:
        """The case in the file's form, with every digest and the root computed."""
        statements = self.statements()
        return {
            "operations": [
                {"input": msgspec.to_builtins(given), **_digests(statement)}
                for given, statement in zip(self.inputs, statements, strict=True)
            ],
            "root": digest_integers(batch_root([statement.statement for statement in statements])),
            "n": len(statements),
        }


def load_cases(path: Path) -> list[Case]:
    """The cases of a file.

    Raises:
        CliError: it cannot be read or is not such a file; the message names case, operation and field.
    """
    try:
        if path.stat().st_size > MAX_FILE_BYTES:
            raise CliError(f"{path}: larger than {MAX_FILE_BYTES} bytes")
        decoded = msgspec.json.decode(path.read_bytes(), type=list[_Case])
    except OSError as error:
        raise CliError(f"{path}: {error.strerror or error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise CliError(f"{path}: not a file of statement cases: {error}") from None
    return [_case(path, index, case.operations) for index, case in enumerate(decoded)]


def _case(path: Path, index: int, operations: Sequence[_Operation]) -> Case:
    domains, witnesses = [], []
    for position, operation in enumerate(operations):
        given = operation.input
        where = f"{path}: case {index}, operation {position}"
        try:
            domains.append(_bytes("domain", given.domain))
            witnesses.append(
                OperationWitness(
                    task_id=_bytes("task", given.task),
                    agent_id=_bytes("agent", given.agent),
                    output=_bytes("output", given.output),
                    salt=_bytes("salt", given.salt),
                    secret=_bytes("secret", given.secret),
                    parents=tuple(_digest(parent) for parent in given.parents),
                )
            )
            if not domains[-1]:
                raise WitnessError("domain", "empty")
        except WitnessError as error:
            raise CliError(f"{where}: {error}") from None
    return Case(
        inputs=tuple(operation.input for operation in operations),
        domains=tuple(domains),
        witnesses=tuple(witnesses),
    )


def _bytes(name: str, text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise WitnessError(name, "not hexadecimal bytes") from None


def _digest(integers: Sequence[int]) -> bytes:
    try:
        return b"".join(integer.to_bytes(4, "little") for integer in integers)
    except OverflowError:
        raise WitnessError("parents", "not a digest of 8 canonical elements") from None


def _digests(statement: Statement) -> dict[str, list[int]]:
    names = (
        "constraint_hash",
        "output_commitment",
        "nullifier",
        "agent_key",
        "public_digest",
        "statement",
        "binding",
    )
    return {name: digest_integers(getattr(statement, name)) for name in names}
