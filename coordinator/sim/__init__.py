"""The deterministic simulator: one seed, one history, byte for byte."""
