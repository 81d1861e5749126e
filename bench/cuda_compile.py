"""Compiles every CUDA kernel for real architectures and holds it to committed ceilings. No GPU is needed.

    python bench/cuda_compile.py                     check sm_80, sm_90, sm_100; exit status 1 on a regression
    python bench/cuda_compile.py --update            write the ceilings as they are now
    python bench/cuda_compile.py --store FOLDER      also keep the PTX for AGENC_CUDA_CODE=FOLDER elsewhere

A kernel that spills registers, or uses more of them than `cuda_registers.json` allows, fails. Needs the extra
`cuda` (numba-cuda with NVVM) and `ptxas` of the wheel nvidia-cuda-nvcc.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from kernels.cuda.compiler import Capability, CodeStore, compile_kernel, kernels, name_of
from kernels.cuda.errors import NoKernelCode
from kernels.cuda.target import Kernel

ARCHITECTURES: tuple[Capability, ...] = ((8, 0), (9, 0), (10, 0))
CEILINGS = Path(__file__).with_name("cuda_registers.json")
PTXAS_PACKAGE = "nvidia-cuda-nvcc"


@dataclass(frozen=True)
class Usage:
    """What `ptxas -v` reports of one kernel; `spills` are bytes of stores and loads together."""

    registers: int
    spills: int
    shared_bytes: int


def find_ptxas() -> Path:
    """The assembler of the installed wheel.

    Raises:
        FileNotFoundError: the wheel is not installed.
    """
    try:
        files = metadata.files(PTXAS_PACKAGE) or []
    except metadata.PackageNotFoundError:
        files = []
    for file in files:
        if file.name == "ptxas":
            return Path(str(file.locate()))
    raise FileNotFoundError(f"no ptxas: pip install {PTXAS_PACKAGE}")


def parse_usage(report: str) -> Usage:
    """The figures in the output of `ptxas -v` on a module of one kernel."""
    registers = re.search(r"Used (\d+) registers", report)
    spills = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", report)
    assert registers is not None, report
    assert spills is not None, report
    shared = re.search(r"(\d+) bytes smem", report)
    return Usage(int(registers[1]), int(spills[1]) + int(spills[2]), int(shared[1]) if shared else 0)


def measure(kernel: Kernel, capability: Capability, ptxas: Path) -> Usage:
    """Compile to PTX, assemble, and read the report."""
    code = compile_kernel(kernel, capability)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "kernel.ptx"
        source.write_text(code.ptx)
        command = [
            ptxas,
            "-v",
            f"-arch=sm_{name_of(capability)}",
            source,
            "-o",
            Path(folder) / "kernel.cubin",
        ]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode:
        raise RuntimeError(f"ptxas refuses {kernel.name} for sm_{name_of(capability)}:\n{run.stderr}")
    return parse_usage(run.stderr + run.stdout)


def faults(kernel: Kernel, architecture: str, usage: Usage, ceilings: dict[str, dict[str, int]]) -> list[str]:
    """What is wrong with a kernel's usage, in words."""
    found = []
    where = f"{kernel.name} for sm_{architecture}"
    if usage.spills:
        found.append(f"{where} spills {usage.spills} bytes")
    ceiling = ceilings.get(kernel.name, {}).get(architecture)
    if ceiling is None:
        found.append(f"{where} has no ceiling: run with --update")
    elif usage.registers > ceiling:
        found.append(f"{where} uses {usage.registers} registers, more than {ceiling}")
    return found


def ceiling_for(registers: int) -> int:
    """An eighth more, rounded up to a multiple of 8, which is how the hardware gives them.

    numba-cuda's code is not the same from one process to the next, and one kernel's registers vary by so much.
    """
    return -(-(registers + registers // 8) // 8) * 8


def check(chosen: Sequence[Kernel], capabilities: Sequence[Capability], *, update: bool = False) -> list[str]:
    """Measure kernels, print a line for each, and give all faults; `update` rewrites the ceilings."""
    ptxas = find_ptxas()
    ceilings: dict[str, dict[str, int]] = json.loads(CEILINGS.read_text()) if CEILINGS.exists() else {}
    found: list[str] = []
    for kernel in chosen:
        for capability in capabilities:
            architecture = name_of(capability)
            usage = measure(kernel, capability, ptxas)
            if update:
                ceilings.setdefault(kernel.name, {})[architecture] = ceiling_for(usage.registers)
            found += faults(kernel, architecture, usage, ceilings)
            print(
                f"{kernel.name:20} sm_{architecture:4} {usage.registers:3} registers "
                f"{usage.spills:3} spilled {usage.shared_bytes:6} B shared",
                flush=True,
            )
    if update:
        kept = {name: ceilings[name] for name in sorted(ceilings) if name in {k.name for k in kernels()}}
        CEILINGS.write_text(json.dumps(kept, indent=2) + "\n")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--update", action="store_true", help="write the ceilings as they are now")
    parser.add_argument(
        "--store", type=Path, help="keep the PTX in this folder, for AGENC_CUDA_CODE elsewhere"
    )
    parser.add_argument("--kernel", action="append", help="only this kernel (may be given again)")
    names = [name_of(capability) for capability in ARCHITECTURES]
    parser.add_argument("--sm", action="append", choices=names, help="only this architecture (likewise)")
    options = parser.parse_args()
    capabilities = [c for c in ARCHITECTURES if not options.sm or name_of(c) in options.sm]
    chosen = [k for k in kernels() if not options.kernel or k.name in options.kernel]
    try:
        found = check(chosen, capabilities, update=options.update)
        if options.store:
            for capability in capabilities:
                CodeStore(options.store).fill(capability)
    except (NoKernelCode, FileNotFoundError) as error:
        print(error, file=sys.stderr)
        return 1
    if found:
        print(*found, sep="\n", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
