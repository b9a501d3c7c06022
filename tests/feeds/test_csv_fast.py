"""The fast reader against the exact one: the same rows and the same rejects, on every kind of dirt, however cut."""

import json
import random
import re
import sys
from datetime import datetime
from decimal import Decimal

import numpy as np
import pytest
from feed_helpers import push
from flask.testing import FlaskClient
from hypothesis import example, given, settings
from hypothesis import strategies as st
from load_helpers import POLLS, READERS, PollRow, RejectRow, read_polls, us

from feeds.test_schema import BAD_TIMESTAMPS, EXACT, GOOD_TIMESTAMPS
from storemon_flask.feeds import csv_exact, csv_fast, schema
from storemon_flask.feeds.csv_fast import Fields
from storemon_flask.feeds.schema import BadValue

AT = "2023-01-22 12:09:39.388884 UTC"
GOOD = [f"s{number % 3},2023-01-22 1{number}:00:00.{number:06d} UTC,{'in' * (number % 2)}active" for number in range(8)]
Outcome = tuple[list[PollRow], list[RejectRow], int]


def _all(data: bytes, block_bytes: int = 1 << 22) -> list[Outcome]:
    """By both readers, and by the fast one with a line break at the end, which has a way of its own."""
    return [*(read_polls(data, block_bytes, exact=exact) for exact in READERS), read_polls(data + b"\n", block_bytes)]


DIRT: dict[str, bytes] = {
    "a quoted field": b'"s1","2023-01-22 12:00:00 UTC","active"',
    "a quoted line break": b'"s\n1",2023-01-22 12:00:00 UTC,active',
    "a quoted blank line": b's1,"2023-01-22 12:00:00 UTC\n\n",active',
    "a quoted comma": b'"s,1",2023-01-22 12:00:00 UTC,active',
    "a doubled quote": b'"s""1",2023-01-22 12:00:00 UTC,active',
    "a stray quote in a field": b's"1,2023-01-22 12:00:00 UTC,active',
    "a quote never closed": b'"s1,2023-01-22 12:00:00 UTC,active',
    "text behind a quote": b'"s1"x,2023-01-22 12:00:00 UTC,active',
    "a NUL in the id": b"s\x001,2023-01-22 12:00:00 UTC,active",
    "a NUL at the end of a timestamp": b"s1,2023-01-22 12:00:00\x00,active",
    "a NUL behind the status": b"s1,2023-01-22 12:00:00,active\x00",
    "invalid UTF-8": b"s\xff1,2023-01-22 12:00:00 UTC,active",
    "half a character": b"s1,2023-01-22 12:00:00 UTC,active\xe2\x82",
    "a BOM in the middle": b"\xef\xbb\xbfs1,2023-01-22 12:00:00 UTC,active",
    "a blank line": b"",
    "two blank lines": b"\n",
    "a line of blanks": b"   \t ",
    "a line of commas": b",,",
    "a short row": b"s1,2023-01-22 12:00:00 UTC",
    "a long row": b"s1,2023-01-22 12:00:00 UTC,active,1",
    "a short row and a long one": b"s1,2023-01-22 12:00:00 UTC\ns1,2023-01-22 12:00:00 UTC,active,1",
    "a long row and a short one": b"s1,2023-01-22 12:00:00 UTC,active,1\ns1,2023-01-22 12:00:00 UTC",
    "a lone return": b"s1,2023-01-22 12:00:00 UTC,active\rs2,2023-01-22 12:00:00 UTC,inactive",
    "a return too many": b"s1,2023-01-22 12:00:00 UTC,active\r\r",
    "a return inside a field": b"s1,2023-01-22 12:00:00\r UTC,active",
    "a mixed line ending": b"s1,2023-01-22 12:00:00 UTC,active\r",
    "blanks around everything": b"  s1\t, 2023-01-22 12:00:00 UTC  ,\tactive ",
    "no-break blanks around everything": "\u00a0s1\u00a0,\u00a02023-01-22 12:00:00 UTC,active\u00a0".encode(),
    "upper case": b"S1,2023-01-22T12:00:00Z,ACTIVE",
    "odd spellings": b"\n".join(
        b"s1," + text + b",active"
        for text in (
            b"2023-01-22T12:00Z", b"2023-01-22 12:00:00.1234567", b"2023-01-22 12:00:00+0530", b"2023-01-22 12:00-06",
            b"2023-01-22t12:00:01z", b"2023-01-22 12:00:02UTC", b"2023-01-22 12:00:03.000000000000000000000001 UTC",
            b"2023-01-22 12:00:04.999999999999999999999999999999999999 UTC", b"2023-02-30 12:00:00 UTC", b"", b"now",
            b"2023-01-22 12:00:00 UTC" + b" " * 30, b"2023-01-22 12:00:00 UTC" + b" " * 30 + b"x",
        )
    ),
    "ids that look like something else": b"\n".join(
        text + b",2023-01-22 12:00:00 UTC,active"
        for text in (b"NA", b"007", b"7", b"7.0", b"nan", b"NaN", b"None", b"null", b"", b"-", b"true", b"1e400",
                     b"8.13992624246019E+018", b"8139926242460190000", b"inf", b"#N/A", b"'", b"#", b"\\", b"\\n")
    ),
    "ids that software destroyed": b"\n".join(
        text + b",2023-01-22 12:00:00 UTC,active"
        for text in (b'"3,14E+14"', b"3.14E14", b"-3.14E-5", b"3.14 E+14", b"1E5", b"########", b"#N/A", b"#REF!", b"#12",
                     "#\u00a1VALOR!".encode(), b"Err:502")
    ),
    "invisible characters": "\n".join(
        text + ",2023-01-22 12:00:00 UTC,active"
        for text in ("\ufeffs1", "s1\u200b", "\u200es1", "s1\u00a0", "s\u00ad1", "\u2067s1\u2069 "
            "\u200b", "s1 \u200d", "\u200b")
    ).encode(),
    "unicode ids": "é,2023-01-22 12:00:00 UTC,active\ne\u0301,2023-01-22 "
        "12:00:00 UTC,active\n🍕,2023-01-22 12:00:00,active".encode(),
    "unicode line breaks": "s\u20281,2023-01-22 12:00:00 UTC,active\ns\x851,2023-01-22 12:00:00 UTC,active".encode(),
    "control characters": b"s\x0b1,2023-01-22 12:00:00 UTC,active\ns\x1a1,2023-01-22 "
        b"12:00:00 UTC,active\ns\x1c,2023-01-22 12:00:00,active",
    "unicode in the other fields": "s1,２０２３-01-22 12:00:00 UTC,active\ns1,2023-01-22 12:00:00 UTC,actıve".encode(),
    "an id of 200 characters and one of 201": b"\n".join(
        b"x" * length + b",2023-01-22 12:00:00 UTC,active" for length in (200, 201)
    ),
    "a poll of tomorrow": b"s1,2024-10-14 12:00:00 UTC,active\ns1,2024-10-14 12:00:00.000001 UTC,active",
    "a poll of long ago": b"s1,1970-01-01 00:00:00 UTC,active\ns1,1969-12-31 23:59:59 UTC,active",
    "the header again": POLLS.encode(),
    "the header again behind a BOM": b"\xef\xbb\xbf" + POLLS.encode(),
    "a row of several kinds of dirt": b" ,never,maybe",
    "a long text": b"s1," + b"x" * 5000 + b",active",
}  # fmt: skip


@pytest.mark.parametrize(("bom", "end"), [(b"", b"\n"), (b"\xef\xbb\xbf", b"\r\n")], ids=["LF", "BOM-CRLF"])
@pytest.mark.parametrize("dirt", DIRT.values(), ids=DIRT)
def test_both_readers_read_dirt_alike_wherever_it_stands_and_wherever_blocks_end(
    dirt: bytes, bom: bytes, end: bytes
) -> None:
    good = [row.encode() for row in GOOD]
    for lines in ([dirt, *good, b""], [*good[:4], dirt, *good[4:], b""], [*good, dirt]):
        data = bom + end.join([POLLS.encode(), *lines])
        expected = read_polls(data, exact=True)
        for block_bytes in (1, 7, 64, 200):
            assert read_polls(data, block_bytes, exact=True) == expected
        for block_bytes in (190, 1 << 22):
            assert read_polls(data, block_bytes) == expected


def test_clean_rows_are_read_as_they_stand() -> None:
    data = "\n".join([POLLS, *GOOD]).encode()
    expected = [(f"s{number % 3}", us(f"2023-01-22T1{number}:00:00") + number, number % 2 == 0) for number in range(8)]
    for actual in _all(data):
        assert actual == (expected, [], 8)


def test_rejects_carry_their_line_their_reason_and_their_text() -> None:
    rows = [
        GOOD[0],
        f"8.1E+18,{AT},active",
        f"s1,{AT},maybe",
        "s1,never,active",
        " ,never,maybe",
        GOOD[1],
        "s1,2024-10-14 12:00:00.000001,active",
        f"s1,{AT},active" + " " * 1000,
        f"s1,{AT},maybe" + "x" * 1000,
    ]
    data = "\r\n".join([POLLS, *rows]).encode()
    for accepted, rejected, count in _all(data):
        assert [row[0] for row in accepted] == ["s0", "s1", "s1"]
        assert count == 9
        assert rejected == [
            (3, schema.ID_SPREADSHEET, rows[1]),
            (4, schema.STATUS, rows[2]),
            (5, schema.TIMESTAMP_FORM, rows[3]),
            (6, schema.ID_EMPTY, rows[4]),
            (8, schema.TIMESTAMP_FUTURE, rows[6]),
            (10, schema.STATUS, rows[8][:1000]),
        ]


def test_ids_are_text_and_never_numbers_or_missing() -> None:
    ids = ["NA", "007", "7", "7.0", "nan", "None", "null", "", "-0", "1e400", "8419537941919820732", "true"]
    data = "\n".join([POLLS, *(f"{store_id},{AT},active" for store_id in ids)]).encode()
    for accepted, rejected, count in _all(data):
        assert [row[0] for row in accepted] == [store_id for store_id in ids if store_id]
        assert rejected == [(9, schema.ID_EMPTY, f",{AT},active")]
        assert count == len(ids)


def test_a_byte_order_mark_at_an_end_of_an_id_is_no_part_of_it() -> None:
    data = f"{POLLS}\n\ufeffs1,{AT},active\ns2,{AT},active\ns1\ufeff,{AT},active\n".encode()
    for accepted, rejected, _ in _all(data):
        assert [row[0] for row in accepted] == ["s1", "s2", "s1"]
        assert rejected == []


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("status,timestamp_utc,store_id", "active,{at},s1"),
        ("Timestamp UTC,STORE ID,Status", "{at},s1,active"),
        ("n,store_id,when,timestamp_utc,status,note", "1,s1,2020,{at},active,a long remark about the poll"),
        ("status,x,y,z,store_id,timestamp_utc", "active,,é,\u00a0,s1,{at}"),
    ],
)
def test_columns_may_stand_anywhere_between_columns_nobody_asked_for(header: str, row: str) -> None:
    data = "\n".join([header, *(row.format(at=f"2023-01-22 12:00:0{n} UTC") for n in range(5))]).encode()
    for actual in _all(data):
        assert actual == ([("s1", us(f"2023-01-22T12:00:0{n}"), True) for n in range(5)], [], 5)


@pytest.mark.parametrize("where", [0, 3, 8])
def test_a_row_too_long_is_one_reject_for_every_reader(where: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(csv_exact, "MAX_RECORD_BYTES", 1 << 20)
    rows = list(GOOD)
    rows.insert(where, "s1," + "9" * (csv_exact.MAX_RECORD_BYTES + 10) + ",active")
    data = "\n".join([POLLS, *rows]).encode()
    for block_bytes in (1 << 16, 1 << 18, 1 << 19):
        for accepted, rejected, count in _all(data, block_bytes):
            assert len(accepted) == 8
            assert rejected == [(where + 2, csv_exact.TOO_LONG, rows[where][:1000])]
            assert count == 9


def test_ids_of_every_length_and_number_are_kept_apart() -> None:
    chance = random.Random(12)
    ids = {"".join(chance.choices("ab0é店-", k=chance.randint(1, 60))) for _ in range(3000)}
    ids |= {f"{prefix}{number}" for prefix in ("", "store-", "x" * 39) for number in range(1000)}
    rows = [
        f"{store_id},2023-01-{chance.randint(1, 28):02d} 12:00:00.{chance.randint(0, 999999):06d} UTC,active"
        for store_id in chance.choices(sorted(ids), k=15_000)
    ]
    data = "\n".join([POLLS, *rows, ""]).encode()
    expected = read_polls(data, exact=True)
    assert len({row[0] for row in expected[0]}) > 4500
    assert read_polls(data) == expected
    assert read_polls(data, 1 << 16) == expected


def test_two_threads_that_meet_new_ids_at_once_do_not_trip_over_each_other() -> None:
    rows = [f"store-{number},2023-01-22 12:00:00 UTC,active" for number in range(9_000)]
    data = "\n".join([POLLS, *rows]).encode()
    before = sys.getswitchinterval()
    # Threads take turns as often as they can, so that one often finds another half-way through a change.
    sys.setswitchinterval(1e-6)
    try:
        for _ in range(20):
            accepted, rejected, _ = read_polls(data, 1 << 16)
            assert [row[0] for row in accepted] == [row.partition(",")[0] for row in rows]
            assert rejected == []
    finally:
        sys.setswitchinterval(before)


@given(
    st.lists(
        st.sampled_from([b"a", b"\n", b"\xff", b"\x80", b"\xc3", b"\xa9", b"\xe2\x82\xac", b"\xed\xa0\x80", b"\xf0\x9f\x98\x80",
                         b"\xf4\x90\x80\x80", b"\xe2\x82", b"\xc0\xaf", b"\xf0\x9f"]),
        max_size=40,
    ),
    st.integers(1, 9),
)  # fmt: skip
def test_bytes_that_are_no_utf8_are_those_that_python_cannot_decode(pieces: list[bytes], decoded_bytes: int) -> None:
    data = b"".join(pieces)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(csv_fast, "_DECODED_BYTES", decoded_bytes)
        positions = csv_fast._bytes_not_utf8(data).tolist()
    left = bytes(byte for position, byte in enumerate(data) if position not in positions)
    assert left == data.decode("utf-8", "ignore").encode()
    for start in (0, *(position + 1 for position in range(len(data)) if data[position : position + 1] == b"\n")):
        line = data[start:].partition(b"\n")[0]
        bad = any(start <= position < start + len(line) for position in positions)
        assert bad == (line.decode("utf-8", "ignore").encode() != line)


def _with_the_hash_of(text: bytes) -> bytes:
    """Another id of sixteen bytes that the fast reader gives the same hash: its first word is solved for."""
    multiplier, odd, full = int(csv_fast._MULTIPLIERS[0]), int(csv_fast._MULTIPLIERS[1]), (1 << 64) - 1

    def second(word: int) -> int:
        return (word ^ (word >> 31)) * odd & full

    first, last = int.from_bytes(text[:8], "little"), int.from_bytes(text[8:], "little")
    target = (first * multiplier & full) ^ second(last)
    for number in range(1_000_000):
        tail = b"%08d" % number
        word = (target ^ second(int.from_bytes(tail, "little"))) * pow(multiplier, -1, 1 << 64) & full
        head = word.to_bytes(8, "little")
        if all(byte > 32 and byte < 127 and byte not in b'",' for byte in head):
            return head + tail
    raise AssertionError("no such id")


def test_two_ids_with_one_hash_are_never_mixed_up() -> None:
    one = b"store-0123456789"
    other = _with_the_hash_of(one)
    words = np.array([list(np.frombuffer(text, "<u8")) for text in (one, other)], dtype=np.uint64)
    hashes = csv_fast._hash([words[:, 0].copy(), words[:, 1].copy()])
    assert hashes[0] == hashes[1]
    ids = [one.decode(), other.decode()]
    assert ids[0] != ids[1]
    rows = [f"{ids[n * n % 3 % 2]},2023-01-22 12:00:{n:02d} UTC,active" for n in range(60)]
    for actual in _all("\n".join([POLLS, *rows, *GOOD]).encode()):
        assert [row[0] for row in actual[0][:60]] == [ids[n * n % 3 % 2] for n in range(60)]
        assert actual[1] == []


def test_ids_that_are_all_numbers_stay_text() -> None:
    ids = ["8419537941919820732", "007", "7", "0", "1.50", "-3", "1e5", "9" * 30]
    data = "\n".join([POLLS, *(f"{store_id},{AT},active" for store_id in ids * 3), ""]).encode()
    accepted, rejected, count = read_polls(data)
    assert [row[0] for row in accepted] == ids * 3
    assert (rejected, count) == ([], 24)


_ids = st.one_of(
    st.sampled_from(
        ["s1", "s2", " s1", "S1", "NA", "007", "", "8.1E+18", "\ufeffs1", "é", "x" * 201, "\x1f", "a\x1cb"]
    ),
    st.text(st.sampled_from("1S #.E+-\u200b\ufeff\u00ad\u00a0\u200d\u2067\t"), max_size=6),
    st.sampled_from(["3.14E+14", "-3.14E14", "1E5", "#N/A", "#REF!", "###", "#12"]),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=6),
)
_instants = st.one_of(
    st.sampled_from(
        [AT, "2023-01-22 12:00:00 UTC", "2023-01-22T12:00Z", "2023-01-22 12:00:00+05:30", "2023-02-30 12:00:00", "",
         " 2023-01-22 12:00:00", "2024-10-14 12:00:00.0000009", "2024-10-14 12:00:00.000001", "1969-01-01 00:00:00"]
    ),
    st.datetimes().map(lambda moment: moment.isoformat(sep=" ") + " UTC"),
)  # fmt: skip
_statuses = st.one_of(
    st.sampled_from(["active", "inactive", "ACTIVE", " inactive ", "", "up"]),
    st.text(st.characters(blacklist_categories=("Cs",)), max_size=3),
)
_fields = st.tuples(_ids, _instants, _statuses).map(list)
_rows = st.one_of(
    _fields.map(",".join).map(str.encode),
    _fields.map(lambda fields: ",".join(f'"{field}"' for field in fields).encode()),
    st.sampled_from(list(DIRT.values())),
)
_ends = st.sampled_from([b"\n", b"\n", b"\n", b"\r\n", b"\r"])


@settings(max_examples=100)
@given(st.lists(st.tuples(_rows, _ends), max_size=10), st.integers(1, 300), st.lists(st.integers(1, 200), max_size=4))
@example([("\ufeffs1,2023-01-22 12:00:00,active".encode(), b"\n")], 4096, [])
def test_rows_and_rejects_depend_neither_on_the_reader_nor_on_the_cut(
    lines: list[tuple[bytes, bytes]], block_bytes: int, sizes: list[int]
) -> None:
    data = POLLS.encode() + b"\n" + b"".join(row + end for row, end in lines)
    expected = read_polls(data, exact=True)
    assert len(expected[0]) + len(expected[1]) == expected[2]
    assert read_polls(data, block_bytes, exact=True, sizes=sizes) == expected
    assert read_polls(data) == expected
    assert read_polls(data, 10 * block_bytes, sizes=sizes) == expected


@settings(max_examples=100)
@given(st.lists(st.tuples(_ids, _instants, _statuses), min_size=1, max_size=20), st.sampled_from(["\n", "\r\n"]))
def test_rows_without_dirt_between_them_are_read_alike(rows: list[tuple[str, str, str]], end: str) -> None:
    clean = [[field.translate({ord(c): None for c in '",\r\n\0'}) for field in row] for row in rows]
    # The fast reader leaves a block's last rows to the exact one; two good ones make it read all of these.
    data = end.join([POLLS, *map(",".join, clean), *GOOD[:2]]).encode()
    fast, exact, with_break = _all(data)
    assert fast == exact == with_break
    assert exact[2] == len(rows) + 2


def read_timestamps(texts: list[str]) -> list[int | None]:
    """What the fast reader makes of each text as a field; None where it leaves the field to others."""
    fields = [text.encode() for text in texts]
    end = np.cumsum([len(field) + 1 for field in fields], dtype=np.int64).reshape(-1, 1) - 1
    start = end - np.array([len(field) for field in fields], dtype=np.int64).reshape(-1, 1)
    block = Fields(b"".join(field + b"\n" for field in fields) + b"x" * 100, start, end)
    timestamp_us, read = block.timestamps(0)
    return [at if good else None for at, good in zip(timestamp_us.tolist(), read.tolist(), strict=True)]


USUAL = re.compile(r"(19[7-9]\d|20\d\d|21\d\d)-\d\d-\d\d \d\d:\d\d:\d\d(\.\d{1,6})? UTC")


def slowly(text: str) -> int | None:
    try:
        return schema.parse_timestamp(text)
    except BadValue:
        return None


@pytest.mark.parametrize("year", [1970, 2000, 2024, 2100, 2199])
def test_every_month_and_day_there_is_and_is_not(year):
    texts = [f"{year}-{month:02d}-{day:02d} 10:20:30.405060 UTC" for month in range(100) for day in range(100)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]


@pytest.mark.parametrize("index", ["{:02d}:10:10", "10:{:02d}:10", "10:10:{:02d}"])
def test_every_hour_minute_and_second_there_is_and_is_not(index):
    texts = [f"2024-02-29 {index.format(number)} UTC" for number in range(100)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]


def test_every_length_of_a_fraction():
    texts = [f"2024-02-29 10:20:30.{'9081726354'[:digits]} UTC" for digits in range(1, 7)]

    assert read_timestamps(texts) == [slowly(text) for text in texts]
    assert read_timestamps(["2024-02-29 10:20:30 UTC", "2024-02-29 10:20:30. UTC"]) == [
        slowly("2024-02-29 10:20:30 UTC"),
        None,
    ]


TIMESTAMPS = st.builds(
    "{:04d}-{:02d}-{:02d} {:02d}:{:02d}:{:02d}{} UTC".format,
    st.sampled_from([1969, 1970, 2000, 2024, 2199, 2200]),
    st.integers(0, 20), st.integers(0, 40), st.integers(0, 30), st.integers(0, 70), st.integers(0, 70),
    st.one_of(st.just(""), st.from_regex(r"\.[0-9]{0,8}", fullmatch=True)),
)  # fmt: skip


@st.composite
def nearly_timestamps(draw):
    text = draw(TIMESTAMPS)
    for _ in range(draw(st.integers(0, 2))):
        index = draw(st.integers(0, len(text) - 1))
        letter = draw(st.characters(codec="utf-8", exclude_characters=',"\r\n\0'))
        text = text[:index] + letter + text[index + 1 :]
    return text


@settings(max_examples=300)
@given(st.lists(nearly_timestamps(), min_size=1, max_size=60))
def test_nothing_is_read_that_is_not_there_and_the_usual_spelling_always(texts):
    for text, read in zip(texts, read_timestamps(texts), strict=True):
        assert read is None or read == slowly(text)
        if USUAL.fullmatch(text) and text.isascii():
            assert read == slowly(text)


@pytest.mark.parametrize(
    "text",
    [
        "2023-01-22 12:09:39.388884 UTC",
        "2023-01-22 12:09:39 UTC",
        "2023-01-22T12:09:39Z",
        "2023-01-22 12:09:39.388884999999",
        "2023-01-22 12:09:39.1+00:00",
        "2000-02-29 00:00:00",
        "1970-01-01 00:00:00",
    ],
)
def test_the_fast_reader_reads_the_usual_spellings_itself(text: str) -> None:
    assert read_timestamps([text]) == [schema.parse_timestamp(text)]


@pytest.mark.parametrize("text", [*BAD_TIMESTAMPS, "2023-01-22 12:09:39.388884 UTC  with more behind it than fits"])
def test_the_fast_reader_never_reads_what_is_no_timestamp(text: str) -> None:
    assert read_timestamps([text]) == [None]


def test_the_fast_reader_keeps_the_rows_apart_when_lengths_and_spellings_are_mixed() -> None:
    texts = [*GOOD_TIMESTAMPS, *BAD_TIMESTAMPS] * 3
    actual = read_timestamps(texts)
    for text, at in zip(texts, actual, strict=True):
        assert at is None or at == GOOD_TIMESTAMPS[text]
    assert actual.count(EXACT) >= 3 * 3
    assert actual.count(None) >= 3 * len(BAD_TIMESTAMPS)


def test_the_fast_reader_answers_an_empty_column() -> None:
    assert read_timestamps([]) == []


_days = st.builds(
    "{:04d}-{}-{}".format, st.integers(1960, 2110), st.integers(0, 13).map("{:02d}".format), st.sampled_from(
        ["01", "28", "29", "30", "31", "32", "00", "15"]
    )
)  # fmt: skip


_stamps = st.builds(
    "{}{}{}:{}:{}{}{}".format,
    _days,
    st.sampled_from([" ", "T", "t", "_"]),
    st.integers(0, 24).map("{:02d}".format),
    st.integers(0, 60).map("{:02d}".format),
    st.integers(0, 60).map("{:02d}".format),
    st.one_of(st.just(""), st.text("0123456789", min_size=0, max_size=14).map(".{}".format)),
    st.sampled_from(["", " UTC", "Z", "+00:00", "-00:00", "+01:00", "UTC", " Z", "z", "Z "]),
)


_noise = st.text(st.characters(blacklist_characters="\0", blacklist_categories=("Cs",)), max_size=30)


@given(st.lists(st.one_of(_stamps, _noise), max_size=12))
def test_what_the_fast_reader_reads_is_what_the_validator_says(texts: list[str]) -> None:
    for text, actual in zip(texts, read_timestamps(texts), strict=True):
        if actual is not None:
            assert schema.parse_timestamp(text) == actual


@given(
    st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2199, 12, 31)),
    st.sampled_from(["", " UTC", "Z", "+00:00"]),
    st.sampled_from([" ", "T"]),
)
def test_any_moment_written_in_the_usual_way_is_read_to_the_microsecond(
    moment: datetime, suffix: str, between: str
) -> None:
    text = moment.isoformat(sep=between) + suffix
    expected = us(moment.isoformat())
    assert schema.parse_timestamp(text) == expected
    assert read_timestamps([text]) == [expected]


NUMBER_US = us("2024-10-15T13:46:40")
NUMBERS = {
    "1729000000": NUMBER_US,
    " 1729000000 ": NUMBER_US,
    "1729000000.0": NUMBER_US,
    "1729000000.123": NUMBER_US + 123_000,
    "1729000000.123456": NUMBER_US + 123_456,
    "1729000000.1234569999": NUMBER_US + 123_456,
    "1729000000.000001": NUMBER_US + 1,
    "1729000000123": NUMBER_US + 123_000,
    "1729000000123.4": NUMBER_US + 123_400,
    "1729000000123.4567": NUMBER_US + 123_456,
    "1729000000123456": NUMBER_US + 123_456,
    "1729000000123456.9": NUMBER_US + 123_456,
    "100000000": us("1973-03-03T09:46:40"),
    "999999999": us("2001-09-09T01:46:39"),
    "999999999.999999": us("2001-09-09T01:46:40") - 1,
    "999999999999": us("2001-09-09T01:46:39") + 999_000,
    "999999999999999": us("2001-09-09T01:46:39") + 999_999,
    "9999999999": us("2286-11-20T17:46:39"),
}
NO_NUMBERS = {
    "0": schema.TIMESTAMP_NUMBER,
    "1": schema.TIMESTAMP_NUMBER,
    "45580.5": schema.TIMESTAMP_NUMBER,
    "20241015": schema.TIMESTAMP_NUMBER,
    "99999999": schema.TIMESTAMP_NUMBER,
    "0172900000": schema.TIMESTAMP_NUMBER,
    "17290000001": schema.TIMESTAMP_NUMBER,
    "20241015134640": schema.TIMESTAMP_NUMBER,
    "20241015134640123": schema.TIMESTAMP_NUMBER,
    "1729000000123456789": schema.TIMESTAMP_NUMBER,
    "1729000000.": schema.TIMESTAMP_NUMBER,
    "+1729000000": schema.TIMESTAMP_NUMBER,
    "1.729e9": schema.TIMESTAMP_NUMBER,
    "1.729E+09": schema.TIMESTAMP_NUMBER,
    "-1729000000": schema.TIMESTAMP_EARLY,
    "-0.5": schema.TIMESTAMP_EARLY,
    "1,729,000,000": schema.TIMESTAMP_FORM,
    "1729000000 UTC": schema.TIMESTAMP_FORM,
    "1729000000Z": schema.TIMESTAMP_FORM,
    "1729000000s": schema.TIMESTAMP_FORM,
    "１７２９000000": schema.TIMESTAMP_FORM,
}


@pytest.mark.parametrize("text", NUMBERS)
def test_a_number_is_read_by_its_digits(text: str) -> None:
    assert schema.parse_timestamp(text) == NUMBERS[text]
    assert read_timestamps([text]) == [NUMBERS[text] if text.strip() == text else None]


@pytest.mark.parametrize("text", NO_NUMBERS)
def test_any_other_number_is_rejected_with_what_is_accepted(text: str) -> None:
    with pytest.raises(BadValue) as bad:
        schema.parse_timestamp(text)
    assert str(bad.value) == NO_NUMBERS[text]
    assert read_timestamps([text]) == [None]


@given(st.lists(st.from_regex(r"[0-9]{8,17}(\.[0-9]{0,30})?", fullmatch=True), min_size=1, max_size=20))
def test_numbers_are_exact_to_the_microsecond(texts: list[str]) -> None:
    for text, read in zip(texts, read_timestamps(texts), strict=True):
        digits = len(text.partition(".")[0])
        unit = {9: 10**6, 10: 10**6, 12: 1000, 13: 1000, 15: 1, 16: 1}.get(digits)
        if unit is None or text.startswith("0") or text.endswith("."):
            assert read is None
            with pytest.raises(BadValue):
                schema.parse_timestamp(text)
        else:
            assert schema.parse_timestamp(text) == int(Decimal(text) * unit)
            assert read in (None, int(Decimal(text) * unit))
            assert read is not None or len(text) >= 40


def test_every_reader_of_csv_takes_numbers_among_other_spellings() -> None:
    texts = [*NUMBERS, *NO_NUMBERS, "2024-10-15 13:46:40 UTC"] * 40
    data = "\n".join([POLLS, *(f'"s",{text if "," not in text else "x"},active' for text in texts)]).encode()
    expected = read_polls(data, exact=True, latest="2024-12-01T00:00:00")
    assert len(expected[0]) == 40 * (len(NUMBERS) - 1 + 1)
    for exact in READERS:
        assert read_polls(data, exact=exact, latest="2024-12-01T00:00:00") == expected


def test_json_numbers_and_texts_are_timestamps_exactly(client: FlaskClient) -> None:
    rows = (
        '[{"store_id":"a","timestamp_utc":1697463900.123456,"status":"active"},'
        '{"store_id":"a","timestamp_utc":"1697463900124","status":"inactive"},'
        '{"store_id":"a","timestamp_utc":1697463901,"status":"active"},'
        '{"store_id":"a","timestamp_utc":1.697463901e9,"status":"active"},'
        '{"store_id":"a","timestamp_utc":9999999999,"status":"active"},'
        '{"store_id":"a","timestamp_utc":-5,"status":"active"}]'
    )
    answer = push(client, "polls", rows, "application/json").json
    assert answer["new"] == 3
    assert answer["reasons"] == {schema.TIMESTAMP_NUMBER: 1, schema.TIMESTAMP_FUTURE: 1, schema.TIMESTAMP_EARLY: 1}
    again = "\n".join(
        json.dumps({"store_id": "a", "timestamp_utc": text, "status": status})
        for text, status in (
            ("2023-10-16 "
                "13:45:00.123456", "active"), ("2023-10-16T13:45:00.124Z", "inactive"), (1697463901000, "active"),
        )
    )  # fmt: skip
    assert push(client, "polls", again, "application/x-ndjson").json["unchanged"] == 3
