"""Submissions: the bounds of every field, on the wire and beyond what a schema can say."""

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.core.errors import CoreError, ErrorCode
from coordinator.submission import (
    FIELD_MODULUS,
    MAX_OUTPUT_BYTES,
    OperationBody,
    new_operation,
    parse_digest,
    require_id,
)

DIGEST = "01000000" * 8
BODY = OperationBody(
    operation_id="op-2",
    agent_id="agent-1",
    task_id="task-1",
    operation_type="summarise",
    depends_on=("op-1",),
    parent_outputs={"op-1": DIGEST},
    output=b"result",
    salt=bytes(24),
    secret=bytes(24),
)


def changed(**fields: object) -> OperationBody:
    return msgspec.structs.replace(BODY, **fields)


def decoded(**fields: object) -> OperationBody:
    return msgspec.json.decode(msgspec.json.encode(changed(**fields)), type=OperationBody)


def with_deadline(text: str) -> OperationBody:
    fields = msgspec.json.decode(msgspec.json.encode(BODY)) | {"deadline": text}
    return msgspec.json.decode(msgspec.json.encode(fields), type=OperationBody)


def refused(body: OperationBody) -> CoreError:
    with pytest.raises(CoreError) as caught:
        new_operation(body)
    return caught.value


class TestNewOperation:
    def test_keeps_what_was_sent(self) -> None:
        operation = new_operation(with_deadline("2026-01-31T12:00:00.5+01:00"))
        assert operation.output == b"result"
        assert operation.parent_outputs == {"op-1": bytes.fromhex(DIGEST)}
        assert operation.deadline_ms == 1_769_857_200_500

    def test_an_output_of_the_greatest_size_passes(self) -> None:
        assert len(new_operation(changed(output=bytes(MAX_OUTPUT_BYTES))).output) == MAX_OUTPUT_BYTES

    def test_a_greater_output_has_its_own_code(self) -> None:
        error = refused(changed(output=bytes(MAX_OUTPUT_BYTES + 1)))
        assert (error.code, error.field) == (ErrorCode.OUTPUT_TOO_LARGE, "output")

    @pytest.mark.parametrize("field", ["salt", "secret"])
    @pytest.mark.parametrize("length", [0, 23, 25])
    def test_salt_and_secret_have_24_bytes(self, field: str, length: int) -> None:
        error = refused(changed(**{field: bytes(length)}))
        assert (error.code, error.field) == (ErrorCode.INVALID, field)

    def test_it_cannot_be_its_own_parent(self) -> None:
        error = refused(changed(depends_on=("op-1", "op-2")))
        assert (error.code, error.field) == (ErrorCode.CYCLE, "depends_on")

    def test_a_parent_stands_once(self) -> None:
        assert refused(changed(depends_on=("op-1", "op-1"))).field == "depends_on"

    def test_parent_outputs_are_of_parents(self) -> None:
        assert refused(changed(parent_outputs={"op-9": DIGEST})).field == "parent_outputs"

    def test_a_retry_has_a_new_id(self) -> None:
        assert refused(changed(retry_of="op-2")).field == "retry_of"


class TestWire:
    @pytest.mark.parametrize("name", ["a", "agent-1", "urn:x.y@z", "_", "0", "a" * 128, "A+b=c~d"])
    def test_ids_that_are_allowed(self, name: str) -> None:
        assert decoded(agent_id=name).agent_id == name
        assert require_id(name, field="agent") == name

    @pytest.mark.parametrize(
        "name", ["", "a" * 129, "a b", "a/b", "ä", "a\n", "-a", ".", "..", "a\x00", "<a>", 'a"b', "a\\b"]
    )
    def test_ids_that_are_not(self, name: str) -> None:
        with pytest.raises(msgspec.ValidationError):
            decoded(agent_id=name)
        with pytest.raises(CoreError):
            require_id(name, field="agent")

    @pytest.mark.parametrize(
        ("field", "value"),
        [
            ("priority", 1_001),
            ("priority", -1_001),
            ("operation_type", "a" * 65),
            ("operation_type", ""),
            ("depends_on", tuple(f"p{i}" for i in range(1_025))),
            ("parent_outputs", {"op-1": DIGEST.upper().replace("0", "A")}),
        ],
    )
    def test_bounds(self, field: str, value: object) -> None:
        with pytest.raises(msgspec.ValidationError, match=field):
            decoded(**{field: value})

    def test_a_deadline_needs_an_offset(self) -> None:
        with pytest.raises(msgspec.ValidationError, match="deadline"):
            with_deadline("2026-01-31T12:00:00")

    def test_an_unknown_field_is_refused(self) -> None:
        with pytest.raises(msgspec.ValidationError, match="colour"):
            msgspec.json.decode(msgspec.json.encode(BODY)[:-1] + b',"colour":1}', type=OperationBody)


class TestDigests:
    @given(st.lists(st.integers(0, FIELD_MODULUS - 1), min_size=8, max_size=8))
    def test_canonical_elements_pass(self, elements: list[int]) -> None:
        digest = b"".join(element.to_bytes(4, "little") for element in elements)
        assert parse_digest(digest.hex(), field="x") == digest

    @given(st.integers(FIELD_MODULUS, 2**32 - 1), st.integers(0, 7))
    def test_one_element_at_or_above_the_modulus_is_refused(self, element: int, at: int) -> None:
        digest = bytearray(32)
        digest[4 * at : 4 * at + 4] = element.to_bytes(4, "little")
        with pytest.raises(CoreError, match="canonical"):
            parse_digest(digest.hex(), field="x")

    @given(st.text(max_size=80))
    def test_no_text_crashes(self, text: str) -> None:
        try:
            assert len(parse_digest(text, field="x")) == 32
        except CoreError as error:
            assert error.field == "x"  # noqa: PT017  # either outcome is right, and both are checked
