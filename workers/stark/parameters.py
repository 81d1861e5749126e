"""Named parameter sets of the proof system, and what each of them promises.

A verifier takes a set from this table by its name, never from a proof or a receipt. Source: Plonky3 0.6.2
(`p3-fri` `FriParameters`); the sets themselves: specification "The proof", section 1.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from types import MappingProxyType

from kernels.field import TWO_ADICITY


class ProvenRegime(Enum):
    """How far from the code a function may lie while the set's `proven_bits` still hold."""

    UNIQUE_DECODING = "unique-decoding"
    JOHNSON = "johnson"


@dataclass(frozen=True, kw_only=True)
class Parameters:
    """One parameter set. Every count that is a power of two is given by its logarithm.

    `conjectured_bits` rests on the conjecture that FRI is sound up to capacity, which recent papers put in
    doubt. `proven_bits` rests on theorems only: for `ProvenRegime.UNIQUE_DECODING` they hold for the heights
    that `workers.stark.soundness` admits, and taller traces are refused under that set's name.
    """

    name: str
    log_blowup: int
    num_queries: int
    query_pow_bits: int
    commit_pow_bits: int
    max_log_arity: int
    log_final_len: int
    cap_height: int
    conjectured_bits: int
    proven_bits: int
    proven_regime: ProvenRegime

    @property
    def log_final_height(self) -> int:
        """log2 of the length at which folding stops: the final polynomial's, times the blowup."""
        return self.log_blowup + self.log_final_len

    @property
    def max_log_rows(self) -> int:
        """The tallest trace whose low-degree extension the field's two-adicity can hold."""
        return TWO_ADICITY - self.log_blowup

    def log_arities(self, log_rows: int) -> tuple[int, ...]:
        """The folding schedule of a trace of 2^log_rows rows: log2 of each round's arity, first round first.

        All matrices of a proof share one height, so an arity is bounded by `max_log_arity` and by the
        distance to the final height alone.
        """
        distance = log_rows + self.log_blowup - self.log_final_height
        full_rounds, rest = divmod(max(distance, 0), self.max_log_arity)
        return (self.max_log_arity,) * full_rounds + ((rest,) if rest else ())


STANDARD = Parameters(
    name="standard",
    log_blowup=1,
    num_queries=100,
    query_pow_bits=16,
    commit_pow_bits=0,
    max_log_arity=3,
    log_final_len=0,
    cap_height=3,
    conjectured_bits=107,
    proven_bits=65,
    proven_regime=ProvenRegime.JOHNSON,
)

PROVEN_100 = Parameters(
    name="proven-100",
    log_blowup=1,
    num_queries=210,
    query_pow_bits=16,
    commit_pow_bits=0,
    max_log_arity=3,
    log_final_len=0,
    cap_height=3,
    conjectured_bits=107,
    proven_bits=100,
    proven_regime=ProvenRegime.UNIQUE_DECODING,
)

TESTING = Parameters(
    name="testing",
    log_blowup=1,
    num_queries=2,
    query_pow_bits=1,
    commit_pow_bits=0,
    max_log_arity=3,
    log_final_len=0,
    cap_height=3,
    conjectured_bits=3,
    proven_bits=2,
    proven_regime=ProvenRegime.JOHNSON,
)

BY_NAME: Mapping[str, Parameters] = MappingProxyType({p.name: p for p in (STANDARD, PROVEN_100, TESTING)})

PRODUCTION_NAMES = frozenset({STANDARD.name, PROVEN_100.name})
"""Sets under which a proof is worth something; `testing` is for tests and the simulator."""


class UnknownParametersError(ValueError):
    """No parameter set has this name."""

    code = "unknown_parameters"

    def __init__(self, name: str) -> None:
        super().__init__(f"no parameter set is named {name!r}; there are {', '.join(BY_NAME)}")
        self.name = name


def by_name(name: str) -> Parameters:
    """The set of that name.

    Raises:
        UnknownParametersError: there is none.
    """
    try:
        return BY_NAME[name]
    except KeyError:
        raise UnknownParametersError(name) from None
