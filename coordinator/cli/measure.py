"""What every benchmark shares: the machine it ran on, medians over repeats, and where the figures are kept."""

import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from statistics import median
from typing import Any

RESULTS = Path("bench") / "results"
_VECTOR_FEATURES = (
    "sse4_2",
    "avx",
    "avx2",
    "avx512f",
    "avx512dq",
    "avx512bw",
    "avx512vl",
    "avx512ifma",
    "neon",
)
_VERSIONED = ("numba", "llvmlite", "numpy")


@dataclass(frozen=True, kw_only=True)
class Machine:
    """Where and when figures were taken. `cores` are those this process may use."""

    processor: str
    cores: int
    vector_features: tuple[str, ...]
    memory_gib: float
    system: str
    versions: Mapping[str, str]
    date: str
    load_at_start: float

    def line(self) -> str:
        """One line for a person."""
        features = " ".join(self.vector_features[-3:])
        return f"{self.processor}, {self.cores} cores, {features}; load {self.load_at_start:.1f}; {self.date}"


def describe_machine() -> Machine:
    """This machine, now."""
    from kernels.threads import available_threads

    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    memory_bytes = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        processor=info.get("model name") or platform.processor() or platform.machine(),
        cores=available_threads(),
        vector_features=tuple(name for name in _VECTOR_FEATURES if name in flags),
        memory_gib=round(memory_bytes / 2**30, 1),
        system=f"{platform.system()} {platform.release()}, Python {platform.python_version()}",
        versions={name: metadata.version(name) for name in _VERSIONED},
        date=datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        load_at_start=os.getloadavg()[0],
    )


def _cpuinfo() -> dict[str, str]:
    """The first processor's entries; none where the system does not list them."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return {}
    first = text.split("\n\n", 1)[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


@dataclass(frozen=True)
class Timing:
    """Seconds of several runs. On a shared machine the processor's seconds are the steadier witness."""

    wall_s: float
    cpu_s: float
    best_s: float


def timed(fn: Callable[[], object], *, repeats: int) -> Timing:
    """Medians over `repeats` runs after one that is not counted: it loads code and tables."""
    fn()
    walls, cpus = list[float](), list[float]()
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        fn()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return Timing(median(walls), median(cpus), min(walls))


def write_results(name: str, figures: Mapping[str, Any], *, folder: Path = RESULTS) -> Path:
    """Write figures as `name`.json, with the machine they come from unless they name it."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.json"
    figures = {"machine": asdict(describe_machine())} | dict(figures)
    path.write_text(json.dumps(figures, indent=1) + "\n")
    return path
