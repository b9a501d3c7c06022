"""The byte road: a plain block of the polls feed to columns, by arithmetic on its bytes.

Why it is fast: no row ever becomes a Python object. The block is looked at as one array of bytes, and its fields as
64-bit words (bytes i to i + 7, little-endian) gathered from wherever a field begins.

1. Separators. The commas and newlines are found by comparison. If every `width`-th of them is a newline, and no other
is,
   the block is a rectangle: row r's field k lies between two known places. If not, the block is declined.
2. Distinct texts. A column such as the store id says few things often. Each field's words are hashed, the hash is
looked up
   in a table of the texts seen so far, and the words are compared with those of the text found, so that two texts with
   one hash are never mixed up. A new text is read once, by the validator that every road uses. A column that has said
   only a few short things is compared with each of them instead.
3. Timestamps. Each has the shape `YYYY-MM-DD HH:MM:SS.ffffff UTC`, and trailing zeros of the fraction may be missing.
Four
   words a row hold it; ingest.instants turns them into numbers, four digits at a time.
4. Whatever is not read so (another spelling, a field too long, a bad value, the block's last rows, whose words would
reach
   beyond its end) is *doubtful*: the caller reads those rows one by one and finds out what they are.

Nothing is rejected here, and nothing is guessed: a row is either read exactly as the row-exact road would, or doubtful.
"""

import secrets
import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from storemon_flask.feeds import records, timestamps
from storemon_flask.feeds.timestamps import MASKS, Words
from storemon_flask.feeds.values import BadValue
from storemon_flask.model import Bools, Ints

# A field of up to this many words is looked up as a distinct text; a longer one is doubtful.
_MOST_WORDS: Final = 5
_LONGEST: Final = 8 * _MOST_WORDS
# Bytes beyond a row's end that its words may touch.
_OVERHANG: Final = _LONGEST + 8
_STRETCH: Final = 1 << 20
# Odd, and of this process alone: who knew them could send texts that all share a slot, and looking them up would take
# quadratic time.
_MULTIPLIER, *_MORE = (np.uint64(secrets.randbits(64) | 1) for _ in range(_MOST_WORDS + 1))
_EMPTY: Final = -1
_FEWEST_BITS: Final = 10
_FEW: Final = 8


class Rectangle:
    """A plain block with its rows and fields found: `start[r, k]` to `end[r, k]` are the bytes of a field."""

    def __init__(self, data: bytes, start: Ints, end: Ints) -> None:
        self.data = data
        self.start = start
        self.end = end
        # The rows whose words all lie within the block.
        self.safe = int(np.searchsorted(end[:, -1], len(data) - _OVERHANG)) if len(end) else 0

    def __len__(self) -> int:
        return len(self.start)

    def instants(self, column: int) -> tuple[Ints, Bools]:
        """Microseconds since 1970 of each row's timestamp, and whether it was read; False means doubtful."""
        instant = np.zeros(len(self), dtype=np.int64)
        good = np.zeros(len(self), dtype=bool)
        if self.safe:
            start, end = self.start[: self.safe, column], self.end[: self.safe, column]
            instant[: self.safe], good[: self.safe] = timestamps.read_words(self.words, start, end)
        return instant, good

    def field(self, place: int, column: int) -> bytes:
        """One field's bytes."""
        return self.data[self.start[place, column] : self.end[place, column]]

    def texts(self, rows: Ints, column: int, width: int) -> NDArray[np.bytes_]:
        """One field of these rows, cut to `width` bytes, of which eight must be the divisor."""
        found = np.zeros(len(rows), dtype=f"S{width}")
        safe = rows < self.safe
        start, length = self.start[rows[safe], column], self.end[rows[safe], column] - self.start[rows[safe], column]
        words = self.words(start, width // 8) if len(start) else np.empty((width // 8, 0), np.uint64)
        for number, word in enumerate(words):
            word &= MASKS[np.clip(length - 8 * number, 0, 8)]
        found[safe] = np.ascontiguousarray(words.T).view(f"S{width}").reshape(-1)
        found[~safe] = [self.field(row, column) for row in rows[~safe].tolist()]
        return found

    def words(self, start: Ints, count: int) -> Words:
        """`count` little-endian words from each byte of `start` on, as an array of `count` x rows.

        Gathered as opaque items of 8 x `count` bytes that overlap: one copy a row, eight times faster than word by
        word.
        """
        size = 8 * count
        items = np.ndarray((len(self.data) - size + 1,), np.dtype(f"V{size}"), self.data, strides=(1,))
        return np.ascontiguousarray(items[start].view("<u8").reshape(-1, count).T)

    def row(self, place: int) -> bytes:
        """A whole row, without its line break."""
        return self.data[self.start[place, 0] : self.end[place, -1]]


def rectangle(data: bytes, width: int) -> Rectangle | None:
    """The block as a rectangle of `width` fields a row; None when a row has more or fewer, or a line is blank.

    The block holds no quote and no NUL, and a return only before a newline.
    """
    array = np.frombuffer(data, dtype=np.uint8)
    separators, newlines = _separators(array)
    closed = data.endswith(b"\n")
    if not closed:
        separators, newlines = np.append(separators, len(data)), newlines + 1
    rows, rest = divmod(len(separators), width)
    if rest or rows != newlines:
        return None
    end = separators.reshape(rows, width)
    # As many newlines as rows, and one at the end of each: so everything between is a comma.
    if not (array[end[: rows if closed else rows - 1, -1]] == ord("\n")).all():
        return None
    start = np.empty_like(end)
    start[0, 0] = 0
    start[1:, 0] = end[:-1, -1] + 1
    start[:, 1:] = end[:, :-1] + 1
    if b"\r" in data:
        end[:, -1] -= array[end[:, -1] - 1] == ord("\r")
    return Rectangle(data, start, end)


def _separators(array: NDArray[np.uint8]) -> tuple[Ints, int]:
    """Where the commas and newlines are, and how many newlines.

    A stretch at a time, so that what is compared stays in the processor's cache.
    """
    found = []
    newlines = 0
    for at in range(0, len(array), _STRETCH):
        stretch = array[at : at + _STRETCH]
        marks = stretch == ord("\n")
        newlines += int(np.count_nonzero(marks))
        marks |= stretch == ord(",")
        found.append(np.flatnonzero(marks) + at)
    return np.concatenate(found), newlines


class _Tables(NamedTuple):
    """A hash table with 2^bits slots of codes, and each code's words and hash."""

    bits: int
    slots: Ints
    known: Words
    known_hash: Words


class DistinctTexts:
    """The distinct texts of one column of a file, each read once. Safe to share between threads.

    `values[code]` is what the validator made of the text, or the `BadValue` it raised; `bad[code]` says which, and
    `true[code]` which are True. They only ever grow, so a code keeps its meaning.
    """

    def __init__(self, read: Callable[[str], Any], check: Callable[[], None] = lambda: None) -> None:
        """`check` is called now and then while new texts are read, and may raise."""
        self._check = check
        self.values: list[Any] = []
        self.bad = np.zeros(256, dtype=bool)
        self.true = np.zeros(256, dtype=bool)
        self._read = read
        self._codes: dict[Any, int] = {}
        self._lock = threading.Lock()
        self._tables = _Tables(
            _FEWEST_BITS,
            np.full(1 << _FEWEST_BITS, _EMPTY, dtype=np.int64),
            np.zeros((_MOST_WORDS, 256), dtype=np.uint64),
            np.zeros(256, dtype=np.uint64),
        )

    def codes(self, block: Rectangle, column: int) -> Ints:
        """A code per row, an index into `values`; -1 where the row is doubtful."""
        start, end = block.start[: block.safe, column], block.end[: block.safe, column]
        codes = np.full(len(block), _EMPTY, dtype=np.int64)
        if not len(start):
            return codes
        parts = _parts(block, start, end - start)
        few = self._one_of_few(parts[0]) if len(parts) == 1 else None
        if few is not None:
            codes[: block.safe] = few
            return codes
        hashes = _hash(parts)
        found = self._look_up(hashes, parts)
        new = np.flatnonzero(found == _EMPTY)
        if len(new):
            with self._lock:
                self._learn(block, column, new, hashes, parts)
                found[new] = self._look_up(hashes[new], [part[new] for part in parts])
        found[end - start > _LONGEST] = _EMPTY
        codes[: block.safe] = found
        return codes

    def _one_of_few(self, word: Words) -> Ints | None:
        """The codes by comparison with each text: for a column that has said few things so far, and says nothing new."""
        tables = self._tables
        learned = tables.slots[tables.slots != _EMPTY].tolist() if tables.bits == _FEWEST_BITS else []
        if not 0 < len(learned) <= _FEW or tables.known[1:, learned].any():
            return None
        codes = np.full(len(word), _EMPTY, dtype=np.int64)
        for code in learned:
            np.copyto(codes, code, where=word == tables.known[0, code])
        return codes if codes.min() >= 0 else None

    def code_of(self, value: Any) -> int:
        """The code of a value that a doubtful row turned out to have."""
        with self._lock:
            if value not in self._codes:
                self._codes[value] = int(self._append([value])[0])
            return self._codes[value]

    def _look_up(self, hashes: Words, parts: list[Words]) -> Ints:
        # Taken once, together: another thread may add to these tables, or put larger ones in their place.
        tables = self._tables
        codes, known = _codes_with(hashes, tables), tables.known
        differs = np.zeros(len(codes), dtype=np.uint64)
        for number in range(_MOST_WORDS):
            if number < len(parts):
                differs |= known[number][codes] ^ parts[number]
            elif known[number].any():
                differs |= known[number][codes]
        codes[differs != 0] = _EMPTY
        return codes

    def _learn(self, block: Rectangle, column: int, rows: Ints, hashes: Words, parts: list[Words]) -> None:
        """Put the texts of these rows into the tables; of two with one hash only the first is ever found."""
        distinct, first = np.unique(hashes[rows], return_index=True)
        new = np.sort(first[_codes_with(distinct, self._tables) == _EMPTY])
        rows = rows[new]
        rows = rows[block.end[rows, column] - block.start[rows, column] <= _LONGEST]
        if not len(rows):
            return
        found: list[Any] = []
        for row in records.checked(rows.tolist(), self._check):
            try:
                found.append(self._read(block.field(row, column).decode("utf-8")))
            except BadValue as bad:
                found.append(bad)
        codes = self._append(found)
        bits, slots, known, known_hash = self._tables
        known[: len(parts), codes] = [part[rows] for part in parts]
        known_hash[codes] = hashes[rows]
        if 4 * len(self.values) > len(slots):
            while 4 * len(self.values) > 1 << bits:
                bits += 1
            codes = np.concatenate([slots[slots != _EMPTY], codes])
            slots = np.full(1 << bits, _EMPTY, dtype=np.int64)
        # The slots come last, so that whoever finds a code finds all of it.
        _fill(slots, bits, known_hash[codes], codes)
        self._tables = _Tables(bits, slots, known, known_hash)

    def _append(self, found: list[Any]) -> Ints:
        """The codes of new values, with room for them in the tables."""
        first, stop = len(self.values), len(self.values) + len(found)
        bits, slots, known, known_hash = self._tables
        room = len(known_hash)
        if stop > room:
            more = max(room, stop - room)
            # The slots are copied too: those that go with the smaller tables must never name a code beyond them.
            self.bad = np.concatenate([self.bad, np.zeros(more, dtype=bool)])
            self.true = np.concatenate([self.true, np.zeros(more, dtype=bool)])
            self._tables = _Tables(
                bits,
                slots.copy(),
                np.concatenate([known, np.zeros((len(known), more), dtype=np.uint64)], axis=1),
                np.concatenate([known_hash, np.zeros(more, dtype=np.uint64)]),
            )
        self.bad[first:stop] = [isinstance(value, BadValue) for value in found]
        self.true[first:stop] = [value is True for value in found]
        self.values += found
        return np.arange(first, stop)


def _codes_with(hashes: Words, tables: _Tables) -> Ints:
    """The code of the text with each hash; `_EMPTY` where there is none."""
    bits, slots, _, known_hash = tables
    place = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    codes = slots[place]
    wrong = np.flatnonzero((codes != _EMPTY) & (known_hash[codes] != hashes))
    while len(wrong):
        place[wrong] = (place[wrong] + 1) & (len(slots) - 1)
        codes[wrong] = slots[place[wrong]]
        wrong = wrong[(codes[wrong] != _EMPTY) & (known_hash[codes[wrong]] != hashes[wrong])]
    return codes


def _fill(slots: Ints, bits: int, hashes: Words, codes: Ints) -> None:
    """Put each code into the first free slot from its hash's place on."""
    place = (hashes >> np.uint64(64 - bits)).astype(np.int64)
    while len(codes):
        free = slots[place] == _EMPTY
        slots[place[free]] = codes[free]
        # Those whose slot was taken, or went to another of the same place, try the next one.
        left = slots[place] != codes
        place, codes = (place[left] + 1) & (len(slots) - 1), codes[left]


def _parts(block: Rectangle, start: Ints, length: Ints) -> list[Words]:
    """The fields' words, with what lies beyond a field's end blanked; as many as the longest field (of those read)
    needs.
    """
    shortest, longest = int(length.min()), min(int(length.max()), _LONGEST)
    parts = list(block.words(start, max(1, (longest + 7) // 8)))
    for number, part in enumerate(parts):
        if shortest < 8 * number + 8:
            if shortest == longest:
                part &= MASKS[longest - 8 * number]
            else:
                part &= MASKS[np.clip(length - 8 * number, 0, 8)]
    return parts


def _hash(parts: list[Words]) -> Words:
    """A hash of the words; words of zeros at the end change nothing, so that it does not depend on the longest field."""
    hashed = parts[0] * _MULTIPLIER
    for number, part in enumerate(parts[1:], start=1):
        hashed ^= (part ^ (part >> np.uint64(31))) * _ODD[number]
    hashed ^= hashed >> np.uint64(32)
    hashed *= _MULTIPLIER
    return hashed


_ODD: Final = np.array(_MORE)
