"""Questions about the graph of live operations: ancestors, descendants, and the order of a call's items.

The rank of an operation is above the rank of each of its live parents, so sorting by rank sorts the graph.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeAlias

from coordinator.core.records import Operation

if TYPE_CHECKING:
    from coordinator.core.state import CoreState

#: (agent id, operation type): whose reliability is learned together.
Kind: TypeAlias = tuple[str, str]
_MAX_LINEAGES = 10_000


def unconfirmed_ancestors(state: "CoreState", parents: Iterable[Operation]) -> list[Operation]:
    """The live operations that these are, and that they depend on, each once, nearest first."""
    live = state.live
    order = list(parents)
    found = {operation.operation_id for operation in order}
    for operation in order:  # grows while it is walked
        if operation.unconfirmed:
            for parent_id in operation.parents:
                if parent_id not in found:
                    parent = live.get(parent_id)
                    if parent is not None:
                        found.add(parent_id)
                        order.append(parent)
    return order


def lineage(state: "CoreState", parents: Sequence[Operation]) -> Mapping[Kind, int]:
    """How many of each kind these operations and their unconfirmed ancestors are; not to be changed.

    Remembered until an operation ends, so that a chain's next link costs one step and not the chain's length.
    """
    if len(parents) != 1:
        return _count_kinds(unconfirmed_ancestors(state, parents))
    cache, live = state.lineage_cache, state.live
    path: list[Operation] = []
    operation: Operation | None = parents[0]
    counts: Mapping[Kind, int] = {}
    while operation is not None:
        known = cache.get(operation.operation_id)
        if known is not None:
            counts = known
            break
        path.append(operation)
        above = [live[parent] for parent in operation.parents if parent in live]
        if len(above) > 1:
            counts = _count_kinds(unconfirmed_ancestors(state, above))
            break
        operation = above[0] if above else None
    if len(cache) > _MAX_LINEAGES:
        cache.clear()
    for operation in reversed(path):
        kind = operation.agent_id, operation.operation_type
        counts = cache[operation.operation_id] = {**counts, kind: counts.get(kind, 0) + 1}
    return counts


def _count_kinds(operations: Iterable[Operation]) -> Mapping[Kind, int]:
    return Counter((operation.agent_id, operation.operation_type) for operation in operations)


def with_descendants(state: "CoreState", roots: Iterable[Operation]) -> list[Operation]:
    """The roots and every live operation that depends on one of them, descendants before ancestors."""
    live = state.live
    found = {operation.operation_id: operation for operation in roots}
    order = list(found.values())
    for operation in order:  # grows while it is walked
        for child_id in operation.children:
            if child_id not in found:
                child = live.get(child_id)
                if child is not None and operation.operation_id in child.parents:
                    found[child_id] = child
                    order.append(child)
    return leaves_first(order)


def leaves_first(operations: Iterable[Operation]) -> list[Operation]:
    """Descendants before ancestors."""
    return sorted(operations, key=lambda operation: operation.rank, reverse=True)


def arrange(
    ids: Sequence[str], parents: Mapping[str, Sequence[str]]
) -> tuple[list[str], list[str], list[str]]:
    """Put a call's items in an order in which parents stand before children, keeping theirs where that is free.

    Args:
        ids: the items, each once.
        parents: of each item; those that are not items do not matter.

    Returns:
        (ordered, on a cycle, descending from a cycle).
    """
    waiting = {item: sum(parent in parents for parent in parents[item]) for item in ids}
    children: dict[str, list[str]] = {}
    for item in ids:
        for parent in parents[item]:
            if parent in parents:
                children.setdefault(parent, []).append(item)
    ordered = [item for item in ids if not waiting[item]]
    for item in ordered:  # grows while it is walked
        for child in children.get(item, ()):
            waiting[child] -= 1
            if not waiting[child]:
                ordered.append(child)
    stuck = {item: None for item in ids if waiting[item]}
    cyclic = _trim_ends(stuck, parents, children)
    return ordered, list(cyclic), [item for item in stuck if item not in cyclic]


def _trim_ends(
    stuck: Mapping[str, None], parents: Mapping[str, Sequence[str]], children: Mapping[str, Sequence[str]]
) -> dict[str, None]:
    """Take away what nothing stuck depends on, again and again: the cycles (and paths between them) remain."""
    left = dict(stuck)
    depended = {item: sum(child in stuck for child in children.get(item, ())) for item in stuck}
    ends = [item for item in stuck if not depended[item]]
    for item in ends:  # grows while it is walked
        del left[item]
        for parent in parents[item]:
            if parent in left:
                depended[parent] -= 1
                if not depended[parent]:
                    ends.append(parent)
    return left
