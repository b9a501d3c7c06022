"""CSV as spreadsheets and systems write it: the same feed in every dialect is the same load, and what is no CSV says why.

The files of `cases/excel-locale` are what exports really look like.
"""

import codecs
import csv as csv_module
import gzip
import io
import itertools
import tempfile
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from feed_helpers import GOOD, problem, push
from flask.testing import FlaskClient
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from load_helpers import POLLS, READERS, SKEW_US, Cut, counts, csv, load, put, query, read_polls, us

from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError
from storemon_flask.feeds import csv_exact, encodings, no_feed, readers, schema, sources
from storemon_flask.feeds import load as load_service
from storemon_flask.feeds.csv_exact import BlockReader, RejectLog
from storemon_flask.feeds.load import LoadResult
from storemon_flask.streams.address import parse_address
from storemon_flask.streams.listener import make_source
from storemon_flask.streams.messages import Message, MessageReader

CASES = Path(__file__).parent.parent / "cases"
LOCALE = CASES / "excel-locale"
TEN = us("2024-05-06T10:00:00")
BOTH = [("b1", TEN, 1), ("b2", TEN, 0)]


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with closing(Database(tmp_path / "home" / "storemon.db")) as opened:
        yield opened


def _polls(database: Database) -> list[tuple[str, int, int]]:
    found = query(database.path, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2")
    return [(store_id, us(at[:19]), int(status == "active")) for store_id, at, status in found]


def _load_in(database: Database, encoding: str, *paths: Path) -> LoadResult:
    options = load_service.LoadOptions(us("2026-01-01T00:00:00"), SKEW_US, encoding=encoding)
    return load_service.load_sources(database, sources.find_sources(list(paths)), options)


# The cases: what each file is, with the rejects of its rows, or why it is refused.

LOADED = {
    "01_semicolon.csv": [],
    "02_sep_line_comma.csv": [],
    "03_sep_line_semicolon.csv": [],
    "04_utf16le_tab.csv": [],
    "05_utf16be_comma.csv": [],
    "08_gzip_named.csv": [],
    "09_plain_named.csv.gz": [],
    "16_us_dates.csv": [(2, schema.TIMESTAMP_FORM), (3, schema.TIMESTAMP_FORM)],
    "17_excel_mmss.csv": [(2, schema.TIMESTAMP_FORM), (3, schema.TIMESTAMP_FORM)],
    "18_serial.csv": [(2, schema.TIMESTAMP_NUMBER), (3, schema.TIMESTAMP_NUMBER)],
    "19_epoch.csv": [],
    "20_epoch_ms.csv": [],
    "21_quoted_rows.csv": [(2, csv_exact.WRAPPED), (3, csv_exact.WRAPPED)],
    "23_trailing_commas.csv": [(2, csv_exact.FIELDS_MANY), (3, csv_exact.FIELDS_MANY)],
    "24_trailing_commas_all.csv": [],
    "25_ctrlz.csv": [(4, csv_exact.FIELDS_FEW)],
    "26_footer.csv": [(5, csv_exact.FIELDS_FEW)],
    "27_truefalse.csv": [(2, schema.STATUS), (3, schema.STATUS)],
    "28_pandas_index.csv": [],
    "29_spaces_after_comma.csv": [],
    "32_header_camel.csv": [],
    "34_utf8_zwnbsp_header.csv": [],
    "35_nul_padded.csv": [(4, csv_exact.NUL)],
    "36_utf7_lf_cr.csv": [],
    "37_crcrlf.csv": [],
}
OTHERS = {
    "07_cp1252.csv": ([("b2", TEN, 0)], [(2, csv_exact.NOT_UTF8)]),
    "30_single_quotes.csv": ([("'b1'", TEN, 1), ("b2", TEN, 0)], []),
}
REFUSED = {
    "-": "the header fits no feed: it has 7 columns, of which storemon knows store_id; expected",
    "06_utf16_nobom.csv": "its first line contains NUL bytes; this is no CSV (UTF-16 without a byte order mark, or a",
    "10_xlsx_named.csv": "workbook",
    "11_lfs_pointer.csv": no_feed.LFS_POINTER,
    "12_drive_page.csv": no_feed.WEB_PAGE,
    "13_empty.csv": "the file is empty",
    "14_bom_only.csv": "the file is empty",
    "15_title_line.csv": "the header (of polls) is on line 3; remove what stands above it, lines 1 to 2",
    "22_quoted_all_lines.csv": "line 1 is in quotes as a whole, so that it is one field; export it again with quotes",
    "31_header_uppercase_dots.csv": "the header fits no feed: it has 3 columns, of which storemon knows status; expected",
    "33_header_table_prefix.csv": "the header fits no feed: it has 3 columns, of which storemon knows none; expected",
    "nested.zip": "holds no workbook and no file named *.csv, *.csv.gz or *.csv.zst",
}


def test_every_case_has_its_right_answer_here() -> None:
    inside = {"folder", "mixed.zip"}
    assert {path.name for path in LOCALE.iterdir()} == {*LOADED, *OTHERS, *REFUSED, *inside}


@pytest.mark.parametrize("name", [*LOADED, *OTHERS])
def test_a_file_of_an_export_is_loaded_to_the_row(database: Database, name: str) -> None:
    (summary,) = load(database, LOCALE / name).files
    expected, rejects = OTHERS.get(name, ([] if len(LOADED.get(name, [])) == 2 else BOTH, LOADED.get(name, [])))
    assert (summary.feed, summary.error) == ("polls", "")
    assert [(reject.line, reject.reason) for reject in summary.rejects] == rejects
    assert _polls(database) == expected
    assert counts(summary)[0] == len(expected) + len(rejects)


@pytest.mark.parametrize("name", REFUSED)
def test_a_file_that_is_no_feed_says_why_and_stores_nothing(database: Database, name: str) -> None:
    (summary,) = load(database, LOCALE / name).files
    assert REFUSED[name] in summary.error
    assert not database.exists()


def test_a_folder_and_a_zip_of_an_export_leave_nothing_out_without_a_word(database: Database) -> None:
    result = load(database, LOCALE / "folder")
    assert [(file.file, file.feed, file.error) for file in result.files if file.feed] == [
        ("polls.csv", "polls", ""), ("zones.tsv", "timezones", ""), ("zones.txt", "timezones", "")
    ]  # fmt: skip
    assert query(database.path, "SELECT name FROM timezone") == [("Asia/Tokyo",)]
    said = " ".join([*result.notes, *(file.file for file in result.files)])
    assert all(name in said for name in ("hours.xlsx", "timezones.csv (1)", "timezones.csv.download", "sub"))
    result = load(database, LOCALE / "mixed.zip")
    assert [file.feed for file in result.files if file.feed] == ["polls", "timezones"]
    assert "hours.xlsx" in " ".join([*result.notes, *(file.file for file in result.files)])


@pytest.mark.parametrize("name", [*LOADED, *OTHERS, *REFUSED])
def test_every_case_is_the_same_over_http_and_as_an_upload(client: FlaskClient, name: str) -> None:
    data = (LOCALE / name).read_bytes()
    for kind in ("text/csv", "application/octet-stream"):
        answer = push(client, "polls", data, kind)
        if name in REFUSED:
            assert REFUSED[name] in problem(answer, 422)
        else:
            rejects = OTHERS[name][1] if name in OTHERS else LOADED[name]
            assert [(reject["line"], reject["reason"]) for reject in answer.json["rejects"]] == rejects
    sent = {"file": (io.BytesIO(data), "what it is called")}
    answer = client.post("/api/v1/feeds", data=sent, content_type="multipart/form-data")
    if name in REFUSED:
        assert REFUSED[name] in problem(answer, 422)
    else:
        (file,) = answer.json["files"]
        assert (file["rejected"], file["new"]) == (len(rejects), 0)


def test_fields_that_are_missing_at_the_end_are_empty_where_they_are_optional(database: Database) -> None:
    result = load(database, CASES / "excel-trailing")
    assert [(file.feed, file.counts.rejected, file.error) for file in result.files] == [
        ("hours", 0, ""), ("polls", 0, ""), ("stores", 0, ""), ("timezones", 0, "")
    ]  # fmt: skip
    sql = "SELECT store_id, count(*), sum(end_s - start_s) / 3600 FROM hours JOIN store_record ON number = store GROUP BY 1"
    hours = {store_id: (rows, business) for store_id, rows, business in query(database.path, sql)}
    # Paris, 9:00 to 17:00 on seven days.
    assert hours["d3"] == (7, 56)
    sql = "SELECT store_id, timezone.name FROM timezone JOIN store_record ON number = store ORDER BY 1"
    zones = dict(query(database.path, sql))
    assert (zones["d2"], zones["d3"]) == ("America/New_York", "Europe/Paris")
    names = dict(query(database.path, "SELECT store_id, name FROM store_record"))
    assert names == {f"d{number}": f"Shop {number}" for number in range(1, 21)}


def test_rows_without_a_value_are_no_rows(database: Database) -> None:
    result = load(database, CASES / "blank-rows", atomic=True)
    assert not result.refused
    assert [(file.file, counts(file)) for file in result.files] == [
        ("blank.csv", (1, 1, 0, 0, 0, 0)),
        ("hours.csv", (1, 0, 0, 0, 1, 0)),
        ("polls.csv", (2, 2, 0, 0, 0, 0)),
    ]


def test_every_short_row_is_blank_for_one_reader_as_for_the_other() -> None:
    rows = [bytes(letters) for size in range(1, 6) for letters in itertools.product(b'" ,x', repeat=size)]
    # A quote that stays open would take the rows after it.
    rows = [row for row in rows if len(csv_exact.quote_edges(row + b"\n")) % 2 == 0]
    assert len(rows) > 900
    data = b"\n".join([POLLS.encode(), *rows, *[b"s,2023-01-22 10:00:00 UTC,active"] * 3])
    blank = [row for row in rows if all(not cell.strip() for cell in next(csv_module.reader([row.decode()])))]
    blank = [row for row in blank if csv_exact.is_blank_row(row, ",")]
    assert (b'"",""' in blank, b'"  ",' in blank, b'","' in blank, b'""""' in blank) == (True, True, False, False)
    fast, exact = (read_polls(data, exact=exact) for exact in READERS)
    assert fast == exact
    assert fast[2] == len(rows) + 3 - len(blank)


# The dialects: one feed, written in many ways.


def _written(rows: list[list[str]], delimiter: str, ends: str, quoting: str, encoding: str) -> bytes:
    def cell(text: str) -> str:
        plain = quoting == "few" and not set(text) & {delimiter, '"', "\n", "\r"}
        return text if plain else '"' + text.replace('"', '""') + '"'

    text = ends.join(delimiter.join(map(cell, row)) for row in rows) + ends
    return {"utf-8": b"", "utf-8-sig": b"", "double": codecs.BOM_UTF8 * 2, "utf-16-le": codecs.BOM_UTF16_LE,
            "utf-16-be": codecs.BOM_UTF16_BE}[encoding] + text.encode(encoding.replace("double", "utf-8"))  # fmt: skip


_delimiters = st.sampled_from([",", ";", "\t", "|"])
_encodings = st.sampled_from(["utf-8", "utf-8-sig", "double", "utf-16-le", "utf-16-be"])
_cells = st.text(st.sampled_from("ab1 ,;|\"'\t\né\u2028店🍕\0"), max_size=7)
_poll_rows = st.lists(
    st.one_of(
        st.tuples(_cells, st.sampled_from(["2023-01-22 10:00:00 UTC", "2023-01-22T11:00Z", "soon", ""]),
                  st.sampled_from(["active", "inactive", "up", ""]), _cells).map(list),
        st.lists(_cells, min_size=1, max_size=6),
    ), max_size=14,
)  # fmt: skip


def _poll_answers(data: bytes, block_bytes: int, cuts: list[int], *, exact: bool) -> list[object]:
    """The polls, the rejects without their texts, and the number of rows."""
    accepted, rejected, count = read_polls(data, block_bytes, exact=exact, sizes=cuts)
    return [accepted, [reject[:2] for reject in rejected], count]


@settings(max_examples=250)
@given(_poll_rows, _delimiters, _encodings, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["few", "all"]),
       st.booleans(), st.integers(1, 70), st.lists(st.integers(1, 30), max_size=4))  # fmt: skip
def test_a_feed_is_the_same_in_every_dialect(
    rows: list[list[str]],
    delimiter: str,
    encoding: str,
    ends: str,
    quoting: str,
    told: bool,
    block: int,
    cuts: list[int],
) -> None:
    header = ["store_id", "timestamp_utc", "status", "note"]
    # A row of one field that holds the delimiters of a whole row is another mistake in each dialect.
    rows = [row for row in rows if len(row) > 1 or not set(row[0]) & set(",;|\t")]
    plain = _written([header, *rows], ",", ends, "all", "utf-8")
    written = _written([header, *rows], delimiter, ends, quoting, encoding)
    expected = _poll_answers(plain, 1 << 20, [], exact=False)
    for exact in READERS:
        assert _poll_answers(written, 1 << 20, [], exact=exact) == expected
        assert _poll_answers(written, block, cuts, exact=exact) == expected
    if told:
        line = f"sep={delimiter}{ends}".encode("utf-8" if "8" in encoding or encoding == "double" else encoding)
        mark = 2 if "16" in encoding else {"utf-8": 0, "utf-8-sig": 3, "double": 6}[encoding]
        accepted, rejects, count = _poll_answers(written[:mark] + line + written[mark:], block, cuts, exact=False)
        assert [accepted, [(line - 1, reason) for line, reason in rejects], count] == expected


FLEET = {
    "polls": [["store_id", "timestamp_utc", "status"], ["a é", "2024-10-14 10:00:00 UTC", "active"], ["", "", ""],
              ["b|1", "2024-10-14 10:00:00.5 UTC", "inactive"], ["x;y", "never", "active"], ["a é", "1728900000", "up"]],
    "hours": [["store_id", "day", "start_time_local", "end_time_local", "valid_from"], ["a é", "0", "9:00", "17:00", ""],
              ["b|1", "0", "9:00", "24:00", "2024-01-01"], ["x;y", "0", "9", "17:00", ""]],
    "stores": [["store_id", "name", "group"], ["a é", "Ä, \"B\"; C|D", "North"], ["b|1", "two\nlines", ""], ["x;y", "n", ""]],
}  # fmt: skip


@pytest.mark.parametrize("encoding", ["utf-8", "double", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_every_edge_of_a_block_gives_the_same(delimiter: str, encoding: str) -> None:
    for feed in FLEET:
        plain = _rows_read(_written(FLEET[feed], ",", "\r\n", "few", "utf-8"), 1 << 20, [])
        assert plain[0]
        data = _written(FLEET[feed], delimiter, "\r\n", "few", encoding)
        for size in range(1, 60):
            assert _rows_read(data, size, []) == plain
        for at in range(1, len(data)):
            assert _rows_read(data, 1 << 20, [at, len(data)]) == plain


def _rows_read(data: bytes, block_bytes: int, cuts: list[int]) -> tuple[list[object], list[object]]:
    """The good rows of a feed with their lines, and its rejects without their texts."""
    reader = BlockReader(Cut(data, cuts), lambda chunk: None, block_bytes)
    log = RejectLog()
    rows: list[object] = []
    if reader.header.feed == "polls":
        for polls in readers.read_polls(reader, reader.header, 1 << 60, log):
            rows += [(polls.ids[store], at) for store, at in zip(polls.store, polls.timestamp_us.tolist(), strict=True)]
    else:
        for block in readers.read_small_feed(reader, reader.header, log, set(), schema.DaysOfWeek()):
            columns = [[block.values[k][code] for code in codes.tolist()] for k, codes in enumerate(block.codes)]
            rows += zip(block.line.tolist(), *columns, strict=True)
    return rows, [(reject.line, reject.reason) for reject in log.rejects]


@pytest.mark.parametrize("feed", ["polls", "hours"])
def test_the_text_of_a_reject_is_the_row_as_it_stands(feed: str) -> None:
    for delimiter, encoding in ((";", "utf-16-le"), ("\t", "utf-16-be"), ("|", "utf-8")):
        data = _written(FLEET[feed], delimiter, "\r\n", "few", encoding)
        reader = BlockReader(io.BytesIO(data), lambda chunk: None)
        log = RejectLog()
        read = readers.read_polls if feed == "polls" else readers.read_small_feed
        rest = (1 << 60, log) if feed == "polls" else (log, set(), schema.DaysOfWeek())
        assert list(read(reader, reader.header, *rest))  # type: ignore[operator]
        lines = _written(FLEET[feed], delimiter, "\r\n", "few", "utf-8").decode().split("\r\n")
        assert [reject.text for reject in log.rejects] == [
            line for line in lines if line.startswith(("x;y", '"x;y"')) or line.endswith("up")
        ]


# The doors: a file, a folder, standard input, a body and an upload.


def _packed(data: bytes, packing: str, name: str) -> bytes:
    if "zip" not in packing:
        return data
    if packing.startswith("gzip"):
        return gzip.compress(_packed(data, packing[4:], name), mtime=0)
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, data)
    return made.getvalue()


def _doors(folder: Path, data: bytes) -> dict[str, list[sources.LoadItem]]:
    """What each door makes of the same bytes."""
    folder.mkdir()
    file = put(folder / "feed.csv", data)
    most = 1 << 30
    return {
        "file": sources.find_sources([file], most),
        "folder": sources.find_sources([folder], most),
        "standard input": sources.stream_items("feed.csv", io.BytesIO(data), 0, "", most),
        "body": [sources.body_source(io.BytesIO(data), len(data), "text/csv", "polls", False, most)],
        "small body": [small_body(data)],
        "upload": sources.upload_sources([("feed.csv", io.BytesIO(data))], most),
    }


_utf8_rows = _poll_rows.map(lambda rows: [row for row in rows if len(row) > 1])


@settings(max_examples=25, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_utf8_rows, _delimiters, _encodings, st.sampled_from(["\n", "\r\n", "\r"]), st.sampled_from(["few", "all"]),
       st.sampled_from(["", "gzip", "zip", "gzipzip", "gzipgzip"]))  # fmt: skip
def test_every_door_takes_every_dialect_the_same(
    tmp_path: Path, rows: list[list[str]], delimiter: str, encoding: str, ends: str, quoting: str, packing: str
) -> None:
    header = ["store_id", "timestamp_utc", "status", "note"]
    data = _written([header, *rows], delimiter, ends, quoting, encoding)
    plain = _written([header, *rows], ",", "\n", "all", "utf-8")
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        place = Path(name)
        _, expected = _stored(place / "plain.db", [small_body(plain)])
        for door, items in _doors(place / "doors", _packed(data, packing, "inner.csv")).items():
            error, stored = _stored(place / f"{door}.db", items)
            if packing in ("gzipzip", "gzipgzip") and door in ("file", "folder", "upload"):
                # A body is often packed once more on its way; a file is not.
                assert error == no_feed.PACKED
                continue
            assert error == "", (door, packing)
            assert stored == expected, (door, packing)


@example([["", "1", ""]], "\t", "utf-8", "\n", "few")
@example([["", "\t"]], "\t", "utf-8", "\n", "few")
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture])
@given(_poll_rows, _delimiters, st.sampled_from(["utf-8", "utf-8-sig", "double"]), st.sampled_from(["\n", "\r\n", "\r"]),
       st.sampled_from(["few", "all"]))  # fmt: skip
def test_a_message_of_csv_is_read_as_a_file_of_it(
    tmp_path: Path, rows: list[list[str]], delimiter: str, encoding: str, ends: str, quoting: str
) -> None:
    rows = [row for row in rows if len(row) > 1 or not set(row[0]) & set(",;|\t")]
    header = ["store_id", "timestamp_utc", "status", "note"]
    data = _written([header, *rows], delimiter, ends, quoting, encoding)
    records = MessageReader(parse_address("amqp://h/?queue=q").shape).read(Message(data, 0), 1)
    with tempfile.TemporaryDirectory(dir=tmp_path) as name:
        stored = [
            _stored(Path(name) / f"{number}.db", [source])[1]
            for number, source in enumerate([small_body(data), make_source("message", records)])
        ]
    (polls, counted, rejects), (message_polls, message_counted, message_rejects) = stored
    assert (message_polls, message_counted) == (polls, counted)
    assert sorted(reason for _, reason in message_rejects) == sorted(reason for _, reason in rejects)


def small_body(data: bytes) -> sources.Source:
    return sources.small_body_source(data, "text/csv", "polls")


def _stored(path: Path, items: list[sources.LoadItem]) -> tuple[str, list[Any]]:
    """The error of a load, or the polls it stored, its counts, and the lines and reasons of its rejects."""
    options = load_service.LoadOptions(us("2026-01-01T00:00:00"), SKEW_US)
    with closing(Database(path)) as opened:
        result = load_service.load_sources(opened, items, options)
        (summary,) = result.files
        if summary.error:
            return summary.error, []
        rejects = [(reject.line, reject.reason) for reject in summary.rejects]
        return "", [_polls(opened), counts(summary), rejects]


# Encodings


def test_what_is_no_text_of_its_encoding_is_a_reject_and_no_other_row() -> None:
    rows = [f"s{number},2023-01-22 10:00:00 UTC,active\n" for number in range(4)]
    data = codecs.BOM_UTF16_LE + "".join([f"{POLLS}\n", rows[0]]).encode("utf-16-le")
    data += b"s\0\x3d\xd8,\0" + rows[1][3:].encode("utf-16-le") + rows[2].encode("utf-16-le") + b"\x3d\xdc"
    data += rows[3].encode("utf-16-le") + b"x"
    for cut in range(1, 40):
        accepted, rejected, count = read_polls(data, 1 << 16, sizes=[cut])
        assert [row[0] for row in accepted] == ["s0", "s2"]
        assert [(line, reason) for line, reason, _ in rejected] == [
            (3, csv_exact.NOT_UTF8), (5, csv_exact.NOT_UTF8), (6, csv_exact.NOT_UTF8)
        ]  # fmt: skip
        assert count == 5


@given(st.binary(max_size=60), st.lists(st.integers(1, 9), min_size=1, max_size=5))
def test_cp1252_is_decoded_the_same_wherever_it_is_cut(data: bytes, cuts: list[int]) -> None:
    decode = encodings.decode_cp1252()
    out, at, turn = b"", 0, 0
    try:
        while at < len(data):
            stop = at + cuts[turn % len(cuts)]
            out, at, turn = out + decode(data[at:stop], False), stop, turn + 1
        out += decode(b"", True)
    except DataError:
        # It was UTF-8, with something beyond ASCII.
        assert not data.isascii()
        assert data.decode("utf-8")
        return
    table = {0x81: "\x81", 0x8D: "\x8d", 0x8F: "\x8f", 0x90: "\x90", 0x9D: "\x9d"}
    assert out.decode() == "".join(table.get(byte) or bytes([byte]).decode("cp1252") for byte in data)
    assert data.isascii() or not csv_exact.is_utf8(data)


def test_windows_text_is_read_where_it_is_asked_for_and_utf_8_is_not(tmp_path: Path, database: Database) -> None:
    windows = put(tmp_path / "stores.csv", "store_id,name\nCafé,Zürich – “1”\nb,x\n".encode("cp1252"))
    utf8 = put(tmp_path / "utf8.csv", csv("store_id,name", "Café,Zürich", "b,x"))
    marked = put(tmp_path / "marked.csv", codecs.BOM_UTF8 + csv("store_id,name", "marked,Zürich"))
    control = put(tmp_path / "control.csv", b"store_id,name\nc\x81,\xe9\nd,\xe9\n")
    result = _load_in(database, "cp1252", windows, marked, utf8, control)
    assert [file.error for file in result.files] == ["", "", encodings.NOT_CP1252, ""]
    assert result.files[3].reasons == {schema.ID_CONTROL: 1}
    assert dict(query(database.path, "SELECT store_id, name FROM store_record")) == {
        "Café": "Zürich – “1”", "b": "x", "marked": "Zürich", "d": "é"
    }  # fmt: skip
    (summary,) = load(database, windows).files
    assert summary.reasons == {csv_exact.NOT_UTF8: 1}
    assert "--encoding cp1252" in csv_exact.NOT_UTF8


def test_an_encoding_is_a_parameter_a_charset_and_a_choice_on_the_page(client: FlaskClient) -> None:
    body = "store_id,name,group\nCafé,Zürich,\n".encode("cp1252")
    assert push(client, "stores", body).json["reasons"] == {csv_exact.NOT_UTF8: 1}
    assert push(client, "stores?encoding=cp1252", body).json["new"] == 1
    assert push(client, "stores", body, "text/csv; charset=windows-1252").json["unchanged"] == 1
    utf16 = "store_id;name\nCafé;Zürich\n".encode("utf-16")
    assert push(client, "stores", utf16, "text/csv; charset=utf-16").json["unchanged"] == 1
    assert push(client, "stores", utf16, "application/json").json["unchanged"] == 1
    assert "UTF-8 text and not cp1252" in problem(
        push(client, "stores?encoding=cp1252", GOOD["stores"] + "é,é,\n"), 422
    )
    assert "encoding" in problem(push(client, "stores?encoding=cp437", body), 422)
    sent = {"file": (io.BytesIO(body), "stores.csv")}
    answer = client.post("/api/v1/feeds?encoding=cp1252", data=sent, content_type="multipart/form-data")
    assert answer.json["files"][0]["unchanged"] == 1
    for encoding, status in (("cp1252", 303), ("utf-8", 303), ("cp437", 422)):
        form = {"file": (io.BytesIO(body), "stores.csv"), "encoding": encoding, "days": "0-6"}
        answer = client.post("/data", data=form, content_type="multipart/form-data")
        assert answer.status_code == status
    assert client.get("/api/v1/loads/8").json["files"][0]["unchanged"] == 1


# What is no CSV says why


JOINED = "store_id,timestamp_utc,statusb1,2024-05-06 10:00:00 UTC,activeb2,2024-05-06 10:00:00 UTC,inactive"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (JOINED, no_feed.JOINED),
        (JOINED.replace(",", ";"), no_feed.JOINED),
        (JOINED + "a,2024-05-06 10:00:00 UTC,active" * 40_000, no_feed.JOINED),
        ("store_id,timezone_strb1,UTC", no_feed.JOINED),
        ("store_id;name;groupb1;x;y", no_feed.JOINED),
        ("\n\n<!DOCTYPE HTML>\n<title>Sign in</title>", no_feed.WEB_PAGE),
        ('{"store_id": "secret"}\n', no_feed.JSON),
        ('[\n  {"store_id": "secret"}]', no_feed.JSON),
        ("<html lang=en>" + "x" * 2_000_000, no_feed.WEB_PAGE),
        ("Export of May\nstore_id;name\na;b\n", "the header (of stores) is on line 2; remove what stands above it, line 1"),
        ("\n\nExport\n\n;;\n\"store_id\"\t\"name\"\n", "is on line 6; remove what stands above it, lines 3 to 5"),
        ("sep=;\nExport;of\nstore_id;name\n", "is on line 3; remove what stands above it, line 2"),
        ('"store_id;name"\n"a;b"\n', "line 1 is in quotes as a whole"),
        ("sep=#\nstore_id#name\n", "its line 1 (sep=) names a delimiter that is not read; those read are the comma, the"),
        ("sep=,\nstore_id;name\n", "the header fits no feed: it has 1 column, of which storemon knows none"),
        ("x\n" * 31 + "store_id,name\n", "the header fits no feed"),
        ("x,y\n", "the header fits no feed: it has 2 columns, of which storemon knows none"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("block_bytes", [1 << 12, 1 << 22])
def test_what_begins_with_no_header_says_what_it_is(text: str, says: str, block_bytes: int) -> None:
    for data in (text.encode(), text.encode("utf-16")):
        with pytest.raises(DataError) as error:
            BlockReader(io.BytesIO(data), lambda chunk: None, block_bytes)
        assert says in error.value.message


def test_lines_joined_by_curl_are_told_what_to_do(client: FlaskClient) -> None:
    joined = GOOD["polls"].replace("\n", "")
    sentence = problem(push(client, "polls", joined, "application/x-www-form-urlencoded"), 422)
    assert "send it with `curl --data-binary @FILE`" in sentence
    objects = '{"store_id":"a"}{"store_id":"b"}'
    sentence = problem(push(client, "polls", objects, "application/x-www-form-urlencoded"), 400)
    assert "send it with `curl --data-binary @FILE`" in sentence
