"""What messages say: whole texts for small and large fleets, and what must hold for all."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask.characters import escaped
from storemon_flask.clock import parse_timestamp
from storemon_flask.database.incidents import Incident
from storemon_flask.database.messages import Notice
from storemon_flask.delivery import content
from storemon_flask.delivery.batches import Decision
from storemon_flask.model import MINUTE_US, IncidentKind, Outcome

ALERTS_PAGE = Path(__file__).parents[2].joinpath("docs", "alerts.md")
# A Saturday; 14:15 in New York.
NOW = parse_timestamp("2026-11-28T19:15:00Z")
URL = "https://storemon.example.com"
NAMES = ("Main Street", "Harbor", "Elm Park", "Station", "Mill Road", "Hilltop", "Riverside", "Old Town", "Airport",
         "Campus", "Market", "Lakeside")  # fmt: skip


def at(time: str, day: str = "2026-11-28") -> int:
    """Return the instant of a time of day in New York, in winter."""
    return parse_timestamp(f"{day}T{time}:00-05:00")


def store(number: int, kind: IncidentKind = IncidentKind.DOWN, since: int = at("13:47"), **more: Any) -> Incident:
    name = NAMES[number] if number < len(NAMES) else f"Store No. {number}"
    details = {"name": name, "group": "North", "zone": "America/New_York", **more.pop("details", {})}
    if kind == IncidentKind.DOWN and more.get("outcome") is None:
        details |= {"last_up_us": since - 27 * MINUTE_US, "seen_us": since + 27 * MINUTE_US}
    return Incident(number + 1, kind, "store", str(1001 + number), since, NOW, details=details, **more)


def over(incident: Incident, ended: int, minutes: int, outcome: Outcome = Outcome.OVER, **more: Any) -> Incident:
    return replace(
        incident, resolved_us=NOW, ended_us=ended, outcome=outcome, business_us=minutes * MINUTE_US, **more
    )  # fmt: skip


def wide(kind: IncidentKind, scope: str, subject: str, since: int = at("13:47"), **details: Any) -> Incident:
    return Incident(90_000, kind, scope, subject, since, NOW, details=details)


def compose(*incidents: Incident, told: bool = False, **decision: bool) -> dict[str, Any]:
    """Return the message of those incidents; `told` puts the beginnings of ended ones into it, too."""
    notices = []
    for incident in incidents:
        if incident.outcome is None or told:
            notices.append(Notice(len(notices), 1, incident.id, "opened", NOW))
        if incident.outcome is not None:
            notices.append(Notice(len(notices), 1, incident.id, "resolved", NOW))
    return content.compose(
        Decision(tuple(notices), **decision), {incident.id: incident for incident in incidents}, NOW, URL
    )


ONE = compose(store(0))
THREE = compose(store(0), store(1), store(2, IncidentKind.NOT_OPENED, at("09:00")))
MANY = compose(
    wide(IncidentKind.MANY_DOWN, "group", "North", count=45, of=300),
    *(store(number) for number in range(45)),
    store(60, since=at("12:05"), details={"group": "South"}),
)
LARGE = compose(
    *(
        store(number, since=at("13:47") + number % 7 * MINUTE_US, details={"group": f"G{number % 9}"})
        for number in range(5000)
    ),
    *(over(store(5000 + number), at("14:10"), 23) for number in range(200)),
)
FLEET = compose(wide(IncidentKind.MANY_DOWN, "fleet", "", count=14_000, of=14_000), *(store(n) for n in range(14_000)))
BLIND = compose(wide(IncidentKind.BLIND, "fleet", "", at("12:00"), count=300, of=300, reason="silence"))
SUSPECT = compose(wide(IncidentKind.BLIND, "zone", "America/Los_Angeles", count=44, of=50, reason="suspicion"))
FEED = compose(wide(IncidentKind.FEED, "fleet", "rejects", text="12 % of the rows of load 7 were rejected"))
UP = compose(over(store(0), at("14:10"), 23, announced_us=at("13:47")))
CORRECTED = compose(over(store(0, since=at("13:52")), at("14:10"), 18, announced_us=at("13:47")))
NEVER = compose(over(store(0), at("13:47"), 0, Outcome.CORRECTED))
BRIEF = compose(over(store(0), at("13:56"), 9), told=True)
DIGEST = compose(
    store(3, since=at("09:05")),
    over(store(0, since=at("21:05", "2026-11-27")), at("22:00", "2026-11-27"), 55, Outcome.CLOSED),
    over(store(1, since=at("09:10")), at("11:40"), 150),
    over(store(2, since=at("10:00")), at("10:20"), 20),
    told=True,
    digest=True,
)
TWELFTH = compose(store(0), store(1), limited=True)


@pytest.mark.parametrize(
    ("message", "subject"),
    [
        (ONE, "storemon: Main Street (1001): down for 28 min of business time, since 13:47 EST"),
        (THREE, "storemon: Main Street (1001) and Harbor (1002) are down, Elm Park (1003) has not opened"),
        (compose(*map(store, range(4))), "storemon: 4 stores of North are down"),
        (MANY, "storemon: group North: 45 of 300 stores are down, since 18:47 UTC; Store No. 60 (1061) is down"),
        (LARGE, "storemon: 5,000 stores are down, 200 stores of North are up again"),
        (FLEET, "storemon: all 14,000 stores are down, since 18:47 UTC"),
        (BLIND, "storemon: none of 300 stores can be seen: hardly any poll has come since 17:00 UTC"),
        (SUSPECT, "storemon: zone America/Los_Angeles: 44 of 50 stores turned down at once at 10:47 PST: "
                  "probably the poller, not the stores"),
        (FEED, "storemon: 12 % of the rows of load 7 were rejected"),
        (UP, "storemon: Main Street (1001): up again; was down for 23 min of business time, 13:47 to 14:10 EST"),
        (CORRECTED, "storemon: Main Street (1001): up again; was down for 18 min of business time, 13:52 to 14:10 EST "
                    "(corrected: an earlier message said since 13:47 EST)"),
        (NEVER, "storemon: Main Street (1001): was not down after all, as polls that came late show (corrected)"),
        (DIGEST, "storemon digest: Station (1004) is down, Harbor (1002) and Elm Park (1003) were down and are up again, "
                 "Main Street (1001) closed for the day while down"),
    ],
)  # fmt: skip
def test_the_subject_says_what_happened(message: dict[str, Any], subject: str) -> None:
    assert message["subject"] == subject


@pytest.mark.parametrize("message", [ONE, THREE, MANY, LARGE, BLIND, SUSPECT, CORRECTED, NEVER, BRIEF, DIGEST, TWELFTH])
def test_the_page_about_alerts_shows_messages_as_they_are(message: dict[str, Any]) -> None:
    example = f"```text\nSubject: {message['subject']}\n\n{message['text']}```\n"
    assert example in ALERTS_PAGE.read_text("utf-8")


def test_the_page_about_alerts_shows_the_body_of_a_webhook_as_it_is() -> None:
    page = ALERTS_PAGE.read_text("utf-8")
    (example,) = re.findall(r"```json\n(\{\n  \"type\": \"incidents\.changed\".*?)```", page, re.DOTALL)
    assert json.loads(example) == ONE["event"]


def test_ten_are_named_worst_first_and_the_rest_counted() -> None:
    lines = LARGE["text"].split("\n\n")[1].split("\n")
    assert len(lines) == 11
    # Those that are down for longest.
    assert all(": down for 28 min of business time, since 13:47 EST" in line for line in lines[:10])
    assert lines[10] == "and 5,190 more: 4,990 down, 200 up again"


@pytest.mark.parametrize(
    ("message", "link"),
    [
        (ONE, f"{URL}/stores/1001"),
        (UP, f"{URL}/stores/1001"),
        (compose(*map(store, range(4))), f"{URL}/?status=down&group=North"),
        (compose(store(0), store(1, details={"group": "South & West"})), f"{URL}/?status=down"),
        (compose(*(store(n, details={"group": "South & West"}) for n in (1, 2))), f"{URL}/?status=down&group=South+%26+West"),
        (compose(wide(IncidentKind.MANY_DOWN, "group", "North")), f"{URL}/?status=down&group=North"),
        (FLEET, f"{URL}/?status=down"),
        (LARGE, f"{URL}/alerts"),
        (BLIND, f"{URL}/alerts"),
        (compose(store(0), store(1, IncidentKind.STALE)), f"{URL}/alerts"),
    ],
)  # fmt: skip
def test_the_link_shows_what_the_message_is_about(message: dict[str, Any], link: str) -> None:
    assert message["event"]["data"]["url"] == link
    assert message["text"].endswith(f"\n\n{link}\n")
    assert link.replace("&", "&amp;") in message["html"]


def test_without_a_public_address_there_is_no_link() -> None:
    message = content.compose(Decision((Notice(1, 1, 1, "opened", NOW),)), {1: store(0)}, NOW)
    assert message["event"]["data"]["url"] is None
    assert "http" not in message["text"] + message["html"].replace("http-equiv", "")


def test_many_down_stands_for_its_stores_in_words_and_programs_have_them_all() -> None:
    assert "Main Street" not in MANY["text"]
    data = MANY["event"]["data"]
    assert data["incidents_total"] == 47
    assert [one["kind"] for one in data["incidents"][:3]] == ["many_down", "down", "down"]
    # The one of another group comes before those that the first one stands for.
    assert [one["store_id"] for one in data["incidents"][1:3]] == ["1061", "1001"]


def test_many_down_does_not_cover_ended_incidents_or_other_kinds() -> None:
    many = wide(IncidentKind.MANY_DOWN, "group", "North", count=45, of=300)
    message = compose(many, over(store(0), at("14:10"), 23), store(1, IncidentKind.STALE), store(2), told=True)
    assert "Main Street (1001): up again" in message["text"]
    assert "Harbor (1002): no poll for 28 min" in message["text"]
    assert "Elm Park" not in message["text"]

    ended = replace(over(many, at("14:10"), 23), id=90_002)
    message = compose(ended, over(store(0), at("14:10"), 23), store(2))
    assert "group North: mostly up again; 45 of 300 stores were down" in message["text"]
    assert "Main Street (1001): up again" in message["text"]
    assert "Elm Park (1003): down for 28 min" in message["text"]


def test_of_a_fleet_that_is_down_its_groups_are_not_named() -> None:
    fleet = wide(IncidentKind.MANY_DOWN, "fleet", "", count=60, of=90)
    group = replace(wide(IncidentKind.MANY_DOWN, "group", "North", count=50, of=50), id=90_001)
    assert compose(fleet, group)["text"] == (
        f"60 of 90 stores are down, since 18:47 UTC.\n\n{URL}/?status=down\n"
    )  # fmt: skip


def test_an_event_has_what_programs_need() -> None:
    event = compose(over(store(0), at("14:10"), 23))["event"]
    assert event["type"] == "incidents.changed"
    assert event["timestamp"] == "2026-11-28T19:15:00.000000Z"
    assert event["data"]["incidents"] == [
        {
            "incident_id": 1,
            "kind": "down",
            "state": "resolved",
            "outcome": "over",
            "scope": "store",
            "store_id": "1001",
            "name": "Main Street",
            "group": "North",
            "timezone": "America/New_York",
            "since": "2026-11-28T18:47:00.000000Z",
            "ended": "2026-11-28T19:10:00.000000Z",
            "business_minutes": 23,
            "text": "Main Street (1001): up again; was down for 23 min of business time, 13:47 to 14:10 EST",
        }
    ]


def test_the_twelfth_says_that_the_rest_comes_hourly() -> None:
    for text in (TWELFTH["text"], TWELFTH["html"], TWELFTH["event"]["data"]["note"]):
        assert content.LIMITED_NOTE in text
    assert content.LIMITED_NOTE not in ONE["text"]


def test_an_example_says_that_it_is_one_everywhere() -> None:
    message = content.example(NOW, URL)
    assert message["subject"].startswith("storemon test: ")
    assert content.TEST_NOTE in message["text"]
    assert content.TEST_NOTE in message["html"]
    assert message["event"]["data"]["test"] is True
    assert ONE["event"]["data"]["test"] is False
    # No page shows a store that does not exist.
    assert URL not in message["text"] + message["html"]


def test_a_chat_does_not_repeat_the_title() -> None:
    title, text = content.plain(ONE)
    assert title == "storemon: Main Street (1001): down for 28 min of business time, since 13:47 EST"
    assert text == f"Last seen up 13:20, first seen down 14:14 EST.\n\n{URL}/stores/1001"
    # Where the title has no room for the sentence, and where there is nothing besides, it is in the text.
    long = compose(*(store(n, details={"name": "Main Street " * 5}) for n in range(3)), store(4, IncidentKind.STALE))
    assert content.plain(long)[0].endswith("...")
    assert content.plain(long)[1].startswith(f"{long['summary']}.\n")
    alone = {**ONE, "text": f"{ONE['summary']}.\n"}
    assert content.plain(alone)[1] == alone["text"]


HOSTILE = (
    "@channel", "@everyone", "<!here>", "<@U123>", "<@&9>", "[free](http://evil.example)", "<at>all</at>", "<script>alert(1)</script>",
    "\u202egnorts", "a\r\nBcc: x@evil.example", "x" * 200, "\U0001f600" * 200, "{0}{x}", "%s", "&amp;",
)  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("count", [1, 3, 12])
def test_no_name_can_do_more_than_be_read(name: str, count: int) -> None:
    kind = IncidentKind.DOWN
    incidents = [store(number, kind, details={"name": name, "group": name}) for number in range(count)]
    many = wide(IncidentKind.MANY_DOWN, "group", name[:199], count=4, of=5)
    for message in (compose(*incidents), compose(many)):
        title, text = content.plain(message)
        for sent in (title, text):
            assert not set("@<>") & set(sent)
            assert "](" not in sent
        for sent in (message["subject"], title):
            assert escaped(sent) == sent
            assert len(sent) <= 180
        assert all(escaped(line) == line for line in message["text"].split("\n"))
        assert "\u202e" not in message["html"]
        assert tags(message["html"]) <= MAIL_TAGS


MAIL_TAGS = {"html", "head", "meta", "title", "style", "body", "p", "strong", "ul", "li", "span", "bdi", "br", "a"}


def tags(html: str) -> set[str]:
    """Return the elements of a page; every one must be closed, and no attribute may load anything."""
    found: set[str] = set()
    opened: list[str] = []

    class Parser(HTMLParser):
        def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
            found.add(tag)
            assert not {"src", "srcset", "background", "onload", "onclick"} & {name for name, _ in attributes}
            if tag not in ("meta", "br"):
                opened.append(tag)

        def handle_endtag(self, tag: str) -> None:
            assert opened.pop() == tag

    parser = Parser()
    parser.feed(html)
    parser.close()
    assert not opened
    return found


@pytest.mark.parametrize("message", [ONE, THREE, MANY, LARGE, FLEET, BLIND, DIGEST, TWELFTH])
def test_a_mail_is_a_small_page_of_its_own_light_and_dark(message: dict[str, Any]) -> None:
    html = message["html"]
    assert tags(html) <= MAIL_TAGS
    assert '<meta name="color-scheme" content="light dark">' in html
    assert "@media (prefers-color-scheme: dark)" in html
    assert "url(" not in html
    assert "@import" not in html
    assert len(html) < 10_000
    assert message["summary"][1:].replace("'", "&#39;") in html


def test_a_mail_marks_only_recoveries_as_good() -> None:
    signs = re.findall(r'<span class="(\w+)" style="color:#\w+" aria-hidden="true">(.)</span>', DIGEST["html"])
    # Down; up again; closed for the day while down; up again.
    assert signs == [("open", "▼"), ("over", "▲"), ("dim", "■"), ("over", "▲")]


def luminance(colour: str) -> float:
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4 for value in channels]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_colours_of_mails_can_be_read_on_light_and_dark() -> None:
    html = DIGEST["html"]
    dark = re.findall(r"color: (#[0-9a-f]{6}) !important", html)
    light = re.findall(r"color:(#[0-9a-f]{6})", html)
    assert len(dark) == 4
    assert len(light) >= 4
    for colours, ground in ((light, "#ffffff"), (dark, "#1f1f1f")):
        for colour in colours:
            first, second = sorted((luminance(colour), luminance(ground)))
            assert (second + 0.05) / (first + 0.05) >= 4.5, (colour, ground)


NAMES_OF_STORES = st.one_of(
    st.text(st.characters(exclude_categories=["Cs", "Cc"]), max_size=200), st.sampled_from(HOSTILE)
)
KINDS_OF_STORES = (IncidentKind.DOWN, IncidentKind.NOT_OPENED, IncidentKind.STALE, IncidentKind.UNSTABLE)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.tuples(
            NAMES_OF_STORES, NAMES_OF_STORES, st.sampled_from(KINDS_OF_STORES), st.sampled_from([None, *Outcome])
        ),
        min_size=1,
        max_size=80,
    )
)
def test_every_message_can_be_sent(rows: list[tuple[str, str, IncidentKind, Outcome | None]]) -> None:
    incidents = []
    for number, (name, group, kind, outcome) in enumerate(rows):
        incident = store(number, kind, details={"name": name, "group": group})
        incidents.append(incident if outcome is None else over(incident, at("14:10"), 23, outcome))
    message = compose(*incidents)
    body = content.webhook_body(message)
    assert len(body) <= content.MOST_EVENT_BYTES
    data = json.loads(body)["data"]
    assert data["incidents_total"] == len(rows)
    assert 1 <= len(data["incidents"]) <= len(rows)
    # It is kept as JSON until it is sent.
    assert json.loads(json.dumps(message)) == message
    assert escaped(message["subject"]) == message["subject"]
    assert tags(message["html"]) <= MAIL_TAGS
    named = [line for line in message["text"].split("\n") if line.startswith("- ")]
    # One alone is a sentence, which begins with the name of the store: that may be a dash.
    assert len(rows) == 1 or len(named) == min(len(rows), content.MOST_NAMED)


def test_a_full_webhook_is_nearly_full() -> None:
    body = content.webhook_body(LARGE)
    assert 15_000 < len(body) <= content.MOST_EVENT_BYTES
