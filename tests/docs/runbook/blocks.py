"""The fenced blocks of a Markdown text, named by the heading that they stand under."""

import json
import re
import textwrap
from collections import Counter
from dataclasses import dataclass
from typing import Any

_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)\n(?P<text>.*?)^(?P=indent)```$", re.MULTILINE | re.DOTALL
)
_HEADING = re.compile(r"^#+ (?P<title>.+)$", re.MULTILINE)
_EXPECTED = re.compile(r"^# Expect: (?P<json>\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A block; `name` is its heading with its number under it, from 1."""

    name: str
    language: str
    text: str

    @property
    def expected(self) -> dict[str, Any] | None:
        """The JSON that the block's comment promises."""
        found = _EXPECTED.search(self.text)
        return None if found is None else json.loads(found["json"])


def blocks_of(markdown: str) -> list[Block]:
    """All blocks in order, their indentation taken away."""
    headings = [(match.start(), match["title"]) for match in _HEADING.finditer(_without_code(markdown))]
    numbers: Counter[str] = Counter()
    found = []
    for match in _FENCE.finditer(markdown):
        heading = next((title for at, title in reversed(headings) if at < match.start()), "")
        numbers[heading] += 1
        text = textwrap.dedent(match["text"])
        found.append(Block(f"{heading} {numbers[heading]}", match["language"], text))
    return found


def _without_code(markdown: str) -> str:
    """The text with its blocks blanked: a comment in a script is no heading."""
    return _FENCE.sub(lambda match: " " * len(match[0]), markdown)
