"""Plonky3 as a command: the peer crate, built once with cargo, asked about many proofs at once.

The binary lies in the kernel cache's folder, keyed by the crate's sources, so that a fresh checkout does not build
it again.
"""

import functools
import hashlib
import json
import os
import shutil
import struct
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kernels.build import base_directory

CRATE = Path(__file__).resolve().parent / "peers" / "plonky3"
BUILD_TIMEOUT_S = 1_200
CALL_TIMEOUT_S = 600
#: Files of one call: the kernel limits a command line.
FILES_A_CALL = 500


class PeerUnavailable(Exception):
    """Plonky3 cannot be had here; the message says why."""


class Verdict(NamedTuple):
    """Plonky3's word on one proof."""

    accepted: bool
    detail: str | None


class Proved(NamedTuple):
    """One proof that Plonky3 made: its own clock, without drawing the inputs."""

    total_s: float
    trace_s: float
    permutations_per_s: float
    proof_bytes: int


@functools.cache
def binary() -> Path:
    """The peer's program, built when it is not there yet.

    Raises:
        PeerUnavailable: there is no cargo, or the build failed.
    """
    key = hashlib.sha256()
    for path in sorted([CRATE / "Cargo.toml", CRATE / "Cargo.lock", *CRATE.glob("src/*.rs")]):
        key.update(path.read_bytes())
    folder = base_directory() / "plonky3"
    built = folder / f"plonky3-peer-{key.hexdigest()[:16]}"
    if built.exists():
        return built
    cargo = shutil.which("cargo")
    if cargo is None:
        raise PeerUnavailable("cargo is not installed: Plonky3 is not asked")
    target = folder / "target"
    command = [cargo, "build", "--release", "--locked", "--target-dir", str(target)]
    environment = os.environ | {"RUSTFLAGS": "-C target-cpu=native"}
    outcome = subprocess.run(
        command, cwd=CRATE, env=environment, capture_output=True, text=True, timeout=BUILD_TIMEOUT_S
    )
    if outcome.returncode != 0:
        raise PeerUnavailable(f"cargo could not build the peer: {outcome.stderr[-500:]}")
    unfinished = built.with_suffix(f".{os.getpid()}")
    shutil.copy2(target / "release" / "plonky3-peer", unfinished)
    unfinished.replace(built)
    return built


def prove_poseidon2(
    *,
    parameters: str,
    seed: int,
    log_rows: int,
    per_row: int,
    threads: int,
    repeat: int = 1,
    out: Path | None = None,
) -> list[Proved]:
    """Proofs of the Poseidon2 AIR, the last one written to `out`; `repeat` of them, one after the other."""
    words: list[object] = [parameters, seed, log_rows, per_row, repeat, *([] if out is None else [out])]
    answers = _call("prove-poseidon2", words, threads=threads)
    return [Proved(**{name: answer[name] for name in Proved._fields}) for answer in answers]


def verify_poseidon2(files: Sequence[Path], *, parameters: str, per_row: int) -> list[Verdict]:
    """A verdict for each proof of the Poseidon2 AIR, in order."""
    verdicts: list[Verdict] = []
    for at in range(0, len(files), FILES_A_CALL):
        words = [parameters, per_row, *files[at : at + FILES_A_CALL]]
        verdicts += [_verdict(answer) for answer in _call("verify-poseidon2", words)]
    return verdicts


def verify_operation(cases: Sequence[tuple[Path, Sequence[int]]], *, parameters: str) -> list[Verdict]:
    """A verdict for each (proof, canonical public values) of the operation AIR, in order."""
    verdicts: list[Verdict] = []
    for at in range(0, len(cases), FILES_A_CALL):
        words: list[object] = [parameters]
        for file, public in cases[at : at + FILES_A_CALL]:
            words += [file, ",".join(map(str, public))]
        verdicts += [_verdict(answer) for answer in _call("verify-operation", words)]
    return verdicts


def verify_stream(
    cases: Iterable[tuple[bytes, Sequence[int]]], *, air: str, parameters: str
) -> list[Verdict]:
    """A verdict for each (proof, public values), in order: thousands through one process.

    `air` is poseidon2-1, poseidon2-8 or operation. Public values are numbers of 32 bits, canonical or not. All cases
    together are held in memory.
    """
    frames = bytearray()
    for proof, public in cases:
        frames += (
            struct.pack("<II", len(proof), len(public)) + proof + struct.pack(f"<{len(public)}I", *public)
        )
    return [_verdict(answer) for answer in _call("verify-stream", [parameters, air], stream=frames)]


def _verdict(answer: dict[str, Any]) -> Verdict:
    return Verdict(answer["accepted"], answer["detail"])


def _call(
    command: str, words: Sequence[object], *, threads: int = 1, stream: bytes | bytearray = b""
) -> list[dict[str, Any]]:
    environment = os.environ | {"RAYON_NUM_THREADS": str(threads)}
    outcome = subprocess.run(
        [str(binary()), command, *map(str, words)],
        env=environment,
        input=stream,
        capture_output=True,
        timeout=CALL_TIMEOUT_S,
    )
    if outcome.returncode != 0:
        raise RuntimeError(f"plonky3-peer {command}: {outcome.stderr[-500:].decode(errors='replace')}")
    return [json.loads(line) for line in outcome.stdout.splitlines()]
