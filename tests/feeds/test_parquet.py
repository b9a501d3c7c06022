"""Parquet files at every place where files come in: what they hold is what the same CSV does."""

import datetime as dt
import io
import sys
import zipfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from conftest import sql, storemon
from feed_helpers import counts, problem, push, stored, upload
from flask.testing import FlaskClient
from load_helpers import feeds, load, put

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: NOT tested here that Parquet is loaded")
FLOAT_DAMAGED = "store_id is a number of more than 15 digits"
START = dt.datetime(2024, 10, 14, 10, tzinfo=dt.UTC)


def parquet(columns: dict[str, Any], **options: Any) -> bytes:
    from pyarrow import parquet as pq

    made = io.BytesIO()
    pq.write_table(pa.table(columns), made, **options)
    return made.getvalue()


def as_texts(csv: str) -> bytes:
    """A CSV as a Parquet file of texts; an empty field is a null."""
    header, *rows = (line.split(",") for line in csv.splitlines())
    columns = zip(*rows, strict=True)
    return parquet({name: [text or None for text in column] for name, column in zip(header, columns, strict=True)})


def polls(count: int = 12_000) -> dict[str, Any]:
    """Typed polls of five stores: every 50th has a status that is none, and every 70th no time."""
    times = [None if row % 70 == 69 else START + dt.timedelta(seconds=row) for row in range(count)]
    statuses = ["up" if row % 50 == 49 else ("active", "inactive")[row % 2] for row in range(count)]
    return {
        "Store ID": pa.array([8139926242460185114 + row % 5 for row in range(count)], pa.int64()),
        "status": pa.array(statuses).dictionary_encode(),
        "TimestampUTC": pa.array(times, pa.timestamp("us", "America/New_York")),
    }


def polls_csv(columns: dict[str, Any]) -> str:
    ids, statuses, times = (column.to_pylist() for column in columns.values())
    rows = (
        f"{store},{status},{'' if moment is None else moment.astimezone(dt.UTC).strftime('%Y-%m-%d %H:%M:%S.%f UTC')}"
        for store, status, moment in zip(ids, statuses, times, strict=True)
    )
    return "\n".join(["store_id,status,timestamp_utc", *rows]) + "\n"


def rejects_of(database: Database) -> list[tuple[Any, ...]]:
    return sql(database.path, "SELECT line, reason FROM reject ORDER BY line")


def test_what_it_holds_is_what_the_same_csv_does(tmp_path: Path) -> None:
    columns = polls()
    files = {
        "polls.csv": polls_csv(columns).encode(),
        "polls.parquet": parquet(columns, row_group_size=5_000, compression="zstd"),
    }
    found = {}
    for name, data in files.items():
        with closing(Database(tmp_path / name / "storemon.db")) as database:
            (summary,) = load(database, put(tmp_path / name / "data" / name, data)).files
            found[name] = summary.counts, summary.reasons, feeds(database.path), rejects_of(database)
    (csv_counts, csv_reasons, csv_feeds, csv_rejects), others = found.values()
    assert csv_counts.rejected > 300
    assert others[:3] == (csv_counts, csv_reasons, csv_feeds)
    # Its rows are counted from 1, and a CSV's header is line 1.
    assert others[3] == [(line - 1, reason) for line, reason in csv_rejects]


FEEDS = {
    "hours": "store_id,day,start_time_local,end_time_local,valid_from\na,0,09:00,17:00,\na,1,09:00,24:00,2024-01-01\n",
    "special_hours": "store_id,date,start_time_local,end_time_local\na,2024-12-25,,\na,2024-12-24,09:00,12:00\n",
    "timezones": "store_id,timezone_str\na,Asia/Tokyo\nb,Mars/Phobos\n",
    "stores": "store_id,name,group,region,tag:city\na,Alpha,North,West,Paris\nb,Beta,,,Nice\n",
    "polls": "store_id,timestamp_utc,status\na,2024-10-14 10:00:00 UTC,active\nb,1728900000,INACTIVE\n",
}


@pytest.mark.parametrize("feed", FEEDS)
def test_each_feed_is_pushed_as_its_csv(client: FlaskClient, settings: Settings, feed: str) -> None:
    pushed = push(client, feed, as_texts(FEEDS[feed]), "application/vnd.apache.parquet")
    assert pushed.status_code == 200, pushed.text
    before = stored(settings)
    again = push(client, feed, FEEDS[feed])
    assert counts(again.get_json())[0] == counts(pushed.get_json())[0]
    assert counts(again.get_json())[5] == counts(pushed.get_json())[5]
    assert again.get_json()["unchanged"] == again.get_json()["rows"] - again.get_json()["rejected"]
    assert stored(settings) == before


def test_the_wrong_feed_and_none_are_named(client: FlaskClient) -> None:
    assert "the header is that of timezones" in problem(push(client, "polls", as_texts(FEEDS["timezones"])), 422)
    other = parquet({"a": [1], "b": [2]})
    assert "the header fits no feed: it has 2 columns" in problem(push(client, "polls", other), 422)
    assert "Parquet file that is damaged" in problem(push(client, "polls", other[:-20]), 422)


def test_it_is_known_by_its_content_in_folders_zips_and_uploads(client: FlaskClient, tmp_path: Path) -> None:
    data = as_texts(FEEDS["polls"])
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as members:
        members.writestr("export/polls.parquet", data)
    answer = upload(client, ("anything.bin", data), ("export.zip", archive.getvalue()))
    assert [(file["file"], file["rows"], file["new"]) for file in answer.get_json()["files"]] == [
        ("anything.bin", 2, 2),
        ("export.zip/export/polls.parquet", 2, 0),
    ]
    put(tmp_path / "folder" / "polls.parquet", data)
    with closing(Database(tmp_path / "other.db")) as database:
        assert [summary.counts.new for summary in load(database, tmp_path / "folder").files] == [2]


def test_ids_that_were_floats_are_rejected_with_their_row(tmp_path: Path) -> None:
    columns = {"store_id": [1.0, 8139926242460185114.0], "timestamp_utc": [START] * 2, "status": ["active"] * 2}
    with closing(Database(tmp_path / "storemon.db")) as database:
        (summary,) = load(database, put(tmp_path / "polls.parquet", parquet(columns))).files
        assert (summary.counts.new, summary.counts.rejected) == (1, 1)
        ((line, reason),) = rejects_of(database)
        assert line == 2
        assert reason.startswith(FLOAT_DAMAGED)
        assert sql(database.path, "SELECT DISTINCT store_id FROM poll") == [("1",)]


def test_without_pyarrow_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = put(tmp_path / "polls.parquet", as_texts(FEEDS["polls"]))
    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if "-packages" not in entry])
    with closing(Database(tmp_path / "storemon.db")) as database:
        (summary,) = load(database, file).files
    assert (
        "it is a Parquet file; to have it read, install storemon with pip install 'storemon[parquet]'" in summary.error
    )


def test_the_command_reads_one_from_standard_input_and_says_what_it_did(tmp_path: Path) -> None:
    put(tmp_path / "polls.parquet", as_texts(FEEDS["polls"]))
    done = storemon(tmp_path, "load-data", "polls.parquet")
    assert done.returncode == 0, done.stderr
    assert "polls.parquet  polls     2    2" in done.stdout


def test_one_value_repeated_until_memory_is_gone(tmp_path: Path) -> None:
    value = "x" * 50_000_000
    column = pa.DictionaryArray.from_arrays(pa.array([0] * 5_000, pa.int32()), pa.array([value]))
    data = parquet({"store_id": column, "timestamp_utc": column, "status": column}, compression="zstd")
    assert len(data) < 1_000_000
    with closing(Database(tmp_path / "storemon.db")) as database:
        (summary,) = load(database, put(tmp_path / "polls.parquet", data)).files
    assert "MB of memory to read, or is damaged" in summary.error
