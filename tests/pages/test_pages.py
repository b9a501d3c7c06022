"""Pages for people, as the server makes them: what they say, what they weigh, how they refuse; nothing hostile gets
out.
"""

import re
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import FORMULA_ID, ROOT, STORE_IDS, load_folder
from flask import Flask
from flask.testing import FlaskClient

from pages.test_docs_page import Page
from storemon_flask.database import keys
from storemon_flask.database.connections import Database

STATIC = ROOT / "storemon_flask" / "pages" / "static"
BROWSER = {"Accept": "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"}
HOSTILE = (
    "<script>alert(1)</script>",
    "'\"><img src=x onerror=alert(1)>",
    "مطعم السلام",
    "🍕",
    "/..?#&",
    "x" * 200,
    "a/b%2Fc",
)
MOST_BYTES = 170_000
PAGES = ("/", "/outages", "/stores/worked", "/reports", "/data", "/docs")


@pytest.fixture
def loaded(client: FlaskClient, small_fleet: object) -> FlaskClient:
    return client


def page_of(client: FlaskClient, path: str, status: int = 200) -> Page:
    answer = client.get(path, headers=BROWSER, buffered=True)
    assert (answer.status_code, answer.mimetype) == (status, "text/html"), answer.text
    found = Page(answer.text)
    assert found.open == []
    return found


def weight(client: FlaskClient, path: str) -> int:
    """The bytes of a page with everything it asks for, each once."""
    asked, seen, total = [path], set(), 0
    while asked:
        one = asked.pop()
        if one in seen:
            continue
        seen.add(one)
        answer = client.get(one, buffered=True)
        assert answer.status_code == 200
        total += len(answer.data)
        asked += re.findall(r'(?:src|href)="(/static/[^"]+)"', answer.text) if one == path else []
        asked += [f"/static/{name}" for name in re.findall(r'from "\./([\w.]+)"', answer.text)]
    assert len(seen) > 2
    return total


@pytest.mark.parametrize("path", PAGES)
def test_every_page_is_small_and_has_nothing_inline(loaded: FlaskClient, path: str) -> None:
    found = page_of(loaded, path)
    assert weight(loaded, path) < MOST_BYTES
    policy = loaded.get(path).headers["Content-Security-Policy"]
    assert "unsafe" not in policy
    assert "script-src 'self'" in policy
    assert found.all("style") == []
    for tag, given in found.elements:
        assert not [name for name in given if name.startswith("on") or name == "style"], (tag, given)
        assert tag != "script" or given.get("src"), given
        for name in ("src", "href", "action"):
            assert not re.match(r"(https?:)?//", given.get(name, "")), given


@pytest.mark.parametrize("name", [file.name for file in STATIC.iterdir()])
def test_nothing_that_pages_ask_for_names_another_place(name: str) -> None:
    text = (STATIC / name).read_text("utf-8")
    assert not re.search(r"(?<!xmlns=\")https?://|@import|\burl\(|\.innerHTML = |eval\(|localStorage|cookie", text)


@pytest.mark.parametrize("path", PAGES)
def test_the_navigation_is_on_every_page_and_says_where_one_is(loaded: FlaskClient, path: str) -> None:
    found = page_of(loaded, path)
    links = [
        given["href"] for given in found.all("a") if given["href"] in ("/", "/outages", "/reports", "/data", "/docs")
    ]
    assert {"/", "/reports", "/data", "/docs"} <= set(links)
    here = [given["href"] for given in found.all("a") if given.get("aria-current") == "page"]
    assert here == ["/" if path.startswith("/stores") else path]


def test_the_list_is_worst_first_and_names_old_data(loaded: FlaskClient) -> None:
    found = page_of(loaded, "/")
    order = [
        given["data-key"].removeprefix("store-")
        for given in found.all("a")
        if given.get("data-key", "").startswith("store-")
    ]
    assert order == [one["store_id"] for one in loaded.get("/api/v1/stores").json["stores"]]
    assert sorted(order) == sorted(STORE_IDS)
    assert "Old data." in found.text
    assert "everything here is as of then, 2024-10-14 12:00 UTC." in found.text


def test_stores_is_the_list_by_its_other_name(loaded: FlaskClient) -> None:
    answer = loaded.get("/stores?status=down&q=a%26b")
    assert (answer.status_code, answer.headers["Location"]) == (302, "/?status=down&q=a%26b")


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("/?status=off", "Status must be one of: no_data, closed, up, down, waiting, stale (the parameters are"),
        ("/?sort=x", "Sort must be one of: worst, store_id, name, group,"),
        ("/?page=0", "Page must be greater than or equal to 1 and less than or equal to 1000000"),
        ("/?page=x&order=up", "page is not a valid integer"),
        ("/?page=x&order=up", "rder must be one of: asc, desc"),
        ("/?q=a&q=b", "Q is given more than once"),
        ("/stores/worked?days=31", "Days must be greater than or equal to 1 and less than or equal to 30"),
        ("/stores/worked?until=soon", "Until is not a valid date"),
        ("/stores/worked?as_of=now", "As_of 'now' is not an instant such as 2024-10-14T23:55:18Z"),
        ("/stores/worked?by=year", "By must be one of: hour, daypart, day, week, month"),
    ],
)  # fmt: skip
def test_a_wrong_parameter_is_answered_with_a_sentence(loaded: FlaskClient, path: str, sentence: str) -> None:
    found = page_of(loaded, path, 422)
    assert sentence in re.sub(r"\s+", " ", found.text)
    links = [given["href"] for given in found.all("a") if given.get("class", "").startswith("button")]
    assert links == ["/stores/worked", "/"] if "worked" in path else ["/"]
    # Programs get the same sentence.
    detail = loaded.get(path).json["detail"]
    assert detail.endswith(
        "(the parameters are days, until, as_of, window, by, method)" if "worked" in path else "sort, order, page)"
    )
    assert "of: ," not in detail


@pytest.mark.parametrize("path", ["/", "/stores/worked", "/reports"])
def test_what_a_mail_program_adds_to_an_address_is_passed_over(loaded: FlaskClient, path: str) -> None:
    plain = page_of(loaded, path).text
    added = page_of(loaded, f"{path}?utm_source=mail&utm_source=twice&fbclid=1").text
    assert re.sub(r"\d+ [a-z]+ ago", "", added) == re.sub(r"\d+ [a-z]+ ago", "", plain)
    refused = loaded.get("/api/v1/stores?utm_source=mail")
    assert (refused.status_code, refused.json["errors"]) == (
        422,
        {"utm_source": ["is not a parameter of this address"]},
    )


@pytest.mark.parametrize(("path", "page"), [("/reports/", "/reports"), ("/data/", "/data"), ("/docs/", "/docs"), ("/stores/", "/stores")])  # fmt: skip
def test_a_slash_behind_the_address_of_a_page_leads_to_the_page(loaded: FlaskClient, path: str, page: str) -> None:
    answer = loaded.get(f"{path}?q=a%26b", headers=BROWSER)
    assert (answer.status_code, answer.headers["Location"]) == (302, f"{page}?q=a%26b")
    assert loaded.get(path).headers["Location"] == page
    assert loaded.get(path, follow_redirects=True, headers=BROWSER).status_code == 200


def test_a_page_too_far_is_the_last_one(loaded: FlaskClient) -> None:
    assert "1–4 of 4 stores" in page_of(loaded, "/?page=99").text
    assert "No store matches" in page_of(loaded, "/?q=nowhere").text


def test_an_empty_database_says_what_to_do_next(client: FlaskClient) -> None:
    found = page_of(client, "/")
    assert "Nothing loaded yet" in found.text
    assert "storemon load-data" in found.text
    assert "Authorization" not in found.text


def test_where_a_key_is_needed_the_first_command_sends_it(client: FlaskClient, database: Database) -> None:
    key = keys.add(database, "read", "", 1)
    found = Page(client.get("/", headers={**BROWSER, "Authorization": f"Bearer {key}"}, buffered=True).text)
    assert "curl -H 'Content-Type: text/csv' -H \"Authorization: Bearer $KEY\" --data-binary" in found.text


def test_what_did_not_change_is_not_sent_again(loaded: FlaskClient) -> None:
    first = loaded.get("/?q=o")
    again = loaded.get("/?q=o", headers={"If-None-Match": first.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert loaded.get("/?q=w", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200
    loaded.post("/api/v1/feeds/polls", data="store_id,timestamp_utc,status\nworked,2024-10-14 11:20:00,active\n")
    assert loaded.get("/?q=o", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/stores/nowhere",
        "/stores/worked?days=31",
        "/stores/worked?until=1970-01-03",
        "/get_report?report_id=x",
    ],
)
def test_a_browser_gets_a_page_and_a_program_a_problem(loaded: FlaskClient, path: str) -> None:
    problem = loaded.get(path)
    assert problem.mimetype == "application/problem+json"
    found = page_of(loaded, path, problem.status_code)
    assert len(found.text) > 50
    assert "Accept" in problem.headers["Vary"]
    assert (
        loaded.get(path, headers={"Accept": "application/json, text/html;q=0.5"}).mimetype == "application/problem+json"
    )


@pytest.mark.parametrize("store_id", HOSTILE)
def test_hostile_ids_and_names_are_only_text(client: FlaskClient, store_id: str) -> None:
    polls = [{"store_id": store_id, "timestamp_utc": "2024-10-14T11:00:00Z", "status": "inactive"}]
    assert client.post("/api/v1/feeds/polls", json=polls).status_code == 200
    client.post(
        "/api/v1/feeds/stores",
        json=[{"store_id": store_id, "name": store_id * 2 if len(store_id) < 50 else store_id, "group": store_id}],
    )
    listed = page_of(client, "/")
    (link,) = [given for given in listed.all("a") if given.get("data-key") == f"store-{store_id}"]
    assert link["href"] == "/stores/" + quote(store_id, safe="")
    found = page_of(client, link["href"])
    assert store_id in found.text
    for shown in (
        listed,
        found,
        page_of(client, "/?group=" + quote(store_id)),
        page_of(client, "/?q=" + quote(store_id)),
    ):
        assert shown.all("img") == []
        assert all(given.get("src", "").startswith("/static/") for given in shown.all("script"))


def test_a_page_of_the_longest_names_is_small_enough_all_the_same(client: FlaskClient) -> None:
    rows = "".join(f"{'🍕' * 195}{number:03d},2024-10-14 11:00:00,active\n" for number in range(60))
    assert client.post("/api/v1/feeds/polls", data="store_id,timestamp_utc,status\n" + rows).status_code == 200
    assert len(client.get("/").data) < 400_000


@pytest.mark.parametrize("minutes", [1, 7, 60])
@pytest.mark.parametrize("pattern", ["10", "1110", "1111111111111111111111110"])
def test_thirty_days_of_many_polls_are_a_small_page_that_hides_no_downtime(
    client: FlaskClient, minutes: int, pattern: str
) -> None:
    rows = ["store_id,timestamp_utc,status\n"]
    for place in range(30 * 1440 // minutes):
        day, minute = divmod(place * minutes, 1440)
        status = "active" if pattern[place % len(pattern)] == "1" else "inactive"
        rows.append(f"busy,2024-09-{day + 1:02d} {minute // 60:02d}:{minute % 60:02d}:00,{status}\n")
    assert client.post("/api/v1/feeds/polls", data="".join(rows)).status_code == 200
    path = "/stores/busy?days=30"
    assert weight(client, path) < MOST_BYTES
    found = page_of(client, path)
    kinds = [given["class"] for given in found.all("rect") if given.get("class", "").startswith("s ")]
    assert sum("down" in kind or "mixed" in kind for kind in kinds) >= 30
    assert ("older ones are not shown" in found.text) == (30 * 1440 // minutes // len(pattern) > 30)
    together = re.search(
        r"00:00 CDT–00:00 CDT: \d+ h(?: \d+ min)? up, \d+ .* down, in \d+ segments too short", found.text
    )
    assert bool(together) == (minutes * len(pattern) < 60 or (minutes, pattern) == (60, "10"))


def test_percentages_that_know_little_say_so_on_every_page(
    client: FlaskClient, database: Database, tmp_path: Path
) -> None:
    """Up whenever it was looked at, on one of seven days."""
    rows = [f"one,2024-10-14 {hour:02d}:30:00 UTC,active" for hour in range(12, 24)]
    (tmp_path / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *rows]) + "\n")
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\none,UTC\n")
    load_folder(database, tmp_path)
    little = '<span class="little">100.00 % <small>of 35 h known</small></span>'
    now = client.get("/").text
    assert now.count(little) == 1
    assert "little-fill" in now
    store = client.get("/stores/one").text
    assert store.count(little) == 1
    assert '<span class="little">100.00 % <small>of 11.5 h known</small></span>' in store
    asked = client.post("/trigger_report", json={"columns": "full", "totals": True, "by": "week"})
    page = client.get(f"/reports/{asked.json['report_id']}").text
    assert page.count('<td class="little">100.00<small class="known">of ') == 2
    assert "more than a tenth of the business time is unknown" in page
    assert client.get("/api/v1/stores/one").json["little_known_last_week"] is True


def test_a_store_never_polled_and_one_without_hours(loaded: FlaskClient) -> None:
    silent = page_of(loaded, "/stores/silent").text
    assert "never polled" in silent
    assert "counts as open 24 hours, 7 days" in silent
    assert "None is known: the store was never polled." in silent
    assert "09:00–12:00" in page_of(loaded, "/stores/worked").text
    assert page_of(loaded, "/stores/" + quote(FORMULA_ID)).text.count(FORMULA_ID) > 0


def test_the_numbers_of_a_store_are_those_of_the_worked_example(loaded: FlaskClient) -> None:
    text = re.sub(r"\s+", " ", page_of(loaded, "/stores/worked").text)
    # 104.5 and 75.5 minutes, 61 of 180 measured.
    assert "Last day58.06 %0.00–100.00 %1.741.260.003.001.02" in text
    assert "nearer to the poll that says active" in text
    assert "09:00 UTC–10:14 UTC (1 h 14 min): only the nearest poll, active, says so" in text


def test_a_store_says_how_long_ago_its_as_of_is_while_the_page_stays_open(loaded: FlaskClient) -> None:
    (aged,) = [given for given in page_of(loaded, "/stores/worked").all("time") if "data-ago" in given]
    assert (aged["datetime"], aged["title"]) == ("2024-10-14T12:00:00.000000Z", "2024-10-14 12:00:00 UTC")


def test_dated_and_special_hours_are_told(loaded: FlaskClient) -> None:
    body = "store_id,day,start_time_local,end_time_local,valid_from\nworked,1,10:00,11:00,2024-10-01\n"
    assert loaded.post("/api/v1/feeds/hours", data=body).status_code == 200
    special = "store_id,date,start_time_local,end_time_local\nworked,2024-12-25,,\n"
    assert loaded.post("/api/v1/feeds/special_hours", data=special).status_code == 200
    text = re.sub(r"\s+", " ", page_of(loaded, "/stores/worked").text)
    assert "From 2024-10-01 on" in text
    assert "2024-12-25closed" in text


@pytest.mark.parametrize("path", PAGES)
def test_pages_need_the_key_that_the_api_needs(app: Flask, loaded: FlaskClient, path: str) -> None:
    key = keys.add(app.extensions["storemon"].database, "read", "", 1)
    refused = loaded.get(path, headers=BROWSER)
    assert (refused.status_code, refused.mimetype) == (401, "text/html")
    assert 'Basic realm="storemon", charset="UTF-8"' in refused.headers.getlist("WWW-Authenticate")
    assert loaded.get(path, auth=("anybody", key)).status_code == 200
