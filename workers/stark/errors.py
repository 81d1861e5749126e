"""Why a proof is refused: one exception, one stable code for every reason."""

from enum import StrEnum


class Refusal(StrEnum):
    """The reasons for which the verifier refuses a proof. The values are stable: clients may match on
    them."""

    UNSUPPORTED_HEIGHT = "unsupported_height"
    """The trace is shorter or taller than the protocol, or this parameter set's proven bits, allow."""

    PUBLIC_VALUES = "public_values"
    """The public values are not the AIR's number of canonical elements."""

    MALFORMED_VARINT = "malformed_varint"
    """A varint is longer than its value needs, or than any element needs."""

    NON_CANONICAL = "non_canonical"
    """An element is not below p."""

    WRONG_SHAPE = "wrong_shape"
    """A length, option, arity or height is not the one that AIR, height and parameters fix."""

    TRUNCATED = "truncated"
    TRAILING_BYTES = "trailing_bytes"

    POINT_IN_DOMAIN = "point_in_domain"
    """The out-of-domain point lies in the trace domain, or a query point equals an opening point."""

    CONSTRAINTS = "constraints"
    """The opened values do not satisfy the AIR: the quotient does not match the folded constraints."""

    POW_WITNESS = "pow_witness"
    TRACE_OPENING = "trace_opening"
    QUOTIENT_OPENING = "quotient_opening"
    FRI_OPENING = "fri_opening"
    """A Merkle path does not lead to its commitment."""

    FINAL_POLYNOMIAL = "final_polynomial"
    """The folded value of a query is not the final polynomial's value at its point."""


class VerificationError(Exception):
    """A proof was refused. Nothing about the statement may be assumed; trying again cannot help."""

    def __init__(self, code: Refusal, detail: str) -> None:
        super().__init__(f"{code.value}: {detail}")
        self.code = code
        self.detail = detail
