"""`--json` and `--csv`: what HTTP has, by the same names; nothing else on standard output; exit codes as ever."""

import csv
import io
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Done, Run
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import FORMULA_ID, NEWEST, sql
from flask.testing import FlaskClient

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

BAD = 'store_id,timestamp_utc,status\n"=1+1",2024-10-14 10:00:00 UTC,maybe\n'
LISTS = (
    ("overview",),
    ("stores",),
    ("store", "worked"),
    ("outages",),
    ("loads",),
    ("rejects",),
    ("keys", "list"),
    ("info",),
    ("check",),
)


@pytest.fixture(autouse=True)
def still(monkeypatch: pytest.MonkeyPatch) -> None:
    """A clock that stands: what says how many days old the newest poll is says the same in the next call."""
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)


@pytest.fixture
def said(home: Path, small_fleet: Path, database: Database, run: Run) -> Callable[..., Done]:
    """Runs a command on the small fleet, of which a further load was rejected."""
    database.close()
    (small_fleet / "=bad.csv").write_text(BAD)
    assert run("load-data", small_fleet / "=bad.csv").code == 0
    return run


def document(done: Done) -> Any:
    assert done.code == 0, done.err
    return json.loads(done.out)


def table(done: Done) -> list[dict[str, str]]:
    assert done.code == 0, done.err
    return list(csv.DictReader(io.StringIO(done.out, newline="")))


def told(client: FlaskClient, path: str) -> Any:
    answer = client.get(path)
    assert answer.status_code == 200
    return answer.json


def test_stores_are_those_of_the_http_list(said: Callable[..., Done], client: FlaskClient) -> None:
    listed = told(client, "/api/v1/stores?limit=2")
    assert document(said("stores", "--limit", "2", "--json")) == listed
    assert (listed["total"], listed["next"] is not None, len(listed["stores"])) == (4, True, 2)
    rows = table(said("stores", "--csv"))
    everyone = told(client, "/api/v1/stores")["stores"]
    assert sorted(rows[0]) == sorted(everyone[0])
    by_id = {one["store_id"]: one for one in everyone}
    assert [row["store_id"].removeprefix("'") for row in rows] == list(by_id)
    for row, one in zip(rows, by_id.values(), strict=True):
        words = {None: "", True: "true", False: "false"}
        cells = {
            name: words[value] if value is None or isinstance(value, bool) else str(value)
            for name, value in one.items()
        }
        assert row == cells | {"store_id": row["store_id"]}
    assert [row["store_id"] for row in rows if row["store_id"].startswith("'")] == [f"'{FORMULA_ID}"]


def test_no_store_is_a_header_alone(said: Callable[..., Done]) -> None:
    done = said("stores", "--text", "nobody", "--csv")
    assert done.out.startswith("store_id,name,group,labels,timezone,status,")
    assert done.out.count("\n") == 1
    assert document(said("stores", "--text", "nobody", "--json"))["stores"] == []


def test_a_store_is_its_http_detail_and_timeline(said: Callable[..., Done], client: FlaskClient) -> None:
    shown = document(said("store", "worked", "--from", "2024-10-14", "--to", NEWEST, "--json"))
    timeline = shown.pop("timeline")
    assert shown == told(client, "/api/v1/stores/worked")
    assert timeline == told(client, f"/api/v1/stores/worked/timeline?from=2024-10-14T00:00:00Z&to={NEWEST}")
    assert table(said("store", "worked", "--from", "2024-10-14", "--to", NEWEST, "--csv")) == timeline["stretches"]
    assert len(timeline["stretches"]) > 1


def test_outages_are_the_rows_of_their_report(said: Callable[..., Done], client: FlaskClient) -> None:
    report_id = client.post("/trigger_report", json={"kind": "outages"}).json["report_id"]
    report = told(client, f"/get_report?report_id={report_id}&format=json")
    shown = document(said("outages", "--json"))
    assert shown == {name: report[name] for name in ("as_of", "method", "rows")}
    assert [row["store_id"] for row in shown["rows"]] == ["worked"]
    as_csv = said("outages", "--csv")
    assert as_csv.out == client.get(f"/get_report?report_id={report_id}").text
    assert as_csv.out == said("outages", "-o", "-").out
    wrong = said("outages", "-o", "x.csv", "--json")
    assert (wrong.code, "Say one of them" in wrong.err) == (2, True)


def test_loads_and_rejects_are_those_of_http(said: Callable[..., Done], client: FlaskClient) -> None:
    loads = told(client, "/api/v1/loads")
    assert document(said("loads", "--json")) == loads
    assert document(said("loads", "--limit", "1", "--json")) == told(client, "/api/v1/loads?limit=1")
    rows = table(said("loads", "--csv"))
    assert [(row["load_id"], row["rows"], row["rejected"]) for row in rows] == [("2", "1", "1"), ("1", "9", "0")]
    assert json.loads(rows[0]["notes"]) == loads["loads"][0]["notes"]
    rejects = told(client, "/api/v1/loads/2/rejects")
    assert document(said("rejects", "--load", "2", "--json")) == rejects
    assert document(said("rejects", "--json")) == {
        "rejects": [{"load_id": 2, **reject} for reject in rejects["rejects"]]
    }
    assert said("rejects", "--csv").out == said("rejects").out
    (row,) = table(said("rejects", "--csv"))
    assert row["text"].startswith('"=1+1"')


def test_keys_info_and_check(said: Callable[..., Done], settings: Settings) -> None:
    assert document(said("keys", "list", "--json")) == {"keys": []}
    assert said("keys", "list", "--csv").out == "prefix,scope,created,revoked,label\n"
    key = said("keys", "add", "--scope", "read", "--label", "=wall").out
    (listed,) = document(said("keys", "list", "--json"))["keys"]
    assert (key.startswith(listed["prefix"]), listed["scope"], listed["label"], listed["revoked"]) == (
        True,
        "read",
        "=wall",
        None,
    )
    assert [row["label"] for row in table(said("keys", "list", "--csv"))] == ["'=wall"]
    info = document(said("info", "--json"))
    assert (info["polls"], info["newest poll"], info["warnings"]) == ("4", NEWEST, [])
    assert {row["name"]: row["value"] for row in table(said("info", "--csv"))}["polls"] == "4"
    checked = document(said("check", "--json"))
    assert (checked["problems"], {one["problems"] for one in checked["sections"]}) == (0, {0})
    assert any("polled store" in note for note in checked["notes"])
    assert [row["checked"] for row in table(said("check", "--csv"))] == [one["checked"] for one in checked["sections"]]


def test_exit_codes_stay_and_problems_are_rows(said: Callable[..., Done], settings: Settings) -> None:
    sql(settings.database, "UPDATE store_record SET last_poll_us = last_poll_us + 1 WHERE last_poll_us IS NOT NULL")
    done = said("check", "--json")
    assert (done.code, done.err.strip().endswith("problem(s)")) == (1, True)
    wrong = [one for one in json.loads(done.out)["sections"] if one["problems"]]
    assert all(len(one["first_problems"]) == one["problems"] for one in wrong)
    assert wrong


@pytest.mark.parametrize("arguments", LISTS, ids=" ".join)
def test_both_is_an_error_and_each_is_in_the_help(run: Run, arguments: tuple[str, ...]) -> None:
    wrong = run(*arguments, "--json", "--csv")
    assert (wrong.code, wrong.out, "Say either --json or --csv." in wrong.err) == (2, "", True)
    shown = run(*arguments[: 2 if arguments[0] == "keys" else 1], "--help").out
    assert ("--json" in shown, "--csv" in shown) == (True, True)


@pytest.mark.parametrize("arguments", [one for one in LISTS if one[0] != "info"], ids=" ".join)
def test_without_a_database_it_is_an_error_and_nothing_is_printed(
    run: Run, home: Path, arguments: tuple[str, ...]
) -> None:
    plain = run(*arguments)
    for form in ("--json", "--csv"):
        done = run(*arguments, form)
        assert (done.code, done.out, done.err) == (plain.code, "", plain.err)
    assert plain.code == 1
