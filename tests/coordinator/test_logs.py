"""Logs: one JSON object a line, names first, secrets never."""

import io
import json
import logging
from collections.abc import Iterator
from typing import Any

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from coordinator.logs import DROPPED, SECRET_KEYS, configure, drop_secrets, get_logger


@pytest.fixture(autouse=True)
def restored_logging() -> Iterator[None]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    yield
    structlog.reset_defaults()
    root.handlers[:], root.level = before


def lines(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_has_its_names_and_the_event_near_the_front() -> None:
    out = io.StringIO()
    configure(stream=out)
    get_logger("service").info("rolled_back", operation_id="op-1", reason="drained", at=1)
    (line,) = lines(out)
    assert list(line)[:3] == ["timestamp", "level", "event"]
    assert line | {"timestamp": ""} == {
        "timestamp": "",
        "level": "info",
        "event": "rolled_back",
        "component": "service",
        "operation_id": "op-1",
        "reason": "drained",
        "at": 1,
    }


def test_other_libraries_records_take_the_same_form() -> None:
    out = io.StringIO()
    configure(stream=out)
    logging.getLogger("uvicorn.error").warning("slow %s", "client")
    assert [(line["event"], line["level"]) for line in lines(out)] == [("slow client", "warning")]


def test_access_lines_and_lower_levels_stay_out() -> None:
    out = io.StringIO()
    configure("warning", stream=out)
    logging.getLogger("uvicorn.access").warning("GET /health")
    get_logger("x").info("quiet")
    assert out.getvalue() == ""


def test_an_exception_stays_on_one_line_without_local_variables() -> None:
    out = io.StringIO()
    configure(stream=out)
    hidden = "hunter2-" + "x" * 10
    try:
        raise ValueError(len(hidden))
    except ValueError:
        get_logger("x").exception("failed")
    (line,) = lines(out)
    assert "ValueError: 18" in line["exception"]
    assert hidden not in out.getvalue()


def test_the_console_form_drops_secrets_and_locals_too() -> None:
    out = io.StringIO()
    configure(stream=out, console=True)
    hidden = "hunter2-" + "x" * 10
    try:
        raise ValueError(len(hidden))
    except ValueError:
        get_logger("x").exception("failed", token=hidden)
    assert "failed" in out.getvalue()
    assert hidden not in out.getvalue()


def test_digests_are_hex_and_what_json_lacks_is_described() -> None:
    out = io.StringIO()
    configure(stream=out)
    get_logger("x").info("proved", root=b"\x01\xff", worker=object())
    (line,) = lines(out)
    assert line["root"] == "01ff"
    assert line["worker"].startswith("<object")


@given(
    st.recursive(
        st.dictionaries(st.sampled_from([*sorted(SECRET_KEYS), "Authorization", "id"]), st.just("hunter2")),
        lambda inner: st.dictionaries(st.sampled_from(["a", "b"]), inner | st.lists(inner, max_size=2)),
        max_leaves=8,
    )
)
def test_no_secret_survives_at_any_depth(event: dict[str, Any]) -> None:
    cleaned = drop_secrets(None, "info", event)
    assert "hunter2" not in _values_under_secret_keys(cleaned)


def _values_under_secret_keys(value: Any) -> list[Any]:
    if isinstance(value, dict):
        own = [item for key, item in value.items() if key.lower() in SECRET_KEYS and item != DROPPED]
        return own + [found for item in value.values() for found in _values_under_secret_keys(item)]
    if isinstance(value, list):
        return [found for item in value for found in _values_under_secret_keys(item)]
    return []


def test_a_closed_stream_drops_lines_and_stops_nobody() -> None:
    stream = io.StringIO()
    configure(console=False, stream=stream)
    log = get_logger("test")
    stream.close()
    log.warning("nobody_hears_this")
    logging.getLogger("elsewhere").warning("nor this")
