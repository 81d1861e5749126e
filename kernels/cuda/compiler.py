"""From a kernel's body to code for one GPU architecture, and the store that keeps it.

numba-cuda compiles without a driver, given the compute capability; only helpers inside helpers ask the current
device for it, hence `compute_capability`. Code is kept as PTX under a name made of the hash of all kernel
sources, so that a folder filled on one machine (`AGENC_CUDA_CODE`) serves another that has no compiler, and
stale code is never found.
"""

import hashlib
import importlib.util
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from kernels import build
from kernels.cuda import digests, hashing, opening, quotient, transform
from kernels.cuda.errors import NoKernelCode
from kernels.cuda.target import REGISTRY, Kernel, Ops

MODULES = (digests, hashing, opening, quotient, transform)  # importing them fills the registry

Capability = tuple[int, int]
_NVVM_ERRORS = ("NvvmSupportError", "CCSupportError", "DynamicLibNotFoundError")


@dataclass(frozen=True)
class Code:
    """PTX and the name of its entry."""

    ptx: str
    entry: str

    @classmethod
    def of(cls, ptx: str) -> "Code":
        (entry,) = re.findall(r"\.visible \.entry (\w+)\(", ptx)
        return cls(ptx, entry)


def kernels() -> list[Kernel]:
    """All kernels, by name."""
    return [REGISTRY[name] for name in sorted(REGISTRY)]


@lru_cache(maxsize=8)
def _ops(capability: Capability) -> Ops:
    """A helper is compiled once, for the first architecture that needs it: hence a set of them for each."""
    from kernels.cuda.entry import make_ops

    return make_ops()


def compile_kernel(kernel: Kernel, capability: Capability) -> Code:
    """PTX for one compute capability. Needs numba-cuda and its NVVM, but no GPU.

    Raises:
        NoKernelCode: numba-cuda or NVVM is not installed, or does not know that architecture.
    """
    if importlib.util.find_spec("numba_cuda") is None:
        raise NoKernelCode("numba-cuda is not installed: install the extra `cuda`")
    from kernels.cuda.entry import compile_ptx

    try:
        with _compute_capability(capability):
            return Code.of(compile_ptx(kernel, capability, _ops(capability)))
    except Exception as error:
        if type(error).__name__ not in _NVVM_ERRORS:
            raise
        raise NoKernelCode(f"NVVM cannot compile for sm_{name_of(capability)}: {error}") from error


def name_of(capability: Capability) -> str:
    return f"{capability[0]}{capability[1]}"


@contextmanager
def _compute_capability(capability: Capability) -> Iterator[None]:
    """numba-cuda asks the current device for the architecture of a helper: answer for it, device or not."""
    import numba.cuda.dispatcher

    dispatcher: Any = numba.cuda.dispatcher
    asked = dispatcher.get_current_device
    dispatcher.get_current_device = lambda: SimpleNamespace(compute_capability=capability)
    try:
        yield
    finally:
        dispatcher.get_current_device = asked


@lru_cache(maxsize=1)
def source_hash() -> str:
    """16 hex digits of SHA-256 over all kernel sources."""
    digest = hashlib.sha256()
    for path in build.source_files():
        content = path.read_bytes()
        digest.update(f"{path.relative_to(build.SOURCE_ROOT)}:{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


class CodeStore:
    """Compiled kernels in a folder: `$AGENC_CUDA_CODE`, or one beside the CPU kernels' cache."""

    def __init__(self, folder: Path | None = None) -> None:
        if folder is None:
            chosen = os.environ.get("AGENC_CUDA_CODE")
            folder = Path(chosen) if chosen else build.configure_cache().directory / "cuda"
        self.folder = folder / source_hash()

    def get(self, kernel: Kernel, capability: Capability) -> Code:
        """Kept code for that GPU, else compiled now and kept, else kept code for an older one (the driver
        translates PTX forwards).

        Raises:
            NoKernelCode: none of these is to be had.
        """
        path = self._path(kernel, name_of(capability))
        if not path.exists():
            try:
                self._keep(path, compile_kernel(kernel, capability).ptx)
            except NoKernelCode:
                path = self._older(kernel, capability)
        return Code.of(path.read_text())

    def fill(self, capability: Capability) -> None:
        """Compile every kernel that is not there yet."""
        for kernel in kernels():
            self.get(kernel, capability)

    def _path(self, kernel: Kernel, architecture: str) -> Path:
        return self.folder / f"{kernel.name}.sm_{architecture}.ptx"

    def _keep(self, path: Path, text: str) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=self.folder, delete=False) as file:
            file.write(text)
        os.replace(file.name, path)  # two processes may compile the same kernel: the last one wins

    def _older(self, kernel: Kernel, capability: Capability) -> Path:
        number = int(name_of(capability))
        kept = (int(p.stem.rsplit("_", 1)[1]) for p in self.folder.glob(f"{kernel.name}.sm_*.ptx"))
        usable = [architecture for architecture in kept if architecture <= number]
        if not usable:
            raise NoKernelCode(
                f"no code of {kernel.name} for sm_{number} in {self.folder} and no compiler: install "
                "numba-cuda with NVVM, or fill that folder on a machine that has it"
            )
        return self._path(kernel, str(max(usable)))
