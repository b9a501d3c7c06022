"""What is shown of characters that nobody sees or that a terminal obeys."""

import sys
import unicodedata

import pytest

from storemon_flask.characters import escaped, escaped_lines, show_invisible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("plain ~ text", "plain ~ text"),
        ("\x1b]0;title\x07", r"\x1b]0;title\x07"),
        ("\x00\x08\x0b\x0c\x7f\x80\x9b\x9f", r"\x00\x08\x0b\x0c\x7f\x80\x9b\x9f"),
        (
            "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
            r"\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069",
        ),
        ("\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\u00ad", r"\u200b\u200c\u200d\u200e\u200f\u2060\ufeff\xad"),
        ("\u2028\u2029\u0085", r"\u2028\u2029\x85"),
        ("\ud800\udcff", r"\ud800\udcff"),
        ("\u3164\u115f\u2800\ufe0f\U000e0041", r"\u3164\u115f\u2800\ufe0f\U000e0041"),
        ("東京\u3000駅 e\u0301 ñ\u00a0½ ｱ \U0001f600 \ufffd", "東京\u3000駅 e\u0301 ñ\u00a0½ ｱ \U0001f600 \ufffd"),
        ("a\\x1b", "a\\x1b"),
    ],
)
def test_a_character_that_is_not_seen_is_shown_by_its_number(text: str, shown: str) -> None:
    assert escaped(text) == escaped_lines(text) == shown


def test_ends_of_lines_and_tabs_stay_in_lines_only() -> None:
    assert escaped("a\tb\nc\r\n") == r"a\tb\nc\r\n"
    assert escaped_lines("a\tb\nc\r\n") == "a\tb\nc\\r\n"


def test_every_control_and_format_character_is_escaped() -> None:
    for number in range(sys.maxunicode + 1):
        character = chr(number)
        if unicodedata.category(character) in ("Cc", "Cf", "Cs", "Zl", "Zp"):
            assert escaped(character).isascii(), hex(number)
            assert escaped(character).isprintable(), hex(number)


def test_invisible_characters_are_shown_in_messages() -> None:
    assert show_invisible("10\u00ad01\u200b") == "10<U+00AD>01<U+200B>"
    assert show_invisible("caf\u00e9 1") == "caf\u00e9 1"
