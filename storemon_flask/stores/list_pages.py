"""Filter, sort and page the stores of a snapshot."""

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final, cast

import numpy as np

from storemon_flask.errors import Unprocessable
from storemon_flask.model import Bools, Ints
from storemon_flask.stores.live_list import HUNDREDTHS, LISTED_WINDOWS, PERCENTAGES, STATUS_ORDER, Snapshot
from storemon_flask.uptime.status import STATUSES

_TEXTS: Final = ("store_id", "name", "group", "timezone")
SORTS: Final = ("worst", *_TEXTS, "status", "since", "last_poll", *HUNDREDTHS)
MOST_PER_PAGE: Final = 1000
_WINDOW_OF_PERCENTAGE: Final = {f"{name}_{window}": window for window in LISTED_WINDOWS for name in PERCENTAGES}
# More than any percentage in hundredths.
_ABOVE_PERCENT: Final = 20_000
# What a page begins after: the sort value (None where the store has none) and the id of the last store before it.
_After = tuple[str | int | None, str]


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Filters and order of a list. An empty filter lets everything through; `text` is searched in ids and names.

    `cursor` is the `next` of the page before, and brings that page's sort and order with it. Without one, `skip` stores
    are passed over; when there are not so many, it is the last page. In either order stores without a value come last,
    and percentages that know little come after those that know enough.
    """

    statuses: Sequence[str] = ()
    text: str | None = None
    timezone: str | None = None
    group: str | None = None
    sort: str = "worst"
    descending: bool = False
    limit: int | None = 100
    cursor: str | None = None
    skip: int = 0


@dataclass(frozen=True, slots=True)
class ListPage:
    """Indices of stores in the snapshot, how many fit on all pages, and how many there are of each status, whatever
    statuses are asked for; `next` is the cursor of the next page, None on the last; `begin` how many stores precede."""

    indices: list[int]
    total: int
    counts: dict[str, int]
    next: str | None
    begin: int


def select_page(snapshot: Snapshot, query: ListQuery) -> ListPage:
    """Return a page of the list; `Unprocessable` for a cursor that is broken."""
    query, after = _apply_cursor(query)
    mask = _filter(snapshot, query)
    status = snapshot.columns["status"]
    numbers = np.bincount(status[mask], minlength=len(STATUSES)).tolist()
    counts = {word: numbers[STATUSES.index(word)] for word in STATUS_ORDER}
    if query.statuses:
        mask &= np.isin(status, [STATUSES.index(word) for word in query.statuses])
    order = _order(snapshot, query.sort, query.descending)
    order = order[mask[order]]
    total, limit = len(order), query.limit or len(order)
    if after is not None:
        begin = _position_after(snapshot, query, order, *after)
    else:
        begin = min(query.skip, max(total - 1, 0) // max(limit, 1) * limit)
    indices = order[begin : begin + limit].tolist()
    following = _cursor(snapshot, query, indices[-1]) if begin + limit < total else None
    return ListPage(indices, total, counts, following, begin)


def distinct_texts(snapshot: Snapshot, name: str) -> list[str]:
    """Return the texts that stores have as their `timezone` or `group`, in code point order, without the empty one."""
    return [text for text in _codes(snapshot, name)[1] if text]


def records_json(snapshot: Snapshot, indices: Sequence[int]) -> list[str]:
    """Return those stores as JSON objects, each made once for all requests."""
    made = cast("dict[int, str]", snapshot.derived.setdefault("json", {}))
    for index in indices:
        if index not in made:
            made[index] = json.dumps(snapshot.record(index), ensure_ascii=False, separators=(",", ":"))
    return [made[index] for index in indices]


def _filter(snapshot: Snapshot, query: ListQuery) -> Bools:
    mask = np.ones(len(snapshot.ids), dtype=bool)
    if query.text:
        text = query.text.casefold()
        if "search" not in snapshot.derived_from_texts:
            # Neither an id nor a name has a line break.
            snapshot.derived_from_texts["search"] = [
                f"{store_id}\n{name}".casefold() for store_id, name in zip(snapshot.ids, snapshot.names, strict=True)
            ]
        texts = cast("list[str]", snapshot.derived_from_texts["search"])
        mask &= np.fromiter((text in one for one in texts), dtype=bool, count=len(texts)) & ("\n" not in text)
    for name, value in (("timezone", query.timezone), ("group", query.group)):
        if value is not None:
            codes, code_of = _codes(snapshot, name)
            mask &= codes == code_of.get(value, -1)
    return mask


def _texts(snapshot: Snapshot, name: str) -> list[str]:
    return {"store_id": snapshot.ids, "name": snapshot.names, "group": snapshot.groups, "timezone": snapshot.zones}[
        name
    ]


def _codes(snapshot: Snapshot, name: str) -> tuple[Ints, dict[str, int]]:
    """Return each store's text as its rank among the distinct ones, in code point order; and the rank of each text."""
    key = ("codes", name)
    if key not in snapshot.derived_from_texts:
        texts = _texts(snapshot, name)
        code_of = {text: code for code, text in enumerate(sorted(set(texts)))}
        snapshot.derived_from_texts[key] = (np.array([code_of[text] for text in texts], dtype=np.int64), code_of)
    return cast("tuple[Ints, dict[str, int]]", snapshot.derived_from_texts[key])


def _sort_values(snapshot: Snapshot, sort: str, descending: bool) -> tuple[Ints, Bools]:
    """Return what to sort by in that direction, as integers from 0 on, and where there is no value."""
    if sort in _TEXTS:
        codes, code_of = _codes(snapshot, sort)
        return codes, codes == code_of.get("", -1)
    values = snapshot.columns[sort]
    if sort == "status":
        return np.array([STATUS_ORDER.index(word) for word in STATUSES])[values], np.zeros(len(values), dtype=bool)
    if sort in _WINDOW_OF_PERCENTAGE:
        # In either direction the percentages that know enough come first.
        last = snapshot.columns[f"little_known_{_WINDOW_OF_PERCENTAGE[sort]}"] != descending
        return np.where(values < 0, 0, values + last * _ABOVE_PERCENT), values < 0
    return values, values < 0


def _order(snapshot: Snapshot, sort: str, descending: bool) -> Ints:
    """Return the indices of all stores in that order, ties by id, those without a value at the end."""
    key = ("order", sort, descending)
    if key not in snapshot.derived:
        values, missing = _sort_values(snapshot, sort, descending)
        by_id, _ = _codes(snapshot, "store_id")
        values = np.where(missing, 0, -values if descending else values)
        snapshot.derived[key] = np.lexsort((by_id, values, missing))
    return cast("Ints", snapshot.derived[key])


def _sort_value(snapshot: Snapshot, query: ListQuery, index: int) -> str | int | None:
    if query.sort in _TEXTS:
        return _texts(snapshot, query.sort)[index] or None
    values, missing = _sort_values(snapshot, query.sort, query.descending)
    return None if missing[index] else int(values[index])


def _cursor(snapshot: Snapshot, query: ListQuery, index: int) -> str:
    after = [query.sort, query.descending, _sort_value(snapshot, query, index), snapshot.ids[index]]
    return base64.urlsafe_b64encode(json.dumps(after).encode()).decode().rstrip("=")


def _apply_cursor(query: ListQuery) -> tuple[ListQuery, _After | None]:
    """Return the query with the cursor's sort and order, and what the page begins after."""
    cursor = (query.cursor or "").strip()
    if not cursor:
        return query, None
    try:
        after = json.loads(base64.b64decode(cursor + "=" * (-len(cursor) % 4), b"-_", validate=True))
        sort, descending, value, store_id = after
        kind = str if sort in _TEXTS else int
        if sort not in SORTS or type(descending) is not bool or type(store_id) is not str:
            raise ValueError
        if value is not None and type(value) is not kind:
            raise ValueError
    # A cursor that is not ASCII, no JSON, nested too deeply, or another value.
    except (ValueError, TypeError, RecursionError):
        raise Unprocessable(
            "cursor is broken; give the `next` of the page before as it came, or leave it out for the first page",
            errors={"cursor": ["broken"]},
        ) from None
    return replace(query, sort=sort, descending=descending), (value, store_id)


def _position_after(snapshot: Snapshot, query: ListQuery, order: Ints, value: str | int | None, store_id: str) -> int:
    """Return where the page after the cursor begins: by value and id, so that it survives a new snapshot."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        index = int(order[middle])
        here = _sort_value(snapshot, query, index)
        if here == value:
            after = snapshot.ids[index] > store_id
        elif here is None or value is None:
            after = here is None
        else:
            after = (here > value) != query.descending  # type: ignore[operator]
        low, high = (low, middle) if after else (middle + 1, high)
    return low
