"""The process that reads tables, by itself: what it makes of the types of Parquet, and that it keeps to its limits."""

import datetime as dt
import decimal
import re
import resource
import signal
import subprocess
import sys
import uuid
from pathlib import Path
from typing import Any

import pytest
from hostile_files import cells_xml, sheet_xml, xlsx
from table_helpers import COLUMNS, ask, rows_of

from storemon_flask.feeds import table_process

UTC = dt.UTC


@pytest.fixture
def pa() -> Any:
    return pytest.importorskip("pyarrow", reason="pyarrow is not installed: NOT tested here that Parquet is read")


def parquet(folder: Path, table: Any, **options: Any) -> Path:
    from pyarrow import parquet as pq

    file = folder / "feed.parquet"
    pq.write_table(table, file, **options)
    return file


def one_column(folder: Path, pa: Any, values: Any, name: str = "timestamp_utc") -> list[tuple[Any, str]]:
    """The texts of a column, and what is wrong with each."""
    at = [column for _, column, _ in COLUMNS["polls"]].index(name)
    # With a value, each row is one.
    columns: dict[str, Any] = {"store_id": ["s"] * len(values), "status": ["active"] * len(values), name: values}
    file = parquet(folder, pa.table(columns))
    names = list(columns)
    wanted = [(names.index(column) if column in names else -1, column, kind) for _, column, kind in COLUMNS["polls"]]
    return [(fields[at], problem) for _, fields, _, problem in rows_of(file, wanted, header_row=0)]


def test_it_lists_the_columns_of_a_parquet_file_as_the_header_of_one_sheet(tmp_path: Path, pa: Any) -> None:
    file = parquet(tmp_path, pa.table({"Store ID": [1], "x,y": [2], "status": ["active"]}))
    assert ask(file, read="sheets") == [[["", "", [[0, ["Store ID", "x,y", "status"]]]]], ""]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", [None, "UTC", "+02:00", "America/New_York"])
def test_timestamps_are_in_utc_with_all_their_digits(tmp_path: Path, pa: Any, unit: str, zone: str | None) -> None:
    digits = {"s": 0, "ms": 3, "us": 6, "ns": 9}[unit]
    value = int("1728907779" + "388884123"[:digits])
    column = pa.array([value, None], pa.int64()).cast(pa.timestamp(unit, zone))
    fraction = f".{'388884123'[:digits]}" if digits else ""
    # Parquet has no seconds: they are kept as milliseconds.
    fraction = fraction or ".000"
    assert one_column(tmp_path, pa, column) == [(f"2024-10-14 12:09:39{fraction}", ""), ("", "")]


def test_ids_are_exact_where_they_are_whole_numbers(tmp_path: Path, pa: Any) -> None:
    ids = [8139926242460185114, -1, 0, None]
    assert [text for text, _ in one_column(tmp_path, pa, pa.array(ids, pa.int64()), "store_id")] == [
        *("8139926242460185114", "-1", "0", "")
    ]
    big = pa.array([18446744073709551615], pa.uint64())
    assert one_column(tmp_path, pa, big, "store_id") == [("18446744073709551615", "")]
    exact = pa.array([decimal.Decimal("12345678901234567890.00"), decimal.Decimal("1.50")])
    assert one_column(tmp_path, pa, exact, "store_id") == [
        ("12345678901234567890", ""),
        ("", table_process.ID_FRACTION),
    ]


def test_ids_that_are_floats_are_whole_numbers_of_up_to_15_digits(tmp_path: Path, pa: Any) -> None:
    floats = pa.array([7.0, 999999999999999.0, 1e15, 8139926242460185114.0, 1.5, float("nan"), None], pa.float64())
    assert one_column(tmp_path, pa, floats, "store_id") == [
        ("7", ""),
        ("999999999999999", ""),
        ("", table_process.ID_DIGITS),
        ("", table_process.ID_DIGITS),
        ("", table_process.ID_FRACTION),
        ("", ""),
        ("", ""),
    ]


def test_ids_of_other_types(tmp_path: Path, pa: Any) -> None:
    one = uuid.UUID("63476c18-0aa4-4a36-81c4-da3bf95511bf")
    uuids = pa.ExtensionArray.from_storage(pa.uuid(), pa.array([one.bytes], pa.binary(16)))
    assert one_column(tmp_path, pa, uuids, "store_id") == [(str(one), "")]
    assert one_column(tmp_path, pa, pa.array(["é"]).dictionary_encode(), "store_id") == [("é", "")]
    assert one_column(tmp_path, pa, pa.array([b"b1", b"\xff"]), "store_id") == [
        ("b1", ""),
        ("", f"store_id {table_process.NOT_TEXT}"),
    ]
    assert one_column(tmp_path, pa, pa.array([True]), "store_id") == [("", table_process.ID_BOOLEAN)]
    assert one_column(tmp_path, pa, pa.array([dt.date(2024, 1, 2)]), "store_id") == [("", table_process.ID_DATE)]
    moment = pa.array([dt.datetime(2024, 1, 2, 3)])
    assert one_column(tmp_path, pa, moment, "store_id") == [("", table_process.ID_DATE)]
    assert one_column(tmp_path, pa, pa.array([[1], None]), "store_id") == [
        ("", f"store_id {table_process.NOT_TEXT}"),
        ("", ""),
    ]
    assert one_column(tmp_path, pa, pa.array([{"a": 1}]), "status") == [("", f"status {table_process.NOT_TEXT}")]


def test_text_that_is_no_utf8_is_a_problem_of_its_row(tmp_path: Path, pa: Any) -> None:
    offsets, data = pa.py_buffer(b"\0\0\0\0\2\0\0\0\7\0\0\0"), pa.py_buffer(b"\xff\xfegood1")
    broken = pa.Array.from_buffers(pa.string(), 2, [None, offsets, data])
    assert one_column(tmp_path, pa, broken, "status") == [("", f"status {table_process.NOT_TEXT}"), ("good1", "")]


def test_times_dates_and_numbers_are_the_texts_of_a_csv(tmp_path: Path, pa: Any) -> None:
    table = pa.table(
        {
            "store_id": ["a", "b"],
            "dayOfWeek": pa.array([0, 6], pa.int8()),
            "start_time_local": pa.array([dt.time(9, 30), dt.time(0)], pa.time64("ns")),
            "end_time_local": pa.array([dt.timedelta(hours=24), dt.timedelta(hours=17, minutes=5)]),
            "valid_from": pa.array([dt.date(2024, 3, 1), None], pa.date32()),
        }
    )
    rows = rows_of(parquet(tmp_path, table), COLUMNS["hours"], header_row=0)
    assert [fields for _, fields, _, _ in rows] == [
        ["a", "0", "09:30:00", "24:00:00", "2024-03-01"],
        ["b", "6", "00:00:00", "17:05:00", ""],
    ]
    midnight = pa.array(
        [dt.datetime(2024, 12, 25, tzinfo=dt.timezone(dt.timedelta(hours=-5)))], pa.timestamp("us", "-05:00")
    )
    special = pa.table({"store_id": ["a"], "date": midnight, "start_time_local": [None], "end_time_local": [None]})
    rows = rows_of(parquet(tmp_path, special), COLUMNS["special_hours"], header_row=0)
    assert [fields for _, fields, _, _ in rows] == [["a", "2024-12-25", "", ""]]


def test_rows_are_counted_over_batches_and_row_groups_and_empty_ones_are_none(tmp_path: Path, pa: Any) -> None:
    ids = [f"s{row}" if row % 3 else None for row in range(1, 12_001)]
    feed = {"store_id": ids, "timestamp_utc": ids, "status": ids}
    file = parquet(tmp_path, pa.table(feed), row_group_size=700)
    rows = rows_of(file, COLUMNS["polls"], header_row=0)
    assert [(line, fields[0]) for line, fields, _, _ in rows] == [
        (row, f"s{row}") for row in range(1, 12_001) if row % 3
    ]
    # Where there is another column, an empty row may have a value in that.
    file = parquet(tmp_path, pa.table({**feed, "note": ["x"] * 12_000}))
    assert len(rows_of(file, COLUMNS["polls"], header_row=0)) == 12_000


def test_only_the_columns_of_the_feed_are_shown_of_a_row(tmp_path: Path, pa: Any) -> None:
    table = pa.table({"secret": ["x"], "status": ["up, or so"], "timestamp_utc": ["t"], "store_id": [1]})
    file = parquet(tmp_path, table)
    columns = [(3, "store_id", "store_id"), (2, "timestamp_utc", "timestamp"), (1, "status", "text")]
    assert rows_of(file, columns, header_row=0) == [[1, ["1", "t", "up, or so"], '1,t,"up, or so"', ""]]


def test_damaged_parquet_is_named(tmp_path: Path, pa: Any) -> None:
    whole = parquet(tmp_path, pa.table({"store_id": [1], "timestamp_utc": ["t"], "status": ["active"]})).read_bytes()
    for damaged in (whole[:4], whole[:-5], whole[:-9] + b"\xff\xff\xff\x7fPAR1", b"PAR1" + bytes(500) + b"PAR1"):
        (tmp_path / "damaged").write_bytes(damaged)
        assert ask(tmp_path / "damaged", read="sheets") == [table_process.NO_PARQUET]


def test_without_pyarrow_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "feed.parquet").write_bytes(b"PAR1....PAR1")
    assert ask(
        tmp_path / "feed.parquet", read="sheets", path=[entry for entry in sys.path if "-packages" not in entry]
    ) == [table_process.NO_PYARROW]


def test_without_calamine_that_is_said(tmp_path: Path) -> None:
    (tmp_path / "feed.xlsx").write_bytes(xlsx())
    path = [entry for entry in sys.path if "-packages" not in entry]
    assert ask(tmp_path / "feed.xlsx", read="sheets", path=path) == [table_process.NO_CALAMINE]


def test_without_room_for_a_copy_that_is_said(tmp_path: Path) -> None:
    """Error cells are made texts in a copy."""
    file = tmp_path / "errors.xlsx"
    cells = re.sub(r'<c r="A2".*?</c>', '<c r="A2" t="e"><v>#N/A</v></c>', cells_xml())
    file.write_bytes(xlsx(sheet_xml(cells)))

    def no_files() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))

    ((_, fields, _, problem),) = rows_of(file, COLUMNS["polls"], header_row=1)
    assert (fields[0], problem) == ("#N/A", "")
    assert ask(file, no_files, read="sheets") == [table_process.NO_ROOM]


def test_it_imports_nothing_of_storemon() -> None:
    """It is to start at once, and has the memory that it may use for the file."""
    program = "import sys, runpy; runpy.run_path(sys.argv[1], run_name='x'); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, table_process.__file__], capture_output=True, text=True, check=True
    )
    assert not {"storemon_flask", "numpy", "pandas", "flask"} & set(done.stdout.split())
