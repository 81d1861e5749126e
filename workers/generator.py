"""What makes the proof of a batch, chosen by `proof.generator`: the prover, or the mock."""

from collections.abc import Callable
from typing import Protocol

from workers.messages import BatchRequest, BatchResult


class Generator(Protocol):
    """Makes proofs, one at a time, on the thread that calls it."""

    @property
    def name(self) -> str:
        """What computes: `cpu`, `cuda` or `mock`."""

    @property
    def reason(self) -> str:
        """Why that one, in a sentence for the log."""

    def warm(self) -> None:
        """Load everything that a first proof would otherwise wait for."""

    def prove(self, request: BatchRequest, checkpoint: Callable[[], None]) -> BatchResult:
        """The proof. `checkpoint` is called between phases and stops the work by raising."""


def make_generator(name: str, *, backend: str, kernel_threads: int) -> Generator:
    """The generator called `stark` or `mock`; each imports what it needs only here.

    Raises:
        ValueError: no generator or no backend has that name, or its device is not there.
    """
    if name == "mock":
        from workers.mock import MockGenerator

        return MockGenerator()
    if name == "stark":
        from workers.stark_generator import StarkGenerator

        return StarkGenerator(backend, kernel_threads)
    raise ValueError(f"no proof generator is called {name!r}: use stark or mock")
