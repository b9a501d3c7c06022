"""Feeds as JSON: one object or a list of them, or one object a line (NDJSON); to the same records as CSV, in bounded
memory.

An object's keys are the feed's columns in any spelling that a CSV header may have; other keys are ignored. Numbers keep
the digits they were sent with: a 19-digit id must not pass through a float.
"""

import codecs
import json
import re
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, BinaryIO, Final

from storemon_flask.errors import NotJson
from storemon_flask.feeds import schema
from storemon_flask.feeds.csv_exact import TEXT_CHARACTERS, Record

# One row is at most this many characters; a feed's row takes about a hundred.
MAX_ROW_CHARACTERS: Final = 64 << 10
_CHUNK_BYTES: Final = 256 << 10
# A batch ends at either of these: rows may be long.
_BATCH_ROWS: Final = 5000
_BATCH_CHARACTERS: Final = 4 << 20
# The longest UTF-8 of one character has four bytes.
_MAX_LINE_BYTES: Final = 4 * MAX_ROW_CHARACTERS
# So many keys are remembered: a feed has three or four, and others may come without end.
_MOST_KEYS: Final = 1000
_BLANK: Final = " \t\r\n"
# What may stand behind a number or a word, and what begins a value that has an end of its own.
_ENDS: Final = (*_BLANK, ",", "]")
_BRACKETED: Final = ("{", "[", '"')
_HALF_PAIR: Final = re.compile("[\ud800-\udfff]")
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
# Equal lines of up to so many bytes are read once, as long as there are few of them.
_SHORT_LINE: Final = 8
_MOST_SHORT_LINES: Final = 4096

NOT_AN_OBJECT: Final = "row is not a JSON object"
NOT_JSON: Final = "row is not JSON"
# Deeper is refused before any interpreter would do so.
MAX_DEPTH: Final = 64
TOO_DEEP: Final = f"row is nested too deeply (more than {MAX_DEPTH} levels)"
_NUMBER: Final = "a number with a fraction or an exponent, which may have lost digits: send ids as text"


def _no_number(name: str) -> str:
    raise ValueError(f"{name} is no JSON")


class JsonObject(list[tuple[str, Any]]):
    """A JSON object as its pairs, so that a key that stands twice is seen."""


class _Real(str):
    """The digits of a JSON number with a fraction or an exponent."""


_DECODER: Final = json.JSONDecoder(
    parse_int=str, parse_float=_Real, parse_constant=_no_number, object_pairs_hook=JsonObject
)


def header_of(feed: str) -> schema.Header:
    """Return the header of the records that `read` gives: those of stores end with a field for all their tags."""
    return schema.record_header(feed, (schema.ANY_TAGS,) if feed == "stores" else ())


def read(stream: BinaryIO, form: str, feed: str, on_bytes: Callable[[bytes], None]) -> Iterator[list[Record]]:
    """Return the rows of a `json` or `ndjson` stream in batches; a record's `line` is the row's number, or in NDJSON
    its line.

    `on_bytes` gets everything that is read. `NotJson` when a `json` stream is no object and no list of them.
    """
    objects = ObjectReader(feed)
    batch: list[Record] = []
    characters = 0
    for line, value, text, problem in (read_lines if form == "ndjson" else read_elements)(stream, on_bytes):
        batch.append(objects.unreadable(line, text, problem) if problem else objects.record(line, value, text))
        characters += len(text)
        if len(batch) == _BATCH_ROWS or characters > _BATCH_CHARACTERS:
            yield batch
            batch = []
            characters = 0
    yield batch


class ObjectReader:
    """Turns objects into records with the feed's fields in order."""

    def __init__(self, feed: str) -> None:
        self._columns = schema.FEEDS[feed]
        indexes = {spelling: i for i, column in enumerate(self._columns) for spelling in column.spellings}
        # The column of a key; None for a key of no column.
        self._index = lru_cache(_MOST_KEYS)(lambda key: indexes.get(schema.spelled(key)))
        self._has_tags = feed == "stores"
        self._width = header_of(feed).width

    def unreadable(self, line: int, text: str, problem: str) -> Record:
        """Return a row that cannot be read; of its fields it has the store's, where its text still names that."""
        fields = [self._store_in(text), *[""] * (self._width - 1)]
        return Record(line, fields, text[:TEXT_CHARACTERS], problem)

    def _store_in(self, text: str) -> str:
        for pair in _PAIR.finditer(text):
            if self._index(pair[1]) == 0:
                try:
                    return _id_text(_DECODER.decode(pair[2]))[0]
                except ValueError:
                    return ""
        return ""

    def record(self, line: int, value: Any, text: str) -> Record:
        """Return a row; with a problem when it is no object, or lacks a column, or has one twice, or nested."""
        if not isinstance(value, JsonObject):
            return Record(line, [""] * self._width, text[:TEXT_CHARACTERS], NOT_AN_OBJECT)
        fields: list[str | None] = [None] * len(self._columns)
        problem = ""
        tags: dict[str, str] = {}
        for key, field in value:
            index = self._index(key)
            if index is None:
                if self._has_tags:
                    problem = problem or _add_tag(tags, key, field)
                continue
            name = self._columns[index].name
            if fields[index] is not None:
                problem = problem or f"{name} is given twice"
            fields[index], wrong = _text(field) if index else _id_text(field)
            problem = problem or (wrong and f"{name} is {wrong}")
        for column, text_of_field in zip(self._columns, fields, strict=True):
            if text_of_field is None and not column.optional:
                problem = problem or f"{column.name} is missing"
        # A row with a problem still names the store it was meant for, as far as it does.
        if self._has_tags:
            fields.append(json.dumps(tags) if tags else "")
        return Record(line, [field or "" for field in fields], text[:TEXT_CHARACTERS], problem)


def _add_tag(tags: dict[str, str], key: str, value: Any) -> str:
    """Add what a key of a store says if it is a tag; return what is wrong with it, or nothing."""
    try:
        tag = schema.tag_label(key)
    except schema.BadValue as bad:
        return str(bad)
    if not tag:
        return ""
    if tag in tags:
        return "a tag is given twice"
    tags[tag], wrong = _text(value)
    return wrong and f"a tag is {wrong}"


def _text(value: Any) -> tuple[str, str]:
    """A value as the text that CSV would have; or what it is instead of one."""
    if isinstance(value, str):
        # JSON can carry half a surrogate pair, which no text in the database can be.
        return ("", "no text") if not value.isascii() and _HALF_PAIR.search(value) else (value, "")
    if value is None:
        return "", ""
    if isinstance(value, bool):
        return str(value).lower(), ""
    return "", "an object" if isinstance(value, JsonObject) else "a list"


def _id_text(value: Any) -> tuple[str, str]:
    """The same of a store's id, which may be a whole number, exactly as it was sent, and no other."""
    if isinstance(value, _Real):
        return "", _NUMBER
    return ("", "true or false") if isinstance(value, bool) else _text(value)


_Row = tuple[int, Any, str, str]


def read_lines(stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> Iterator[_Row]:
    """Return (line, value, text, problem) of every line that is not blank."""
    rest, line, skipping = b"", 0, False
    known: dict[bytes, _Row] = {}
    while True:
        chunk = stream.read(_CHUNK_BYTES)
        on_bytes(chunk)
        lines = (rest + chunk).split(b"\n")
        rest = lines.pop() if chunk else b""
        for raw in lines:
            line += 1
            if line == 1:
                raw = raw.removeprefix(codecs.BOM_UTF8)
            if skipping:
                skipping = False
            elif raw in known:
                yield (line, *known[raw][1:])
            elif raw.strip():
                row = read_line(line, raw.rstrip(b"\r"))
                if len(raw) <= _SHORT_LINE and len(known) < _MOST_SHORT_LINES:
                    known[raw] = row
                yield row
        if len(rest) > _MAX_LINE_BYTES:
            if not skipping:
                yield line + 1, None, rest.decode("utf-8", "replace"), _LONG
            rest, skipping = b"", True
        if not chunk:
            return


NOT_UTF8: Final = "row is not UTF-8 text"
_TWO_OBJECTS: Final = (
    "another object follows its end; NDJSON has one on each line, and `curl -d @FILE` joins the lines: send it with "
    "`curl --data-binary @FILE`"
)
_LONG: Final = f"row is longer than {MAX_ROW_CHARACTERS:,} characters"


def read_line(line: int, raw: bytes) -> _Row:
    """Return (line, value, text, problem) of one line."""
    if len(raw) > _MAX_LINE_BYTES:
        return line, None, raw.decode("utf-8", "replace"), _LONG
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError:
        return line, None, raw.decode("utf-8", "replace"), NOT_UTF8
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


def decode(text: str) -> Any:
    """Return the value of a JSON text as rows have it: objects are `JsonObject`s, numbers their digits.

    `ValueError` when it is no JSON, or nested too deeply.
    """
    try:
        value = _DECODER.decode(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if _may_be_too_deep(text) and _is_too_deep(text, len(text) - len(text.lstrip(_BLANK))):
        raise ValueError(TOO_DEEP)
    return value


def is_object(line: bytes) -> bool:
    """Return whether a line is a JSON object by itself, as a row of NDJSON is."""
    _, value, _, problem = read_line(1, line.rstrip(b"\r"))
    return not problem and isinstance(value, JsonObject)


def _may_be_too_deep(text: str) -> bool:
    return text.count("[") + text.count("{") > MAX_DEPTH


def _is_too_deep(text: str, at: int) -> bool:
    """Whether more than `MAX_DEPTH` lists and objects are open at once in the value that begins there."""
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


def read_elements(stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> Iterator[_Row]:
    """Return (number, value, text, "") of a lone object, or of each element of a list; `NotJson` at what is neither."""
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
                yield number, JsonObject() if element == "{}" else None, element, ""
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
    following = text.next()
    if following:
        raise _not_json(_TWO_OBJECTS if following == "{" else "something follows its end")


class _Text:
    """The stream's text, a chunk at a time, with a position in it."""

    def __init__(self, stream: BinaryIO, on_bytes: Callable[[bytes], None]) -> None:
        self._stream = stream
        self._on_bytes = on_bytes
        self._decode = codecs.getincrementaldecoder("utf-8-sig")()
        self._rest = ""
        self._at = 0
        self._ended = False
        # Where the rest begins: its line, and how many characters of that line were before it.
        self._line = 1
        self._column = 0

    def next(self) -> str:
        """Return the next letter that is not blank; nothing at the end."""
        while True:
            letter = _NOT_BLANK.search(self._rest, self._at)
            if letter:
                self._at = letter.start()
                return letter[0]
            self._at = len(self._rest)
            if self._ended:
                return ""
            self._more()

    def skip(self) -> None:
        """Go on behind the letter that `next` gave."""
        self._at += 1

    def short_elements(self) -> list[str]:
        """Return the next elements of a list that are short and no rows, and pass the comma behind the last."""
        elements = _SHORT_ELEMENTS.match(self._rest, self._at)
        if elements is None:
            return []
        self._at = elements.end()
        return [element.strip(_BLANK) for element in elements[0][:-1].split(",")]

    def where(self, ahead: int = 0) -> str:
        """Return line and column of the position, or of `ahead` characters later."""
        lines, column = self._line_and_column(self._at + ahead)
        return f"line {self._line + lines}, column {column + 1}"

    def _line_and_column(self, at: int) -> tuple[int, int]:
        """How many lines end in the rest up to there, and how many characters of the line are before it."""
        lines = self._rest.count("\n", 0, at)
        return lines, at - self._rest.rfind("\n", 0, at) - 1 if lines else self._column + at

    def value(self, number: int) -> tuple[Any, str]:
        """Return the JSON value that begins here, and its text."""
        while True:
            try:
                value, end = _DECODER.raw_decode(self._rest, self._at)
                # `1` may be the beginning of `1.5`.
                if self._ended or self._rest[end : end + 1] in _ENDS or self._rest[self._at] in _BRACKETED:
                    text = self._rest[self._at : end]
                    if _may_be_too_deep(text) and _is_too_deep(text, 0):
                        raise _not_json(_too_deep(number))
                    if len(text) <= MAX_ROW_CHARACTERS:
                        self._at = end
                        return value, text
            except RecursionError:
                raise _not_json(_too_deep(number)) from None
            except ValueError as error:
                if _is_too_deep(self._rest, self._at):
                    raise _not_json(_too_deep(number)) from None
                if self._ended:
                    raise _not_json(f"row {number}: {self._why(error)}") from None
            if len(self._rest) - self._at > MAX_ROW_CHARACTERS:
                raise _not_json(f"row {number} is no JSON, or longer than {MAX_ROW_CHARACTERS:,} characters")
            self._more()

    def _why(self, error: ValueError) -> str:
        """The decoder's message, with the position in the whole text: it has counted from the rest."""
        if not isinstance(error, json.JSONDecodeError):
            return f"{error} ({self.where()})"
        return f"{error.msg} ({self.where(error.pos - self._at)})"

    def _more(self) -> None:
        chunk = self._stream.read(_CHUNK_BYTES)
        self._on_bytes(chunk)
        self._ended = not chunk
        lines, self._column = self._line_and_column(self._at)
        self._line += lines
        try:
            self._rest = self._rest[self._at :] + self._decode.decode(chunk, final=self._ended)
        except UnicodeDecodeError:
            raise _not_json("it is not UTF-8 text") from None
        self._at = 0


def _not_json(why: str) -> NotJson:
    return NotJson(f"the body is not a JSON object or a list of them: {why}; nothing of it was stored")
