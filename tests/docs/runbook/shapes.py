"""What an answer must look like, given what the runbook shows of it."""

from typing import Any

from tests.docs.runbook.desk import Ran


def contains(whole: Any, part: Any) -> bool:
    """Whether the JSON has at least the part's keys, with its values."""
    if isinstance(part, dict):
        return isinstance(whole, dict) and all(
            key in whole and contains(whole[key], value) for key, value in part.items()
        )
    return bool(whole == part)


def same_shape(whole: Any, example: Any) -> bool:
    """Whether the JSON has every key that the runbook shows, with a value of its type."""
    if isinstance(example, dict):
        return isinstance(whole, dict) and all(
            key in whole and same_shape(whole[key], value) for key, value in example.items()
        )
    return (
        isinstance(whole, int | float) if isinstance(example, int | float) else type(whole) is type(example)
    )


def config_of(ran: Ran) -> dict[str, Any]:
    """The configuration keys that a block's changes left behind."""
    after: dict[str, Any] = {}
    for answer in ran.answers:
        if isinstance(answer, dict):
            after |= answer.get("after", {})
    return {key: value for key, value in after.items() if key.startswith("speculation.")}
