"""Hours files whose days are numbered from 1 (Monday) to 7 (Sunday): refused unless they are said to be so (SPEC 2)."""

import gzip
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run, home, run  # noqa: F401
from conftest import sql
from feed_helpers import HOURS, POLLS, problem, push, stored, upload
from flask.testing import FlaskClient

from storemon_flask.feeds import schema
from storemon_flask.settings import Settings

# Every day another hour, so that a day that is read wrongly is seen.
ISO = HOURS + "".join(f"s,{day},0{day}:00,17:00\n" for day in range(1, 8))
RIGHT = [("s", day, (day + 1) * 3600, 17 * 3600) for day in range(7)]
FROM_ZERO = HOURS + "".join(f"s,{day},0{day + 1}:00,17:00\n" for day in range(7))
WITHOUT_7 = HOURS + "s,1,09:00,17:00\ns,2,09:00,17:00\n"


def as_json(text: str) -> list[dict[str, Any]]:
    names, *rows = (line.split(",") for line in text.splitlines())
    return [dict(zip(names, (row[0], int(row[1]), *row[2:]), strict=True)) for row in rows]


FORMS: dict[str, Callable[[str], tuple[bytes, str]]] = {
    "csv": lambda text: (text.encode(), "text/csv"),
    "quoted": lambda text: (
        "".join('"{}"\n'.format(line.replace(",", '","')) for line in text.splitlines()).encode(),
        "text/csv",
    ),
    "gzip": lambda text: (gzip.compress(text.encode()), "application/gzip"),
    "json": lambda text: (json.dumps(as_json(text)).encode(), "application/json"),
    "ndjson": lambda text: ("".join(json.dumps(row) + "\n" for row in as_json(text)).encode(), "application/x-ndjson"),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("atomic", ["", "atomic=1&"])
def test_a_push_with_a_7_and_no_0_is_refused_and_read_when_it_is_said_to_be_iso(
    client: FlaskClient, settings: Settings, form: str, atomic: str
) -> None:
    assert push(client, "hours", HOURS + "s,0,08:00,09:00\n").status_code == 200
    body, kind = FORMS[form](ISO)
    answer = client.post(f"/api/v1/feeds/hours?{atomic}", data=body, content_type=kind)
    assert problem(answer, 422) == schema.DAYS_FROM_ONE
    assert stored(settings)["hours"] == [("s", 0, 8 * 3600, 9 * 3600)]
    answer = client.post(f"/api/v1/feeds/hours?{atomic}days=iso", data=body, content_type=kind)
    assert (answer.status_code, answer.json["rejected"], answer.json["rows"]) == (200, 0, 7), answer.text
    assert stored(settings)["hours"] == RIGHT
    # Numbered from 0, the same hours are the same.
    body, kind = FORMS[form](FROM_ZERO)
    answer = client.post("/api/v1/feeds/hours?days=0-6", data=body, content_type=kind)
    assert (answer.json["unchanged"], answer.json["notes"]) == (7, [])


def test_both_numberings_are_named() -> None:
    for words in ("0 means Monday and 6 Sunday", "1 means Monday and 7 Sunday", "--days iso", "?days=iso"):
        assert words in schema.DAYS_FROM_ONE


@pytest.mark.parametrize("form", FORMS)
def test_with_iso_a_0_is_rejected(client: FlaskClient, settings: Settings, form: str) -> None:
    body, kind = FORMS[form](HOURS + "s,0,09:00,17:00\nt,7,09:00,17:00\n")
    answer = client.post("/api/v1/feeds/hours?days=iso", data=body, content_type=kind)
    assert answer.json["reasons"] == {schema.DAY_ISO: 1}
    assert stored(settings)["hours"] == [("t", 6, 9 * 3600, 17 * 3600)]


@pytest.mark.parametrize("zero", ["s,0,09:00,17:00", "s,0,nine,17:00", ",0,09:00,17:00", "#N/A, 0 ,09:00,17:00"])
@pytest.mark.parametrize("form", FORMS)
def test_with_a_0_in_any_row_a_7_is_rejected_by_itself(client: FlaskClient, form: str, zero: str) -> None:
    rows = f"{zero}\na,1,09:00,17:00\na,2,09:00,17:00\nb,7,09:00,17:00\n"
    body, kind = FORMS[form](HOURS + rows)
    answer = client.post("/api/v1/feeds/hours", data=body, content_type=kind)
    assert answer.status_code == 200, answer.text
    assert answer.json["reasons"][schema.DAY] == 1
    assert not any("day 0" in note for note in answer.json["notes"])


@pytest.mark.parametrize("form", FORMS)
def test_a_7_counts_also_in_a_row_that_is_rejected(client: FlaskClient, form: str) -> None:
    body, kind = FORMS[form](HOURS + "s,1,09:00,17:00\n,7,09:00,17:00\n")
    assert problem(client.post("/api/v1/feeds/hours", data=body, content_type=kind), 422) == schema.DAYS_FROM_ONE


def test_without_a_7_and_a_0_there_is_a_note(client: FlaskClient) -> None:
    note = (
        "no store has hours on day 0 (Monday) in {}; if 1 means "
        "Monday and 7 Sunday there, load it again with --days iso "
        "(over HTTP with ?days=iso)"
    )
    assert note.format("body") in push(client, "hours", WITHOUT_7).json["notes"]
    assert note.format("body") not in client.post("/api/v1/feeds/hours?days=iso", data=WITHOUT_7).json["notes"]
    answer = upload(client, ("a.csv", WITHOUT_7), ("b.csv", FROM_ZERO.replace("s,", "t,")), ("c.csv", WITHOUT_7))
    assert note.format("a.csv, c.csv") in answer.json["notes"]
    # A file without a row that fits says nothing of days.
    assert not any("day 0" in one for one in push(client, "hours", HOURS + "s,x,09:00,17:00\n").json["notes"])


def test_a_refused_file_of_several_keeps_its_stores_hours_and_the_others_load(
    client: FlaskClient, settings: Settings
) -> None:
    push(client, "hours", HOURS + "s,0,08:00,09:00\n")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("iso.csv", ISO)
        archive.writestr("hours.csv", FROM_ZERO.replace("s,", "t,"))
        archive.writestr("polls.csv", POLLS + "s,2024-10-14 10:00:00,active\n")
    answer = upload(client, ("all.zip", packed.getvalue()))
    assert [(file["file"], file["error"]) for file in answer.json["files"]] == [
        ("all.zip/hours.csv", None),
        ("all.zip/iso.csv", schema.DAYS_FROM_ONE),
        ("all.zip/polls.csv", None),
    ]
    assert stored(settings)["hours"] == [("s", 0, 8 * 3600, 9 * 3600), *(("t", *row[1:]) for row in RIGHT)]
    assert client.get("/api/v1/loads/2").json["files"][2]["error"] == schema.DAYS_FROM_ONE
    # All or nothing is nothing.
    answer = upload(client, ("iso.csv", ISO), ("hours.csv", HOURS + "t,0,08:00,09:00\n"), query="?atomic=1")
    assert problem(answer, 422).startswith(schema.DAYS_FROM_ONE[:60])
    assert len(stored(settings)["hours"]) == 8
    # Numbered from 0 and read as iso, a store with a rejected row keeps what it had.
    answer = upload(client, ("all.zip", packed.getvalue()), query="?days=iso")
    assert answer.json["files"][0]["reasons"][schema.DAY_ISO] == 1
    assert stored(settings)["hours"] == [*RIGHT, *(("t", *row[1:]) for row in RIGHT)]


@pytest.mark.parametrize("query", ["?days=7", "?days=ISO", "?days="])
def test_another_numbering_is_a_422(client: FlaskClient, query: str) -> None:
    assert "days" in problem(client.post(f"/api/v1/feeds/hours{query}", data=ISO, content_type="text/csv"), 422)


def test_the_hours_of_one_store_are_numbered_from_0(client: FlaskClient, settings: Settings) -> None:
    push(client, "polls", POLLS + "s,2024-10-14 10:00:00,active\n")
    times = {"start_time_local": "09:00", "end_time_local": "17:00"}
    answer = client.put("/api/v1/stores/s/hours", json={"hours": [{"day": 7, **times}]})
    assert schema.DAY in problem(answer, 422)
    # A store that is closed on Mondays is no surprise.
    answer = client.put("/api/v1/stores/s/hours", json={"hours": [{"day": 1, **times}]})
    assert (answer.status_code, answer.json["notes"]) == (200, [])
    assert stored(settings)["hours"] == [("s", 1, 9 * 3600, 17 * 3600)]


def test_the_command_takes_days_iso(run: Run, home: Path) -> None:  # noqa: F811
    (home / "data").mkdir()
    (home / "data" / "hours.csv").write_text(ISO)
    (home / "data" / "polls.csv").write_text(POLLS + "s,2024-10-14 10:00:00,active\n")
    done = run("load-data")
    assert done.code == 1
    assert f"Not loaded: hours.csv: {schema.DAYS_FROM_ONE}" in " ".join(done.err.split())
    database = home / "instance" / "storemon.db"
    assert sql(database, "SELECT count(*) FROM hours") == [(0,)]
    assert sql(database, "SELECT count(*) FROM poll") == [(1,)]
    assert run("load-data", "--days", "iso").code == 0
    assert sql(database, "SELECT 's', day, start_s, end_s FROM hours ORDER BY day") == RIGHT
    assert run("load-data", "--days", "us").code == 2


@pytest.mark.parametrize("days", ["0-6", "iso"])
def test_the_page_has_the_choice(client: FlaskClient, settings: Settings, days: str) -> None:
    page = client.get("/data").text
    assert '<select id="days" name="days">' in page
    assert '<option value="iso">1 (Monday) to 7 (Sunday)</option>' in page
    sent = {"file": [(io.BytesIO(ISO.encode()), "hours.csv")], "days": days}
    answer = client.post("/data", data=sent, content_type="multipart/form-data", headers={"Accept": "text/html"})
    if days == "iso":
        assert (answer.status_code, answer.headers["Location"]) == (303, "/data/loads/1")
        assert stored(settings)["hours"] == RIGHT
    else:
        assert answer.status_code == 422
        assert "numbered from 1" in answer.text


def test_the_page_takes_no_other_choice(client: FlaskClient) -> None:
    sent = {"file": [(io.BytesIO(ISO.encode()), "hours.csv")], "days": "us"}
    answer = client.post("/data", data=sent, content_type="multipart/form-data", headers={"Accept": "text/html"})
    assert answer.status_code == 422
    assert "it must be 0-6 or iso" in answer.text
