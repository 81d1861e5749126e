"""What can go wrong, by name, and how often: the probabilities of a run, from a file, or none, or all, or some.

A file is TOML or JSON, flat: `worker_death = 0.02`. What it does not name does not happen.
"""

import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path


class FaultsError(ValueError):
    """The faults cannot be read: the text says what and where."""


class Fault(StrEnum):
    """Every kind of fault; `MEANINGS` says what it does and per what its probability counts."""

    WORKER_DEATH = "worker_death"
    WORKER_STALL = "worker_stall"
    SLOW_PROOF = "slow_proof"
    INVALID_PROOF = "invalid_proof"
    PROVER_ERROR = "prover_error"
    OUT_OF_MEMORY = "out_of_memory"
    LATE_RESULT = "late_result"
    DUPLICATE_RESULT = "duplicate_result"
    POISONED_OPERATION = "poisoned_operation"

    WRONG_OUTPUT = "wrong_output"
    REPLAY = "replay"
    DOUBLE_SPEND = "double_spend"
    ABANDONED_CLAIM = "abandoned_claim"
    BAD_WITNESS = "bad_witness"
    MALFORMED = "malformed"
    CANCEL = "cancel"
    LOST_ANSWER = "lost_answer"

    CHAIN_DELAY = "chain_delay"
    CHAIN_DROP = "chain_drop"
    CHAIN_OUTAGE = "chain_outage"
    CHAIN_REFUSAL = "chain_refusal"
    SHALLOW_REORG = "shallow_reorg"
    DEEP_REORG = "deep_reorg"

    CRASH = "crash"
    TORN_WRITE = "torn_write"
    DISK_FULL = "disk_full"
    SNAPSHOT = "snapshot"
    DAMAGED_SNAPSHOT = "damaged_snapshot"
    REBUILD = "rebuild"
    DAMAGED_LOG = "damaged_log"
    CLOCK_JUMP = "clock_jump"
    MEMORY_PRESSURE = "memory_pressure"

    CONFIG_FLIP = "config_flip"
    EMERGENCY = "emergency"
    OPERATOR = "operator"
    STAKE_MOVES = "stake_moves"
    BURST = "burst"


@dataclass(frozen=True, slots=True)
class _Kind:
    per: str
    likely: float
    words: str


_PROOF, _STEP, _OPERATION, _CRASH = "proof", "step", "operation", "crash"

KINDS: Mapping[Fault, _Kind] = {
    Fault.WORKER_DEATH: _Kind(_PROOF, 0.04, "the worker's process dies while it proves"),
    Fault.WORKER_STALL: _Kind(_PROOF, 0.01, "the worker stops: no proof, no heartbeat"),
    Fault.SLOW_PROOF: _Kind(_PROOF, 0.03, "the proof takes long, sometimes longer than its timeout"),
    Fault.INVALID_PROOF: _Kind(_PROOF, 0.03, "the worker answers with a proof of something else"),
    Fault.PROVER_ERROR: _Kind(
        _PROOF, 0.03, "the prover ends with an error, with or without naming an operation"
    ),
    Fault.OUT_OF_MEMORY: _Kind(_PROOF, 0.02, "the prover runs out of memory"),
    Fault.LATE_RESULT: _Kind(_PROOF, 0.03, "the batch is given up, and its proof comes after all"),
    Fault.DUPLICATE_RESULT: _Kind(_PROOF, 0.03, "a proof comes twice"),
    Fault.POISONED_OPERATION: _Kind(_OPERATION, 0.005, "an operation on which every prover fails"),
    Fault.WRONG_OUTPUT: _Kind(_STEP, 0.03, "an agent commits to another output than its task asks for"),
    Fault.REPLAY: _Kind(
        _STEP, 0.03, "an agent sends a statement again, under another id, or an id with other content"
    ),
    Fault.DOUBLE_SPEND: _Kind(
        _STEP, 0.02, "an agent posts its operation to the chain behind the coordinator's back"
    ),
    Fault.ABANDONED_CLAIM: _Kind(_STEP, 0.02, "an agent gives up a claimed task that others build on"),
    Fault.BAD_WITNESS: _Kind(_STEP, 0.01, "the chain finds a statement's witness invalid"),
    Fault.MALFORMED: _Kind(
        _STEP, 0.03, "cycles, unknown parents, wrong keys, outputs that are not the parents'"
    ),
    Fault.CANCEL: _Kind(_STEP, 0.03, "an agent cancels an operation"),
    Fault.LOST_ANSWER: _Kind(_STEP, 0.05, "the agent does not get the answer and asks again"),
    Fault.CHAIN_DELAY: _Kind(_STEP, 0.006, "inclusion waits for some slots"),
    Fault.CHAIN_DROP: _Kind(_STEP, 0.006, "transactions vanish for some slots, and expire"),
    Fault.CHAIN_OUTAGE: _Kind(_STEP, 0.006, "the chain cannot be reached for a while"),
    Fault.CHAIN_REFUSAL: _Kind(_STEP, 0.01, "the chain refuses a task for reasons of its own"),
    Fault.SHALLOW_REORG: _Kind(_STEP, 0.01, "the chain undoes slots that were not final"),
    Fault.DEEP_REORG: _Kind(_STEP, 0.002, "the chain undoes slots that it had called final"),
    Fault.CRASH: _Kind(_STEP, 0.01, "kill -9 of the coordinator, between any two steps of its loop"),
    Fault.TORN_WRITE: _Kind(_CRASH, 0.5, "the last write is cut in the middle when it dies"),
    Fault.DISK_FULL: _Kind(_STEP, 0.003, "a file of the store cannot grow"),
    Fault.SNAPSHOT: _Kind(_STEP, 0.02, "a snapshot is made, and the log compacted behind it"),
    Fault.DAMAGED_SNAPSHOT: _Kind(_CRASH, 0.2, "the newest snapshot is damaged while nobody runs"),
    Fault.REBUILD: _Kind(_STEP, 0.003, "an operator has the state rebuilt from a log that is whole"),
    Fault.DAMAGED_LOG: _Kind(_STEP, 0.001, "the log is damaged, and rebuilt from the chain by an operator"),
    Fault.CLOCK_JUMP: _Kind(_STEP, 0.006, "the clock is set back some seconds, or forward up to a minute"),
    Fault.MEMORY_PRESSURE: _Kind(_STEP, 0.004, "the process's memory is above its limit for a while"),
    Fault.CONFIG_FLIP: _Kind(_STEP, 0.05, "an operator changes a key at run time"),
    Fault.EMERGENCY: _Kind(_STEP, 0.006, "drain, disable, or disable by force; then enabled again"),
    Fault.OPERATOR: _Kind(_STEP, 0.02, "clear-queue, timeout-stale, reset of the breaker"),
    Fault.STAKE_MOVES: _Kind(_STEP, 0.05, "deposits, withdrawals, delegations"),
    Fault.BURST: _Kind(_STEP, 0.005, "many operations in one call"),
}


@dataclass(frozen=True)
class Faults:
    """The probability of each kind; 0 for what is not named."""

    probabilities: Mapping[Fault, float] = field(default_factory=dict)

    def probability(self, fault: Fault) -> float:
        """Between 0 and 1."""
        return self.probabilities.get(fault, 0.0)

    @property
    def kinds(self) -> tuple[Fault, ...]:
        """Those that can happen."""
        return tuple(fault for fault in Fault if self.probability(fault) > 0)

    def only(self, kinds: Iterable[Fault]) -> "Faults":
        """The same without all other kinds."""
        kept = tuple(kinds)
        return Faults({fault: p for fault, p in self.probabilities.items() if fault in kept})

    def name(self) -> str:
        """What `read` takes for them, where they are as likely as in `ALL`."""
        if self.kinds == ALL.kinds:
            return "all"
        return ",".join(self.kinds) or "none"


NONE = Faults()
ALL = Faults({fault: kind.likely for fault, kind in KINDS.items()})


def read(source: str) -> Faults:
    """`none`, `all`, a file's faults, or kinds with commas between, each as likely as in `all`.

    Raises:
        FaultsError: there is no such file, or it names no fault or no probability.
    """
    if source == "none":
        return NONE
    if source == "all":
        return ALL
    names = source.split(",")
    if all(name in set(Fault) for name in names):
        return ALL.only(Fault(name) for name in names)
    path = Path(source)
    try:
        text = path.read_text()
        found = json.loads(text) if path.suffix == ".json" else tomllib.loads(text)
    except OSError as error:
        raise FaultsError(f"{source}: {error.strerror}; say none, all, kinds of faults, or a file") from error
    except (json.JSONDecodeError, tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise FaultsError(f"{source}: {error}") from error
    if not isinstance(found, dict):
        raise FaultsError(f"{source}: an object of fault = probability is needed")
    return Faults({_fault(source, name): _probability(source, name, value) for name, value in found.items()})


def _fault(source: str, name: str) -> Fault:
    try:
        return Fault(name)
    except ValueError:
        raise FaultsError(f"{source}: {name!r} is no fault: use {', '.join(Fault)}") from None


def _probability(source: str, name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise FaultsError(f"{source}: {name} is a probability from 0 to 1, not {value!r}")
    return float(value)
