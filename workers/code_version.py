"""Which code a process runs: two hosts whose provers differ must not share one pool."""

import hashlib
import platform
from functools import cache
from importlib import metadata
from pathlib import Path

_ROOT = Path(__file__).resolve().parent.parent
_ROOMS = ("kernels", "workers")
_PACKAGES = ("ray", "numpy", "msgspec")


@cache
def code_version() -> str:
    """12 hex digits of SHA-256 over the sources of `kernels` and `workers`, Python's minor version, and the packages
    whose data crosses between hosts. Not the CPU's kind: hosts of several kinds may share a pool."""
    digest = hashlib.sha256(".".join(platform.python_version_tuple()[:2]).encode())
    for package in _PACKAGES:
        digest.update(f"\0{package} {metadata.version(package)}".encode())
    for room in _ROOMS:
        for path in sorted((_ROOT / room).rglob("*.py")):
            content = path.read_bytes()
            digest.update(f"\0{path.relative_to(_ROOT)} {len(content)}\0".encode() + content)
    return digest.hexdigest()[:12]
