"""The sum of all error terms in the unique-decoding regime: which heights may call themselves `proven-100`.

FRI's proximity parameter is δ = (1 - ρ)/2, below which every received word has at most one close codeword;
the terms, each a probability that a false statement survives one kind of challenge (|F| = p^4):

- constraint folding, powers of α: (constraints - 1)/|F|;
- the out-of-domain point ζ: max(degree · rows, …)/|F|, the degree of the identity that is checked at ζ;
- batching all opened columns by powers of one challenge: (columns - 1) · n/|F|, n the extension's length
  (Ben-Sasson, Carmon, Ishai, Kopparty, Saraf, "Proximity Gaps for Reed-Solomon Codes", Theorem 1.5);
- each folding round of arity a, a curve of degree a - 1 over n' points: (a - 1) · n'/|F| (the same theorem);
- the queries: ((1 + ρ)/2)^queries, times 2^-bits for the work that must precede them.

The first four can be tried again only by committing anew, and are not helped by grinding here.
"""

import math

from kernels.field import P
from kernels.program import SymbolicProgram
from workers.stark.parameters import Parameters, ProvenRegime

_FIELD_SIZE = P**4


def unique_decoding_bits(parameters: Parameters, *, program: SymbolicProgram, log_rows: int) -> float:
    """-log2 of the sum of all error terms for a trace of 2^log_rows rows."""
    rows = 1 << log_rows
    length = rows << parameters.log_blowup
    opened = program.width * (2 if program.reads_next else 1) + 4 * program.num_quotient_chunks
    identity_degree = max(program.degree, program.num_quotient_chunks + 1) * rows
    field_terms = (len(program.roots) - 1) + identity_degree + (opened - 1) * length
    for log_arity in parameters.log_arities(log_rows):
        field_terms += ((1 << log_arity) - 1) * length
        length >>= log_arity
    agreement = (1 + 2.0**-parameters.log_blowup) / 2
    query_term = agreement**parameters.num_queries * 2.0**-parameters.query_pow_bits
    return -math.log2(field_terms / _FIELD_SIZE + query_term)


def admits(parameters: Parameters, *, program: SymbolicProgram, log_rows: int) -> bool:
    """Whether a trace of this height may be proved and verified under the set's name."""
    if not 1 <= log_rows <= parameters.max_log_rows:
        return False
    if parameters.proven_regime is not ProvenRegime.UNIQUE_DECODING:
        return True
    return unique_decoding_bits(parameters, program=program, log_rows=log_rows) >= parameters.proven_bits
