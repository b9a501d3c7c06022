"""Feeds as JSON: one object or a list of them, or one object a line (NDJSON); to the same records as CSV, in bounded
memory.

An object's keys are the feed's columns in any spelling that a CSV header may have; other keys are nobody's business.
Numbers keep the digits they were sent with: a 19-digit id must not pass through a float.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from typing import Any, BinaryIO, Final

from storemon_flask.errors import NotJson
from storemon_flask.feeds import headers, records
from storemon_flask.feeds.records import Record
from storemon_flask.feeds.rejects import TEXT_CHARACTERS

# One row is at most this many characters; a feed's row takes about a hundred.
MAX_ROW_CHARACTERS: Final = 64 << 10
_PIECE_BYTES: Final = 256 << 10
# A batch ends at either of these: rows may be long.
_BATCH_ROWS: Final = 5000
_BATCH_CHARACTERS: Final = 4 << 20
# The longest UTF-8 of one character has four bytes.
_MAX_LINE_BYTES: Final = 4 * MAX_ROW_CHARACTERS
# So many different keys are remembered: a feed has three or four, and what else may come has no end.
_KEYS_KNOWN: Final = 1000
_BLANK: Final = " \t\r\n"
# What may stand behind a number or a word, and what begins a value that says itself where it ends.
_ENDS: Final = (*_BLANK, ",", "]")
_CLOSED: Final = ("{", "[", '"')
_NOT_BLANK: Final = re.compile(r"[^ \t\r\n]")
_PAIR: Final = re.compile(r'"([^"\\]{1,100})"[ \t]*:[ \t]*("(?:[^"\\]|\\.)*"|[-+.0-9A-Za-z]+)')

_TO_BRACKET: Final = re.compile(r'[^"\[\]{}]*+(?:"(?:[^"\\]|\\.)*+"[^"\[\]{}]*+)*+', re.DOTALL)

# Elements of a list that are no rows, and short: each with the comma behind it. One by one, a megabyte of `1,` took 2
# s.
_SHORT_ELEMENTS: Final = re.compile(
    r"(?:[ \t\r\n]*+"
    r'(?:-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,18})?(?:[eE][-+]?[0-9]{1,3})?|"[^"\\,\x00-\x1f]{0,30}"'
    r"|\[\]|\[\[\]\]|\{\}|true|false|null)"
    r"[ \t\r\n]*+,){1,5000}"
)
# Lines of up to so many bytes are read once each, as long as they are few.
_SHORT_LINE: Final = 8
_SHORT_LINES_KNOWN: Final = 4096

NOT_AN_OBJECT: Final = "row is not a JSON object"
NOT_JSON: Final = "row is not JSON"
# Deeper is refused before any interpreter would do so.
MAX_DEPTH: Final = 64
TOO_DEEP: Final = f"row is nested too deeply (more than {MAX_DEPTH} levels)"
_NUMBER: Final = "a number with a fraction or an exponent, which may have lost digits: send ids as text"


def _no_number(name: str) -> str:
    raise ValueError(f"{name} is no JSON")


class _Object(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that stands twice is seen."""


class _Real(str):
    """The digits of a JSON number with a fraction or an exponent."""


_DECODER: Final = json.JSONDecoder(
    parse_int=str, parse_float=_Real, parse_constant=_no_number, object_pairs_hook=_Object
)


def read(stream: BinaryIO, form: str, feed: str, on_bytes: Callable[[bytes], None]) -> Iterator[list[Record]]:
    """The rows of a `json` or `ndjson` stream in batches; a record's `line` is the row's number, or in NDJSON its line.

    `on_bytes` is told everything that is read. `NotJson` when a `json` stream is no object and no list of them.
    """
    shaper = _Shaper(feed)
    found = _lines(stream, on_bytes) if form == "ndjson" else _elements(stream, on_bytes)
    batch: list[Record] = []
    characters = 0
    for line, value, text, problem in found:
        batch.append(shaper.broken(line, text, problem) if problem else shaper.record(line, value, text))
        characters += len(text)
        if len(batch) == _BATCH_ROWS or characters > _BATCH_CHARACTERS:
            yield batch
            batch = []
            characters = 0
    yield batch


class _Shaper:
    """Turns objects into records with the feed's fields in order."""

    def __init__(self, feed: str) -> None:
        self._names = headers.COLUMNS[feed]
        self._place = {spelling: place for place, found in enumerate(headers.FEEDS[feed]) for spelling in found}
        self._optional = headers.OPTIONAL.get(feed, frozenset())
        self._known: dict[str, int | None] = {}

    def broken(self, line: int, text: str, problem: str) -> Record:
        """A row that cannot be read; of its fields it has the store's, where its text still names that."""
        fields = [self._whose(text), *[""] * (len(self._names) - 1)]
        return Record(line, fields, text[:TEXT_CHARACTERS], problem)

    def _whose(self, text: str) -> str:
        for pair in _PAIR.finditer(text):
            if self._place.get(headers.spelled(pair[1])) == 0:
                try:
                    return _id_text(_DECODER.decode(pair[2]))[0]
                except ValueError:
                    return ""
        return ""

    def record(self, line: int, value: Any, text: str) -> Record:
        """The row; with a problem when it is no object, or lacks a column, or has one twice, or nested."""
        if not isinstance(value, _Object):
            return Record(line, [""] * len(self._names), text[:TEXT_CHARACTERS], NOT_AN_OBJECT)
        fields: list[str | None] = [None] * len(self._names)
        problem = ""
        for key, found in value:
            place = self._known.get(key, -1)
            if place == -1:
                place = self._place.get(headers.spelled(key))
                if len(self._known) < _KEYS_KNOWN:
                    self._known[key] = place
            if place is None:
                continue
            if fields[place] is not None:
                problem = problem or f"{self._names[place]} is given twice"
            fields[place], wrong = _text(found) if place else _id_text(found)
            problem = problem or (wrong and f"{self._names[place]} is {wrong}")
        for place, name in enumerate(self._names):
            if fields[place] is None and name not in self._optional:
                problem = problem or f"{name} is missing"
        # A row with a problem still says whose it was meant to be, as far as it does.
        return Record(line, [field or "" for field in fields], text[:TEXT_CHARACTERS], problem)


def _text(value: Any) -> tuple[str, str]:
    """A value as the text that CSV would have; or what it is instead of one."""
    if isinstance(value, str):
        # JSON can carry half a surrogate pair, which no text in the database can be.
        return (value, "") if value.isascii() or value.isprintable() or _is_text(value) else ("", "no text")
    if value is None:
        return "", ""
    if isinstance(value, bool):
        return str(value).lower(), ""
    return "", "an object" if isinstance(value, _Object) else "a list"


def _id_text(value: Any) -> tuple[str, str]:
    """The same of a store's id, which may be a whole number, exactly as it was sent, and no other."""
    if isinstance(value, _Real):
        return "", _NUMBER
    return ("", "true or false") if isinstance(value, bool) else _text(value)


def _is_text(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


_Found = tuple[int, Any, str, str]


def _lines(stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> Iterator[_Found]:
    """(line, value, text, problem) of every line that is not blank."""
    held, line, skipping = b"", 0, False
    known: dict[bytes, _Found] = {}
    while True:
        piece = stream.read(_PIECE_BYTES)
        on_bytes(piece)
        parts = (held + piece).split(b"\n")
        held = parts.pop() if piece else b""
        for part in parts:
            line += 1
            if line == 1:
                part = part.removeprefix(codecs.BOM_UTF8)
            if skipping:
                skipping = False
            elif part in known:
                yield (line, *known[part][1:])
            elif part.strip():
                found = _line(line, part.rstrip(b"\r"))
                if len(part) <= _SHORT_LINE and len(known) < _SHORT_LINES_KNOWN:
                    known[part] = found
                yield found
        if len(held) > _MAX_LINE_BYTES:
            if not skipping:
                yield line + 1, None, held.decode("utf-8", "replace"), _LONG
            held, skipping = b"", True
        if not piece:
            return


_LONG: Final = f"row is longer than {MAX_ROW_CHARACTERS:,} characters"


def _line(line: int, raw: bytes) -> _Found:
    if len(raw) > _MAX_LINE_BYTES:
        return line, None, raw.decode("utf-8", "replace"), _LONG
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return line, None, raw.decode("utf-8", "replace"), records.NOT_UTF8
    if len(text) > MAX_ROW_CHARACTERS:
        return line, None, text, _LONG
    try:
        start = len(text) - len(text.lstrip(_BLANK))
        value, end = _DECODER.raw_decode(text, start)
    except RecursionError:
        return line, None, text, TOO_DEEP
    except ValueError:
        return line, None, text, TOO_DEEP if _is_too_deep(text, start) else NOT_JSON
    if _may_be_too_deep(text) and _is_too_deep(text, start):
        return line, None, text, TOO_DEEP
    return line, value, text, "" if not text[end:].strip(_BLANK) else NOT_JSON


def is_object(line: bytes) -> bool:
    """Whether a line is a JSON object by itself, as a row of NDJSON is."""
    _, value, _, problem = _line(1, line.rstrip(b"\r"))
    return not problem and isinstance(value, _Object)


def _may_be_too_deep(text: str) -> bool:
    return text.count("[") + text.count("{") > MAX_DEPTH


def _is_too_deep(text: str, at: int) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects are open at once in the value that begins there, as far as it
    goes.
    """
    depth = 0
    if text[at : at + 1] not in ("[", "{"):
        return False
    while depth <= MAX_DEPTH:
        bracket = text[at : at + 1]
        if bracket not in ("[", "{", "]", "}"):
            return False
        depth += 1 if bracket in "[{" else -1
        if not depth:
            return False
        at = _TO_BRACKET.match(text, at + 1).end()  # type: ignore[union-attr]
    return True


def _too_deep(number: int) -> str:
    return f"row {number} is nested too deeply (more than {MAX_DEPTH} levels)"


def _elements(stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> Iterator[_Found]:
    """(number, value, text, "") of a lone object, or of each element of a list."""
    text = _Text(stream, on_bytes)
    start = text.next()
    if start == "{":
        yield 1, *text.value(1), ""
    elif start == "[":
        text.skip()
        number = 0
        while letter := text.next():
            if letter == "]" and not number:
                text.skip()
                break
            if letter == "]":
                raise _not_json(f"after row {number} comes a comma and no other row ({text.where()})")
            short = text.short_elements()
            for element in short:
                number += 1
                yield number, _Object() if element == "{}" else None, element, ""
            if short:
                continue
            number += 1
            yield number, *text.value(number), ""
            letter = text.next()
            text.skip()
            if letter == "]":
                break
            if letter != ",":
                after = f"after row {number} comes {letter!r}, not , or ] ({text.where(-1)})"
                raise _not_json(after if letter else "its list has no end")
        else:
            raise _not_json("its list has no end")
    else:
        raise _not_json("it begins with neither { nor [" if start else "it is empty")
    if text.next():
        raise _not_json("something follows its end")


class _Text:
    """The stream's text, a piece at a time, with a place in it."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._held = ""
        self._at = 0
        self._ended = False
        # Where what is held begins: its line, and how many characters of that line were before it.
        self._line = 1
        self._column = 0

    def next(self) -> str:
        """The next letter that is not blank; nothing at the end."""
        while True:
            found = _NOT_BLANK.search(self._held, self._at)
            if found:
                self._at = found.start()
                return found[0]
            self._at = len(self._held)
            if self._ended:
                return ""
            self._more()

    def skip(self) -> None:
        """Go on behind the letter that `next` gave."""
        self._at += 1

    def short_elements(self) -> list[str]:
        """The next elements of a list that are short and no rows, with the comma behind the last; none when there are
        none here.
        """
        found = _SHORT_ELEMENTS.match(self._held, self._at)
        if found is None:
            return []
        self._at = found.end()
        return [element.strip(_BLANK) for element in found[0][:-1].split(",")]

    def where(self, ahead: int = 0) -> str:
        """Where the stream's text is, or is `ahead` characters later, for a person who looks for it in the file."""
        lines, column = self._counted(self._at + ahead)
        return f"line {self._line + lines}, column {column + 1}"

    def _counted(self, at: int) -> tuple[int, int]:
        """How many lines end in what is held up to there, and how many characters of the line are before it."""
        lines = self._held.count("\n", 0, at)
        return lines, at - self._held.rfind("\n", 0, at) - 1 if lines else self._column + at

    def value(self, number: int) -> tuple[Any, str]:
        """The JSON value that begins here, and its text."""
        while True:
            try:
                found, end = _DECODER.raw_decode(self._held, self._at)
                # `1` may be the beginning of `1.5`.
                if self._ended or self._held[end : end + 1] in _ENDS or self._held[self._at] in _CLOSED:
                    text = self._held[self._at : end]
                    if _may_be_too_deep(text) and _is_too_deep(text, 0):
                        raise _not_json(_too_deep(number))
                    if len(text) <= MAX_ROW_CHARACTERS:
                        self._at = end
                        return found, text
            except RecursionError:
                raise _not_json(_too_deep(number)) from None
            except ValueError as error:
                if _is_too_deep(self._held, self._at):
                    raise _not_json(_too_deep(number)) from None
                if self._ended:
                    raise _not_json(f"row {number}: {self._why(error)}") from None
            if len(self._held) - self._at > MAX_ROW_CHARACTERS:
                raise _not_json(f"row {number} is no JSON, or longer than {MAX_ROW_CHARACTERS:,} characters")
            self._more()

    def _why(self, error: ValueError) -> str:
        """What the decoder says, with the place in the whole text: it has counted from what is held."""
        if not isinstance(error, json.JSONDecodeError):
            return f"{error} ({self.where()})"
        return f"{error.msg} ({self.where(error.pos - self._at)})"

    def _more(self) -> None:
        piece = self._stream.read(_PIECE_BYTES)
        self._on_bytes(piece)
        self._ended = not piece
        lines, self._column = self._counted(self._at)
        self._line += lines
        try:
            self._held = self._held[self._at :] + self._decode.decode(piece, final=self._ended)
        except UnicodeDecodeError:
            raise _not_json("it is not UTF-8 text") from None
        self._at = 0


def _not_json(why: str) -> NotJson:
    return NotJson(f"the body is not a JSON object or a list of them: {why}; nothing of it was stored")
