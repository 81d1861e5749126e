"""SHA-256 and BLAKE3 of many messages at once, beside `hashlib` and the package `blake3`: `python -m bench.hashes`.

Each library is called as a Python program calls it: once a message. Ours is called once for all of them, the packing of
a list of `bytes` into arrays counted; `--packed` leaves it out, for callers that have arrays. Prints a table and writes
`bench/results/hashes.json`.
"""

import argparse
import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

import blake3
import numpy as np

from coordinator.cli.measure import Timing, timed, write_results
from kernels.backend import Backend, select
from kernels.messages import pack

SIZES = ((32, 65_536), (64, 65_536), (256, 16_384), (1_024, 8_192), (65_536, 128), (4 << 20, 2))
"""(bytes a message, messages)."""
LIBRARIES: dict[str, Callable[[bytes], bytes]] = {
    "sha256": lambda message: hashlib.sha256(message).digest(),
    "blake3": lambda message: blake3.blake3(message).digest(),
}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Megabytes and thousands of messages a second, by the processor's time of one thread."""

    kind: str
    message_bytes: int
    messages: int
    ours_s: float
    library_s: float

    @property
    def ratio(self) -> float:
        """The library's time over ours: above 1 is faster here."""
        return self.library_s / self.ours_s

    def row(self) -> str:
        total = self.messages * self.message_bytes / 1e6
        return (
            f"{self.kind:7} {self.message_bytes:>9,} B x {self.messages:>6,}: "
            f"ours {self.messages / self.ours_s / 1e3:9,.1f} k/s {total / self.ours_s:7,.0f} MB/s, "
            f"library {self.messages / self.library_s / 1e3:9,.1f} k/s {total / self.library_s:7,.0f} MB/s, "
            f"ratio {self.ratio:.2f}"
        )


def measure(backend: Backend, kind: str, *, size: int, count: int, packed: bool, repeats: int) -> Case:
    """One size, checked to give the library's digests first."""
    random = np.random.default_rng(size)
    messages = [random.bytes(size) for _ in range(count)]
    ours, library = getattr(backend, kind), LIBRARIES[kind]
    data, offsets = pack(messages)
    assert [bytes(digest) for digest in ours(data, offsets)] == [library(message) for message in messages]
    mine = timed(lambda: ours(data, offsets) if packed else ours(*pack(messages)), repeats=repeats)
    theirs = timed(lambda: [library(message) for message in messages], repeats=repeats)
    return Case(
        kind=kind,
        message_bytes=size,
        messages=count,
        ours_s=_seconds(mine, backend),
        library_s=theirs.cpu_s,
    )


def _seconds(timing: Timing, backend: Backend) -> float:
    """The processor's seconds say what one thread does on a shared machine; a device's are on the clock alone."""
    return timing.cpu_s if backend.name == "cpu" else timing.wall_s


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="SHA-256 and BLAKE3 in batches, beside hashlib and blake3.")
    parser.add_argument("--backend", default="cpu", choices=("cpu", "cuda", "auto"))
    parser.add_argument("--packed", action="store_true", help="the messages are arrays already")
    parser.add_argument("--repeat", type=int, default=7)
    options = parser.parse_args(arguments)
    backend = select(options.backend, 1)
    cases = []
    for kind in LIBRARIES:
        for size, count in SIZES:
            case = measure(
                backend, kind, size=size, count=count, packed=options.packed, repeats=options.repeat
            )
            cases.append(case)
            print(case.row(), flush=True)
    figures = {
        "backend": backend.name,
        "packed": options.packed,
        "cases": [asdict(case) | {"ratio": case.ratio} for case in cases],
    }
    print(f"written: {write_results('hashes', figures)}")


if __name__ == "__main__":
    main()
