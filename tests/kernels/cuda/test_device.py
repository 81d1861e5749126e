"""The CuPy device layer: what it allocates, packs, loads and says when something is missing."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest

from kernels import backend as backends
from kernels.cuda import compiler, hashing, opening
from kernels.cuda.compiler import Code, CodeStore
from kernels.cuda.device import CupyDevice, compile_ahead
from kernels.cuda.errors import DeviceMemoryError, NoDevice
from kernels.cuda.target import Kernel
from tests.kernels.cuda.fake_cupy import FakeCupy, installed

PTX = ".version 9.0\n.target sm_90\n.visible .entry _ZN5entryE(\n)\n{ ret; }\n"


@pytest.fixture
def store(tmp_path: Path) -> CodeStore:
    """Code for every kernel, so that nothing has to be compiled."""
    store = CodeStore(tmp_path)
    store.folder.mkdir()
    for kernel in compiler.kernels():
        (store.folder / f"{kernel.name}.sm_90.ptx").write_text(PTX)
    return store


def test_a_launch_covers_all_items_and_packs_numbers_by_their_width(store: CodeStore) -> None:
    with installed(FakeCupy()) as cupy:
        device = CupyDevice(store=store)
        squares, out = device.upload(np.arange(9, dtype=np.uint32)), device.empty(300)
        device.launch(opening.powers, 300, squares, 9, 7, out)
        device.launch(opening.powers, 1, squares, 9, 7, out)
    name, grid, block, arguments = cupy.launches[0]
    assert (name, grid, block) == ("_ZN5entryE", (3,), (128,))
    assert [type(argument) for argument in arguments[:1] + arguments[2:4]] == [np.int64, np.int64, np.uint32]
    assert arguments[0] == 300
    assert arguments[1] is squares
    assert arguments[4] is out
    assert len(cupy.loaded) == 1, "a module is loaded once"


def test_a_block_kernel_is_launched_by_blocks(store: CodeStore) -> None:
    with installed(FakeCupy()) as cupy:
        device = CupyDevice(store=store)
        state, found = device.zeros(24), device.empty(5)
        device.launch(hashing.grind, 5, state, 2, 1, 3, 0, found)
    _, grid, block, arguments = cupy.launches[0]
    assert (grid, block, len(arguments)) == ((5,), (256,), 6)


def test_wrong_arguments_are_caught_before_the_device_sees_them(store: CodeStore) -> None:
    with installed(FakeCupy()):
        device = CupyDevice(store=store)
        words = device.zeros(24)
        with pytest.raises(AssertionError):
            device.launch(opening.powers, 1, words, 9, 7)
        with pytest.raises(AssertionError):
            device.launch(opening.powers, 1, np.zeros(3, np.int64), 9, 7, words)
        with pytest.raises(AssertionError):
            device.launch(opening.powers, 0, words, 9, 7, words)


def test_arrays_go_up_flat_and_come_back(store: CodeStore) -> None:
    with installed(FakeCupy()):
        device = CupyDevice(store=store)
        values = np.arange(12, dtype=np.uint32).reshape(3, 4)
        buffer = device.upload(values[:, ::2])
        assert buffer.shape == (6,)
        assert device.download(buffer[1:3]).tolist() == [2, 4]
        assert device.upload(np.array([1, 2], np.int64)).dtype == np.int64
        assert not device.zeros(3).any()


def test_memory_that_the_pool_keeps_is_given_back_before_a_batch_is_refused(store: CodeStore) -> None:
    with installed(FakeCupy(limit_bytes=1000)) as cupy:
        device = CupyDevice(store=store)
        cupy.cached_bytes = 900
        assert device.empty(200).size == 200
        assert cupy.cached_bytes == 0
        with pytest.raises(DeviceMemoryError, match="split") as caught:
            device.empty(251)
        with pytest.raises(DeviceMemoryError):
            device.upload(np.zeros(251, np.uint32))
    assert isinstance(caught.value, MemoryError)
    assert (caught.value.code, caught.value.retryable) == ("device_memory", True)
    assert cupy.current == [], "the device's context was left"


def test_what_is_missing_is_said(store: CodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    with installed(FakeCupy(devices=0)), pytest.raises(NoDevice, match="there are 0"):
        CupyDevice(store=store)
    with installed(FakeCupy(devices=-1)), pytest.raises(NoDevice, match="InsufficientDriver"):
        CupyDevice(store=store)
    monkeypatch.setitem(sys.modules, "cupy", None)  # an import of it fails
    with pytest.raises(NoDevice, match="CuPy is not installed"):
        CupyDevice(store=store)


def test_auto_falls_back_to_the_cpu_and_tells_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cupy", None)
    chosen = backends.choose("auto", 1)
    assert chosen.backend.name == "cpu"
    assert "CuPy is not installed" in chosen.reason
    with pytest.raises(ValueError, match="CuPy is not installed"):
        backends.choose("cuda", 1)


def test_a_device_with_code_is_chosen(store: CodeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AGENC_CUDA_CODE", str(store.folder.parent))
    for name in ("auto", "cuda"):
        with installed(FakeCupy()):
            chosen = backends.choose(name, 1)
        assert (chosen.backend.name, chosen.backend.threads) == ("cuda", 1)
        assert "Fake GPU (sm_90)" in chosen.reason


def test_a_device_for_which_there_is_no_code_is_not_chosen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENC_CUDA_CODE", str(tmp_path))
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: None if name == "numba_cuda" else find(name, *rest)
    )
    with installed(FakeCupy()):
        chosen = backends.choose("auto", 1)
        assert chosen.backend.name == "cpu"
        assert "numba-cuda" in chosen.reason


def test_all_kernels_are_compiled_ahead_for_the_gpu_that_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENC_CUDA_CODE", str(tmp_path))
    compiled: list[str] = []

    def compile_kernel(kernel: Kernel, capability: compiler.Capability) -> Code:
        compiled.append(f"{kernel.name}.sm_{compiler.name_of(capability)}")
        return Code.of(PTX)

    monkeypatch.setattr(compiler, "compile_kernel", compile_kernel)
    with installed(FakeCupy()):
        assert compile_ahead() == "Fake GPU (sm_90)"
        assert compiled == [f"{kernel.name}.sm_90" for kernel in compiler.kernels()]
        compile_ahead()
        assert len(compiled) == len(compiler.kernels()), "once"
    with installed(FakeCupy(devices=0)):
        assert compile_ahead() is None


def test_a_driver_too_old_for_the_code_is_not_chosen(
    store: CodeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENC_CUDA_CODE", str(store.folder.parent))
    for path in store.folder.iterdir():
        path.write_text(PTX.replace(".version 9.0", ".version 99.0"))
    with installed(FakeCupy()):
        chosen = backends.choose("auto", 1)
    assert chosen.backend.name == "cpu"
    assert "UNSUPPORTED_PTX_VERSION" in chosen.reason


@pytest.mark.skipif(importlib.util.find_spec("cupy") is None, reason="the extra `cuda` is not installed")
def test_the_real_cupy_has_every_name_that_is_used() -> None:
    import cupy

    for path in (
        "empty",
        "zeros",
        "asarray",
        "asnumpy",
        "get_default_memory_pool",
        "cuda.Device",
        "cuda.runtime.getDeviceCount",
        "cuda.runtime.getDeviceProperties",
        "cuda.runtime.CUDARuntimeError",
        "cuda.driver.CUDADriverError",
        "cuda.memory.OutOfMemoryError",
        "cuda.function.Module",
        "cuda.function.Module.load",
        "cuda.function.Module.get_function",
    ):
        named = cupy
        for part in path.split("."):
            named = getattr(named, part)
    assert issubclass(cupy.cuda.memory.OutOfMemoryError, MemoryError)
