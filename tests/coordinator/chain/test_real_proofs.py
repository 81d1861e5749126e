"""The chain with the real prover's proofs and the real verifier: a workflow confirms, and no lie does."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from coordinator.chain.interface import BatchTransaction, PublicStatement
from coordinator.chain.local import LocalChain
from coordinator.chain.verification import InvalidProofError, verify_batch
from workers.messages import BatchRequest
from workers.stark.parameters import PRODUCTION_NAMES
from workers.stark_generator import StarkGenerator
from workers.statement import OperationWitness, Statement, compute_statements

GENESIS_MS = 1_700_000_000_000
SLOT_MS = 400
SALT, SECRET = bytes(range(24)), bytes(range(100, 124))


@dataclass
class Agents:
    """What the agents know: a witness and its statement for every task; parents by their tasks' names."""

    domain: bytes
    witnesses: dict[str, OperationWitness] = field(default_factory=dict)
    statements: dict[str, Statement] = field(default_factory=dict)

    def do(self, task: str, *parents: str, output: bytes | None = None) -> None:
        witness = OperationWitness(
            task_id=task.encode(),
            agent_id=b"agent",
            output=output if output is not None else f"the output of {task}".encode(),
            salt=SALT,
            secret=SECRET,
            parents=tuple(self.statements[parent].output_commitment for parent in parents),
        )
        self.witnesses[task] = witness
        [self.statements[task]] = compute_statements(self.domain, [witness])

    def public(self, task: str) -> PublicStatement:
        witness, statement = self.witnesses[task], self.statements[task]
        return PublicStatement(
            task_id=task,
            agent_id=witness.agent_id.decode(),
            parents=witness.parents,
            constraint_hash=statement.constraint_hash,
            output_commitment=statement.output_commitment,
            nullifier=statement.nullifier,
            agent_key=statement.agent_key,
        )


class System:
    """A chain that its creator lets accept `testing` proofs, agents, and a prover."""

    def __init__(self, folder: Path, generator: StarkGenerator) -> None:
        self.now_ms = GENESIS_MS
        self.chain = LocalChain(
            folder, clock_ms=lambda: self.now_ms, accepted=PRODUCTION_NAMES | {"testing"}, genesis=b"genesis!"
        )
        self.agents = Agents(self.chain.domain)
        self.generator = generator

    def batch(self, name: str, *tasks: str, parameters: str = "testing") -> BatchTransaction:
        request = BatchRequest(
            batch_id=name,
            domain=self.chain.domain,
            operations=tuple(self.agents.witnesses[task] for task in tasks),
            parameters=parameters,
            blind_seed=1,
        )
        return BatchTransaction(
            transaction=f"{name}/1",
            batch_id=name,
            valid_until_slot=self.chain.slot() + 10,
            operations=tuple(self.agents.public(task) for task in tasks),
            proof=self.generator.prove(request, lambda: None).proof,
            parameters=parameters,
        )

    def wait(self, slots: int) -> None:
        self.now_ms += slots * SLOT_MS

    def outcome(self, batch: BatchTransaction) -> tuple[str, str | None, tuple[int, ...]]:
        [observation] = self.chain.poll([batch.transaction])
        return observation.status.value, observation.code, observation.indices


@pytest.fixture(scope="module")
def generator() -> StarkGenerator:
    return StarkGenerator("cpu", 1)


@pytest.fixture
def system(tmp_path: Path, generator: StarkGenerator) -> System:
    return System(tmp_path, generator)


@pytest.mark.parametrize("parameters", ["testing", "standard"])
def test_a_chain_of_dependent_tasks_confirms_with_one_proof(system: System, parameters: str) -> None:
    tasks = [f"task-{number}" for number in range(10)]
    for number, task in enumerate(tasks):
        system.agents.do(task, *tasks[max(0, number - 2) : number])
        system.chain.register_task(task, system.agents.statements[task].constraint_hash)
    batch = system.batch("b", *tasks, parameters=parameters)
    system.chain.submit(batch)
    system.wait(6)
    assert system.outcome(batch) == ("confirmed", None, ())
    [confirmed] = system.chain.confirmed()
    assert confirmed.operations == batch.operations


def test_what_was_proved_for_one_chain_is_nothing_on_another(system: System, tmp_path: Path) -> None:
    other = LocalChain(
        tmp_path / "other",
        clock_ms=lambda: system.now_ms,
        accepted=frozenset({"testing"}),
        genesis=b"another!",
    )
    system.agents.do("t")
    batch = system.batch("b", "t")
    system.chain.submit(batch)
    other.submit(batch)
    system.wait(1)
    assert system.outcome(batch) == ("included", None, ())
    [observation] = other.poll([batch.transaction])
    assert (observation.status, observation.code) == ("refused", "invalid_proof")
    other.close()


Operations = tuple[PublicStatement, ...]


def _second(operations: Operations, **changes: Any) -> Operations:
    first, second, third = operations
    return (first, _with(second, **changes), third)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda o: (o[0], o[2], o[1]), id="order"),
        pytest.param(lambda o: o[:2], id="one left out"),
        pytest.param(lambda o: _second(o, task_id="another"), id="task"),
        pytest.param(lambda o: _second(o, agent_id="thief"), id="agent"),
        pytest.param(lambda o: _second(o, parents=()), id="parents"),
        pytest.param(lambda o: _second(o, parents=o[1].parents * 2), id="number of parents"),
        pytest.param(lambda o: _second(o, nullifier=o[1].agent_key), id="nullifier"),
        pytest.param(lambda o: _second(o, agent_key=o[1].nullifier), id="agent key"),
        pytest.param(lambda o: _second(o, constraint_hash=o[0].constraint_hash), id="constraint hash"),
        pytest.param(lambda o: _second(o, output_commitment=o[0].output_commitment), id="output"),
    ],
)
def test_a_proof_holds_for_nothing_but_its_own_statements(
    system: System, change: Callable[[Operations], Operations]
) -> None:
    system.agents.do("a")
    system.agents.do("b", "a", output=b"long enough to be absorbed in several blocks of eight elements each")
    system.agents.do("c")
    proved = system.batch("b", "a", "b", "c")
    claimed = _with(proved, transaction="b/claimed", operations=change(proved.operations))
    system.chain.submit(claimed)
    system.wait(1)
    assert system.outcome(claimed) == ("refused", "invalid_proof", ())
    system.chain.submit(proved)
    system.wait(1)
    assert system.outcome(proved) == ("included", None, ())


def test_a_lie_about_the_output_is_proved_soundly_and_refused_by_name(system: System) -> None:
    system.agents.do("liar", output=b"what the task asks for")
    system.chain.preregister_task("liar", system.agents.statements["liar"].constraint_hash)
    system.agents.do("liar", output=b"a lie")
    system.agents.do("honest")
    batch = system.batch("b", "honest", "liar")
    verify_batch(batch.proof, [system.agents.statements[t].statement for t in ("honest", "liar")], "testing")
    system.chain.submit(batch)
    system.wait(1)
    assert system.outcome(batch) == ("refused", "constraint_mismatch", (1,))

    alone = system.batch("c", "honest")
    system.chain.submit(alone)
    system.wait(6)
    assert system.outcome(alone) == ("confirmed", None, ())


def test_a_testing_proof_does_not_pass_as_a_standard_one(system: System) -> None:
    system.agents.do("t")
    statements = [system.agents.statements["t"].statement]
    with pytest.raises(InvalidProofError):
        verify_batch(system.batch("b", "t").proof, statements, "standard")


def _with(struct: Any, **changes: Any) -> Any:
    return type(struct)(
        **{name: changes.get(name, getattr(struct, name)) for name in struct.__struct_fields__}
    )
