"""Snapshots: the state that a speculative operation rests on, and to which its rollback returns.

What speculation adds to the confirmed state is which results it takes for final: by operation, the output commitment
of every unconfirmed ancestor. Each snapshot is a persistent map (a hash array mapped trie, Bagwell 2001): it shares
with its parent's all that is the same, so that a chain of them costs a path each and not a copy. Under the checkpoint
policy only every fourth depth keeps one, and the states between are replayed from there.

An index like the others: kept by the fold, made anew from the records when a state is loaded.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, TypeAlias

from immutables import Map

from coordinator.core.records import Operation

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

#: Output commitments by operation.
Assumed: TypeAlias = Map[str, bytes]

_NOTHING: Assumed = Map()
#: The map's own object, and a node's header (CPython 3.11, immutables 0.21).
_MAP_BYTES = 64
_NODE_BYTES = 56
_WIDE_NODE_BYTES = 56 + 32 * 8
_NARROW_ENTRIES = 16


def take(state: "CoreState", operation: Operation) -> None:
    """Keep the state before an operation, in place of one that was kept."""
    state.assumed[operation.operation_id] = _before(state, operation)


def drop(state: "CoreState", operation: Operation) -> None:
    """It is not needed any more: what it rests on is confirmed, or it has ended."""
    state.assumed.pop(operation.operation_id, None)


def returns_to(state: "CoreState", operation: Operation) -> Assumed:
    """The state that the operation rests on and its rollback returns to, without what is confirmed since."""
    kept = state.assumed.get(operation.operation_id)
    return _before(state, operation) if kept is None else _still_open(state, kept)


def _before(state: "CoreState", operation: Operation) -> Assumed:
    """From the parents' snapshots; from those above, where a parent keeps none."""
    live, found = state.live, _NOTHING
    for parent_id in operation.parents:
        parent = live.get(parent_id)
        if parent is None:
            continue
        above = returns_to(state, parent) if parent.unconfirmed else _NOTHING
        found = above if not found else found.update(above)
        found = found.set(parent_id, parent.output_commitment)
    return found


def _still_open(state: "CoreState", assumed: Assumed) -> Assumed:
    """Without the confirmed ones: a chain that never ends must not drag all of its past along."""
    confirmed = [operation_id for operation_id in assumed if operation_id not in state.live]
    for operation_id in confirmed:
        assumed = assumed.delete(operation_id)
    return assumed


def retake(state: "CoreState", operations: Sequence[Operation]) -> None:
    """Take the snapshots of operations anew, ancestors first: something above them was replaced."""
    for operation in operations:
        if operation.operation_id in state.assumed:
            drop(state, operation)
            take(state, operation)


def estimated_bytes(state: "CoreState") -> int:
    """What the snapshots take in memory beside the ids and digests, which the records hold: each its own object and the
    one path of the trie that it does not share."""
    return sum(_own_bytes(len(assumed)) for assumed in state.assumed.values())


def _own_bytes(entries: int) -> int:
    narrow = _NODE_BYTES + 16 * min(entries, _NARROW_ENTRIES)
    wide = 0
    while entries > _NARROW_ENTRIES:
        wide += _WIDE_NODE_BYTES
        entries //= 32
    return _MAP_BYTES + narrow + wide
