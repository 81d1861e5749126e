"""The CUDA backend: kernels written once in Python, their compilation, the device layer and the backend.

    target, field               how a kernel is declared; arithmetic in a thread
    hashing, transform,         the kernels
    opening, quotient, digests
    entry, compiler             numba-cuda: from a body to PTX, kept by the hash of all sources
    device, matrix, tables      memory and launches through CuPy; matrices; what is made once a size
    merkle, backend             `kernels.backend.Backend` on a device

Nothing here is imported before a GPU is asked for, and a machine whose code was compiled elsewhere
(`bench/cuda_compile.py --store`, `AGENC_CUDA_CODE`) needs numba, NumPy and CuPy alone.

How to add a kernel: declare it beside its like with `@map_kernel` or `@block_kernel`, launch it from the
backend, compare with the CPU backend in `tests/kernels/cuda/test_backend.py`, add a case to `simulated.py`,
and run `bench/cuda_compile.py --update`. On a machine with a GPU, `AGENC_TEST_GPU=1 pytest tests/kernels/cuda`
runs the same tests on it.
"""
