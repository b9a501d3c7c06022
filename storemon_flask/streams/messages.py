"""What a message says: its rows as records of the feed polls, whatever its shape; what is no row has a reason.

A message is CSV (with a header, or the columns in order), a JSON object, a list of them, or NDJSON; its content tells.
"""

import io
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

from storemon_flask.clock import timestamp_text
from storemon_flask.errors import NotJson
from storemon_flask.feeds import csv_exact, json_rows
from storemon_flask.feeds.csv_exact import ANY_DELIMITER, TEXT_CHARACTERS, Record
from storemon_flask.feeds.json_rows import JsonObject, ObjectReader
from storemon_flask.feeds.schema import DELIMITERS, Header, names_of, spelled
from storemon_flask.streams.address import COLUMNS, Shape

MAX_MESSAGE_BYTES: Final = 8 << 20
# A message is stored whole, so its rows are held in memory.
MAX_MESSAGE_ROWS: Final = 100_000
TOO_LONG: Final = f"message is longer than {MAX_MESSAGE_BYTES >> 20} MiB; send less in one, or push it over HTTP"
TOO_MANY: Final = f"message has more than {MAX_MESSAGE_ROWS:,} rows; send fewer in one, or push it over HTTP"
NOT_JSON: Final = "message is not JSON"
NO_ROWS: Final = "message has no list of rows where the mapping says"
FIELDS: Final = "row does not have just the fields {}, and no header before it names others"
RETAINED: Final = "message was retained by the broker and has no timestamp, so its time is unknown"
_MOST_READ: Final = MAX_MESSAGE_ROWS + 1
_BOM: Final = b"\xef\xbb\xbf"
_TIMESTAMP: Final = 1
_STATUS: Final = 2
_NO_VALUE: Final = ANY_DELIMITER + b" \r\n"
# A list of JSON, and no CSV whose first id begins with a bracket.
_JSON_LIST: Final = re.compile(rb"\[\s*[\[{\]]")


@dataclass(frozen=True, slots=True)
class Message:
    """One message as it came in; `handle` is what its broker knows it by. `retained`: the broker kept it for who comes
    later.
    """

    body: bytes
    received_us: int
    handle: Any = None
    topic: str = ""
    retained: bool = False


class MessageReader:
    """Reads messages of one shape."""

    def __init__(self, shape: Shape) -> None:
        self._shape = shape
        self._objects = ObjectReader("polls")
        self._levels = {column: level for level, column in enumerate(shape.levels) if column}
        # What a row of CSV without a header has, in order.
        self._fields = [
            column
            for column in COLUMNS
            if column not in self._levels and not (column == COLUMNS[_TIMESTAMP] and shape.received)
        ]
        # What a header calls the columns: by the mapping exactly so, else in any spelling.
        self._names = {
            ".".join(shape.paths[column]) if column in shape.paths else spelled(column): column
            for column in COLUMNS
            if column not in self._levels
        }
        self._plain = not (shape.levels or shape.paths or shape.received)

    def read(self, message: Message, line: int) -> list[Record]:
        """Return the rows of a message; the first has the number `line`."""
        if len(message.body) > MAX_MESSAGE_BYTES:
            return [_reject_message(message.body, line, TOO_LONG)]
        # Tabs at its ends may be those of a row whose first or last fields are empty.
        body = message.body.removeprefix(_BOM).removeprefix(_BOM).strip(b" \r\n")
        given = self._find_given(message)
        without_blanks = body.strip()
        if without_blanks.startswith(b"{") or _JSON_LIST.match(without_blanks):
            records = self._read_json(without_blanks, line, given)
        else:
            records = self._read_csv(body, line, given)
        if len(records) > MAX_MESSAGE_ROWS:
            return [_reject_message(body, line, TOO_MANY)]
        if message.retained and self._shape.received and COLUMNS[_TIMESTAMP] not in self._levels:
            # Of a row with a timestamp of its own the instant it came in is not asked for.
            came_in = given[COLUMNS[_TIMESTAMP]]
            records = [_refuse_retained(record, came_in) for record in records]
        return [self._translate_status(record) for record in records] if self._shape.words else records

    def _find_given(self, message: Message) -> dict[str, str]:
        """What is known of every row of a message beside its body, by column."""
        given = {}
        if self._levels:
            levels = message.topic.split("/")
            given = {column: levels[level] for column, level in self._levels.items() if level < len(levels)}
        if self._shape.received and COLUMNS[_TIMESTAMP] not in given:
            given[COLUMNS[_TIMESTAMP]] = timestamp_text(message.received_us)
        return given

    def _translate_status(self, record: Record) -> Record:
        if len(record.fields) != len(COLUMNS):
            return record
        word = self._shape.words.get(record.fields[_STATUS].strip().casefold())
        return record if word is None else record._replace(fields=[*record.fields[:_STATUS], word])

    # JSON

    def _read_json(self, body: bytes, line: int, given: dict[str, str]) -> list[Record]:
        if self._shape.rows:
            return self._read_listed(body, line, given)
        if body.startswith(b"{"):
            if b"\n" not in body:
                return [self._read_object(json_rows.read_line(line, body), given)]
            first = next(filter(None, (one.strip() for one in body.split(b"\n"))))
            if json_rows.is_object(first):
                rows = islice(json_rows.read_lines(io.BytesIO(body), _ignore_bytes), _MOST_READ)
                return [self._read_object((number, *row[1:]), given) for number, row in enumerate(rows, start=line)]
        try:
            # To its end, for what is no JSON at its end is none.
            elements = list(islice(json_rows.read_elements(io.BytesIO(body), _ignore_bytes), _MOST_READ))
        except NotJson:
            return [_reject_message(body, line, NOT_JSON)]
        return [self._read_object((number, *row[1:]), given) for number, row in enumerate(elements, start=line)]

    def _read_listed(self, body: bytes, line: int, given: dict[str, str]) -> list[Record]:
        """The rows of a message that has them in a list somewhere."""
        try:
            rows = _find_value(json_rows.decode(body.decode("utf-8")), self._shape.rows)
        except ValueError:
            return [_reject_message(body, line, NOT_JSON)]
        if not isinstance(rows, list) or isinstance(rows, JsonObject):
            return [_reject_message(body, line, NO_ROWS)]
        text = csv_exact.text_of(body)
        return [
            self._read_object((number, row, text, ""), given)
            for number, row in enumerate(rows[:_MOST_READ], start=line)
        ]

    def _read_object(self, row: tuple[int, Any, str, str], given: dict[str, str]) -> Record:
        line, value, text, problem = row
        if problem:
            return self._objects.unreadable(line, text, problem)
        if self._plain or not isinstance(value, JsonObject):
            return self._objects.record(line, value, text)
        paths = self._shape.paths
        mapped = [(column, _find_value(value, path)) for column, path in paths.items()]
        pairs = [(column, cell) for column, cell in mapped if cell is not None]
        taken = {spelled(column) for column in (*paths, *self._levels)}
        pairs += [(key, cell) for key, cell in value if spelled(key) not in taken]
        named = {spelled(key) for key, cell in pairs if cell is not None}
        pairs += [(column, cell) for column, cell in given.items() if spelled(column) not in named]
        return self._objects.record(line, JsonObject(pairs), text)

    # CSV

    def _read_csv(self, body: bytes, line: int, given: dict[str, str]) -> list[Record]:
        if not self._fields:
            # All that a poll is was said beside it.
            return [Record(line, [given.get(column, "") for column in COLUMNS], csv_exact.text_of(body))]
        first = next((raw for raw in _split_rows(body, ANY_DELIMITER) if raw.strip(_NO_VALUE)), b"")
        header, has_header = self._find_header(first), True
        if header is None:
            header, has_header = self._header_in_order(first), False
        rows = _split_rows(body, header.delimiter.encode())
        rows = (raw for raw in rows if not csv_exact.is_blank_row(raw, header.delimiter))
        rows = islice(rows, has_header, _MOST_READ + has_header)
        records = [self._read_row(raw, number, header, given) for number, raw in enumerate(rows, start=line)]
        if has_header:
            return records
        wrong = FIELDS.format(",".join(self._fields))
        fields = (csv_exact.FIELDS_FEW, csv_exact.FIELDS_MANY)
        return [record._replace(problem=wrong) if record.problem in fields else record for record in records]

    def _find_header(self, raw: bytes) -> Header | None:
        """The header, when the first row names every column that a row must have."""
        lowered = raw.lower().replace(b" ", b"").replace(b"_", b"")
        if b"status" not in lowered and b"store" not in lowered and not self._shape.paths:
            return None
        text = raw.decode("utf-8", "replace")
        for delimiter in DELIMITERS:
            cells = names_of(text, delimiter)
            columns = [self._names.get(cell.strip()) or self._names.get(spelled(cell), "") for cell in cells]
            if all(columns.count(column) == 1 for column in self._fields):
                positions = tuple(columns.index(c) if c in columns else -1 for c in COLUMNS)
                optional_end = len(cells) - 1 - max(columns.index(column) for column in self._fields)
                return Header("polls", len(cells), positions, delimiter, optional_end)
        return None

    def _header_in_order(self, first: bytes) -> Header:
        """The header of rows that have none, by the first of them: its delimiter is the one that divides it rightly."""
        # Optional is what a header may leave out; in order stands only what must be there.
        positions = {column: index for index, column in enumerate(self._fields)}
        width, delimiter = len(self._fields), ","
        if first.count(b",") != width - 1 or b'"' in first:
            text = first.decode("utf-8", "replace")
            delimiter = next((one for one in DELIMITERS if len(names_of(text, one)) == width), ",")
        return Header("polls", width, tuple(positions.get(column, -1) for column in COLUMNS), delimiter)

    @staticmethod
    def _read_row(raw: bytes, line: int, header: Header, given: dict[str, str]) -> Record:
        record = csv_exact.parse(raw, line, header)
        if record.problem:
            return record
        cells = [record.fields[index] if index >= 0 else "" for index in header.columns]
        fields = [cell or given.get(column, "") for column, cell in zip(COLUMNS, cells, strict=True)]
        return record._replace(fields=fields)


def _split_rows(body: bytes, delimiters: bytes) -> Iterator[bytes]:
    """The rows of CSV without their line breaks, the blank ones too."""
    if b"\n" not in body and b"\r" not in body:
        # Most messages are one row.
        yield body
        return
    start = 0
    ends = csv_exact.record_ends(body, csv_exact.quote_edges(body, delimiters))
    for end in chain(chain.from_iterable(some.tolist() for some in ends), [len(body)]):
        raw, start = body[start:end].rstrip(b"\r\n"), end
        yield raw


def _find_value(value: Any, path: Iterable[str]) -> Any:
    """What stands at the path of keys and positions; None where nothing does."""
    for key in path:
        if isinstance(value, JsonObject):
            value = next((member for name, member in value if name == key), None)
        elif isinstance(value, list) and key.isdigit() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def _refuse_retained(record: Record, came_in: str) -> Record:
    if not record.problem and record.fields[_TIMESTAMP] == came_in:
        return record._replace(problem=RETAINED)
    return record


def _reject_message(body: bytes, line: int, problem: str) -> Record:
    return Record(line, [""] * len(COLUMNS), csv_exact.text_of(body)[:TEXT_CHARACTERS], problem)


def _ignore_bytes(data: bytes) -> None:
    """What is read is not counted: a batch is."""
