"""Outages over HTTP: the rows and bytes of a report of outages, parameters, pages, errors."""

import pytest
from conftest import storemon
from report_helpers import asked
from report_helpers import fleet as fleet

from storemon_flask.api.schemas import OutagesSchema
from storemon_flask.stores import outage_list

AS_OF = "2024-10-14T23:24:54.433110Z"
BY_STORE = "sort=store_id&order=asc"


def test_the_csv_is_the_report_of_outages(fleet, client):
    answer = client.get(f"/api/v1/outages.csv?window=last_week&as_of={AS_OF}&{BY_STORE}")
    assert answer.text == asked(client, kind="outages", as_of=AS_OF)
    assert answer.headers["Content-Disposition"] == "attachment; filename=outages.csv"
    # The data are old: that is the as-of of the live list, too.
    assert client.get(f"/api/v1/outages.csv?window=last_week&{BY_STORE}").text == answer.text
    filtered = client.get(f"/api/v1/outages.csv?window=this_month&shortest_minutes=60&group=%3DEast&{BY_STORE}").text
    body = {"kind": "outages", "windows": ["this_month"], "shortest_minutes": 60, "groups": ["=East"]}
    assert filtered == asked(client, **body)
    assert filtered.count("\n") > 1


def test_the_csv_is_that_of_the_command(fleet, client, settings):
    done = storemon(settings.home, "outages", "--window", "yesterday", "--csv")
    assert (done.returncode, done.stdout) == (0, client.get(f"/api/v1/outages.csv?window=yesterday&{BY_STORE}").text)


def test_the_list_comes_in_pages_with_the_rows_of_a_report(fleet, client):
    report_id = client.post("/trigger_report", json={"kind": "outages", "windows": ["last_7_days"]}).json["report_id"]
    report = client.get(f"/get_report?report_id={report_id}&format=json").json["rows"]
    rows, cursor = [], "0"
    while cursor is not None:
        path = f"/api/v1/outages?window=last_7_days&limit=7&cursor={cursor}&{BY_STORE}"
        answer = client.get(path).json
        assert OutagesSchema().validate(answer) == {}
        assert answer["total"] == len(report)
        assert answer["ongoing"] == sum(row["ongoing"] == "yes" for row in report)
        rows += answer["outages"]
        cursor = answer["next"]
    assert rows == report
    assert len(rows) > 14


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("window=soon", "window is 'soon'; it must be last_hour, "),
        ("window=", "window"),
        ("at=15:00:99", "at must be a time such as 2024-10-14T15:00, of each store's own clock, or with an offset"),
        (
            "at=2031-01-01T00:00",
            "at must not be after the as-of, nor more than 400 days before it, 2024-10-14 23:24 UTC",
        ),
        ("state=off", "state must be one of: any, ongoing, over"),
        ("shortest_minutes=-1", "shortest_minutes must be greater than or equal to 0"),
        ("shortest_minutes=nan", "shortest_minutes"),
        ("sort=colour", "sort must be one of: down_minutes, start, end, store_id, name, group"),
        ("limit=0", "limit must be greater than or equal to 1"),
        ("as_of=2201-01-01", "as_of must lie between 1970-01-01 and 2200-01-01"),
    ],
)
def test_what_is_wrong_is_a_sentence(fleet, client, query, sentence):
    answer = client.get(f"/api/v1/outages?{query}")
    assert (answer.status_code, answer.content_type) == (422, "application/problem+json")
    assert sentence in answer.json["detail"]
    assert list(answer.json["errors"]) == [query.partition("=")[0]]


@pytest.mark.parametrize("as_of", ["1970-01-01T00:00:00Z", "2199-12-31T00:00:00Z"])
def test_an_as_of_without_polls_has_no_outages(fleet, client, as_of):
    for window in ("today", "last_90_days", "2024-10-01..2024-10-02"):
        answer = client.get(f"/api/v1/outages?as_of={as_of}&window={window}")
        assert (answer.status_code, answer.json["as_of"][:4]) == (200, as_of[:4])
        assert answer.json["ongoing"] == 0


def test_outages_are_read_once_for_a_snapshot(fleet, client, monkeypatch):
    read, real = [], outage_list._read
    monkeypatch.setattr(outage_list, "_read", lambda *arguments: read.append(arguments) or real(*arguments))
    for window in ("this_month", "today", "yesterday"):
        assert client.get(f"/api/v1/outages?window={window}").status_code == 200
    assert client.get("/outages").status_code == 200
    assert len(read) == 1
    polls = "store_id,timestamp_utc,status\nnew,2024-10-14 23:30:00,inactive\n"
    assert client.post("/api/v1/feeds/polls", data=polls).status_code == 200
    assert "new" in client.get("/api/v1/outages.csv?group=").text
    assert len(read) == 2


def test_without_a_database_the_answer_says_so(client):
    assert client.get("/api/v1/outages").status_code == client.get("/api/v1/stores").status_code
