"""Labels of stores in the stores feed: columns and keys, what is rejected, replaced, undone and exported."""

import io
import json
from contextlib import closing
from pathlib import Path

import pytest
from conftest import sql
from feed_helpers import counts, push, stored
from flask.testing import FlaskClient
from load_helpers import load, put

from storemon_flask.database import export
from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError
from storemon_flask.feeds import schema
from storemon_flask.labels import MOST_TAG_NAMES, MOST_TAGS, unpack
from storemon_flask.settings import Settings
from storemon_flask.stores import undo

HEADER = "store_id,name,group,Brand,REGION,platform ,Tag: City,tag:size\n"
ROWS = "a,Alpha,North,Acme,West,web,Paris,\nb,Beta,,,West,,,L\nc,,,,,,,\n"
LABELS = {
    "a": {"brand": "Acme", "region": "West", "platform": "web", "tag:City": "Paris"},
    "b": {"region": "West", "tag:size": "L"},
    "c": {},
}


def labels_of(path: Path) -> dict[str, dict[str, str]]:
    return {store_id: unpack(text) for store_id, text in sql(path, "SELECT store_id, labels FROM store_record")}


def rejected(database: Database) -> list[tuple[int, str]]:
    return [(line, reason) for line, reason in sql(database.path, "SELECT line, reason FROM reject ORDER BY rowid")]


def objects() -> list[dict[str, object]]:
    return [{"store_id": store_id, "name": "", **given} for store_id, given in LABELS.items()]


def test_columns_are_recognised_in_any_spelling_and_tags_are_named_as_written(
    database: Database, tmp_path: Path
) -> None:
    result = load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    assert (result.files[0].feed, result.files[0].counts.new, result.rejected) == ("stores", 3, 0)
    assert labels_of(database.path) == LABELS
    again = load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    assert again.files[0].counts.unchanged == 3


def test_csv_json_ndjson_and_parquet_are_the_same(client: FlaskClient, settings: Settings) -> None:
    bodies = [
        (HEADER + ROWS.replace(",Alpha,North,", ",,,").replace(",Beta,", ",,"), "text/csv"),
        (json.dumps(objects()), "application/json"),
        ("\n".join(map(json.dumps, objects())), "application/x-ndjson"),
    ]
    for body, kind in bodies:
        assert push(client, "stores", "store_id,name\na,\nb,\nc,\n").status_code == 200
        assert labels_of(settings.database) == {"a": {}, "b": {}, "c": {}}
        answer = push(client, "stores", body, kind)
        assert (answer.status_code, counts(answer.get_json())[5]) == (200, 0), answer.text
        assert labels_of(settings.database) == LABELS
    pa = pytest.importorskip("pyarrow")
    from pyarrow import parquet

    before, file = stored(settings), io.BytesIO()
    header, *rows = (line.split(",") for line in bodies[0][0].splitlines())
    columns = dict(zip(header, map(list, zip(*rows, strict=True)), strict=True))
    parquet.write_table(pa.table(columns), file)
    answer = push(client, "stores", file.getvalue(), "application/vnd.apache.parquet")
    assert (answer.get_json()["unchanged"], labels_of(settings.database)) == (3, LABELS)
    assert stored(settings) == before


def test_a_file_replaces_all_labels_of_its_stores_and_of_no_other(database: Database, tmp_path: Path) -> None:
    load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    load(database, put(tmp_path / "y.csv", "store_id,name,tag:city\na,Alpha,Lyon\n"))
    assert labels_of(database.path) == {**LABELS, "a": {"tag:city": "Lyon"}}


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("tag:", schema.TAG_NAME),
        (f"tag:{'x' * 41}", schema.TAG_NAME),
        ("tag:a=b", schema.TAG_NAME),
        ("tag:a\x07b", schema.TAG_NAME),
    ],
)
def test_a_tag_that_may_not_be_called_so_is_named_by_its_column(
    database: Database, tmp_path: Path, name: str, reason: str
) -> None:
    result = load(database, put(tmp_path / "x.csv", f"store_id,name,{name}\na,A,x\n"))
    assert result.files[0].error == f"column 3 of the header cannot be used: {reason}"
    # Of polls they are columns that no feed reads.
    polls = load(
        database, put(tmp_path / "p.csv", f"store_id,timestamp_utc,status,{name}\na,2024-01-01 10:00,active,\n")
    )
    assert polls.files[0].counts.new == 1


def test_a_header_with_one_tag_twice_is_refused(database: Database, tmp_path: Path) -> None:
    result = load(database, put(tmp_path / "x.csv", "store_id,name,tag:a,TAG: a \na,A,x,y\n"))
    assert result.files[0].error == "the header names one tag twice, in columns 3 and 4; remove one of them"
    load(database, put(tmp_path / "y.csv", "store_id,name,tag:a,tag:A\na,A,x,y\n"))
    assert labels_of(database.path) == {"a": {"tag:A": "y", "tag:a": "x"}}


def test_values_that_are_too_long_or_have_control_characters_are_rejected(database: Database, tmp_path: Path) -> None:
    rows = [f"a,A,{'x' * 200},", f"b,B,{'x' * 201},", "c,C,,x\x07y", "d,D,, Paris "]
    load(database, put(tmp_path / "x.csv", "store_id,name,region,tag:city\n" + "\n".join(rows) + "\n"))
    assert rejected(database) == [(3, schema.LABEL_LONG), (4, schema.LABEL_CONTROL)]
    assert labels_of(database.path) == {"a": {"region": "x" * 200}, "d": {"tag:city": "Paris"}}


def test_a_store_has_at_most_fifty_tags_and_a_file_may_have_more_columns(
    client: FlaskClient, database: Database, tmp_path: Path
) -> None:
    tags = [f"tag:{number}" for number in range(MOST_TAGS + 10)]
    full, over = [["x"] * count + [""] * (len(tags) - count) for count in (MOST_TAGS, MOST_TAGS + 1)]
    lines = [",".join(["store_id", "name", *tags]), ",".join(["a", "A", *full]), ",".join(["b", "B", *over])]
    load(database, put(tmp_path / "x.csv", "\n".join([*lines, ",".join(["c", '"C"', *over]), ""])))
    assert rejected(database) == [(3, schema.TAGS_MANY), (4, schema.TAGS_MANY)]
    assert {store_id: len(given) for store_id, given in labels_of(database.path).items()} == {"a": MOST_TAGS}
    answer = push(
        client, "stores", json.dumps({"store_id": "b", "name": "", **dict.fromkeys(tags, "x")}), "application/json"
    )
    assert answer.get_json()["rejects"][0]["reason"] == schema.TAGS_MANY


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        ('"tag:a":"x","TAG: a":"y"', "a tag is given twice"),
        ('"tag:a":["x"]', "a tag is a list"),
        ('"tag:":"x"', schema.TAG_NAME),
        ('"brand":{}', "brand is an object"),
    ],
)
def test_keys_that_cannot_be_used_are_rejects(client: FlaskClient, more: str, problem: str) -> None:
    answer = push(client, "stores", f'{{"store_id":"a","name":"A",{more}}}', "application/json")
    assert answer.get_json()["rejects"][0]["reason"] == problem


def test_more_different_tags_than_a_feed_has_columns_for_are_refused(database: Database, tmp_path: Path) -> None:
    def tags(first: int, count: int) -> list[dict[str, str]]:
        names = [f"tag:{number}" for number in range(first, first + count)]
        return [
            {"store_id": f"s{first + at}", "name": "", **dict.fromkeys(names[at : at + MOST_TAGS], "x")}
            for at in range(0, count, MOST_TAGS)
        ]

    def put_rows(rows: list[dict[str, str]]) -> str:
        from functools import partial

        from load_helpers import NOW, us

        from storemon_flask.feeds.load import LoadOptions, load_sources
        from storemon_flask.feeds.sources import Source

        data = json.dumps(rows).encode()
        source = Source("body", len(data), partial(io.BytesIO, data), format="json", feed="stores")
        return load_sources(database, [source], LoadOptions(us(NOW), 0)).files[0].error

    assert put_rows(tags(0, MOST_TAG_NAMES)) == ""
    assert put_rows(tags(MOST_TAG_NAMES, 1)).startswith("with it the stores would have 501 different tags, and there")
    assert len(labels_of(database.path)) == MOST_TAG_NAMES // MOST_TAGS
    out = tmp_path / "out"
    export.export(database, out)
    with closing(Database(tmp_path / "second.db")) as second:
        assert load(second, out).rejected == 0
        assert labels_of(second.path) == labels_of(database.path)
        export.export(second, tmp_path / "again")
    assert (tmp_path / "again" / "stores.csv").read_bytes() == (out / "stores.csv").read_bytes()


def test_an_export_has_a_column_for_each_label_that_a_store_has(database: Database, tmp_path: Path) -> None:
    load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    export.export(database, tmp_path / "out")
    text = (tmp_path / "out" / "stores.csv").read_text()
    assert text == "store_id,name,group,brand,region,platform,tag:City,tag:size\n" + ROWS


def test_an_undo_gives_stores_the_labels_of_before(database: Database, tmp_path: Path) -> None:
    load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    wrong = load(database, put(tmp_path / "y.csv", "store_id,name,region\na,Alpha,East\nd,New,East\n"))
    assert labels_of(database.path)["a"] == {"region": "East"}
    from storemon_flask.feeds.load import LoadOptions

    undone = undo.undo(database, wrong.load, LoadOptions(2_000_000_000_000_000, 0))
    assert labels_of(database.path) == LABELS
    undo.undo(database, undone.load, LoadOptions(2_000_000_000_000_000, 0))
    assert labels_of(database.path) == {**LABELS, "a": {"region": "East"}, "d": {"region": "East"}}


def test_an_export_of_polls_that_names_its_stores_is_polls(database: Database, tmp_path: Path) -> None:
    text = "store_id,name,region,region,timestamp_utc,status\na,A,West,West,2024-01-01 10:00,active\n"
    assert load(database, put(tmp_path / "x.csv", text)).files[0].feed == "polls"
    with pytest.raises(DataError, match=r"names one column of stores twice \(region\)"):
        schema.recognise("store_id,name,region,Region")


def test_labels_of_another_form_are_found_by_check(database: Database, tmp_path: Path) -> None:
    from contextlib import closing as closed
    from sqlite3 import connect

    from storemon_flask.database import check
    from storemon_flask.database import undo as kept

    load(database, put(tmp_path / "x.csv", HEADER + ROWS))
    load(database, put(tmp_path / "y.csv", "store_id,name\na,A\n"))
    with closed(connect(database.path)) as connection:
        connection.execute("UPDATE store_record SET labels = '[1]' WHERE store_id = 'b'")
        connection.execute("""UPDATE fact_change SET before = '[["A","","[1]"]]' WHERE before IS NOT NULL""")
        connection.commit()
    problems: list[str] = []
    with database.read() as connection:
        check.check_values(connection, problems.append)
        kept.check(connection, problems.append)
    assert [problem.partition(":")[0] for problem in problems[:2]] == [
        "store_record",
        "load 2, stores of store number 1",
    ]
    assert "has in labels JSON of another form than storemon writes ('[1]')" in problems[0]
