"""Keeping replay bundles: the latest batches that failed, a file each, in the data folder."""

import asyncio
import contextlib
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from coordinator import bundle
from coordinator.core.records import Batch, Operation
from coordinator.logs import get_logger
from workers.messages import BatchRequest

FOLDER: Final = "bundles"
#: Files kept; the oldest make room for the next.
MAX_BUNDLES: Final = 20
#: A batch with more output than this leaves no bundle.
MAX_OUTPUT_BYTES: Final = 32 * 2**20

_UNSAFE = re.compile(r"[^A-Za-z0-9._-]")
_log = get_logger("bundling")


class Bundling:
    """Writes the bundle of every failed batch. `generator`: what the workers prove with."""

    def __init__(self, folder: Path, *, generator: str, clock_ms: Callable[[], int]) -> None:
        self.folder = folder
        self._generator = generator
        self._clock_ms = clock_ms

    async def keep(
        self,
        batch: Batch,
        operations: Sequence[Operation],
        request: BatchRequest,
        *,
        reason: str,
        detail: str,
        index: int | None,
    ) -> None:
        """Write the batch's bundle; a disk that refuses is logged, and changes nothing else."""
        if sum(len(witness.output) for witness in request.operations) > MAX_OUTPUT_BYTES:
            _log.warning("bundle_skipped", batch_id=batch.batch_id, reason="its outputs are too large")
            return
        made = bundle.Bundle(
            format=bundle.FORMAT,
            batch_id=batch.batch_id,
            attempt=batch.attempt,
            failed_at_ms=self._clock_ms(),
            reason=reason,
            detail=detail,
            index=index,
            domain=request.domain.hex(),
            parameters=request.parameters,
            generator=self._generator,
            worker_id=batch.worker_id,
            operations=tuple(
                bundle.BundledOperation(
                    operation_id=operation.operation_id,
                    task_id=operation.task_id,
                    agent_id=operation.agent_id,
                    parents=tuple(parent.hex() for parent in witness.parents),
                    output=witness.output,
                    statement=operation.statement.hex(),
                )
                for operation, witness in zip(operations, request.operations, strict=True)
            ),
            versions=bundle.versions(),
        )
        try:
            path = await asyncio.to_thread(self._write, made)
        except OSError as error:
            _log.warning("bundle_not_written", batch_id=batch.batch_id, reason=str(error))
        else:
            _log.info("bundle_written", batch_id=batch.batch_id, path=str(path))

    def _write(self, made: bundle.Bundle) -> Path:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self.folder / (_UNSAFE.sub("_", made.batch_id) + bundle.SUFFIX)
        bundle.write(made, path)
        kept = sorted(self.folder.glob(f"*{bundle.SUFFIX}"), key=lambda file: file.stat().st_mtime_ns)
        for old in kept[:-MAX_BUNDLES]:
            with contextlib.suppress(FileNotFoundError):
                old.unlink()
        return path
