"""`/reports` as it comes without a script: ask, look, be told what is wrong."""

import html
import re
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import FORMULA_ID, NEWEST, NO_POLLS, QUOTED_ID
from flask.testing import FlaskClient
from report_page_helpers import BROWSER, ask, asked, cells, the_csv
from worker_helpers import Queue

from storemon_flask import clock, create_app
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.pages.report_form import PERIODS
from storemon_flask.reports import table
from storemon_flask.reports.worker import Worker
from storemon_flask.settings import Settings


def test_a_plain_form_asks_and_leads_to_the_numbers_of_the_csv(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    page = client.get(location).text
    found, expected = cells(page), the_csv(client, location)
    assert [row[1:] for row in found[1:]] == [row[1:] for row in expected[1:]]
    assert [row[0] for row in found[1:]] == [FORMULA_ID, QUOTED_ID, "silent", "worked"]
    assert found[0][:2] == ["store", "uptime last hour min"]
    assert f'datetime="{NEWEST}"' in page
    assert "Rows 1 to 4 of 4" in page


def test_a_store_of_which_nothing_is_known_is_never_shown_as_up_all_the_time(
    client: FlaskClient, small_fleet: Path
) -> None:
    page = client.get(asked(client)).text
    # One store is up for the whole last hour and day; of its week only half an hour is known.
    assert re.findall(r'<td class="up">([^<]*)</td>', page) == ["60.00", "24.00"]
    assert '<span class="up">up all the time, nothing unknown</span>' in page
    assert "a report of all columns tells" in page
    worked = client.get(asked(client, stores="worked")).text
    assert ('class="down"' in worked, 'class="up"' in worked) == (True, False)
    full = client.get(asked(client, stores="silent", columns="full")).text
    assert ('class="unknown"' in full, 'class="up"' in full) == (True, False)
    assert "a report of all columns tells" not in full


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


def test_the_size_of_a_page_that_was_asked_for_is_the_one_that_is_chosen(
    client: FlaskClient, small_fleet: Path
) -> None:
    page = client.get(f"{asked(client)}?limit=3").text
    options = page[page.index('<select id="limit"') : page.index("</select>")]
    assert re.findall(r"<option( selected)?>(\d+)", options) == [
        (" selected", "3"), ("", "25"), ("", "50"), ("", "100"), ("", "250"),
    ]  # fmt: skip
    usual = client.get(asked(client)).text
    assert re.findall(r"<option selected>(\d+)", usual) == ["100"]
    # More than fit on a small page are as many as do.
    most = client.get(asked(client) + "?limit=500").text
    assert re.findall(r"<option( selected)?>(\d+)", most)[-1] == (" selected", "274")


def test_the_filter_names_the_texts_that_the_report_has(client: FlaskClient, small_fleet: Path) -> None:
    def placeholder(**form: str) -> str:
        found = re.search(r'id="q"[^>]* placeholder="([^"]*)"', client.get(asked(client, **form)).text)
        assert found
        return html.unescape(found[1])

    assert placeholder() == "store"
    assert placeholder(columns="full") == "store, status, time zone"
    client.post("/api/v1/feeds/stores", json=[{"store_id": "worked", "name": "Bea", "group": "North"}])
    assert placeholder(columns="full") == "store, name, group, status, time zone"
    assert placeholder(by="day") == "store, name, group, period"
    assert placeholder(stores="silent") == "store"
    assert placeholder(kind="outages") == "store, name, group, time zone"


def test_a_table_of_ids_says_what_stores_are_called_and_finds_them_by_that(
    client: FlaskClient, small_fleet: Path
) -> None:
    location = asked(client)
    before = the_csv(client, location)
    client.post(
        "/api/v1/feeds/stores",
        json=[
            {"store_id": "worked", "name": "<Bea>", "group": "North"},
            {"store_id": "silent", "name": "", "group": "South"},
        ],
    )
    page = client.get(location).text
    assert re.findall(r'<small class="called">(.*?)</small>', page) == [
        "<bdi>South</bdi>", "<bdi>&lt;Bea&gt;</bdi> · <bdi>North</bdi>",
    ]  # fmt: skip
    assert [row[0] for row in cells(client.get(f"{location}?q=%3CBEA").text)[1:]] == ["worked"]
    assert [row[0] for row in cells(client.get(f"{location}?q=south").text)[1:]] == ["silent"]
    # What is handed over stays as it was.
    assert the_csv(client, location) == before
    # Where the report has names of its own, those are shown.
    assert "called" not in client.get(asked(client, columns="full")).text


@pytest.mark.parametrize(
    ("as_of", "words"),
    [
        ("", None),
        ("2024-10-14T12:00:00Z", None),
        ("2024-10-14T11:00:00Z", None),
        (
            "2024-10-14T14:00:00Z",
            "The as-of lies 2 h after the newest poll there is, that of 2024-10-14 12:00 UTC: no poll tells",
        ),
    ],
)
def test_an_as_of_after_the_newest_poll_is_warned_of(
    client: FlaskClient, small_fleet: Path, as_of: str, words: str | None
) -> None:
    page = client.get(asked(client, as_of=as_of)).text
    assert (words in page) if words else ("The as-of lies" not in page)


def test_an_as_of_after_the_newest_poll_is_warned_of_beside_a_poll_of_years_ahead(
    client: FlaskClient, small_fleet: Path, database: Database, tmp_path: Path
) -> None:
    (tmp_path / "ahead.csv").write_text("store_id,timestamp_utc,status\nworked,2150-01-01 00:00:00 UTC,active\n")
    load.load_sources(database, sources.find_sources([tmp_path / "ahead.csv"]), load.LoadOptions(clock.LATEST_US, 0))
    for as_of, words in (
        ("", None),
        ("2024-10-14T11:00:00Z", None),
        ("2024-10-14T14:00:00Z", "lies 2 h after the newest poll there is, that of 2024-10-14 12:00 UTC"),
        ("2150-01-01T00:00:00Z", None),
        ("2150-01-01T01:00:00Z", "lies 1 h after the newest poll there is, that of 2150-01-01 00:00 UTC"),
    ):
        page = client.get(asked(client, as_of=as_of)).text
        assert (words in page) if words else ("The as-of lies" not in page), as_of


def test_where_every_poll_is_in_the_future_the_form_says_so(
    client: FlaskClient, runner: Worker, small_fleet: Path
) -> None:
    runner._clock = lambda: 60_000_000
    page = ask(client).text
    assert "Every poll is later than 1970-01-01 00:06 UTC, the latest that this machine&#39;s clock allows" in page


def test_the_form_says_in_which_zone_an_as_of_is_read(client: FlaskClient) -> None:
    assert '<label for="as_of">As of <small>(UTC, or with an offset)</small></label>' in client.get("/reports").text


def test_an_id_is_told_whole_on_hover_however_long_it_is(client: FlaskClient, small_fleet: Path) -> None:
    assert '<th scope="row"><bdi title="worked">' in client.get(asked(client)).text


@pytest.mark.parametrize("period", PERIODS)
def test_the_button_of_a_period_asks_for_percentages_and_totals_of_it(
    client: FlaskClient, small_fleet: Path, period: str
) -> None:
    page = client.get("/reports").text
    assert f'<button name="period" value="{period}">{PERIODS[period]}</button>' in page
    assert '<input type="checkbox" name="compare" value="1" checked>' in page
    location = asked(client, period=period, compare="1")
    report = client.get(f"/api/v1{location}").json
    assert report["shape"] == {"windows": [period], "totals": True, "compare": "previous"}
    assert report["columns"] == "full"
    header, *rows = the_csv(client, location)
    assert f"uptime_percent_{period}" in header
    assert f"change_points_{period}" in header
    assert rows[-1][0] == "fleet"
    again = client.get("/reports", query_string={"again": location.rpartition("/")[2]}).text
    for name, value in (("window", period), ("totals", "1"), ("compare", "1")):
        assert re.search(
            rf'<input type="checkbox"[^>]* name="{name}" value="{value}" checked>|'
            rf'<input type="checkbox" name="{name}" value="{value}" checked>',
            again,
        ), name


def test_a_period_that_has_no_button_is_refused_at_the_windows(client: FlaskClient, small_fleet: Path) -> None:
    answer = ask(client, period="last_year")
    assert answer.status_code == 422
    assert '<p class="wrong" id="wrong-windows">Windows: is &#39;last_year&#39;; it must be ' in answer.text


def test_totals_are_ticked_in_an_empty_form_and_outages_have_none(client: FlaskClient, small_fleet: Path) -> None:
    assert '<input type="checkbox" id="totals" name="totals" value="1" checked>' in client.get("/reports").text
    outages = asked(client, kind="outages", totals="1")
    assert client.get(f"/api/v1{outages}").json["shape"] == {"kind": "outages"}
    without = client.get("/reports", query_string={"again": asked(client).rpartition("/")[2]}).text
    assert '<input type="checkbox" id="totals" name="totals" value="1">' in without


def test_totals_come_first_and_thousands_are_told_apart(client: FlaskClient, small_fleet: Path) -> None:
    client.post("/api/v1/feeds/stores", json=[{"store_id": "worked", "name": "Bea", "group": "North"}])
    location = asked(client, columns="full", totals="1", window="last_30_days")
    page = client.get(location).text
    header, *rows = cells(page)
    assert [row[0] for row in rows[:2]] == ["all stores", "North"]
    assert header[:4] == ["store", "kind", "name", "group"]
    assert header[4].split() == ["uptime", "last", "30", "days", "%"]
    assert page.count('<tr class="total">') == 2
    assert "Rows 1 to 6 of 6, 2 of them totals, which come first." in page
    fleet = dict(zip(*[the_csv(client, location)[line] for line in (0, -1)], strict=True))
    business = next(at for at, name in enumerate(header) if name.startswith("business"))
    assert float(fleet["business_last_30_days"]) > 1000
    assert rows[0][business] == f"{float(fleet['business_last_30_days']):,.2f}"
    # The order of the CSV stays.
    assert [line[0] for line in the_csv(client, location)] == ["kind", *["store"] * 4, "group", "fleet"]


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
    monkeypatch.setattr(table, "MOST_SORTED", 3)
    page = client.get(location).text
    assert "sort=" not in page
    assert "Rows 1 to 4 of 4. So many are not sorted here: filter them first." in page
    assert client.get(f"{location}?q=worked").text.count("sort=") == 7


def test_a_column_that_is_not_there_is_said_on_a_page(client: FlaskClient, small_fleet: Path) -> None:
    answer = client.get(f"{asked(client)}?sort=<script>", headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (422, "text/html")
    assert "has no column &#39;&lt;script&gt;&#39;" in answer.text


OUTAGES = {"kind": "outages"}
MANY = "\n".join(f"nobody-{number:02d}" for number in range(12))


@pytest.mark.parametrize(
    ("form", "field", "sentence"),
    [
        ({"as_of": "yesterday"}, "as_of", "As of: 'yesterday' is not an instant such as 2024-10-14T"),
        ({"as_of": "2300-01-01"}, "as_of", "As of: it must be between 1970-01-01 and 2200-01-01."),
        ({"from0": "2024-10-02", "to0": "2024-10-01"}, "to0", "To (window 1): runs from '2024-10-02' "
            "to '2024-10-01'; it must be an end after"),
        ({"from2": "2024-10-02"}, "to2", "To (window 3): is missing; it must be a date such as 2024-10-01 or"),
        ({"to2": "2024-10-02", "window": "last_day"}, "from2", "From (window 3): is missing; it "
            "must be a date such as 2024-10-01 or"),
        ({"from1": "noon", "to1": "2024-10-02"}, "from1", "From (window 2): is 'noon'; it "
            "must be a date such as 2024-10-01 or"),
        ({"from1": "2024-10-01", "to1": "2024-10-02T09:00Z"}, "to1", "To (window 2): mixes a date with an instant"),
        ({"from1": "2022-10-01", "to1": "2024-10-02"}, "to1", "To (window 2): is 732 days long;"
            " it must be at most 400 days."),
        ({"from1": "2024-10-01", "to1": "2030-10-02"}, "to1", "it must be at most 400 days."),
        ({"from1": "2024-11-01", "to1": "2024-11-02"}, "to1", "To (window 2): '2024-11-01_2024-11-02' "
            "ends after the as-of"),
        ({"from0": "2024-10-01", "to0": "2024-10-02", "name0": "x" * 101}, "name0", "it must be 1 to 100 "
            "printable characters."),
        ({"from0": "2024-10-01", "to0": "2024-10-02", "from2": "2024-10-01", "to2": "2024-10-02"}, "windows",
         "Windows: names '2024-10-01_2024-10-02' twice; it must be a name of its own for each window."),
        ({"by": "day", "window": ["last_day", "last_week"]}, "windows", "Windows: has 2 entries;"
            " it must be one window"),
        ({**OUTAGES, "window": ["last_day", "last_week"]}, "windows", "it must be one window, in "
            "which outages are looked for."),
        ({"shortest_minutes": "ten", **OUTAGES}, "shortest_minutes", "is 'ten'; it must be a number "
            "of minutes from 0 to 576000."),
        ({"shortest_minutes": "-5", **OUTAGES}, "shortest_minutes", "is -5.0; it must be a number "
            "of minutes from 0 to 576000."),
        ({"shortest_minutes": "5"}, "shortest_minutes", "it must be left out without kind outages."),
        ({"by": "decade"}, "by", "A row for each: is 'decade'; it must be hour, daypart, day, week, month."),
        ({"stores": "worked\nnobody\nelse"}, "stores", "Only these stores: unknown: nobody; unknown: else."),
        ({"stores": MANY}, "stores", "unknown: nobody-08; unknown: nobody-09; and 2 more."),
        ({"groups": "<b>"}, "groups", "Only these groups: unknown: <b>."),
        ({"zones": ["Mars", "UTC", "Venus"]}, "zones", "Only these time zones: unknown: Mars; unknown: Venus."),
        ({**OUTAGES, "by": "day"}, "by", "A row for each: does not go with outages; it must be left out."),
        ({**OUTAGES, "method": "previous"}, "method", "does not go with outages; it must be left out."),
        ({"columns": "all"}, "columns", "Columns: Must be one of: classic, full."),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_at_its_input_in_words_and_what_was_typed_stays(
    client: FlaskClient, small_fleet: Path, form: dict[str, str], field: str, sentence: str
) -> None:
    answer = ask(client, **form)
    assert answer.status_code == 422
    assert re.findall(r'<p class="wrong" id="wrong-([^"]*)">', answer.text) == [field], answer.text
    wrong = re.search(rf'<p class="wrong" id="wrong-{field}">(.*?)</p>', answer.text, re.DOTALL)
    assert wrong
    assert sentence in html.unescape(wrong[1])
    invalid = re.findall(r'<[^>]* aria-invalid="true"[^>]*>', answer.text)
    assert invalid
    assert all(re.search(rf'aria-describedby="([^"]* )?wrong-{field}"', one) for one in invalid)
    if field != "windows":
        assert all(re.search(rf' name="{field}"', one) and not one.startswith("<fieldset") for one in invalid)
    # The banner leads there, by the words of the label.
    link = re.search(rf'<li><a href="#{field}">([^<]*)</a></li>', answer.text)
    assert link
    assert "Not asked for yet: see what is marked below." in answer.text
    assert answer.text.count(f' id="{field}"') == 1
    plain = html.unescape(re.sub(r"<[^>]+>", "", answer.text))
    assert plain.casefold().count(link[1].casefold()) >= 2
    # Nothing of the names that programs use.
    assert not re.search(r"shortest_minutes|as_of|windows\[|the fields allowed", plain)
    for typed in form.values():
        assert html.escape(typed.splitlines()[0] if isinstance(typed, str) else typed[0]) in answer.text
    assert client.get("/api/v1/reports").json["reports"] == []


def test_a_window_that_the_form_does_not_have_is_said_at_the_windows(client: FlaskClient, small_fleet: Path) -> None:
    answer = ask(client, window="last_year")
    assert '<p class="wrong" id="wrong-windows">Windows: is &#39;last_year&#39;; it must be last_hour, ' in answer.text


def test_too_many_rows_are_said_at_the_periods(settings: Settings, small_fleet: Path) -> None:
    app = create_app(replace(settings, max_report_rows=20), Queue())
    answer = ask(app.test_client(), by="day")
    assert answer.status_code == 422
    assert '<p class="wrong" id="wrong-by">A row for each: ' in answer.text
    assert "32" in answer.text
    app.extensions["storemon"].database.close()


def test_a_program_is_told_as_ever_in_the_names_of_its_fields(client: FlaskClient, small_fleet: Path) -> None:
    asked_for = {"windows": ["last_day", {"from": "2024-10-02"}]}
    told = client.post("/trigger_report", json=asked_for).json
    sentence = (
        "is missing; it must be a date such as 2024-10-01 or an "
        "instant with an offset such as 2024-10-01T09:00:00-05:00"
    )
    assert (told["detail"], told["errors"]) == (f"windows[1].to {sentence}", {"windows[1].to": [sentence]})
    assert sorted(told) == ["detail", "errors", "status", "title", "type"]


def test_without_polls_the_page_says_what_to_do(client: FlaskClient) -> None:
    page = client.get("/reports")
    assert (page.status_code, "There are no polls yet" in page.text, 'href="/data"' in page.text) == (200, True, True)
    answer = ask(client)
    assert (answer.status_code, "No polls loaded; run `storemon load-data`." in answer.text) == (409, True)
    assert client.post("/trigger_report").json["detail"] == NO_POLLS


def test_another_site_may_not_ask_or_delete(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    evil = {"Origin": "https://evil.example", **BROWSER}
    for address in ("/reports", f"{location}/delete"):
        answer = client.post(address, data={}, headers=evil)
        assert (answer.status_code, "A page of another site" in answer.text) == (403, True)
    assert len(client.get("/api/v1/reports").json["reports"]) == 1


def test_a_report_against_the_period_before_shows_the_change_with_its_sign(
    client: FlaskClient, small_fleet: Path
) -> None:
    location = asked(client, window="last_hour", compare="previous")
    page = client.get(location).text
    assert "The last hour, every store, against the period before" in page
    found, expected = cells(page), the_csv(client, location)
    header = expected[0]
    assert header[-2:] == ["uptime_percent_previous_last_hour", "change_points_last_hour"]
    assert {"uptime last hour, before %", "change last hour points"} <= set(found[0])
    shown = [row[found[0].index("change last hour points")] for row in found[1:]]
    assert shown == [f"+{row[-1]}" if row[-1] and float(row[-1]) > 0 else row[-1] for row in expected[1:]]
    again = client.get(f"/reports?again={location.rsplit('/', 1)[1]}").text
    assert re.search('<input type="checkbox" id="compare" name="compare" value="1" checked', again)
