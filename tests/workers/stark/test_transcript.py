"""The transcript against Plonky3's challenger, and the rules that a reader of its state depends on."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels import poseidon2
from kernels.field import P, to_monty
from workers.hashing import default_backend
from workers.stark.transcript import RATE, WIDTH, Transcript


class DefinedTranscript:
    """The duplex challenger of the specification, section 4, word for word over Python integers."""

    def __init__(self) -> None:
        self.state = [0] * WIDTH
        self.inputs: list[int] = []
        self.outputs: list[int] = []

    def observe(self, value: int) -> None:
        self.outputs = []
        self.inputs.append(value)
        if len(self.inputs) == RATE:
            self.duplex()

    def duplex(self) -> None:
        n = len(self.inputs)
        self.state[:n] = self.inputs
        if n > 0:
            self.state[n:RATE] = [0] * (RATE - n)
            self.state[RATE] = (self.state[RATE] + n) % P
        self.inputs = []
        self.state = list(poseidon2.permute(self.state))
        self.outputs = self.state[:RATE]

    def sample(self) -> int:
        if self.inputs or not self.outputs:
            self.duplex()
        return self.outputs.pop()


def array(values: list[int]) -> np.ndarray[tuple[int, ...], np.dtype[np.uint32]]:
    return to_monty(np.array(values, dtype=np.int64))


@pytest.mark.vectors
def test_known_answers_of_plonky3(vectors_dir: Path) -> None:
    expected = json.loads((vectors_dir / "poseidon2_air_w24_h10.json").read_text())["challenger"]["w24"]
    transcript = Transcript(default_backend())
    for value in range(1, 6):
        transcript.observe(value)
    assert list(transcript.sample_ext()) == expected["a"]
    transcript.observe_array(array(list(range(6, 31))))
    assert list(transcript.sample_ext()) == expected["b"]
    assert list(transcript.sample_ext()) == expected["c"]
    assert transcript.sample_bits(10) == expected["bits10"]
    assert [transcript.sample_bits(20) for _ in range(12)] == expected["bits20x12"]
    assert transcript.grind(8) == expected["grind8"]
    assert list(transcript.sample_ext()) == expected["after"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.lists(st.integers(0, P - 1), max_size=40), st.integers(1, 20)), max_size=12))
def test_any_mix_of_observing_and_sampling_is_the_specified_duplex(steps: list[list[int] | int]) -> None:
    """A list is observed, a number is how often to sample."""
    transcript, defined = Transcript(default_backend()), DefinedTranscript()
    for step in steps:
        if isinstance(step, list):
            transcript.observe_array(array(step))
            for value in step:
                defined.observe(value)
        else:
            samples = [transcript.sample() for _ in range(step)]
            assert samples == [defined.sample() for _ in range(step)]


def test_observing_an_array_is_observing_its_elements_in_c_order() -> None:
    one, other = Transcript(default_backend()), Transcript(default_backend())
    values = np.arange(60).reshape(5, 3, 4)
    one.observe_array(to_monty(values))
    for value in values.reshape(-1).tolist():
        other.observe(value)
    assert one.sample_ext() == other.sample_ext()


def test_observing_nothing_keeps_unread_outputs() -> None:
    one, other = Transcript(default_backend()), Transcript(default_backend())
    first = one.sample(), other.sample()
    one.observe_array(array([]))
    assert first[0] == first[1]
    assert one.sample() == other.sample()


@pytest.mark.parametrize("pending", [0, 1, 14, 15])
def test_the_grinding_witness_is_the_smallest_one(pending: int) -> None:
    def fresh() -> Transcript:
        transcript = Transcript(default_backend())
        transcript.observe_array(array(list(range(100, 116 + pending))))
        return transcript

    witness = fresh().grind(6)
    good = [w for w in range(witness + 1) if fresh().check_witness(6, w)]
    assert good == [witness]


def test_grinding_leaves_the_transcript_as_checking_does() -> None:
    prover, verifier = Transcript(default_backend()), Transcript(default_backend())
    witness = prover.grind(5)
    assert verifier.check_witness(5, witness)
    assert prover.sample_ext() == verifier.sample_ext()


def test_no_grinding_observes_nothing_and_takes_only_the_witness_zero() -> None:
    transcript, untouched = Transcript(default_backend()), Transcript(default_backend())
    assert transcript.grind(0) == 0
    assert transcript.check_witness(0, 0)
    assert not transcript.check_witness(0, 1)
    assert transcript.sample() == untouched.sample()
