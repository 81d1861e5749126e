"""The CUDA backend: kernels written once in Python, their compilation, the device layer and the backend."""
