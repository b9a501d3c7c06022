"""Characters that nobody sees or that a terminal obeys, and how a text with them is shown."""

import re
import unicodedata
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


def _shown(found: re.Match[str]) -> str:
    return _shown_character(found[0])


@lru_cache(1 << 12)
def _shown_character(character: str) -> str:
    if unicodedata.category(character) in _CATEGORIES or _INVISIBLE.fullmatch(character):
        return character.encode("unicode_escape", "backslashreplace").decode("ascii")
    return character
