"""Which stores of a snapshot are wanted, in which order, and from where on."""

import base64
import json
import re
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
# The windows of the sorts that are percentages; more than any percentage in hundredths.
_WINDOW_OF: Final = {f"{name}_{window}": window for window in LISTED_WINDOWS for name in PERCENTAGES}
_ABOVE_PERCENT: Final = 20_000
_BASE64: Final = "(?:[A-Za-z0-9_-]{4})*(?:[A-Za-z0-9_-]{2,3})?"
# Sort, order, value (nothing where the store has none) and id of a page's last store. Whatever fits is a cursor, so
# that nobody who keeps to the description is refused; nothing at all is the first page.
CURSOR: Final = (
    rf"^((?:(?:{'|'.join(_TEXTS)})\.(?:asc|desc)\.{_BASE64}"
    rf"|(?:{'|'.join(sort for sort in SORTS if sort not in _TEXTS)})\.(?:asc|desc)\.(?:0|[1-9][0-9]{{0,17}})?)\.{_BASE64})?$"
)


@dataclass(frozen=True, slots=True)
class Wanted:
    """Filters and order of a list. An empty filter lets everything through; `text` is searched in ids and names.

    `cursor` is the `next` of the page before, and brings that page's sort and order with it. Without one, `skip` stores
    are passed over; when there are not so many, the last page it is. Whichever way a sort goes, what it has no value
    for comes last, and percentages that know little come after those that know enough.
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
class Page:
    """Places of stores in the snapshot, how many there are on all pages, and how many of each status (whatever the
    wanted ones are); `next` is the cursor of the next page, None on the last; `begin` how many stores come before."""

    places: list[int]
    total: int
    counts: dict[str, int]
    next: str | None
    begin: int


def page(found: Snapshot, wanted: Wanted) -> Page:
    """The page asked for; `Unprocessable` for a cursor that is broken."""
    wanted, after = _continued(wanted)
    mask = _mask(found, wanted)
    status = found.columns["status"]
    numbers = np.bincount(status[mask], minlength=len(STATUSES)).tolist()
    counts = {word: numbers[STATUSES.index(word)] for word in STATUS_ORDER}
    if wanted.statuses:
        mask &= np.isin(status, [STATUSES.index(word) for word in wanted.statuses])
    order = _order(found, wanted.sort, wanted.descending)
    order = order[mask[order]]
    begin = _skipped(wanted, len(order)) if after is None else _place_after(found, wanted, order, *after)
    end = len(order) if wanted.limit is None else min(begin + wanted.limit, len(order))
    places = order[begin:end].tolist()
    following = _cursor(found, wanted, places[-1]) if end < len(order) else None
    return Page(places, len(order), counts, following, begin)


def choices(found: Snapshot, name: str) -> list[str]:
    """The distinct texts that stores have as their `timezone` or `group`, in code point order; not the empty one."""
    return [text for text in _codes(found, name)[1] if text]


def _skipped(wanted: Wanted, total: int) -> int:
    return min(wanted.skip, max(total - 1, 0) // (wanted.limit or 1) * (wanted.limit or 1))


def json_of(found: Snapshot, places: Sequence[int]) -> list[str]:
    """Those stores as JSON objects, each made once for all requests."""
    made = cast("dict[int, str]", found.kept.setdefault("json", {}))
    texts = []
    for place in places:
        text = made.get(place)
        if text is None:
            text = made[place] = json.dumps(found.record(place), ensure_ascii=False, separators=(",", ":"))
        texts.append(text)
    return texts


def _mask(found: Snapshot, wanted: Wanted) -> Bools:
    mask = np.ones(len(found.ids), dtype=bool)
    if wanted.text:
        text = wanted.text.casefold()
        if "haystack" not in found.kept_of_texts:
            # Neither an id nor a name has a line break.
            found.kept_of_texts["haystack"] = [
                f"{store_id}\n{name}".casefold() for store_id, name in zip(found.ids, found.names, strict=True)
            ]
        haystack = cast("list[str]", found.kept_of_texts["haystack"])
        mask &= np.fromiter((text in one for one in haystack), dtype=bool, count=len(haystack)) & ("\n" not in text)
    for name, value in (("timezone", wanted.timezone), ("group", wanted.group)):
        if value is not None:
            codes, index = _codes(found, name)
            mask &= codes == index.get(value, -1)
    return mask


def _texts(found: Snapshot, name: str) -> list[str]:
    return {"store_id": found.ids, "name": found.names, "group": found.groups, "timezone": found.zones}[name]


def _codes(found: Snapshot, name: str) -> tuple[Ints, dict[str, int]]:
    """Each store's text as its place among the distinct ones, in code point order."""
    key = ("codes", name)
    if key not in found.kept_of_texts:
        texts = _texts(found, name)
        index = {text: place for place, text in enumerate(sorted(set(texts)))}
        found.kept_of_texts[key] = (np.array([index[text] for text in texts], dtype=np.int64), index)
    return cast("tuple[Ints, dict[str, int]]", found.kept_of_texts[key])


def _keys(found: Snapshot, sort: str, descending: bool) -> tuple[Ints, Bools]:
    """What to sort by in that direction, as integers from 0 on, and where there is nothing to sort by."""
    if sort in _TEXTS:
        codes, index = _codes(found, sort)
        return codes, codes == index.get("", -1)
    values = found.columns[sort]
    if sort == "status":
        return np.array([STATUS_ORDER.index(word) for word in STATUSES])[values], np.zeros(len(values), dtype=bool)
    if sort in _WINDOW_OF:
        # In either direction the percentages that know enough come first.
        last = found.columns[f"little_known_{_WINDOW_OF[sort]}"] != descending
        return np.where(values < 0, 0, values + last * _ABOVE_PERCENT), values < 0
    return values, values < 0


def _order(found: Snapshot, sort: str, descending: bool) -> Ints:
    """Places of all stores in that order, ties by id, those without a value at the end."""
    key = ("order", sort, descending)
    if key not in found.kept:
        values, missing = _keys(found, sort, descending)
        by_id, _ = _codes(found, "store_id")
        values = np.where(missing, 0, -values if descending else values)
        found.kept[key] = np.lexsort((by_id, values, missing))
    return cast("Ints", found.kept[key])


def _value(found: Snapshot, sort: str, descending: bool, place: int) -> str | int | None:
    """What a store is sorted by; None where it has no value."""
    if sort in _TEXTS:
        return _texts(found, sort)[place] or None
    values, missing = _keys(found, sort, descending)
    return None if missing[place] else int(values[place])


def _cursor(found: Snapshot, wanted: Wanted, place: int) -> str:
    value = _value(found, wanted.sort, wanted.descending, place)
    shown = "" if value is None else _encoded(value) if isinstance(value, str) else str(value)
    return f"{wanted.sort}.{'desc' if wanted.descending else 'asc'}.{shown}.{_encoded(found.ids[place])}"


def _continued(wanted: Wanted) -> tuple[Wanted, tuple[str | int | None, str] | None]:
    """The cursor's sort and order with everything else that is wanted, and the value and id after which to go on."""
    cursor = (wanted.cursor or "").strip()
    if not cursor:
        return wanted, None
    if not re.fullmatch(CURSOR, cursor):
        raise Unprocessable(
            "cursor is broken; give the `next` of the page before as it came, or leave it out for the first page",
            errors={"cursor": ["broken"]},
        )
    sort, order, shown, store_id = cursor.split(".")
    value = None if not shown else _decoded(shown) if sort in _TEXTS else int(shown)
    return replace(wanted, sort=sort, descending=order == "desc"), (value, _decoded(store_id))


def _encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def _decoded(text: str) -> str:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode(errors="replace")


def _place_after(found: Snapshot, wanted: Wanted, order: Ints, value: str | int | None, store_id: str) -> int:
    """Where the page after the cursor begins: by its value and id, so that it survives a new snapshot."""
    low, high = 0, len(order)
    while low < high:
        middle = (low + high) // 2
        place = int(order[middle])
        mine = _value(found, wanted.sort, wanted.descending, place)
        if mine == value:
            after = found.ids[place] > store_id
        elif mine is None or value is None:
            after = mine is None
        else:
            after = (mine > value) != wanted.descending  # type: ignore[operator]
        low, high = (low, middle) if after else (middle + 1, high)
    return low
