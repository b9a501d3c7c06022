"""What the pages Now and a store say besides numbers: on paper, where there is nothing to count, what the words mean."""

import re
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from storemon_flask.database.connections import Connection, Database
from storemon_flask.pages.words import STATUS_MEANINGS, STATUS_WORDS


@pytest.fixture
def loaded(client: FlaskClient, small_fleet: object) -> FlaskClient:
    return client


def text_of(html: str) -> str:
    """What stands between the tags, blanks as one."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q=evil&zone=America/Chicago", "Only: name or id has “evil”, zone America/Chicago"),
        ("q=+o+&group=A,%20B&status=down&status=no_data", "Only: name or id has “o”, group A, B, status Down, No data"),
        ("q=" + quote("<b>"), "Only: name or id has “&lt;b&gt;”"),
    ],
)
def test_a_list_on_paper_says_what_it_was_kept_to(loaded: FlaskClient, query: str, sentence: str) -> None:
    page = loaded.get("/?" + query).text
    (only,) = re.findall(r'<span class="paper">\. (Only: .*?)</span>', page)
    assert only == sentence
    assert re.search(r'<span class="noprint">\. <a data-key="clear"', page)


def test_a_list_of_all_says_nothing_of_the_kind(loaded: FlaskClient) -> None:
    page = loaded.get("/?sort=name&q=+").text
    assert "Only:" not in page
    assert "Clear filters" not in page


def test_a_window_without_business_hours_says_so(loaded: FlaskClient) -> None:
    # Open on Sundays only; the newest poll is a Monday's.
    body = "store_id,day,start_time_local,end_time_local\nworked,6,09:00,12:00\n"
    assert loaded.post("/api/v1/feeds/hours", data=body).status_code == 200
    polls = "store_id,timestamp_utc,status\nworked,2024-10-16 10:00:00,active\n"
    assert loaded.post("/api/v1/feeds/polls", data=polls).status_code == 200
    page = loaded.get("/stores/worked").text
    _, day, week, _ = re.findall(r"<tr><th scope=\"row\"><bdi>Last .*?</tr>", page, re.DOTALL)
    assert text_of(day) == "Last day–no hours0.000.000.000.000.00"
    assert "no hours" not in week
    assert "–––" not in page


def test_a_store_that_did_not_change_is_not_sent_again(loaded: FlaskClient) -> None:
    paths = ("/stores/worked", "/stores/worked?days=1", "/stores/worked?days=7&until=2024-10-01")
    tags = {path: loaded.get(path).headers["ETag"] for path in paths}
    assert len(set(tags.values())) == 3
    for path, tag in tags.items():
        again = loaded.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.data, again.headers["Cache-Control"]) == (304, b"", "no-cache")
    # Of another store: what a page says depends on the newest poll of all.
    polls = "store_id,timestamp_utc,status\nsilent,2024-10-14 13:00:00,active\n"
    assert loaded.post("/api/v1/feeds/polls", data=polls).status_code == 200
    for path, tag in tags.items():
        again = loaded.get(path, headers={"If-None-Match": tag})
        assert (again.status_code, again.headers["ETag"] != tag) == (200, True)
    assert loaded.delete("/api/v1/stores/worked").status_code == 204
    assert loaded.get(paths[0], headers={"If-None-Match": tags[paths[0]]}).status_code == 404


def test_a_store_of_a_live_feed_is_made_anew_each_time(client: FlaskClient) -> None:
    stamp = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S}"
    assert (
        client.post("/api/v1/feeds/polls", data=f"store_id,timestamp_utc,status\none,{stamp},active\n").status_code
        == 200
    )
    first = client.get("/stores/one")
    assert client.get("/stores/one", headers={"If-None-Match": first.headers["ETag"]}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/stores/worked"])
def test_words_are_explained_where_a_finger_can_unfold_them(loaded: FlaskClient, path: str) -> None:
    page = loaded.get(path).text
    (folded,) = re.findall(r'<details class="words.*?</details>', page, re.DOTALL)
    said = text_of(folded)
    assert said.startswith("What the words mean")
    for status, (word, sign) in STATUS_WORDS.items():
        assert f"{sign} {word}{STATUS_MEANINGS[status]}" in said
    for word in ("As of", "%", "Low–high", *(["Business h", "Unknown h", "Measured h"] if path != "/" else ["7 days"])):
        assert f"<dt>{word}</dt><dd>" in folded


@pytest.mark.parametrize("query", ["", "?days=30", "?until=2024-10-10", "?window=2024-10-01..2024-10-08&by=day"])
def test_a_page_of_a_store_reads_each_table_once(
    loaded: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch, query: str
) -> None:
    statements: list[str] = []
    transactions = 0
    # The fleet's model of the likely range is read once for all stores.
    loaded.get("/stores/worked" + query)
    real = Database.read

    @contextmanager
    def traced(self: Database) -> Iterator[Connection]:
        nonlocal transactions
        transactions += 1
        with real(self) as connection:
            connection.set_trace_callback(statements.append)
            yield connection
            connection.set_trace_callback(None)

    monkeypatch.setattr(Database, "read", traced)
    assert loaded.get("/stores/worked" + query).status_code == 200
    reads = [sql for sql in statements if sql.startswith(("SELECT", "WITH"))]
    tables = Counter(table for sql in reads for table in re.findall(r"FROM (hours|special_hours|timezone)\b", sql))
    assert tables == {"hours": 1, "special_hours": 1, "timezone": 1}
    assert sum("FROM store_record WHERE store_id IN" in sql for sql in reads) == 1
    weeks = Counter(sql for sql in reads if sql.startswith("SELECT store, polls FROM poll_week"))
    # Those at the edges of two counts are looked at again.
    assert sorted(weeks.values())[-2:] == [1, 3]
    # Three of them ask for the store's incidents, and whether there is news of any; two, for each
    # as-of of its numbers, whether the model of the likely range is that of these data.
    assert len(reads) <= 26
    # One transaction is the page's; in the other, keys are looked for.
    assert transactions == 2


def shown_ids(page: str) -> list[str]:
    return re.findall(r'data-key="store-([^"]*)"', page)


@pytest.mark.parametrize("query", ["below=99", "below=60&below_window=last_day", "below=58.07", "without=zone"])
def test_filters_by_uptime_and_by_what_is_lacking_are_those_of_the_list_as_json(
    loaded: FlaskClient, query: str
) -> None:
    everyone = [one["store_id"] for one in loaded.get("/api/v1/stores?limit=1000").json["stores"]]
    expected = [one["store_id"] for one in loaded.get(f"/api/v1/stores?limit=1000&{query}").json["stores"]]
    assert 0 < len(expected) < len(everyone)
    page = loaded.get(f"/?{query}&status=&q=&zone=&group=&without=&sort=worst&order=asc").text
    assert shown_ids(page) == expected
    # The other addresses on the page keep the filter.
    assert f"/api/v1/stores.csv?{query}".replace("&", "&amp;") in page
    lines = loaded.get(f"/api/v1/stores.csv?{query}").text.splitlines()[1:]
    assert [line.split(",")[0].removeprefix("'") for line in lines] == expected


@pytest.mark.parametrize("below", ["0", "-1", "100.5", "many", "nan", "inf"])
def test_a_percentage_that_is_none_is_refused_with_what_is_allowed(loaded: FlaskClient, below: str) -> None:
    for address in ("/", "/api/v1/stores"):
        answer = loaded.get(f"{address}?below={below}")
        assert answer.status_code in (400, 422)
        assert "must be a number above 0 and at most 100" in answer.text.lower().replace("below m", "m")


def test_an_empty_percentage_says_nothing(loaded: FlaskClient) -> None:
    assert shown_ids(loaded.get("/?below=&below_window=last_day").text) == shown_ids(loaded.get("/").text)
