"""The kernel cache: its key, its directory, its lock, and what a process does without one."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from kernels import build

REPOSITORY = Path(__file__).parents[2]

SMALL = """
import sys
sys.path.insert(0, {root!r})
import kernels.cpu
from kernels import build, jit
from kernels.hashing import _permute_16
jit.REGISTRY[:] = [_permute_16]
"""


def run(code: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k not in ("AGENC_CACHE_DIR", "NUMBA_CACHE_DIR")}
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | {"PYTHONPATH": str(REPOSITORY)} | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )


def copy_of_sources(folder: Path) -> Path:
    return Path(
        shutil.copytree(build.SOURCE_ROOT, folder / "kernels", ignore=shutil.ignore_patterns("__pycache__"))
    )


def test_a_change_in_any_source_of_the_cpu_changes_the_key(tmp_path: Path) -> None:
    root = copy_of_sources(tmp_path)
    keys = {build.cache_key(root)}
    assert keys == {build.cache_key()}
    sources = [path for path in build.source_files(root) if path.parent != root / build.DEVICE_FOLDER]
    for path in sources:
        path.write_text(path.read_text() + "\n# changed\n")
        keys.add(build.cache_key(root))
    assert len(keys) == 1 + len(sources)


def test_a_change_in_a_source_for_the_device_alone_compiles_nothing_again_for_the_cpu(tmp_path: Path) -> None:
    root = copy_of_sources(tmp_path)
    (root / build.DEVICE_FOLDER).mkdir(exist_ok=True)
    (root / build.DEVICE_FOLDER / "new.py").write_text("x = 1\n")
    assert build.cache_key(root) == build.cache_key()


def test_a_source_added_renamed_or_removed_changes_the_key(tmp_path: Path) -> None:
    root = copy_of_sources(tmp_path)
    keys = [build.cache_key(root)]
    (root / "new.py").write_text("x = 1\n")
    keys.append(build.cache_key(root))
    (root / "new.py").rename(root / "newer.py")
    keys.append(build.cache_key(root))
    (root / "newer.py").unlink()
    assert len(set(keys)) == 3
    assert build.cache_key(root) == keys[0]


def test_the_key_depends_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    before = build.cache_key()
    monkeypatch.setenv("NUMBA_CPU_NAME", "some-other-cpu")
    assert build.cache_key() != before


def test_the_base_directory_follows_the_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.delenv("AGENC_CACHE_DIR", raising=False)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert build.base_directory() == tmp_path / ".cache" / "agenc-prover"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert build.base_directory() == tmp_path / "xdg" / "agenc-prover"
    monkeypatch.setenv("AGENC_CACHE_DIR", str(tmp_path / "own"))
    assert build.base_directory() == tmp_path / "own"


@pytest.mark.parametrize("first", ["kernels", "numba"])
def test_numba_caches_in_the_keyed_directory_whichever_is_imported_first(first: str, tmp_path: Path) -> None:
    code = f"import {first}; import kernels, numba; print(numba.config.CACHE_DIR)"
    shown = run(code, AGENC_CACHE_DIR=str(tmp_path), NUMBA_CACHE_DIR="/elsewhere").stdout.strip()
    assert Path(shown) == tmp_path / build.cache_key()


def test_a_directory_that_cannot_be_written_is_replaced_and_told(tmp_path: Path) -> None:
    blocked = tmp_path / "a-file"
    blocked.write_text("not a folder")
    code = """
from kernels import build
made = build.configure_cache()
print(made.directory); print(made.directory.is_dir()); print(build.cache_warning())
"""
    shown = run(code, AGENC_CACHE_DIR=str(blocked), TMPDIR=str(tmp_path)).stdout.splitlines()
    directory, existed, warning = shown
    assert existed == "True"
    assert Path(directory).parent == tmp_path
    assert not Path(directory).exists(), "a temporary cache is removed with its process"
    assert "cannot be written" in warning
    assert "AGENC_CACHE_DIR" in warning


def test_a_writable_directory_gives_no_warning(tmp_path: Path) -> None:
    code = "from kernels import build; print(build.cache_warning(), build.cache_state())"
    assert run(code, AGENC_CACHE_DIR=str(tmp_path)).stdout.split() == ["None", "cold"]


def test_two_processes_compile_once_and_the_cache_is_warm_afterwards(tmp_path: Path) -> None:
    """Both start on a cold cache; the lock makes one of them find what the other compiled."""
    code = (
        SMALL.format(root=str(REPOSITORY))
        + """
build.compile_all(lambda *progress: print(*progress))
stats = _permute_16._dispatcher.stats
print("hits", sum(stats.cache_hits.values()), "misses", sum(stats.cache_misses.values()))
print(build.cache_state())
"""
    )
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY), "AGENC_CACHE_DIR": str(tmp_path)}
    environment.pop("NUMBA_CACHE_DIR", None)
    processes = [
        subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    outputs = [process.communicate(timeout=150)[0].splitlines() for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert sorted(lines[-2] for lines in outputs) == ["hits 0 misses 1", "hits 1 misses 0"]
    for lines in outputs:
        assert lines[0].endswith("_permute_16 0 1")
        assert lines[1:] == ["done 1 1", lines[-2], "warm"]


def test_unused_keys_are_pruned_and_nothing_else(tmp_path: Path) -> None:
    current, old, recent = (tmp_path / (letter * 16) for letter in "abc")
    other = tmp_path / "not-a-key"
    for folder in (current, old, recent, other):
        folder.mkdir()
        os.utime(folder, (0, 0))
    os.utime(recent)
    build._prune(current, time.time() - 3600)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a" * 16, "c" * 16, "not-a-key"]


def test_extra_work_is_compiled_with_the_kernels(tmp_path: Path) -> None:
    code = """
import json
from kernels import build, jit
jit.REGISTRY.clear()
class Extra:
    name = "a constraint program"
    compiled = 0
    def compile(self):
        self.compiled += 1
extra, seen = Extra(), []
import kernels.cpu
jit.REGISTRY.clear()
build.compile_all(lambda *progress: seen.append(progress), extra=[extra])
print(json.dumps([extra.compiled, seen]))
"""
    compiled, seen = json.loads(run(code, AGENC_CACHE_DIR=str(tmp_path)).stdout)
    assert compiled == 1
    assert seen == [["a constraint program", 0, 1], ["done", 1, 1]]
