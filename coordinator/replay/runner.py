"""A replay from start to report: for each mode a fresh system, fresh agents, the workflow acted out, all checked.

A run is done when every task has ended. Then the system's own checks are asked (the invariants), the stake is
added up from outside, every receipt is fetched, and one of them is verified offline, as a stranger would.
"""

import asyncio
import contextlib
import dataclasses
import secrets
import shutil
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from coordinator.client.aio import AsyncClient
from coordinator.replay.agents import Cast, Options
from coordinator.replay.audit import Audit, audit
from coordinator.replay.board import Board, Outcome
from coordinator.replay.embedded import Embedded
from coordinator.replay.expectation import complaints_about, expected_slash, slash_complaints
from coordinator.replay.faults import PlannedFaults
from coordinator.replay.http_session import HttpSession, open_client
from coordinator.replay.names import api_task_id
from coordinator.replay.profile import embedded_environment, proofs_are_real, read_profile, slash_basis_points
from coordinator.replay.receipts import Collected, collect, time_verification
from coordinator.replay.recorded import NoRecording, of_folder
from coordinator.replay.report import RunReport, RunResult
from coordinator.replay.workflow import Workflow
from coordinator.store.errors import StoreError

DEPOSIT_LAMPORTS = 2_000_000_000
WATCH_INTERVAL_S = 0.2
STALL_S = 300.0


class ReplayError(Exception):
    """The replay could not be brought to its end; the message says what stood still or answered wrongly."""


class ReplayProgress(Protocol):
    """Whoever shows how far a replay is."""

    def phase(self, title: str, note: str, *, total: int) -> None:
        """The run called `title` is at the point that `note` says."""

    def tasks(self, board: Board) -> None:
        """The run's tasks have moved on; called several times a second."""


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What to replay and how. `modes`: without speculation or with it, a run each. `folder` is new."""

    workflow: Workflow
    time_scale: float
    modes: Sequence[bool]
    agents: int
    faults: PlannedFaults
    url: str | None
    operator_token: str | None
    folder: Path
    keep_data: bool


async def act(replay: Replay, *, progress: ReplayProgress) -> RunReport:
    """Acts the replay out, run after run.

    Raises:
        ReplayError, AuditError, EmbeddedError, AgencError: a run could not be brought to its end.
    """
    replay.folder.mkdir(parents=True, exist_ok=True)
    runs = [await _Run(replay, speculation, progress).act() for speculation in replay.modes]
    return RunReport(
        workflow=replay.workflow.name,
        tasks=len(replay.workflow.tasks),
        depth=replay.workflow.depth,
        time_scale=replay.time_scale,
        profile=runs[-1].profile,
        faults=replay.faults.texts,
        runs=runs,
    )


@dataclass
class _Run:
    """One mode of the replay, from a fresh system to its result."""

    replay: Replay
    speculation: bool
    progress: ReplayProgress
    nonce: str = field(default_factory=lambda: secrets.token_hex(4))

    async def act(self) -> RunResult:
        async with AsyncExitStack() as stack:
            system, url = None, self.replay.url
            if url is None:
                self._say("the system starts")
                system = await stack.enter_async_context(self._embedded())
                url = system.endpoints.url
            operator = await stack.enter_async_context(open_client(url, token=self.replay.operator_token))
            result = await self._act(operator, url, system, stack)
        if system is not None:
            with contextlib.suppress(NoRecording, StoreError):  # nothing was confirmed, as the faults ask
                recording = await asyncio.to_thread(of_folder, self._folder / "data")
                result = dataclasses.replace(result, recording=recording)
        if result.ok and not self.replay.keep_data:
            shutil.rmtree(self._folder / "data", ignore_errors=True)
        return result

    @property
    def _folder(self) -> Path:
        return self.replay.folder / ("with-speculation" if self.speculation else "without-speculation")

    @property
    def _suffix(self) -> str:
        """Keeps this run's agents and tasks apart from others' on a system that is not ours."""
        return "" if self.replay.url is None else f"~{self.nonce}"

    def _embedded(self) -> Embedded:
        return Embedded(
            self._folder,
            environment=embedded_environment(speculation=self.speculation),
            faults=self.replay.faults.file_for(self.replay.workflow),
        )

    async def _act(
        self, operator: AsyncClient, url: str, system: Embedded | None, stack: AsyncExitStack
    ) -> RunResult:
        agent_ids = [f"agent-{number}{self._suffix}" for number in range(1, self.replay.agents + 1)]
        sessions = {}
        for agent_id in agent_ids:
            session = await HttpSession.register(
                url, operator, agent_id=agent_id, deposit_lamports=DEPOSIT_LAMPORTS
            )
            stack.push_async_callback(session.close)
            sessions[agent_id] = session
        board = Board.for_workflow(self.replay.workflow, agent_ids)
        options = Options(
            time_scale=self.replay.time_scale,
            # An embedded system is set to speculate or not; on another one the agents hold back by themselves.
            speculate=self.speculation or system is not None,
            awaited_first=self.speculation,
            lies=self.replay.faults.lies,
            suffix=self._suffix,
        )
        self._say("the agents work")
        await self._watched(Cast(self.replay.workflow, board, sessions, options).play(), board, system)
        self._say("the receipts are fetched and everything is checked")
        collected = await self._collect(operator, board)
        deposited = DEPOSIT_LAMPORTS * len(agent_ids) if system is not None else None
        checked = await audit(operator, url, agent_ids=agent_ids, deposited_lamports=deposited)
        return await self._result(operator, board, collected, checked)

    async def _watched(self, play: Awaitable[None], board: Board, system: Embedded | None) -> None:
        """Plays to the end, while the progress is shown; gives up when the system dies or nothing moves."""
        playing = asyncio.ensure_future(play)
        loop = asyncio.get_running_loop()
        longest_s = max(task.runtime_s for task in self.replay.workflow.tasks) * self.replay.time_scale
        seen, moved_s = board.changes, loop.time()
        try:
            while not playing.done():
                await asyncio.wait({playing}, timeout=WATCH_INTERVAL_S)
                self.progress.tasks(board)
                if board.changes != seen:
                    seen, moved_s = board.changes, loop.time()
                if system is not None:
                    system.require_alive()
                if loop.time() - moved_s > STALL_S + longest_s:
                    raise ReplayError(f"no task moved for {STALL_S + longest_s:.0f} s: {_waiting(board)}")
            playing.result()
        finally:
            playing.cancel()
            await asyncio.gather(playing, return_exceptions=True)

    async def _collect(self, operator: AsyncClient, board: Board) -> Collected:
        confirmed = {
            api_task_id(task_id): operation_id
            for task_id in sorted(board.by_outcome(Outcome.CONFIRMED))
            if (operation_id := board.records[task_id].operation_id) is not None
        }
        return await collect(operator, confirmed, self._folder / "receipts")

    async def _result(
        self, operator: AsyncClient, board: Board, collected: Collected, checked: Audit
    ) -> RunResult:
        config = await operator.config()
        expected = self.replay.faults.expectation
        due = expected_slash(board, expected, slash_basis_points=slash_basis_points(config))
        complaints = [
            *complaints_about(self.replay.workflow, board, expected),
            *slash_complaints(due, checked.slashed_lamports),
            *checked.complaints,
        ]
        verified, verify_ms = None, None
        if collected.paths and proofs_are_real(config):
            verified = max(collected.paths.values(), key=lambda path: path.name)
            verify_ms = await asyncio.to_thread(time_verification, verified)
        return RunResult(
            speculation=self.speculation,
            profile=read_profile(config, agents=self.replay.agents),
            confirmed=board.count(Outcome.CONFIRMED),
            rolled_back=board.count(Outcome.ROLLED_BACK),
            failed=board.count(Outcome.FAILED),
            skipped=board.count(Outcome.SKIPPED),
            makespan_s=board.makespan_s,
            critical_path_s=self.replay.workflow.critical_path_s(time_scale=self.replay.time_scale),
            operations=sum(record.attempts for record in board.records.values()),
            batches=collected.batches,
            permutations=collected.permutations,
            rollbacks=board.rollbacks,
            denials=board.denials,
            slashed_lamports=sum(checked.slashed_lamports.values()),
            invariants=checked.invariants,
            stake_conserved=checked.stake_conserved,
            verify_ms=verify_ms,
            verified_receipt=None if verified is None else str(verified),
            receipts=collected.folder,
            tasks=_facts(board),
            complaints=tuple(complaints),
        )

    def _say(self, note: str) -> None:
        title = "with speculation" if self.speculation else "without speculation"
        self.progress.phase(title, note, total=len(self.replay.workflow.tasks))


def _facts(board: Board) -> Mapping[str, Mapping[str, Any]]:
    """Each task's way, for the report's file."""
    return {
        task_id: {
            "outcome": record.outcome,
            "detail": record.detail,
            "agent": record.agent_id,
            "operation": record.operation_id,
            "attempts": record.attempts,
            "executions": record.executions,
            "denials": record.denials,
        }
        for task_id, record in board.records.items()
    }


def _waiting(board: Board) -> str:
    """The first few tasks that have not ended, and where they are."""
    stuck = [
        f"{task_id} ({record.operation_id or 'not submitted'})"
        for task_id, record in board.records.items()
        if record.outcome is None
    ]
    return ", ".join(stuck[:5]) + (f" and {len(stuck) - 5} more" if len(stuck) > 5 else "")
