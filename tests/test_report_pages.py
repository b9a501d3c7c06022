"""`/reports` as it comes without a script: ask, look, be told what is wrong."""

import html
import re
from pathlib import Path

import pytest
from conftest import FORMULA_ID, NEWEST, NO_POLLS, QUOTED_ID
from flask.testing import FlaskClient
from report_page_helpers import BROWSER, ask, asked, cells, the_csv

from storemon_flask.services import report_rows


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
        (" selected", "3"), ("", "25"), ("", "50"), ("", "100"), ("", "250"), ("", "500"),
    ]  # fmt: skip
    usual = client.get(asked(client)).text
    assert re.findall(r"<option selected>(\d+)", usual) == ["100"]


def test_the_filter_names_the_texts_that_the_report_has(client: FlaskClient, small_fleet: Path) -> None:
    def placeholder(**form: str) -> str:
        found = re.search(r'id="q"[^>]* placeholder="([^"]*)"', client.get(asked(client, **form)).text)
        assert found
        return html.unescape(found[1])

    assert placeholder() == "store"
    assert placeholder(columns="full") == "store, status, time zone"
    client.post("/api/v1/feeds/stores", json=[{"store_id": "worked", "name": "Bea", "group": "North"}])
    assert placeholder(columns="full") == "store, name, group, status, time zone"
    assert placeholder(by="day") == "store, period"
    assert placeholder(kind="outages") == "store, name, group, time zone"


def test_an_id_is_told_whole_on_hover_however_long_it_is(client: FlaskClient, small_fleet: Path) -> None:
    assert '<th scope="row"><bdi title="worked">' in client.get(asked(client)).text


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
