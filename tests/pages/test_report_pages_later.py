"""A report's page later on: listed, asked for again, failed, gone, deleted, compared."""

import csv
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_FLEET, load_folder, sql
from flask.testing import FlaskClient
from report_page_helpers import BROWSER, ask, asked, cells, the_csv
from worker_helpers import Queue

from storemon_flask import create_app
from storemon_flask.database import keys
from storemon_flask.database.connections import Database
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings

HOSTILE = ("<script>alert(1)</script>", "x" * 200, "مطعم السلام", "🍕/..?#&\"'", "=1+1")


@pytest.fixture
def hostile(database: Database, tmp_path: Path) -> None:
    """The small fleet, and stores with names, ids and groups that are meant to break a page."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    for name, text in SMALL_FLEET.items():
        (folder / name).write_text(text)
    with (folder / "stores.csv").open("w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["store_id", "name", "group"])
        rows.writerows([text, text, text] for text in HOSTILE)
    load_folder(database, folder)


def test_the_list_says_what_was_asked_and_has_pages(client: FlaskClient, small_fleet: Path) -> None:
    for number in range(31):
        asked(client, stores="worked", columns="full" if number == 0 else "classic")
    first = client.get("/reports").text
    assert first.count("The last hour, day and week, worked</bdi>") == 30
    older = re.search(r'href="(/reports\?before=[^"]+)"', first)
    assert older
    second = client.get(html.unescape(older[1])).text
    assert second.count('<li id="report-') == 1
    assert "The last hour, day and week, worked, all columns" in second
    assert client.get("/reports?before=nonsense").status_code == 400


def test_a_report_can_be_asked_for_again(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client, by="day", window="last_week", stores="worked", totals="1", from0="")
    page = client.get("/reports", query_string={"again": location.rpartition("/")[2]}).text
    assert '<option value="day" selected>' in page
    assert 'name="window" value="last_week" checked>' in page
    assert 'name="totals" value="1" checked>' in page
    assert ">worked</textarea>" in page


@pytest.mark.parametrize("stores", ["", "worked"])
@pytest.mark.parametrize("shape", [{}, {"by": "day"}])
@pytest.mark.parametrize(
    ("as_of", "again"),
    [
        ("2024-10-14 11:00", "2024-10-14T11:00:00Z"),
        # That of the newest poll, but asked for.
        ("2024-10-14T12:00:00Z", "2024-10-14T12:00:00Z"),
        ("2024-10-14T09:00:00.5-02:00", "2024-10-14T11:00:00.500000Z"),
        ("", ""),
    ],
)
def test_the_as_of_is_asked_for_again_when_it_was_asked_for(
    client: FlaskClient, runner: Worker, small_fleet: Path, stores: str, shape: dict[str, str], as_of: str, again: str
) -> None:
    location = asked(client, as_of=as_of, stores=stores, **shape)
    page = client.get(location).text
    link = re.search(r'href="(/reports\?again=[^"]+)">Ask again', page)
    assert link
    assert re.search(r'<input id="as_of" name="as_of" value="([^"]*)"', client.get(link[1]).text)[1] == again  # type: ignore[index]
    # Programs are told the shape as it was asked.
    assert client.get(f"/api/v1{location}").json["shape"] == (shape or None)
    sql(runner.settings.database, "UPDATE report SET state = 'failed', error = 'full'")
    assert f'<a href="{link[1]}">Change it and ask again</a>' in client.get(location).text


def test_of_two_equal_ones_each_remembers_its_own_as_of(settings: Settings, small_fleet: Path) -> None:
    app = create_app(settings, Queue())
    client = app.test_client()
    first, second = asked(client), asked(client, as_of="2024-10-14T12:00:00Z")
    values = [
        re.search(r'name="as_of" value="([^"]*)"', client.get(f"/reports?again={one[9:]}").text)[1]  # type: ignore[index]
        for one in (first, second)
    ]
    assert values == ["", "2024-10-14T12:00:00Z"]
    app.extensions["storemon"].database.close()


def test_one_of_many_windows_is_asked_for_again_with_all_of_them(client: FlaskClient, small_fleet: Path) -> None:
    windows: list[Any] = [
        {"from": f"2024-10-0{day}", "to": f"2024-10-0{day + 1}", "name": f"w{day}"} for day in range(1, 6)
    ]
    report_id = client.post("/trigger_report", json={"windows": ["last_day", *windows]}).json["report_id"]
    page = client.get("/reports", query_string={"again": report_id}).text
    fields = re.findall(r'<input id="((?:from|to|name)\d+)" name="\1" value="([^"]*)"', page)
    again = client.get(asked(client, window="last_day", **dict(fields))).text
    header = the_csv(client, f"/get_report/{report_id}")[0]
    assert len(header) == 13
    assert cells(again)[0] == cells(client.get(f"/reports/{report_id}").text)[0]
    assert "w5" in again


def test_one_that_is_on_its_way_refreshes_itself_without_a_script(
    client: FlaskClient, runner: Worker, small_fleet: Path
) -> None:
    location = asked(client)
    report_id = location.rpartition("/")[2]
    sql(runner.settings.database, "UPDATE report SET state = 'running', progress = 0.42 WHERE id = ?", report_id)
    page = client.get(location).text
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    assert re.search(r'<progress max="100" value="42" aria-label="[^"]+">42 %</progress>', page)
    assert 'content="5"' in client.get("/reports").text


def test_one_that_failed_says_why(client: FlaskClient, runner: Worker, small_fleet: Path) -> None:
    location = asked(client)
    sql(
        runner.settings.database,
        "UPDATE report SET state = 'failed', error = 'the disk is <full>' WHERE id = ?",
        location.rpartition("/")[2],
    )
    assert "It failed: the disk is &lt;full&gt;" in client.get(location).text
    assert "the disk is &lt;full&gt;" in client.get("/reports").text


@pytest.mark.parametrize("report_id", ["0" * 32, "<script>alert(1)</script>", "x" * 200, "%F0%9F%8D%95", ".."])
def test_a_report_that_never_was_is_a_page(client: FlaskClient, small_fleet: Path, report_id: str) -> None:
    answer = client.get(f"/reports/{report_id}", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (404, "text/html")
    assert "<script>alert" not in answer.text


def test_one_that_is_gone_is_a_page(client: FlaskClient, runner: Worker, small_fleet: Path) -> None:
    location = asked(client)
    report_id = location.rpartition("/")[2]
    runner.path(report_id).unlink()
    answer = client.get(location, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (410, "text/html")
    assert "is no longer in the reports folder; ask for a new report." in answer.text
    assert client.get(f"/get_report?report_id={report_id}").json["detail"].endswith("; ask for a new report")
    sql(runner.settings.database, "UPDATE report SET state = 'deleted' WHERE id = ?", report_id)
    answer = client.get(location, headers=BROWSER)
    assert (answer.status_code, "The report was deleted; ask for a new one." in answer.text) == (410, True)


def test_deleting_leads_back_and_nothing_of_the_report_is_left(
    client: FlaskClient, runner: Worker, small_fleet: Path
) -> None:
    location, other = asked(client), asked(client, columns="full")
    report_id = location.rpartition("/")[2]
    assert f'action="{location}/delete"' in client.get(location).text
    answer = client.post(f"{location}/delete", headers=BROWSER)
    assert (answer.status_code, answer.headers["Location"]) == (303, "/reports")
    page = client.get("/reports").text
    assert (f'href="{location}"' in page, f'href="{other}"' in page) == (False, True)
    assert not runner.path(report_id).exists()
    assert client.get(location, headers=BROWSER).status_code == 410
    again = client.post(f"{location}/delete", headers=BROWSER)
    assert (again.status_code, "The report was deleted; ask for a new one." in again.text) == (410, True)


FULL = "report_x.csv cannot be written: <No> space left on device"


FULL_SHOWN = html.escape(FULL)


@pytest.mark.parametrize(
    ("state", "attempts", "last_error", "next_try_us", "words"),
    [
        ("pending", 2, FULL, 1_728_907_204_000_000,
         f"Try 2 failed: {FULL_SHOWN}. The next one is at 2024-10-14 12:00:04 UTC."),
        ("running", 3, FULL, None, f"This is try 3; one before it failed: {FULL_SHOWN}."),
        ("running", 2, None, None, "This is try 2."),
        ("complete", 3, FULL, None, f"It took 3 tries; the last that failed: {FULL_SHOWN}."),
        ("complete", 1, None, None, ""),
        ("pending", 0, None, None, ""),
        ("running", 1, None, None, ""),
    ],
)  # fmt: skip
def test_tries_are_told_in_words_in_the_list_and_on_the_reports_page(
    client: FlaskClient,
    runner: Worker,
    small_fleet: Path,
    state: str,
    attempts: int,
    last_error: str | None,
    next_try_us: int | None,
    words: str,
) -> None:
    location = asked(client)
    sql(
        runner.settings.database,
        "UPDATE report SET state = ?, attempts = ?, last_error = ?, next_try_us = ?",
        state,
        attempts,
        last_error,
        next_try_us,
    )
    hidden = "" if words else " hidden"
    assert f'<span class="facts tries"{hidden}>{words}</span>' in client.get("/reports").text
    page = client.get(location).text
    if state != "complete":
        assert f'<p class="banner tries"{hidden}>{words}</p>' in page
    elif words:
        assert f'<p class="facts">{words}</p>' in page
    else:
        assert "tries" not in page


def test_a_full_queue_is_said_at_the_form(settings: Settings, small_fleet: Path) -> None:
    app = create_app(replace(settings, max_pending_reports=1), Queue())
    client = app.test_client()
    assert ask(client).status_code == 303
    answer = ask(client, columns="full")
    assert answer.status_code == 503
    assert "1 report(s) are waiting, as many as may; try again later" in answer.text
    assert '<option value="full" selected>' in answer.text
    app.extensions["storemon"].database.close()


def test_a_key_that_only_reads_may_ask_but_not_delete(client: FlaskClient, runner: Worker, small_fleet: Path) -> None:
    key = keys.add(runner.database, "read", "", 0)
    bearer = {"Authorization": f"Bearer {key}", **BROWSER}
    assert client.post("/reports", headers=BROWSER).status_code == 401
    location = client.post("/reports", headers=bearer).headers["Location"]
    assert client.get(location, headers=bearer).status_code == 200
    assert client.post(f"{location}/delete", headers=bearer).status_code == 403


def test_what_changed_is_a_page(client: FlaskClient, small_fleet: Path) -> None:
    before = asked(client, as_of="2024-10-14T11:00:00Z").rpartition("/")[2]
    after = asked(client)
    assert f'<option value="{before}">' in client.get(after).text
    page = client.get(f"{after}/changes", query_string={"against": before})
    answer = client.get(f"/api/v1{after}/diff", query_string={"against": before}).json
    rows = answer["rows"]
    assert page.status_code == 200
    assert page.text.count('<tr><th scope="row">') == answer["row_total"] == len(rows) > 1
    assert f"{len(rows)} rows differ, in {answer['total']} cells" in page.text
    assert page.text.count(" → ") == answer["total"]
    assert answer["window"] == "last_week"
    signs = {"better": "▲", "worse": "▼", "same": "=", "unknown": "?"}
    words = [
        f"{row['change_points']:+.2f} {row['verdict']}".replace("-", "−")
        if row["change_points"]
        else row["note"] or "the same"
        for row in rows
    ]
    assert re.findall(r'<td class="change (\w+)"><b aria-hidden="true">(.)</b> ([^<]*?)\s*<details>', page.text) == [
        (row["verdict"], signs[row["verdict"]], text) for row, text in zip(rows, words, strict=True)
    ]
    assert any(row["change_points"] for row in rows)
    for row in rows:
        if row["change_points"] is not None:
            difference = row["uptime_percent_after"] - row["uptime_percent_before"]
            assert difference == pytest.approx(row["change_points"])
    assert '<a href="/stores/worked?as_of=2024-10-14T12:00:00Z"><bdi>worked</bdi></a>' in page.text
    day = client.get(f"{after}/changes", query_string={"against": before, "window": "last_day"}).text
    assert 'window=last_day" aria-current="true"' in day
    wrong = client.get(f"{after}/changes", query_string={"against": before, "window": "<i>"}, headers=BROWSER)
    assert (wrong.status_code, wrong.mimetype) == (422, "text/html")
    missing = client.get(f"{after}/changes?against=nonsense", headers=BROWSER)
    assert (missing.status_code, missing.mimetype) == (404, "text/html")


@pytest.mark.usefixtures("hostile")
@pytest.mark.parametrize(
    "form", [{}, {"columns": "full"}, {"by": "day", "totals": "1"}, {"groups": HOSTILE[0]}, {"kind": "outages"}]
)
def test_hostile_names_are_text_on_every_page(client: FlaskClient, form: dict[str, str]) -> None:
    location = asked(client, **form)
    for address in ("/reports", location, f"{location}?q=<script>alert(1)</script>", f"/reports?again={location[9:]}"):
        page = client.get(address)
        assert page.status_code == 200
        assert "<script>alert" not in page.text
    if form != {"kind": "outages"}:
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in client.get(f"{location}?limit=500").text


@pytest.mark.usefixtures("hostile")
def test_a_report_of_a_hostile_name_has_a_page(client: FlaskClient) -> None:
    location = asked(client, stores="\n".join(HOSTILE[:2]), from0="2024-10-01", to0="2024-10-02", name0=HOSTILE[0])
    page = client.get(location).text
    assert "<script>alert" not in page
    assert {row[0] for row in cells(page)[1:]} == set(HOSTILE[:2])
