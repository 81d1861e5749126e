"""Where compiled kernels are kept, and compiling them ahead.

Numba keys a cached function by the file that defines it alone: a change in an imported module would
keep running the old machine code. So the cache directory itself is keyed by a hash of all sources that
compile, the Numba version and the CPU. The base is `$AGENC_CACHE_DIR`, else
`$XDG_CACHE_HOME/agenc-prover`, else `~/.cache/agenc-prover`.
"""

import atexit
import fcntl
import hashlib
import importlib.metadata
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol

SOURCE_ROOT = Path(__file__).resolve().parent
DEVICE_FOLDER = "cuda"
"""Its sources make no code for the CPU, and what they compile has a key of its own."""
UNUSED_DAYS = 14
_COMPLETE = "complete"  # marker file of a directory in which every kernel has been compiled

Progress = Callable[[str, int, int], None]


class Compilable(Protocol):
    """Something compiled ahead: a `jit.Kernel`, or whatever a caller adds (a constraint program)."""

    @property
    def name(self) -> str: ...

    def compile(self) -> None: ...


@dataclass(frozen=True)
class CacheConfiguration:
    """The directory in use; `warning` says what is wrong with it, or is None."""

    directory: Path
    key: str
    warning: str | None


_configuration: CacheConfiguration | None = None


def base_directory() -> Path:
    """The folder under which each key has a sub-folder."""
    if explicit := os.environ.get("AGENC_CACHE_DIR"):
        return Path(explicit)
    if xdg := os.environ.get("XDG_CACHE_HOME"):
        return Path(xdg) / "agenc-prover"
    return Path.home() / ".cache" / "agenc-prover"


def source_files(root: Path = SOURCE_ROOT) -> list[Path]:
    """Every Python source under `root`, sorted."""
    return sorted(path for path in root.rglob("*.py"))


def cache_key(root: Path = SOURCE_ROOT) -> str:
    """16 hex digits of SHA-256 over the CPU's kernel sources, the versions and the CPU compiled for."""
    digest = hashlib.sha256()
    for part in (sys.version, *_versions(), *_cpu()):
        digest.update(part.encode() + b"\0")
    for path in source_files(root):
        name = path.relative_to(root)
        if name.parts[0] != DEVICE_FOLDER:
            content = path.read_bytes()
            digest.update(f"{name}:{len(content)}\0".encode() + content)
    return digest.hexdigest()[:16]


def _versions() -> tuple[str, ...]:
    return tuple(importlib.metadata.version(name) for name in ("numba", "llvmlite", "numpy"))


def _cpu() -> tuple[str, str]:
    """Name and features, as Numba will see them: its own environment variables override the host's."""
    from llvmlite import binding

    name = os.environ.get("NUMBA_CPU_NAME") or binding.get_host_cpu_name()
    features = os.environ.get("NUMBA_CPU_FEATURES") or binding.get_host_cpu_features().flatten()
    return name, features


def configure_cache() -> CacheConfiguration:
    """Point Numba at this package's cache directory; the first call decides, `kernels/__init__` makes it.

    An explicit `NUMBA_CACHE_DIR` is overridden: shared by other code, it would serve stale kernels.
    Where the directory cannot be written, a temporary one serves this process, and `warning` says so.
    """
    global _configuration
    if _configuration is None:
        _configuration = _make_configuration()
        os.environ["NUMBA_CACHE_DIR"] = str(_configuration.directory)
        if "numba" in sys.modules:  # it has read the environment already
            sys.modules["numba"].config.CACHE_DIR = str(_configuration.directory)
    return _configuration


def _make_configuration() -> CacheConfiguration:
    key = cache_key()
    try:
        wanted = base_directory() / key
        _make_writable(wanted)
    except (OSError, RuntimeError) as error:  # RuntimeError: no home directory can be found
        directory = Path(tempfile.mkdtemp(prefix="agenc-prover-"))
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        return CacheConfiguration(
            directory,
            key,
            f"the kernel cache cannot be written ({error}): kernels are compiled into {directory} and "
            "again by every process; set AGENC_CACHE_DIR to a writable folder",
        )
    return CacheConfiguration(wanted, key, None)


def _make_writable(directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=directory):
        pass
    os.utime(directory)  # the mark by which an unused key is known, see `_prune`


def cache_warning() -> str | None:
    """What the operator should be told about the cache, or None."""
    return configure_cache().warning


def cache_state() -> Literal["warm", "cold"]:
    """`warm` once `compile_all` has finished for these sources on this kind of CPU."""
    return "warm" if (configure_cache().directory / _COMPLETE).exists() else "cold"


def compile_all(progress: Progress | None = None, *, extra: Sequence[Compilable] = ()) -> None:
    """Compile every kernel, or load it, under a file lock: a second process waits and then only loads.

    `progress(name, done, total)` is called before each kernel and once more at the end.
    """
    from kernels import jit
    from kernels.cpu import CpuBackend  # importing the backend registers its kernels

    assert CpuBackend.name == "cpu"
    configuration = configure_cache()
    work: list[Compilable] = [*jit.REGISTRY, *extra]
    with _locked(configuration.directory / "lock"):
        for done, item in enumerate(work):
            if progress is not None:
                progress(item.name, done, len(work))
            item.compile()
        (configuration.directory / _COMPLETE).touch()
        if configuration.warning is None:
            _prune(configuration.directory, time.time() - UNUSED_DAYS * 86_400)
    if progress is not None:
        progress("done", len(work), len(work))


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _prune(current: Path, unused_since: float) -> None:
    """Remove sibling keys that no process has configured since then (Unix seconds)."""
    for sibling in current.parent.iterdir():
        is_key = len(sibling.name) == len(current.name) and set(sibling.name) <= set("0123456789abcdef")
        if is_key and sibling != current and sibling.stat().st_mtime < unused_since:
            shutil.rmtree(sibling, ignore_errors=True)
