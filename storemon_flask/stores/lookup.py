"""Find the store that somebody means by an id, the beginning of an id, or a name."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from storemon_flask.characters import quote_id, search_text, search_words
from storemon_flask.database import stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import NotFound

# So many stores are suggested for a text that none matches.
_SUGGESTED: Final = 3
# How alike they must be, 0 to 1.
_ALIKE: Final = 0.6


@dataclass(frozen=True, slots=True, order=True)
class Match:
    """A store that was looked for; name and group are empty where there is none."""

    store_id: str
    name: str
    group: str


def find_stores(database: Database, text: str) -> list[Match]:
    """Return the stores that a text means, by id: one, or several where it does not say which.

    They are the store of that id; else those of that name; else those whose ids begin with it; else those in whose
    name all its words occur; else those in whose id or name they do. But for the first, case and accents do not matter.
    `NotFound`, with those that are most alike, when there is none.
    """
    with database.read() as connection:
        rows = stores.all_rows(connection)
    matches = [Match(*row) for row in zip(rows.ids, rows.names, rows.groups, strict=True)]
    sought, words = search_text(text.strip()), search_words(text)
    ways: tuple[Callable[[Match], bool], ...] = (
        lambda one: one.store_id == text,
        lambda one: search_text(one.name) == sought,
        lambda one: search_text(one.store_id).startswith(sought),
        # An id that is a UUID has most short numbers in it.
        lambda one: _has_words(one.name, words),
        lambda one: _has_words(f"{one.store_id}\n{one.name}", words),
    )
    for fits in ways if words else ways[:1]:
        fitting = sorted(filter(fits, matches))
        if fitting:
            return fitting
    raise _no_match(text, matches)


def _has_words(text: str, words: Iterable[str]) -> bool:
    searched = search_text(text)
    return all(word in searched for word in words)


def _no_match(text: str, matches: Iterable[Match]) -> NotFound:
    """Return the error for a text that means no store, with those that are most alike."""
    known: dict[str, str] = {}
    for one in matches:
        shown = f"{quote_id(one.store_id)} ({quote_id(one.name)})" if one.name else quote_id(one.store_id)
        known |= {search_text(spelled): shown for spelled in (one.store_id, one.name) if spelled}
    close = get_close_matches(search_text(text[:200]), known, _SUGGESTED, _ALIKE)
    error = stores.no_store(text)
    if not close:
        return error
    suggestions = " or ".join(dict.fromkeys(known[one] for one in close))
    return NotFound(f"{error.message}; did you mean {suggestions}?")
