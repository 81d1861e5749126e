"""`agenc doctor`: what is here, what is missing, and what each missing thing costs."""

import os
import platform
import shutil
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from importlib import metadata
from pathlib import Path

import typer

from coordinator.cli.errors import REFUSED

MIN_PYTHON = (3, 11)
MIN_MEMORY_BYTES = 2 * 2**30
MIN_DISK_BYTES = 2 * 2**30
MIN_OPEN_FILES = 1024
GIB = 2**30


class Verdict(StrEnum):
    """`missing` stops the system; `absent` costs something; `here` is as it should be."""

    HERE = "here"
    ABSENT = "absent"
    MISSING = "missing"


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at; `cost` says what follows where it is not here."""

    subject: str
    verdict: Verdict
    found: str
    cost: str = ""


def doctor() -> None:
    """Look at this machine: what is here, what is missing, and what that costs."""
    from rich.console import Console
    from rich.table import Table

    findings = [check() for check in CHECKS]
    table = Table(box=None, pad_edge=False)
    for column in ("", "", "found", "what it costs"):
        table.add_column(column, overflow="fold")
    marks = {
        Verdict.HERE: "[green]ok[/]",
        Verdict.ABSENT: "[yellow]absent[/]",
        Verdict.MISSING: "[red]missing[/]",
    }
    for finding in findings:
        table.add_row(marks[finding.verdict], finding.subject, finding.found, finding.cost)
    Console(highlight=False).print(table)
    if any(finding.verdict is Verdict.MISSING for finding in findings):
        raise typer.Exit(REFUSED)


def _python() -> Finding:
    found = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info < MIN_PYTHON:
        return Finding("python", Verdict.MISSING, found, "nothing runs: install Python 3.11")
    return Finding("python", Verdict.HERE, found)


def _packages() -> Finding:
    from packaging.requirements import Requirement

    try:
        wanted = metadata.requires("agenc-prover") or []
    except metadata.PackageNotFoundError:
        return Finding("packages", Verdict.MISSING, "agenc-prover is not installed", "run make install")
    problems = []
    count = 0
    for text in wanted:
        requirement = Requirement(text)
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        count += 1
        try:
            version = metadata.version(requirement.name)
        except metadata.PackageNotFoundError:
            problems.append(f"{requirement.name} is not installed")
            continue
        if version not in requirement.specifier:
            problems.append(f"{requirement.name} {version}, wanted {requirement.specifier}")
    if problems:
        return Finding("packages", Verdict.MISSING, "; ".join(problems), "imports fail: run make install")
    return Finding("packages", Verdict.HERE, f"all {count} that are needed")


def _cores() -> Finding:
    from kernels.threads import available_threads

    cores = available_threads()
    if cores < 2:
        return Finding(
            "cores",
            Verdict.ABSENT,
            "1",
            "proofs and the coordinator share it: everything takes twice as long",
        )
    return Finding("cores", Verdict.HERE, str(cores))


def _memory() -> Finding:
    import psutil

    available = psutil.virtual_memory().available
    found = f"{available / GIB:.1f} GiB available"
    if available < MIN_MEMORY_BYTES:
        return Finding("memory", Verdict.ABSENT, found, "fewer proof workers start; large batches may fail")
    return Finding("memory", Verdict.HERE, found)


def _disk() -> Finding:
    free = shutil.disk_usage(Path.cwd()).free
    found = f"{free / GIB:.1f} GiB free here"
    if free < MIN_DISK_BYTES:
        return Finding(
            "disk",
            Verdict.ABSENT,
            found,
            "a full disk turns the log read-only; a receipt takes 0.3 MB",
        )
    return Finding("disk", Verdict.HERE, found)


def _kernel_cache() -> Finding:
    from kernels.build import base_directory, cache_state, cache_warning

    warning = cache_warning()
    if warning is not None:
        return Finding("kernel cache", Verdict.ABSENT, "not writable", warning)
    if cache_state() == "cold":
        return Finding(
            "kernel cache",
            Verdict.ABSENT,
            f"cold, in {base_directory()}",
            "the first proof of every process waits minutes for compilation: run python -m workers.build",
        )
    return Finding("kernel cache", Verdict.HERE, f"warm, in {base_directory()}")


def _backend() -> Finding:
    from kernels.backend import choose

    selection = choose("auto")
    return Finding("backend", Verdict.HERE, f"{selection.backend.name}: {selection.reason}")


def _cuda() -> Finding:
    import ctypes

    cost = "proofs are made on the CPU"
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Finding("cuda", Verdict.ABSENT, "no NVIDIA driver", cost)
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0 or count.value == 0:
        return Finding("cuda", Verdict.ABSENT, "a driver, but no device that answers", cost)
    absent = [name for name in ("numba-cuda", "cupy-cuda13x") if not _installed(name)]
    if absent:
        return Finding(
            "cuda",
            Verdict.ABSENT,
            f"{count.value} device(s), but not {' and '.join(absent)}",
            f"{cost}: pip install 'agenc-prover[cuda]'",
        )
    return Finding("cuda", Verdict.HERE, f"{count.value} device(s)")


def _ray() -> Finding:
    if not _installed("ray"):
        return Finding("ray", Verdict.MISSING, "not installed", "no proof worker starts: run make install")
    found = metadata.version("ray")
    shm = Path("/dev/shm")
    if shm.is_dir() and shutil.disk_usage(shm).free < 2**28:
        return Finding("ray", Verdict.ABSENT, f"{found}, /dev/shm almost full", "Ray spills to disk")
    return Finding("ray", Verdict.HERE, found)


def _ports() -> Finding:
    taken = [str(port) for port in (9090, 9091) if not is_free(port)]
    if taken:
        return Finding(
            "ports",
            Verdict.ABSENT,
            f"{' and '.join(taken)} taken",
            "agenc up needs --port and --workers-port",
        )
    return Finding("ports", Verdict.HERE, "9090 and 9091 are free")


def _open_files() -> Finding:
    import resource

    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit != resource.RLIM_INFINITY and limit < MIN_OPEN_FILES:
        return Finding("open files", Verdict.ABSENT, str(limit), "many agents at once fail: ulimit -n 4096")
    return Finding("open files", Verdict.HERE, "unlimited" if limit == resource.RLIM_INFINITY else str(limit))


def _cargo() -> Finding:
    found = shutil.which("cargo")
    if found is None:
        return Finding("cargo", Verdict.ABSENT, "no Rust toolchain", "no comparison with Plonky3 is built")
    return Finding("cargo", Verdict.HERE, found)


def _installed(name: str) -> bool:
    try:
        metadata.version(name)
    except metadata.PackageNotFoundError:
        return False
    return True


def is_free(port: int) -> bool:
    """Whether nothing listens on this port of the loopback."""
    with socket.socket() as probe:
        if os.name == "posix":
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError:
            return False
        return True


CHECKS: tuple[Callable[[], Finding], ...] = (
    _python,
    _packages,
    _cores,
    _memory,
    _disk,
    _open_files,
    _ports,
    _kernel_cache,
    _backend,
    _cuda,
    _ray,
    _cargo,
)
