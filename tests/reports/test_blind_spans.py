"""Times without sight in the method notes of reports and on the days of a store, and that no number depends on them."""

import csv
import io
from dataclasses import replace

import openpyxl
import pytest
from channel_helpers import put

from storemon_flask.api.schemas import MethodSchema, TimelineSchema
from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.clock import timestamp_text
from storemon_flask.database.incidents import Incident
from storemon_flask.model import DAY_US, HOUR_US, IncidentKind, Outcome
from storemon_flask.reports.blind_spans import find_blind_spans

# The newest poll of the small fleet.
AS_OF = instant("2024-10-14T12:00:00Z")
START = instant("2024-10-14T10:20:00Z")
SILENT = {"reason": "silence", "count": 4, "of": 4}
FIRST_LABEL = "polls missing for all stores"


def blind(scope="fleet", subject="", start_us=START, found_us=START + HOUR_US, end_us=None, **more):
    over = {} if end_us is None else {"resolved_us": end_us, "ended_us": end_us, "outcome": Outcome.OVER}
    return Incident(0, IncidentKind.BLIND, scope, subject, start_us, found_us, **{"details": SILENT, **over, **more})


def find(database, as_of_us=AS_OF, groups=("North",), zones=("America/Chicago",)):
    with database.read() as connection:
        return find_blind_spans(connection, AS_OF - DAY_US, min(AS_OF, as_of_us), as_of_us, groups, zones)


def test_what_an_as_of_knows_of_a_blindness(database, small_fleet):
    put(database, blind(end_us=AS_OF - 10 * 60_000_000))
    (span,) = find(database)
    assert (span.scope, span.start_us, span.end_us) == ("fleet", START, AS_OF - 10 * 60_000_000)
    assert span.text == f"{FIRST_LABEL}, from 2024-10-14 10:20 UTC to 2024-10-14 11:50 UTC"
    # Before its end was found out it has none; before it was found out there is none.
    (before,) = find(database, AS_OF - 11 * 60_000_000)
    assert before == replace(span, end_us=None)
    assert before.text == f"{FIRST_LABEL}, from 2024-10-14 10:20 UTC, no end known at the as-of"
    assert find(database, START + HOUR_US - 1) == []
    # What ended before the window does not overlap it.
    with database.read() as connection:
        assert find_blind_spans(connection, AS_OF - 10 * 60_000_000, AS_OF, AS_OF, (), ()) == []


def test_only_groups_and_zones_that_are_there_and_nothing_that_was_corrected(database, small_fleet):
    put(
        database,
        blind("group", "North"),
        blind("group", "South"),
        blind("zone", "America/Chicago"),
        blind("zone", "America/Denver"),
        blind(details={"reason": "suspicion", "count": 6, "of": 7}),
    )
    assert [span.label for span in find(database)] == [
        "polls missing for the stores of group North",
        "polls missing for the stores in America/Chicago",
        "nearly all stores down at once: probably the poller",
    ]
    # The suspicion never was, as late polls showed, even after the as-of.
    with database.write() as connection:
        connection.execute(
            "UPDATE incident SET outcome = 'corrected', resolved_us = ?, ended_us = since_us WHERE scope = 'fleet'",
            (AS_OF + DAY_US,),
        )
    assert [span.scope for span in find(database)] == ["group", "zone"]


@pytest.fixture
def report(client, small_fleet):
    """Compute a report over HTTP, and return its CSV and its id."""

    def make(**body):
        report_id = client.post("/trigger_report", json=body).json["report_id"]
        return client.get(f"/get_report?report_id={report_id}").text, report_id

    return make


def test_a_report_names_the_blindness_of_its_window_and_has_the_same_bytes(client, database, report):
    before, _ = report()
    # Over before the window, in a zone of no store, and one that goes on.
    old_us = AS_OF - 9 * DAY_US
    put(database, blind(start_us=old_us, found_us=old_us + HOUR_US, end_us=old_us + DAY_US))
    put(database, blind("zone", "America/Denver"), blind())
    # Another window, so that it is not the file of the report before.
    full, report_id = report(columns="full")
    listed = client.get(f"/get_report?report_id={report_id}&format=json").json
    method = listed["method"]
    assert MethodSchema().validate(method) == {}
    assert method["blind_spans"] == [
        {
            "scope": "fleet", "subject": "", "start": timestamp_text(START), "end": None, "reason": "silence",
            "text": f"{FIRST_LABEL}, from 2024-10-14 10:20 UTC, no end known at the as-of",
        }
    ]  # fmt: skip
    names = next(csv.reader(io.StringIO(before)))
    classic, extended = (list(csv.DictReader(io.StringIO(text))) for text in (before, full))
    assert [[row[name] for name in names] for row in extended] == [[row[name] for name in names] for row in classic]
    page = client.get(f"/reports/{report_id}").text
    assert f"<dt>blind spans</dt><dd><bdi>{method['blind_spans'][0]['text']}</bdi></dd>" in page
    book = openpyxl.load_workbook(io.BytesIO(client.get(f"/get_report?report_id={report_id}&format=xlsx").data))
    assert dict(book["method"].values)["blind_spans"] == method["blind_spans"][0]["text"]


def test_a_report_without_blindness_names_none(client, report):
    _, report_id = report()
    assert client.get(f"/get_report?report_id={report_id}&format=json").json["method"]["blind_spans"] == []
    assert "blind spans" not in client.get(f"/reports/{report_id}").text


def test_a_store_shows_it_in_json_and_on_its_days(client, database, small_fleet):
    path = "/stores/worked"
    before, etag = client.get(path).text, client.get(path).headers["ETag"]
    assert "b blind" not in before
    assert "<li>polls missing" not in before
    put(database, blind(end_us=AS_OF - HOUR_US // 2), blind("group", "Elsewhere"))
    timeline = client.get("/api/v1/stores/worked/timeline").json
    assert TimelineSchema().validate(timeline) == {}
    (span,) = timeline["blind_spans"]
    assert (span["scope"], span["start"], span["end"]) == (
        "fleet",
        timestamp_text(START),
        "2024-10-14T11:30:00.000000Z",
    )
    answer = client.get(path, headers={"If-None-Match": etag})
    assert answer.status_code == 200
    page = answer.text
    assert page.count('class="b blind"') == 2  # the sample and the day
    assert "<title>Polls missing for all stores, 10:20 UTC–11:30 UTC. 10:20:00–11:30:00 UTC</title>" in page
    assert '; Polls missing for all stores, 10:20 UTC–11:30 UTC"' in page
    assert "<li><bdi>Mon 2024-10-14 10:20 UTC to Mon 2024-10-14 11:30 UTC (1 h 10 min): polls missing for all" in page
    assert "polls missing for many stores, or wrong: the poller" in page
    # Nothing else of the page is another.
    rows = [text[text.index('id="sums"') : text.index('class="words small')] for text in (before, page)]
    assert rows[0] == rows[1]
    # As of an instant at which nobody knew.
    assert "b blind" not in client.get(path, query_string={"as_of": "2024-10-14T11:00:00Z"}).text
