"""The core decides: pure, synchronous, deterministic; command in, events out. No clock, I/O or randomness."""
