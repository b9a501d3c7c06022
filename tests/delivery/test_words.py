"""The words of incidents: every kind, open and over, in the clock of the store."""

from dataclasses import replace
from typing import Any

import pytest

from storemon_flask.clock import parse_timestamp
from storemon_flask.database.incidents import Incident
from storemon_flask.delivery import words
from storemon_flask.model import MINUTE_US, IncidentKind, Outcome

NOW = parse_timestamp("2026-11-28T19:15:00Z")
SINCE, ENDED = NOW - 75 * MINUTE_US, NOW - 15 * MINUTE_US
OF_STORE = {"name": "Main Street", "group": "North", "zone": "America/New_York"}


def incident(kind: IncidentKind, scope: str = "store", subject: str = "1001", **more: Any) -> Incident:
    details = {**(OF_STORE if scope == "store" else {}), **more.pop("details", {})}
    return Incident(7, kind, scope, subject, SINCE, NOW, business_us=60 * MINUTE_US, details=details, **more)


DOWN = incident(IncidentKind.DOWN)
MANY = incident(IncidentKind.MANY_DOWN, "group", "North", details={"count": 45, "of": 300, "stores": ["1001"]})
BLIND = incident(IncidentKind.BLIND, "fleet", "", details={"count": 255, "of": 300, "reason": "silence"})
FEED = incident(IncidentKind.FEED, "fleet", "rejects", details={"text": "12 % of the rows of load 7 were rejected"})
UNSTABLE = incident(IncidentKind.UNSTABLE, details={"changes": 4, "hours": 6})


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (DOWN, "down for 1 h 15 min of business time, since 13:00 EST"),
        (incident(IncidentKind.NOT_OPENED), "not opened for 1 h 15 min of business time, since 13:00 EST, when its hours began; every poll found it down"),
        (incident(IncidentKind.STALE), "no poll for 1 h 15 min of business time, since 13:00 EST"),
        # The night before its opening does not count, nor what comes after it.
        (incident(IncidentKind.STALE, details={"opened_us": SINCE + 30 * MINUTE_US}), "no poll for 45 min of business time, since 13:00 EST"),
        (incident(IncidentKind.DOWN, details={"closes_us": ENDED}), "down for 1 h of business time, since 13:00 EST"),
        (UNSTABLE, "unstable since 13:00 EST, 4 changes in 6 h of business time"),
        (MANY, "45 of 300 stores are down, since 18:00 UTC"),
        (replace(MANY, details={"count": 50, "of": 50}), "all 50 stores are down, since 18:00 UTC"),
        (replace(MANY, details={}), "stores are down, since 18:00 UTC"),
        (BLIND, "only 45 of 300 stores can be seen: hardly any poll has come since 18:00 UTC"),
        (replace(BLIND, details={"count": 50, "of": 50}), "none of 50 stores can be seen: hardly any poll has come since 18:00 UTC"),
        (replace(BLIND, details={}), "not all stores can be seen: hardly any poll has come since 18:00 UTC"),
        (replace(BLIND, scope="zone", subject="America/Los_Angeles", details={"count": 44, "of": 50, "reason": "suspicion"}),
         "44 of 50 stores turned down at once at 10:00 PST: probably the poller, not the stores"),
        (FEED, "12 % of the rows of load 7 were rejected"),
        (replace(FEED, details={}), "something is wrong"),
    ],
)  # fmt: skip
def test_what_is_open(one: Incident, text: str) -> None:
    assert words.incident_text(one, NOW) == text


@pytest.mark.parametrize(
    ("one", "outcome", "text"),
    [
        (DOWN, Outcome.OVER, "up again; was down for 1 h of business time, 13:00 to 14:00 EST"),
        (DOWN, Outcome.CLOSED, "closed for the day; was down for 1 h of business time, 13:00 to 14:00 EST"),
        (DOWN, Outcome.CORRECTED, "was not down after all, as polls that came late show (corrected)"),
        (incident(IncidentKind.NOT_OPENED), Outcome.CORRECTED, "was open after all, as polls that came late show (corrected)"),
        (incident(IncidentKind.STALE), Outcome.CORRECTED, "was polled after all, as polls that came late show (corrected)"),
        (MANY, Outcome.CORRECTED, "did not have many down after all, as polls that came late show (corrected)"),
        (DOWN, Outcome.UNKNOWN, "no longer known, as its polls stopped; was down for 1 h of business time, 13:00 to 14:00 EST"),
        (DOWN, Outcome.REMOVED, "removed from the data; was down for 1 h of business time, 13:00 to 14:00 EST"),
        (incident(IncidentKind.NOT_OPENED), Outcome.OVER, "open now; was not opened for 1 h of business time, 13:00 to 14:00 EST"),
        (incident(IncidentKind.STALE), Outcome.OVER, "polled again; was without polls for 1 h of business time, 13:00 to 14:00 EST"),
        (UNSTABLE, Outcome.OVER, "steady again; was unstable, 13:00 to 14:00 EST"),
        (MANY, Outcome.OVER, "mostly up again; 45 of 300 stores were down, 18:00 to 19:00 UTC"),
        (BLIND, Outcome.OVER, "in sight again; only 45 of 300 stores could be seen, 18:00 to 19:00 UTC"),
        (FEED, Outcome.OVER, "right again; 18:00 to 19:00 UTC: 12 % of the rows of load 7 were rejected"),
    ],
)  # fmt: skip
def test_what_is_over(one: Incident, outcome: Outcome, text: str) -> None:
    over = replace(one, outcome=outcome, resolved_us=NOW, ended_us=ENDED, announced_us=SINCE)
    assert words.incident_text(over, NOW) == text


@pytest.mark.parametrize(
    ("moved_us", "text"),
    [
        (-12 * MINUTE_US, " (corrected: an earlier message said since 12:48 EST)"),
        (MINUTE_US, " (corrected: an earlier message said since 13:01 EST)"),
        (MINUTE_US - 1, ""),
    ],
)
def test_a_changed_beginning_is_a_correction(moved_us: int, text: str) -> None:
    over = replace(DOWN, outcome=Outcome.OVER, resolved_us=NOW, ended_us=ENDED, announced_us=SINCE + moved_us)
    assert words.incident_text(over, NOW) == f"up again; was down for 1 h of business time, 13:00 to 14:00 EST{text}"


@pytest.mark.parametrize("kind", list(IncidentKind))
@pytest.mark.parametrize("outcome", [None, *Outcome])
@pytest.mark.parametrize("scope", ["store", "group", "zone", "fleet"])
def test_every_incident_has_words_whatever_is_known_of_it(
    kind: IncidentKind, outcome: Outcome | None, scope: str
) -> None:
    subject = {"zone": "Asia/Kolkata", "fleet": ""}.get(scope, "x")
    bare = Incident(1, kind, scope, subject, SINCE, NOW)
    one = bare if outcome is None else replace(bare, outcome=outcome, resolved_us=NOW, ended_us=ENDED)
    record = words.record(one, NOW)
    assert record["text"].isascii()
    assert "None" not in record["text"]
    assert record["state"] == ("open" if outcome is None else "resolved")
    assert words.KIND_WORDS[kind].label


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (DOWN, "Main Street (1001)"),
        (replace(DOWN, details={}), "1001"),
        (replace(DOWN, details={"name": "a\nb"}), "a\\nb (1001)"),
        (replace(DOWN, details={"name": "x" * 200}), f"{'x' * 57}... (1001)"),
        (MANY, "group North"),
        (replace(BLIND, scope="zone", subject="America/Los_Angeles"), "zone America/Los_Angeles"),
        (BLIND, "the fleet"),
        (FEED, "the feed"),
    ],
)
def test_what_it_is_about(one: Incident, text: str) -> None:
    assert words.subject_text(one) == text


@pytest.mark.parametrize(
    ("last_up", "seen", "text"),
    [
        ("2026-11-28T17:40:00Z", "2026-11-28T18:20:00Z", "last seen up 12:40, first seen down 13:20 EST"),
        (
            "2026-11-28T02:40:00Z",
            "2026-11-28T14:20:00Z",
            "last seen up Fri 2026-11-27 21:40, first seen down 09:20 EST",
        ),
        (None, "2026-11-28T18:20:00Z", "first seen down 13:20 EST"),
        ("2026-11-28T17:40:00Z", None, ""),
    ],
)
def test_how_sure_the_beginning_is(last_up: str | None, seen: str | None, text: str) -> None:
    polls = {name: parse_timestamp(time) for name, time in (("last_up_us", last_up), ("seen_us", seen)) if time}
    assert words.certainty_text(replace(DOWN, details={**OF_STORE, **polls}), NOW) == text


@pytest.mark.parametrize(
    ("first", "last", "text"),
    [
        ("2026-11-28T14:00:00Z", "2026-11-28T15:00:00Z", "09:00 to 10:00 EST"),
        ("2026-11-27T14:00:00Z", "2026-11-27T15:00:00Z", "Fri 2026-11-27 09:00 to 10:00 EST"),
        ("2026-11-27T14:00:00Z", "2026-11-28T15:00:00Z", "Fri 2026-11-27 09:00 to 10:00 EST"),
        # The night in which the clock was set back.
        ("2026-11-01T05:30:00Z", "2026-11-01T06:30:00Z", "Sun 2026-11-01 01:30 EDT to 01:30 EST"),
    ],
)
def test_a_span_says_each_thing_once(first: str, last: str, text: str) -> None:
    spans = parse_timestamp(first), parse_timestamp(last)
    assert words.span_text(*spans, "America/New_York", NOW) == text


def test_a_record_has_the_live_length_while_it_is_open_and_the_stored_one_after() -> None:
    assert words.record(DOWN, NOW)["business_minutes"] == 75
    over = replace(DOWN, outcome=Outcome.OVER, resolved_us=NOW, ended_us=ENDED)
    assert words.record(over, NOW)["business_minutes"] == 60


def test_groups_and_zones_of_a_record() -> None:
    many, zone = words.record(MANY, NOW), words.record(replace(BLIND, scope="zone", subject="Asia/Kolkata"), NOW)
    assert (many["group"], many["store_id"], many["name"], many["timezone"]) == ("North", None, None, None)
    assert (zone["group"], zone["timezone"]) == (None, "Asia/Kolkata")
    # Their length is not business time.
    assert many["business_minutes"] is None
    assert zone["business_minutes"] is None
