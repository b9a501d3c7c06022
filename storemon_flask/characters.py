"""Characters that nobody sees or that a terminal obeys, and how a text with them is shown."""

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import lru_cache
from typing import Final

# What Unicode draws as nothing (Default_Ignorable_Code_Point), the line and paragraph separators, the marks of
# annotations, and the empty Braille pattern; to be put between the brackets of a regular expression.
INVISIBLE: Final = (
    "\u00ad\u034f\u061c\u115f-\u1160\u17b4-\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e\u2060-\u206f\u2800\u3164"
    "\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff"
)
_INVISIBLE: Final = re.compile(f"[{INVISIBLE}]")
# Controls (C0, DEL, C1), formats (among them those that turn the direction of text), lone surrogates, separators of
# lines.
_CATEGORIES: Final = ("Cc", "Cf", "Cs", "Zl", "Zp")
_NOT_PLAIN: Final = re.compile("[^ -~]")
_NOT_PLAIN_IN_LINES: Final = re.compile("[^\t\n -~]")


def escaped(text: str) -> str:
    r"""The text on one line; a character that is not seen, or that a terminal would obey, is written as `\x1b` or
    `\u202e`.
    """
    return text if text.isascii() and text.isprintable() else _NOT_PLAIN.sub(_shown, text)


def escaped_lines(text: str) -> str:
    """The same, with the tabs and ends of lines that the text has."""
    return _NOT_PLAIN_IN_LINES.sub(_shown, text)


def _shown(match: re.Match[str]) -> str:
    return _shown_character(match[0])


@lru_cache(1 << 12)
def _shown_character(character: str) -> str:
    if unicodedata.category(character) in _CATEGORIES or _INVISIBLE.fullmatch(character):
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character


def remove_invisible(text: str) -> str:
    """Return the text without its invisible characters."""
    return text if text.isascii() else _INVISIBLE.sub("", text)


def show_invisible(text: str) -> str:
    """Return the text for a message, with each invisible character as its number: `1001<U+200B>`."""
    return text if text.isascii() else _INVISIBLE.sub(lambda match: f"<U+{ord(match[0]):04X}>", text)


def search_text(text: str) -> str:
    """Return the text as searches compare it: without accents and other marks, and in one case."""
    if not text.isascii():
        text = "".join(one for one in unicodedata.normalize("NFKD", text.casefold()) if not unicodedata.combining(one))
    return text.casefold()


def search_words(text: str) -> list[str]:
    """Return the words of a search as `search_text`; what is searched matches when every one of them occurs in it."""
    return search_text(text).split()


# So many stores are named where more have the same said of them.
_STORES_NAMED: Final = 5


def is_text(text: str) -> bool:
    """Return whether it can be stored and sent: half a surrogate pair, which JSON can carry, cannot."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def quote_id(store_id: str) -> str:
    """Return the id for a sentence: what cannot be seen is written as its number, and a long id is cut."""
    text = store_id if len(store_id) <= 60 else store_id[:59] + "…"
    text = re.sub(r"\s{2,}|[^\S ]", lambda blanks: "".join(f"<U+{ord(blank):04X}>" for blank in blanks[0]), text)
    text = "".join(letter if letter.isprintable() else f"<U+{ord(letter):04X}>" for letter in text)
    text = show_invisible(text)
    return f'"{text}"' if " " in text or "," in text else text


def list_ids(ids: Iterable[str], total: int) -> str:
    """Return those ids as examples of `total`: `a`, `a and b`, `a, b and 198 more`."""
    names = [quote_id(store_id) for store_id in ids]
    if total > len(names):
        return f"{', '.join(names)} and {total - len(names):,} more"
    return join_words(names)


def join_words(words: Sequence[str]) -> str:
    """Return the words as a list in a sentence: `a`, `a and b`, `a, b and c`."""
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def count_text(count: int, one: str, several: str = "") -> str:
    """Return how many there are: `1 row`, `1,200 rows`; `several` is what more than one are when it is not `one` with
    an s.
    """
    return f"1 {one}" if count == 1 else f"{count:,} {several or one + 's'}"


def list_stores(ids: Sequence[str]) -> str:
    """Return those stores, five of them by their ids: `store a`, `stores a and b`, `stores a, ..., e and 12 more`."""
    return f"store{'s' * (len(ids) != 1)} {list_ids(ids[:_STORES_NAMED], len(ids))}"
