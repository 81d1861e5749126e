"""Replay a workflow of agents against the coordinator: load it, act it out, report what became of it."""
