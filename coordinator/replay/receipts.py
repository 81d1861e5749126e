"""A run's receipts: fetched once everything has ended, kept as files, counted, one verified as by a stranger."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from coordinator.client.aio import AsyncClient

PARALLEL_FETCHES = 4


@dataclass(frozen=True)
class Collected:
    """The receipts in `folder`, by task, and what they add up to: each batch is counted once."""

    folder: Path
    paths: Mapping[str, Path]
    batches: int
    permutations: int


class _Batch(msgspec.Struct):
    id: str


class _Work(msgspec.Struct):
    permutations: int


class _Summary(msgspec.Struct):
    batch: _Batch
    work: _Work


async def collect(client: AsyncClient, operations: Mapping[str, str], folder: Path) -> Collected:
    """Fetches the receipts of confirmed operations (task → operation) into `folder`, a file a task."""
    await asyncio.to_thread(folder.mkdir, parents=True, exist_ok=True)
    limit = asyncio.Semaphore(PARALLEL_FETCHES)
    permutations: dict[str, int] = {}

    async def fetch(task_id: str, operation_id: str) -> Path:
        async with limit:
            receipt = await client.receipt(operation_id)
            path = folder / f"{task_id}.json"
            await asyncio.to_thread(path.write_bytes, msgspec.json.encode(receipt) + b"\n")
        summary = msgspec.convert(receipt, type=_Summary)
        permutations[summary.batch.id] = summary.work.permutations
        return path

    paths = await asyncio.gather(*(fetch(*item) for item in operations.items()))
    return Collected(
        folder=folder,
        paths=dict(zip(operations, paths, strict=True)),
        batches=len(permutations),
        permutations=sum(permutations.values()),
    )


def time_verification(path: Path) -> float:
    """Verifies a receipt offline and returns the milliseconds of the second time: the first one loads the kernels.

    Raises:
        ReceiptError: it does not verify.
    """
    from workers.receipt import verify_receipt

    data = path.read_bytes()
    verify_receipt(data)
    started_s = time.perf_counter()
    verify_receipt(data)
    return (time.perf_counter() - started_s) * 1e3
