"""Arrays in, arrays out: field, hashing, transforms and Merkle trees, compiled for the machine at hand."""

from kernels.build import configure_cache

# Before anything imports numba: it reads the cache directory from the environment once.
configure_cache()
