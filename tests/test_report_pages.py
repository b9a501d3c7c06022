"""`/reports` and a page per report, as they come without a script: ask, be told what is wrong, look, compare, delete."""

import csv
import html
import io
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import FORMULA_ID, NEWEST, NO_POLLS, QUOTED_ID, SMALL_FLEET, load_folder, sql
from flask.testing import FlaskClient
from job_helpers import Queue
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask.jobs.runner import Runner
from storemon_flask.services import keys, report_rows
from storemon_flask.settings import Settings
from storemon_flask.storage.db import Database

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
HOSTILE = ("<script>alert(1)</script>", "x" * 200, "مطعم السلام", "🍕/..?#&\"'", "=1+1")


def ask(client: FlaskClient, **form: Any) -> TestResponse:
    return client.post("/reports", data=form, headers=BROWSER)


def asked(client: FlaskClient, **form: Any) -> str:
    """The page of the report that was made."""
    answer = ask(client, **form)
    assert answer.status_code == 303, answer.text
    found: str = answer.headers["Location"]
    return found


def cells(page: str) -> list[list[str]]:
    """The rows of the report's table, header first, without the marks and units around the figures."""
    table = page[page.index('<table class="data cells">') : page.index("</table>")]
    return [
        [
            html.unescape(re.sub(r"<[^>]+>", "", cell)).strip()
            for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.DOTALL)
        ]
        for row in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]


def the_csv(client: FlaskClient, location: str) -> list[list[str]]:
    answer = client.get("/get_report", query_string={"report_id": location.rpartition("/")[2]})
    return list(csv.reader(io.StringIO(answer.text)))


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


def test_a_plain_form_asks_and_leads_to_the_numbers_of_the_csv(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    page = client.get(location).text
    found, expected = cells(page), the_csv(client, location)
    assert [row[1:] for row in found[1:]] == [row[1:] for row in expected[1:]]
    assert [row[0] for row in found[1:]] == [FORMULA_ID, QUOTED_ID, "silent", "worked"]
    assert found[0][:2] == ["store", "uptime last hour min"]
    assert f'datetime="{NEWEST}"' in page
    assert "Rows 1 to 4 of 4" in page


def test_all_columns_are_there_with_the_names_in_front(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client, columns="full")
    found, expected = cells(client.get(location).text), the_csv(client, location)
    # No store of this fleet has a name or a group.
    assert [cell.split()[0] for cell in found[0][:3]] == ["store", "status", "uptime"]
    worked = dict(zip(expected[0], expected[-1], strict=True))
    assert (worked.pop("name"), worked.pop("group")) == ("", "")
    assert len(found[0]) == len(worked)
    assert sorted(found[-1]) == sorted(
        {**worked, "status_now": "– Closed", "last_poll_utc": "Mon 2024-10-14 11:15 UTC"}.values()
    )


def test_rows_are_sorted_filtered_and_paged_by_the_server(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    by_downtime = client.get(location, query_string={"sort": "downtime_last_day", "order": "desc"}).text
    assert cells(by_downtime)[1][0] == "worked"
    assert 'aria-sort="descending"' in by_downtime
    second = client.get(location, query_string={"limit": 3, "page": 2}).text
    assert ("Rows 4 to 4 of 4" in second, [row[0] for row in cells(second)[1:]]) == (True, ["worked"])
    filtered = client.get(location, query_string={"q": "nyc/12"}).text
    assert [row[0] for row in cells(filtered)[1:]] == [QUOTED_ID]
    none = client.get(location, query_string={"q": "<b>nobody</b>"}).text
    assert "No row has “<bdi>&lt;b&gt;nobody&lt;/b&gt;</bdi>” in it." in none


@pytest.mark.parametrize(
    "query", ["page=x", "page=-3", "page=99999999999999999999", "limit=0", "limit=abc", "order=up"]
)
def test_a_view_that_makes_no_sense_is_still_a_page(client: FlaskClient, small_fleet: Path, query: str) -> None:
    assert client.get(f"{asked(client)}?{query}").status_code == 200


def test_what_is_too_long_to_be_sorted_offers_no_sorting(
    client: FlaskClient, small_fleet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = asked(client)
    assert client.get(location).text.count("sort=") == 7
    monkeypatch.setattr(report_rows, "MOST_SORTED", 3)
    page = client.get(location).text
    assert "sort=" not in page
    assert "Rows 1 to 4 of 4. So many are not sorted here: filter them first." in page
    assert client.get(f"{location}?q=worked").text.count("sort=") == 7


def test_a_column_that_is_not_there_is_said_on_a_page(client: FlaskClient, small_fleet: Path) -> None:
    answer = client.get(f"{asked(client)}?sort=<script>", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "has no column &#39;&lt;script&gt;&#39;" in answer.text


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"as_of": "yesterday"}, "as_of", "is not an instant such as 2024-10-14T23:55:18Z"),
        ({"from0": "2024-10-02", "to0": "2024-10-01"}, "windows", "an end after its start"),
        ({"from1": "2024-10-02"}, "windows", "is missing"),
        ({"shortest_minutes": "ten", "kind": "outages"}, "shortest_minutes", "a number of minutes from 0 to 576000"),
        ({"by": "decade"}, "by", "must be hour, day, week, month"),
        ({"stores": "worked\nnobody"}, "stores", "unknown: nobody"),
        ({"groups": "<b>"}, "groups", "unknown: &lt;b&gt;"),
        ({"kind": "outages", "totals": "1"}, "totals", "does not go with outages"),
        ({"columns": "all"}, "columns", "Must be one of: classic, full"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_field_and_what_was_typed_stays(
    client: FlaskClient, small_fleet: Path, form: dict[str, str], field: str, sentence: str
) -> None:
    answer = ask(client, **form)
    assert answer.status_code == 422
    wrong = re.search(rf'<p class="wrong" id="wrong-{field}">(.*?)</p>', answer.text, re.DOTALL)
    assert wrong, answer.text
    assert sentence in wrong[1].replace("&#39;", "'")
    assert f'aria-invalid="true" aria-describedby="wrong-{field}"' in answer.text
    typed = next(iter(form.values())).splitlines()[0]
    assert html.escape(typed) in answer.text
    assert client.get("/api/v1/reports").json["reports"] == []


def test_a_program_is_told_the_same_sentence(client: FlaskClient, small_fleet: Path) -> None:
    asked_for = {"windows": [{"from": "2024-10-02", "to": "2024-10-01"}]}
    told = client.post("/trigger_report", json=asked_for).json["detail"]
    assert html.escape(told, quote=False) in ask(client, from0="2024-10-02", to0="2024-10-01").text.replace(
        "&#39;", "'"
    )


def test_without_polls_the_page_says_what_to_do(client: FlaskClient) -> None:
    page = client.get("/reports")
    assert (page.status_code, "There are no polls yet" in page.text, 'href="/data"' in page.text) == (200, True, True)
    answer = ask(client)
    assert (answer.status_code, NO_POLLS in answer.text) == (409, True)


def test_another_site_may_not_ask_or_delete(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    evil = {"Origin": "https://evil.example", **BROWSER}
    for address in ("/reports", f"{location}/delete"):
        answer = client.post(address, data={}, headers=evil)
        assert (answer.status_code, "A page of another site" in answer.text) == (403, True)
    assert len(client.get("/api/v1/reports").json["reports"]) == 1


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
    client: FlaskClient, runner: Runner, small_fleet: Path
) -> None:
    location = asked(client)
    report_id = location.rpartition("/")[2]
    sql(runner.settings.database, "UPDATE report SET state = 'running', progress = 0.42 WHERE id = ?", report_id)
    page = client.get(location).text
    assert '<noscript><meta http-equiv="refresh" content="2"></noscript>' in page
    assert re.search(r'<progress max="100" value="42" aria-label="[^"]+">42 %</progress>', page)
    assert 'content="5"' in client.get("/reports").text


def test_one_that_failed_says_why(client: FlaskClient, runner: Runner, small_fleet: Path) -> None:
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


def test_one_that_is_gone_is_a_page(client: FlaskClient, runner: Runner, small_fleet: Path) -> None:
    location = asked(client)
    report_id = location.rpartition("/")[2]
    runner.path(report_id).unlink()
    answer = client.get(location, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (410, "text/html")
    assert "is no longer in the reports folder; trigger a new report" in answer.text
    sql(runner.settings.database, "UPDATE report SET state = 'deleted' WHERE id = ?", report_id)
    answer = client.get(location, headers=BROWSER)
    assert (answer.status_code, "The report was deleted; trigger a new one" in answer.text) == (410, True)


def test_deleting_leads_back_and_nothing_of_the_report_is_left(
    client: FlaskClient, runner: Runner, small_fleet: Path
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
    assert (again.status_code, "The report was deleted; trigger a new one" in again.text) == (410, True)


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
    runner: Runner,
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
    assert "1 report(s) are waiting, the most that STOREMON_MAX_PENDING_REPORTS allows; try again later" in answer.text
    assert '<option value="full" selected>' in answer.text
    app.extensions["storemon"].database.close()


def test_a_key_that_only_reads_may_ask_but_not_delete(client: FlaskClient, runner: Runner, small_fleet: Path) -> None:
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
    changes = client.get(f"/api/v1{after}/diff", query_string={"against": before}).json["changes"]
    assert page.status_code == 200
    assert page.text.count('<tr><th scope="row">') == len(changes) > 0
    assert f"{len(changes)} cells differ" in page.text
    assert f'<td class="num">{changes[0]["change"]:+.2f}</td>' in page.text
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
