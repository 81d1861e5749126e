"""A local chain with a clock that the test moves, and a stand-in for proofs that is checked as strictly."""

from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

import pytest

from coordinator.chain.faults import FaultPlan
from coordinator.chain.interface import BatchTransaction, PublicStatement
from coordinator.chain.local import LocalChain
from coordinator.chain.verification import InvalidProofError, statement_digests
from coordinator.core.commands import Observation

GENESIS_MS = 1_700_000_000_000
SLOT_MS = 400


def seal(statements: Sequence[bytes], parameters: str) -> bytes:
    """Bound to the statements and the parameters, as a proof is."""
    return sha256(parameters.encode() + b"".join(statements)).digest()


def check_seal(proof: bytes, statements: Sequence[bytes], parameters: str) -> None:
    if proof != seal(statements, parameters):
        raise InvalidProofError("the seal is another one's")


def digest(text: str) -> bytes:
    """8 elements below 2^30 that depend on the text."""
    data = sha256(text.encode()).digest()
    return b"".join(data[i : i + 3] + bytes([data[i + 3] & 0x3F]) for i in range(0, 32, 4))


class World:
    """A chain in a folder. Slots are moved to by `go_to`; `restart` closes and opens it."""

    def __init__(self, folder: Path, *faults: str) -> None:
        self.folder = folder
        self.faults = FaultPlan.parse(faults)
        self.now_ms = GENESIS_MS
        self.chain = self._open()

    def _open(self) -> LocalChain:
        return LocalChain(
            self.folder,
            clock_ms=lambda: self.now_ms,
            verify=check_seal,
            faults=self.faults,
            genesis=bytes.fromhex("a4d26868017c0ccf"),
        )

    def restart(self) -> None:
        self.chain.close()
        self.chain = self._open()

    def go_to(self, slot: int, *, extra_ms: int = 0) -> None:
        self.now_ms = GENESIS_MS + slot * SLOT_MS + extra_ms

    def operation(
        self, task: str, *parents: PublicStatement, agent: str = "agent", output: str | None = None
    ) -> PublicStatement:
        """Its output depends on the task alone unless given, its nullifier on all that P binds."""
        content = output if output is not None else f"output of {task}"
        commitments = tuple(parent.output_commitment for parent in parents)
        return PublicStatement(
            task_id=task,
            agent_id=agent,
            parents=commitments,
            constraint_hash=digest(f"C {content}"),
            output_commitment=digest(f"O {content} {agent}"),
            nullifier=digest(f"N {task} {agent} {commitments}"),
            agent_key=digest(f"K {agent}"),
        )

    def batch(
        self, name: str, *operations: PublicStatement, valid_for: int = 10, parameters: str = "standard"
    ) -> BatchTransaction:
        return BatchTransaction(
            transaction=name,
            batch_id=name.split("/")[0],
            valid_until_slot=self.chain.slot() + valid_for,
            operations=operations,
            proof=seal(statement_digests(self.chain.domain, operations), parameters),
            parameters=parameters,
        )

    def submit(self, name: str, *operations: PublicStatement, valid_for: int = 10) -> None:
        self.chain.submit(self.batch(name, *operations, valid_for=valid_for))

    def observe(self, name: str) -> Observation:
        [observation] = self.chain.poll([name])
        return observation

    def status(self, name: str) -> str:
        return self.observe(name).status.value

    def confirmed(self) -> list[str]:
        return [batch.transaction for batch in self.chain.confirmed()]


@pytest.fixture(scope="session")
def world_type() -> type[World]:
    return World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)
