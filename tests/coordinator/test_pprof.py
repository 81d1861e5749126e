"""pprof profiles: read back by a decoder of our own, and by `go tool pprof` where go is installed."""

import gzip
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coordinator.pprof import encode, parse_raw
from workers import sampling
from workers.sampling import Frame, Stack

RAW = """\
thread (0x7F5E): MainThread;<module> (main.py:3);run (main.py:12);poseidon2_permute (libkernels.so) 7
thread (0x7F5E): MainThread;<module> (main.py:3);run (main.py:14) 2
a line that is none
"""


def fields(message: bytes) -> Iterator[tuple[int, int | bytes]]:
    """(field number, value) of a protobuf message, as far as pprof uses it."""
    at = 0
    while at < len(message):
        key, at = varint(message, at)
        value, at = varint(message, at)
        if key & 7 == 2:
            yield key >> 3, message[at : at + value]
            at += value
        else:
            assert key & 7 == 0
            yield key >> 3, value


def varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


def packed(message: bytes) -> list[int]:
    values, at = [], 0
    while at < len(message):
        value, at = varint(message, at)
        values.append(value)
    return values


def decode(profile: bytes) -> tuple[dict[Stack, int], list[str]]:
    """The stacks with their samples, and the comments."""
    body = list(fields(gzip.decompress(profile)))
    strings = [bytes(value).decode() for number, value in body if number == 6]
    assert strings[0] == ""
    functions: dict[int, tuple[str, str]] = {}
    locations: dict[int, Frame] = {}
    for number, value in body:
        if number == 5:
            function = dict(fields(bytes(value)))
            functions[function[1]] = (strings[function[2]], strings[function[4]])
    for number, value in body:
        if number == 4:
            location = dict(fields(bytes(value)))
            line = dict(fields(bytes(location[4])))
            locations[location[1]] = Frame(*functions[line[1]], line[2])
    stacks: dict[Stack, int] = {}
    for number, value in body:
        if number == 2:
            sample = dict(fields(bytes(value)))
            stack = tuple(locations[at] for at in reversed(packed(bytes(sample[1]))))
            count, nanoseconds = packed(bytes(sample[2]))
            assert nanoseconds == count * 10_000_000
            stacks[stack] = count
    comments = [strings[at] for number, value in body if number == 13 for at in packed(bytes(value))]
    return stacks, comments


def profile_of(stacks: dict[Stack, int], comments: list[str]) -> bytes:
    return encode(
        stacks,
        started_ns=1_700_000_000_000_000_000,
        duration_ns=1_000_000_000,
        period_ns=10_000_000,
        clock="cpu",
        comments=comments,
    )


FRAMES = st.builds(Frame, st.text(max_size=8), st.text(max_size=8), st.integers(0, 2**40))
STACKS = st.dictionaries(st.lists(FRAMES, max_size=5).map(tuple), st.integers(0, 2**50), max_size=8)


@given(STACKS, st.lists(st.text(max_size=20), max_size=3))
def test_what_is_encoded_is_read_back(stacks: dict[Stack, int], comments: list[str]) -> None:
    assert decode(profile_of(stacks, comments)) == (stacks, comments)


def test_the_raw_format_of_py_spy() -> None:
    main = (Frame("thread (0x7F5E): MainThread", "", 0), Frame("<module>", "main.py", 3))
    assert parse_raw(RAW) == {
        (*main, Frame("run", "main.py", 12), Frame("poseidon2_permute", "libkernels.so", 0)): 7,
        (*main, Frame("run", "main.py", 14)): 2,
    }


@given(st.text())
def test_no_text_is_too_strange_to_read(text: str) -> None:
    parse_raw(text)


def test_go_opens_it(tmp_path: Path) -> None:
    go = shutil.which("go")
    if go is None:
        pytest.skip("go is not installed")
    path = tmp_path / "profile.pb.gz"
    path.write_bytes(profile_of(parse_raw(RAW), ["sampled by a test"]))
    shown = subprocess.run([go, "tool", "pprof", "-top", path], capture_output=True, text=True, check=True)
    assert "Type: cpu" in shown.stdout
    assert "poseidon2_permute" in shown.stdout
    told = subprocess.run(
        [go, "tool", "pprof", "-comments", path], capture_output=True, text=True, check=True
    )
    assert told.stdout.strip() == "sampled by a test"


def test_the_sampler_in_the_process_sees_other_threads() -> None:
    resting = threading.Event()

    def a_function_that_rests() -> None:
        resting.wait(30)

    thread = threading.Thread(target=a_function_that_rests)
    thread.start()
    stacks = sampling.sample(0.1)
    resting.set()
    thread.join()
    assert any("a_function_that_rests" in frame.function for stack in stacks for frame in stack)


def test_the_sampler_in_the_process_can_be_stopped() -> None:
    stop = threading.Event()
    stop.set()
    assert sampling.sample(3_600, stop=stop) == {}
