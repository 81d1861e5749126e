"""The engine: every command of the core, in one place. Command in, events out, applied to memory at once.

Synchronous and deterministic: the same commands on the same state give the same events. A refused command raises
`CoreError` and changes nothing.
"""

from collections.abc import Mapping, Sequence

from coordinator.core import admission, agents, batches, confirmation, operators, stuck, ticks
from coordinator.core.commands import (
    BatchPlan,
    Observation,
    Outcome,
    OutputDecision,
    ProvedBatch,
    Submission,
    TransactionDue,
    Verdict,
)
from coordinator.core.core import Core
from coordinator.core.errors import CoreError
from coordinator.core.states import ConnectionStatus, ReturnReason
from coordinator.core.stuck import StakeRecovery


class Engine(Core):
    """The commands; each is explained at the function that carries it out."""

    # -- agents and tasks (agents.py) --------------------------------------------------------

    def register_agent(
        self, agent_id: str, *, agent_key: bytes, token_hash: bytes, deposit_lamports: int, now_ms: int
    ) -> None:
        """A new agent. Raises `id_conflict`, `invalid`."""
        agents.register_agent(
            self,
            agent_id,
            agent_key=agent_key,
            token_hash=token_hash,
            deposit_lamports=deposit_lamports,
            now_ms=now_ms,
        )

    def deposit(self, agent_id: str, lamports: int, *, now_ms: int) -> None:
        """Lamports come in. Raises `unknown_agent`, `invalid`."""
        agents.deposit(self, agent_id, lamports, now_ms=now_ms)

    def issue_token(
        self, agent_id: str, *, agent_key: bytes | None, token_hash: bytes, by: str, now_ms: int
    ) -> None:
        """Another token for an agent that lost its own. Raises `unknown_agent`, `invalid`."""
        agents.issue_token(self, agent_id, agent_key=agent_key, token_hash=token_hash, by=by, now_ms=now_ms)

    def withdraw(self, agent_id: str, lamports: int, *, now_ms: int) -> None:
        """Free lamports go out. Raises `unknown_agent`, `invalid`, `stake_insufficient`."""
        agents.withdraw(self, agent_id, lamports, now_ms=now_ms)

    def delegate(self, delegator_id: str, agent_id: str, cap_lamports: int, *, now_ms: int) -> None:
        """Let another agent bond on the delegator's balance. Raises `unknown_agent`, `invalid`."""
        agents.delegate(self, delegator_id, agent_id, cap_lamports, now_ms=now_ms)

    def register_task(
        self,
        task_id: str,
        *,
        constraint_hash: bytes | None,
        depends_on: tuple[str, ...] = (),
        claim_ttl_ms: int | None = None,
        now_ms: int,
    ) -> None:
        """Make a task known. Raises `id_conflict`, `cycle`, `task_confirmed`."""
        agents.register_task(
            self,
            task_id,
            constraint_hash=constraint_hash,
            depends_on=depends_on,
            claim_ttl_ms=claim_ttl_ms,
            now_ms=now_ms,
        )

    def claim_task(self, task_id: str, agent_id: str, *, now_ms: int) -> int:
        """Hold a task; returns when the claim expires. Raises `unknown_…`, `task_confirmed`, `task_claimed`."""
        return agents.claim_task(self, task_id, agent_id, now_ms=now_ms)

    # -- operations (admission.py, operators.py) ---------------------------------------------

    def resolve_parents(self, parents: Sequence[str], staged: Mapping[str, bytes]) -> tuple[bytes, ...]:
        """The parents' output commitments, for the statement. Raises `unknown_parent`."""
        return admission.resolve_parents(self, parents, staged)

    def submit(self, submissions: Sequence[Submission], *, now_ms: int) -> list[Verdict]:
        """Admit operations; a verdict for each."""
        return admission.submit(self, submissions, now_ms=now_ms)

    def output_decision(self, agent_id: str, parent_id: str, *, now_ms: int) -> OutputDecision:
        """May the agent have this output now? Raises `unknown_agent`, `unknown_operation`, `unknown_parent`."""
        return admission.output_decision(self, agent_id, parent_id, now_ms=now_ms)

    def cancel(self, operation_id: str, *, now_ms: int) -> tuple[str, ...]:
        """End an operation and its descendants; returns their ids. Raises `unknown_operation`, `not_cancellable`."""
        return operators.cancel(self, operation_id, now_ms=now_ms)

    # -- batches (batches.py, confirmation.py) -----------------------------------------------

    def start_batch(self, plan: BatchPlan, *, now_ms: int) -> str:
        """Give a batch to a worker; returns its id. Raises `invalid`."""
        return batches.start_batch(self, plan, now_ms=now_ms)

    def batch_proved(self, batch_id: str, result: ProvedBatch, *, now_ms: int) -> bool:
        """A verified proof is stored; False when nobody waits for it any more."""
        return batches.batch_proved(self, batch_id, result, now_ms=now_ms)

    def batch_failed(
        self, batch_id: str, reason: ReturnReason, detail: str, *, index: int | None = None, now_ms: int
    ) -> bool:
        """A worker did not prove the batch; False when nobody waits for it any more."""
        return batches.batch_failed(self, batch_id, reason, detail, index=index, now_ms=now_ms)

    def submissions_due(self) -> list[str]:
        """The batches whose transaction may be sent now."""
        return confirmation.submissions_due(self)

    def batch_submitting(self, batch_id: str, *, slot: int, now_ms: int) -> TransactionDue:
        """Name the batch's next transaction. Raises `invalid`."""
        return confirmation.batch_submitting(self, batch_id, slot=slot, now_ms=now_ms)

    def transactions_open(self) -> list[TransactionDue]:
        """The transactions on their way."""
        return confirmation.transactions_open(self)

    def transactions_watched(self) -> list[str]:
        """The transactions to poll: those on their way, and the latest confirmed ones."""
        return confirmation.transactions_watched(self)

    def chain_observed(self, observations: Sequence[Observation], *, slot: int, now_ms: int) -> None:
        """Take in what the chain says."""
        confirmation.chain_observed(self, observations, slot=slot, now_ms=now_ms)

    def chain_connection(self, status: ConnectionStatus, *, now_ms: int) -> None:
        """The chain can be reached, or not."""
        confirmation.chain_connection(self, status, now_ms=now_ms)

    # -- time (ticks.py) ---------------------------------------------------------------------

    def tick(self, *, now_ms: int) -> None:
        """Do all that is due by now."""
        ticks.tick(self, now_ms=now_ms)

    def resume(self, *, now_ms: int) -> None:
        """After a restart, before anything else."""
        ticks.resume(self, now_ms=now_ms)

    # -- operators (operators.py) ------------------------------------------------------------

    def set_config(
        self, changes: Mapping[str, bool | int | float | str | None], *, by: str, now_ms: int
    ) -> None:
        """Keep validated runtime settings; enabling speculation clears an operator's stop."""
        operators.set_config(self, changes, by=by, now_ms=now_ms)

    def emergency(
        self, action: str, *, force: bool = False, deadline_s: int | None = None, by: str, now_ms: int
    ) -> Outcome:
        """Stop speculation: drain, disable, or end all commitments now. Raises `invalid`."""
        return operators.emergency(self, action, force=force, deadline_s=deadline_s, by=by, now_ms=now_ms)

    def clear_queue(self, *, by: str, now_ms: int) -> tuple[int, int]:
        """Discard batches, drop nothing; returns (batches discarded, operations held until the next tick)."""
        return operators.clear_queue(self, by=by, now_ms=now_ms)

    def timeout_stale(self, older_than_s: int, *, by: str, now_ms: int) -> Outcome:
        """Time out what was admitted longer ago than this."""
        return operators.timeout_stale(self, older_than_s, by=by, now_ms=now_ms)

    def recover_stake(
        self, agent_ids: Sequence[str] | None, *, by: str, now_ms: int
    ) -> dict[str, StakeRecovery | CoreError]:
        """Free the stuck stake of these agents, or of all; a verdict for each."""
        return stuck.recover_stake(self, agent_ids, by=by, now_ms=now_ms)

    def reset_breaker(self, *, by: str, now_ms: int) -> None:
        """Close the circuit breaker and empty its window."""
        operators.reset_breaker(self, by=by, now_ms=now_ms)

    def note(self, action: str, *, before: object, after: object, by: str, now_ms: int) -> None:
        """Keep a write of an operator's that changes nothing here, for the audit."""
        operators.note(self, action, before=before, after=after, by=by, now_ms=now_ms)
