"""Compiling for real architectures without a GPU, the ceilings, and the store of compiled code."""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from bench import cuda_compile as gate
from kernels.cuda import compiler, hashing, opening
from kernels.cuda.compiler import Code, CodeStore
from kernels.cuda.errors import NoKernelCode
from kernels.cuda.target import Arg, Kernel

ROOT = Path(__file__).resolve().parents[3]
PTX = ".visible .entry _ZN5entryE(\n)\n{ ret; }\n"
REPORT = """ptxas info    : Compiling entry function 'x' for 'sm_90'
    512 bytes stack frame, 0 bytes spill stores, 8 bytes spill loads
ptxas info    : Used 38 registers, used 1 barriers, 4224 bytes smem
"""


def ptxas_is_there() -> bool:
    try:
        gate.find_ptxas()
    except FileNotFoundError:
        return False
    return True


needs_compiler = pytest.mark.skipif(
    importlib.util.find_spec("numba_cuda") is None or not ptxas_is_there(),
    reason="the extra `cuda` (numba-cuda with NVVM) or the wheel nvidia-cuda-nvcc is not installed",
)


def run_gate(*options: str) -> int:
    """How many kernels and architectures passed. In a process of its own: numba-cuda must not meet a simulator
    that was switched on here."""
    command = [sys.executable, "-m", "bench.cuda_compile", *options]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr
    return len(run.stdout.splitlines())


@needs_compiler
@pytest.mark.timeout(900)
def test_every_kernel_assembles_for_hopper_without_spills_and_within_its_registers() -> None:
    assert run_gate("--sm", "90") == len(compiler.kernels())


@needs_compiler
@pytest.mark.long
def test_every_kernel_assembles_for_all_architectures() -> None:
    assert run_gate() == len(compiler.kernels()) * len(gate.ARCHITECTURES)


def test_the_ceilings_name_every_kernel_and_architecture() -> None:
    ceilings = json.loads(gate.CEILINGS.read_text())
    assert set(ceilings) == {kernel.name for kernel in compiler.kernels()}
    wanted = {compiler.name_of(capability) for capability in gate.ARCHITECTURES}
    for name, each in ceilings.items():
        assert set(each) == wanted, name
        assert max(each.values()) <= 128, name  # half of a multiprocessor's threads, at 256 a block


def test_the_gate_reads_ptxas_and_finds_spills_and_excess() -> None:
    usage = gate.parse_usage(REPORT)
    assert usage == gate.Usage(registers=38, spills=8, shared_bytes=4224)
    kernel = opening.fold
    assert gate.faults(kernel, "90", usage, {"fold": {"90": 40}}) == ["fold for sm_90 spills 8 bytes"]
    fine = gate.Usage(registers=38, spills=0, shared_bytes=0)
    assert gate.faults(kernel, "90", fine, {"fold": {"90": 38}}) == []
    (excess,) = gate.faults(kernel, "90", fine, {"fold": {"90": 32}})
    assert "38 registers, more than 32" in excess
    (missing,) = gate.faults(kernel, "90", fine, {})
    assert "no ceiling" in missing


def test_a_ceiling_leaves_an_eighth() -> None:
    assert [gate.ceiling_for(n) for n in (1, 16, 32, 48, 80)] == [8, 24, 40, 56, 96]


def counting(compiled: list[tuple[str, compiler.Capability]]) -> object:
    def compile_kernel(kernel: Kernel, capability: compiler.Capability) -> Code:
        compiled.append((kernel.name, capability))
        return Code.of(PTX)

    return compile_kernel


def test_code_is_compiled_once_and_found_by_other_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compiled: list[tuple[str, compiler.Capability]] = []
    monkeypatch.setattr(compiler, "compile_kernel", counting(compiled))
    assert CodeStore(tmp_path).get(opening.fold, (9, 0)).entry == "_ZN5entryE"
    assert CodeStore(tmp_path).get(opening.fold, (9, 0)).ptx == PTX
    assert compiled == [("fold", (9, 0))]
    CodeStore(tmp_path).get(opening.fold, (10, 0))
    assert compiled[-1] == ("fold", (10, 0)), "another architecture is other code"


def test_code_of_other_sources_is_never_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[tuple[str, compiler.Capability]] = []
    monkeypatch.setattr(compiler, "compile_kernel", counting(compiled))
    CodeStore(tmp_path).get(opening.fold, (9, 0))
    monkeypatch.setattr(compiler, "source_hash", lambda: "0123456789abcdef")
    CodeStore(tmp_path).get(opening.fold, (9, 0))
    assert len(compiled) == 2


def unable(kernel: Kernel, capability: compiler.Capability) -> Code:
    raise NoKernelCode("no compiler here")


def test_without_a_compiler_the_newest_older_code_serves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiler, "compile_kernel", unable)
    store = CodeStore(tmp_path)
    store.folder.mkdir()
    for architecture in ("80", "90", "100"):
        text = PTX.replace("5entry", f"5sm_{architecture}")
        (store.folder / f"fold.sm_{architecture}.ptx").write_text(text)
    assert store.get(opening.fold, (9, 0)).entry == "_ZN5sm_90E"
    assert store.get(opening.fold, (8, 9)).entry == "_ZN5sm_80E"
    assert store.get(opening.fold, (12, 0)).entry == "_ZN5sm_100E"
    with pytest.raises(NoKernelCode, match="sm_75"):
        store.get(opening.fold, (7, 5))
    with pytest.raises(NoKernelCode, match="grind"):
        store.get(hashing.grind, (9, 0))


def test_the_store_is_where_the_environment_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENC_CUDA_CODE", str(tmp_path))
    assert CodeStore().folder == tmp_path / compiler.source_hash()
    monkeypatch.delenv("AGENC_CUDA_CODE")
    assert CodeStore().folder.parent == Path(os.environ["NUMBA_CACHE_DIR"]) / "cuda"


def test_every_kernel_says_what_its_arguments_are() -> None:
    for kernel in compiler.kernels():
        body = kernel.build(NO_OPS)
        places = {"map": 1, "block": 4}[kernel.form.value] + bool(kernel.local_words)
        assert body.__code__.co_argcount == places + len(kernel.arguments), kernel.name
        assert any(argument is Arg.U32S for argument in kernel.arguments), kernel.name


NO_OPS = compiler.Ops(lambda fn: fn, lambda: None)
"""Plain Python: a body that nobody compiles."""
