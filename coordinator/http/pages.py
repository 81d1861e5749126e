"""Lists a page at a time: `limit` and `cursor` in, a `Link` header to the next page out."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Annotated, TypeAlias, TypeVar
from urllib.parse import urlencode

from fastapi import Query, Request

T = TypeVar("T")

#: A place in the order of a list, as the `Link` header of the page before gave it.
Cursor: TypeAlias = Annotated[
    int | None, Query(ge=0, le=2**63 - 1, description="Where the page before ended: its Link header has it.")
]


def page(
    items: Iterable[T], *, limit: int, place: Callable[[T], int | str], request: Request
) -> tuple[list[T], dict[str, str] | None]:
    """The first `limit` of the items, and the headers that lead to the next page where there are more.

    Args:
        items: in the list's order, from behind the cursor on; one more than the limit is taken from it.
        limit: items on a page.
        place: an item's place in the order, which the next cursor names.
        request: whose path and parameters the link repeats.
    """
    found = list(islice(items, limit + 1))
    if len(found) <= limit:
        return found, None
    shown = found[:limit]
    parameters = dict(request.query_params) | {"limit": str(limit), "cursor": str(place(shown[-1]))}
    return shown, {"link": f'<{request.url.path}?{urlencode(parameters)}>; rel="next"'}
