"""The pages of alerts and of schedules: what is open, what was, channels from adding to removing, marks on Now."""

import json
import re
from pathlib import Path

import pytest
from channel_helpers import down, live_fleet, now_us, put, sink, tell
from conftest import sql
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database import channels, messages
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind
from storemon_flask.settings import Settings


def words(html: str) -> str:
    """What a page says, without its tags."""
    return " ".join(re.sub(r"<[^>]+>", "", re.sub(r"</t[dh]>", " ", html)).split())


def part(html: str, section: str) -> str:
    """What the section of that id says."""
    found = re.search(rf'id="{section}" data-live>(.*?)</div>\n', html, re.DOTALL)
    assert found is not None
    return words(found[1])


@pytest.fixture
def database(app: Flask) -> Database:
    found: Database = app.extensions["storemon"].database
    return found


FORM = {"name": "ops", "kind": "webhook", "address": "http://127.0.0.1:9/in/s3cret-path", "digest": "", "quiet": ""}


def test_without_anything_the_page_says_so(client: FlaskClient) -> None:
    text = words(client.get("/alerts").text)
    assert "No incident is open." in text
    assert "No incident is over yet." in text
    assert "Nobody is told. There is no channel yet" in text
    assert "Nothing was sent yet." in text


def test_what_is_open_stands_first_the_worst_first_with_its_length_and_who_was_told(
    client: FlaskClient, database: Database
) -> None:
    now = now_us()
    client.post("/alerts", data=FORM)
    stale = down("NYC/7", now - 5 * MINUTE_US, "<b>Harbor", kind=IncidentKind.STALE)
    numbers = put(
        database, stale, down("1001", now - MINUTE_US), down("old", now - 3 * HOUR_US, "Old", now - 2 * HOUR_US)
    )
    tell(database, 1, numbers[1], "opened", "sent", now)
    tell(database, 1, numbers[2], "resolved", "failed", now - 2 * HOUR_US)
    html = client.get("/alerts").text
    opened = part(html, "open-list")
    assert opened.startswith("1 down, 1 no polls; worst first. ▼ Down 1001: down for 1 h 1 min of business time")
    assert "told ops" in opened
    assert "&lt;b&gt;Harbor: no poll for 1 h 5 min of business time, since" in opened
    assert "told nobody" in opened
    assert 'href="/stores/NYC%2F7"' in html
    past = part(html, "past")
    assert "Old: up again; was down for 2 h of business time" in past
    assert "could not be told: ops" in past
    assert "1001" not in past
    assert "<title>2 open – Alerts – storemon</title>" in html


def test_history_is_chosen_and_paged(client: FlaskClient, database: Database) -> None:
    now = now_us()
    put(database, *(down(f"s{number:02d}", now - HOUR_US, ended_us=now) for number in range(20)), down("open", now))
    ids: list[str] = []
    address = "/alerts"
    while address:
        html = client.get(address).text
        past = html.split('id="past"')[1]
        ids += re.findall(r'href="/stores/(\w+)"', past)
        older = re.search(r'href="([^"#]+)#history" rel="next"', past)
        address = older[1].replace("&amp;", "&") if older else ""
    assert ids == [f"s{number:02d}" for number in range(19, -1, -1)]
    one = client.get("/alerts?state=any&subject=s03&kind=down").text.split('id="past"')[1]
    assert re.findall(r'href="/stores/(\w+)"', one) == ["s03"]
    assert part(client.get("/alerts?kind=feed").text, "past") == "No incident matches."
    assert client.get("/alerts?state=never").status_code == 422


def test_the_form_ticks_every_kind_but_stale(client: FlaskClient, settings: Settings) -> None:
    def ticked(html: str) -> set[str]:
        return set(re.findall(r'name="kinds" value="(\w+)" checked', html))

    usual = {"down", "not_opened", "blind", "many_down", "unstable", "feed"}
    assert ticked(client.get("/alerts").text) == usual
    # After an error the form has what was sent.
    wrong = client.post("/alerts", data={**FORM, "kind": "pigeon", "kinds": ["stale"]})
    assert (wrong.status_code, ticked(wrong.text)) == (422, {"stale"})
    client.post("/alerts", data=FORM)
    assert "receives all but stale · at once" in part(client.get("/alerts").text, "channel-list")
    ((filters,),) = sql(settings.database, "SELECT filters FROM channel")
    assert set(json.loads(filters)["kinds"]) == usual
    client.post("/alerts", data={**FORM, "name": "all", "kinds": [*usual, "stale"]})
    assert "receives everything · at once" in part(client.get("/alerts").text, "channel-list")


def test_a_channel_from_its_adding_to_its_end(client: FlaskClient, settings: Settings) -> None:
    with sink() as (url, receiver):
        made = client.post("/alerts", data={**FORM, "address": url, "kinds": ["down"], "groups": "North\nSouth\n"})
        assert made.status_code == 200
        (secret,) = set(re.findall(r"whsec_[A-Za-z0-9+/]{32}", made.text))
        assert sql(settings.database, "SELECT secret FROM channel") == [(secret,)]
        assert "No store is of North and South yet; is the name right?" in words(made.text)
        listed = client.get("/alerts")
        assert listed.headers["Cache-Control"] == "no-store"
        assert secret not in listed.text
        assert "tok3n-secret" not in listed.text
        assert "receives down; groups North and South · at once" in part(listed.text, "channel-list")
        tested = client.post("/alerts/channels/1/test")
        assert (tested.status_code, tested.headers["Location"]) == (303, "/alerts?tested=1#channels")
    assert len(receiver.got) == 1
    html = client.get("/alerts?tested=1").text
    assert re.search(r"Test of ops: ✓ delivered 200 OK: word \(\d+\.\d\d s\)", words(html))
    assert "test ✓ delivered 200 OK: word" in part(html, "tries-list")
    assert "test ✓ delivered 200 OK: word" in words(client.get("/alerts/deliveries").text)
    assert "Its address and its secret go with it." in words(client.get("/alerts/channels/1/remove").text)
    gone = client.post("/alerts/channels/1/remove")
    assert (gone.status_code, gone.headers["Location"]) == (303, "/alerts#channels")
    assert sql(settings.database, "SELECT address, secret FROM channel") == [("", None)]
    assert "There is no channel yet" in words(client.get("/alerts").text)
    # The log stays.
    assert "test ✓ delivered" in words(client.get("/alerts/deliveries").text)
    for path in ("/alerts/channels/1/remove", "/alerts/channels/1/test"):
        assert client.post(path, headers={"Accept": "text/html"}).status_code == 404


@pytest.mark.parametrize(
    ("change", "field", "sentence"),
    [
        ({"address": "nowhere"}, "address", "http"),
        ({"name": ""}, "name", "1 to 100 characters"),
        ({"quiet": "always"}, "quiet", "has no end"),
        ({"digest": "08:00 Mars"}, "digest", "no IANA time zone"),
        ({"kind": "email", "address": "nobody"}, "address", "no mail address"),
        ({"kinds": "gone"}, "kinds", "a kind of incident is one of"),
    ],
)
def test_what_is_wrong_stands_at_its_input_and_nothing_typed_is_lost(
    client: FlaskClient, change: dict[str, str], field: str, sentence: str
) -> None:
    answer = client.post("/alerts", data={**FORM, "stores": "a\nb", **change})
    assert answer.status_code == 422
    found = re.search(rf'id="wrong-{field}">([^<]+)<', answer.text)
    assert found is not None
    assert sentence in found[1]
    assert '<details class="ask more noprint" id="add" open>' in answer.text
    assert ">a\nb</textarea>" in answer.text
    typed = {**FORM, **change}
    assert f'name="address" required autocomplete="off" spellcheck="false" value="{typed["address"]}"' in answer.text


def test_now_marks_what_changed_and_says_who_was_told_and_which_channel_receives_no_messages(
    client: FlaskClient, database: Database, tmp_path: Path
) -> None:
    ids = live_fleet(database, tmp_path)
    now = now_us()
    client.post("/alerts", data=FORM)
    numbers = put(
        database,
        down(ids[0], now - MINUTE_US),
        down(ids[1], now - 11 * MINUTE_US),
        down(ids[2], now - HOUR_US, ended_us=now - MINUTE_US),
        down(ids[3], now - HOUR_US, ended_us=now - 11 * MINUTE_US),
    )
    answer = client.get("/")
    said = {
        name: words(" ".join(re.findall(r'<small class="told">(.*?)</small>', row, re.DOTALL)))
        for name, row in re.findall(r'data-key="store-([^"]+)"(.*?)</tr>', answer.text, re.DOTALL)
    }
    assert [said[name] for name in ids[:5]] == [
        "New Down · told nobody", "Down · told nobody", "New up again · told nobody", "", "",
    ]  # fmt: skip
    headers = {"If-None-Match": answer.headers["ETag"]}
    assert client.get("/", headers=headers).status_code == 304
    tell(database, 1, numbers[0], "opened", "sent", now)
    told = client.get("/", headers=headers)
    assert told.status_code == 200
    assert "Down · <bdi>told ops</bdi>" in told.text
    assert "receives no messages" not in told.text
    # A message that is tried in vain, and one that was given up.
    with database.write() as connection:
        message = messages.add(connection, 1, "incidents", {}, now)
        connection.execute("UPDATE message SET attempts = 3, error = '500 no' WHERE id = ?", [message])
        for _ in range(3):
            messages.add_delivery(connection, messages.Delivery(message, 1, "incidents", now, 1, False, 500, "500 no"))
    html = client.get("/", headers=headers).text
    assert "Channel ops receives no messages. 3 attempts to send its next message failed: 500 no. Channels" in words(
        html
    )
    with database.write() as connection:
        messages.finish(connection, message, "given up after 8 tries", now)
    assert "Its last message was not delivered: given up after 8 tries." in words(client.get("/").text)
    with database.write() as connection:
        later = messages.add(connection, 1, "incidents", {}, now + 1)
        messages.finish(connection, later, None, now + 1)
    assert "receives no messages" not in client.get("/").text
    with database.write() as connection:
        channels.disable(connection, 1, "410 Gone", now)
    assert "410 Gone; a test that is delivered switches it on again." in words(client.get("/").text)


def test_now_says_what_is_wrong_with_many_stores(client: FlaskClient, database: Database, tmp_path: Path) -> None:
    live_fleet(database, tmp_path)
    now = now_us()
    blind = Incident(
        0, IncidentKind.BLIND, "fleet", "", now - 3 * HOUR_US, now, details={"count": 6, "of": 6, "reason": "silence"}
    )
    many = [
        Incident(
            0, IncidentKind.MANY_DOWN, "group", f"Area {number}", now - HOUR_US, now, details={"count": 5, "of": 9}
        )
        for number in range(4)
    ]
    before = client.get("/")
    assert 'href="/alerts"' not in before.text.partition("<main")[2]
    put(database, *many, blind)
    answer = client.get("/", headers={"If-None-Match": before.headers["ETag"]})
    notice = words(re.search(r'<div id="notice".*?</p></div></div>', answer.text, re.DOTALL)[0])
    assert notice.startswith("The fleet: none of 6 stores can be seen: hardly any poll has come since ")
    assert re.findall(r"Group (Area \d): 5 of 9 stores are down, since", notice) == ["Area 0", "Area 1"]
    assert notice.endswith("And 2 more. Alerts")


def test_a_schedule_from_its_adding_to_its_end(client: FlaskClient, database: Database, tmp_path: Path) -> None:
    live_fleet(database, tmp_path)
    client.post("/alerts", data=FORM)
    form = {
        "name": "North", "due": "daily 7:00", "zone": "Europe/Paris", "windows": "last_day", "groups": "North",
        "channels": "ops", "format": "xlsx", "below": "95",
    }  # fmt: skip
    wrong = client.post("/reports/schedules", data={**form, "due": "sometimes"})
    assert wrong.status_code == 422
    assert 'id="wrong-due"' in wrong.text
    assert 'value="sometimes"' in wrong.text
    wrong = client.post("/reports/schedules", data={**form, "groups": "Nowhere", "below": "many"})
    assert 'id="wrong-below"' in wrong.text
    added = client.post("/reports/schedules", data=form)
    assert (added.status_code, added.headers["Location"]) == (303, "/reports/schedules")
    html = client.get("/reports/schedules").text
    assert "daily 7:00, Europe/Paris · the day before · North · xlsx · sent to ops" in words(html)
    assert len(re.findall(r"<b>\w{3} \d{4}-\d\d-\d\d 07:00 CES?T</b> <time class=\"dim\" data-reader", html)) == 3
    assert client.post("/reports/schedules/1/run").status_code == 303
    assert "… Waiting" in words(client.get("/reports/schedules").text)
    assert 'href="/reports/schedules/1/remove"' in client.get("/reports/schedules").text
    asked = words(client.get("/reports/schedules/1/remove").text)
    assert "Remove North?" in asked
    assert "A report that is due and not made yet is not sent. The reports that it made stay." in asked
    assert "It no longer receives the reports of the schedule North." in words(
        client.get("/alerts/channels/1/remove").text
    )
    assert client.post("/reports/schedules/1/remove").status_code == 303
    assert client.get("/reports/schedules/1/remove").status_code == 404
    assert "There is none yet" in words(client.get("/reports/schedules").text)
    assert client.post("/reports/schedules/1/run").status_code == 404


def test_a_store_page_says_what_is_wrong_and_who_was_told(
    client: FlaskClient, database: Database, tmp_path: Path
) -> None:
    ids = live_fleet(database, tmp_path)
    client.post("/alerts", data=FORM)
    now = now_us()
    (number,) = put(database, down(ids[0], now - MINUTE_US))

    def said(address: str, **headers: str) -> str:
        found = re.search(r'<p id="incidents"[^>]*>(.*?)</p>', client.get(address, headers=headers).text, re.DOTALL)
        assert found is not None
        return words(found[1])

    address = f"/stores/{ids[0]}"
    assert said(address) == "New Down · told nobody · Alerts of this store"
    tag = client.get(address).headers["ETag"]
    tell(database, 1, number, "opened", "sent", now)
    assert said(address, **{"If-None-Match": tag}) == "New Down · told ops · Alerts of this store"
    # Of another instant nothing of now is said.
    assert said(address + "?as_of=2026-01-01T00:00:00Z") == "Alerts of this store"
    assert said(f"/stores/{ids[1]}") == "Alerts of this store"


def test_attempts_of_one_channel_have_its_name(client: FlaskClient, database: Database) -> None:
    for name in ("ops", "<b>other"):
        client.post("/alerts", data={**FORM, "name": name})
    with database.write() as connection:
        for channel in (1, 2):
            message = messages.add(connection, channel, "incidents", {}, now_us())
            connection.execute(
                "INSERT INTO delivery (message, started_us, duration_us, delivered, answer) VALUES (?, 1, 1, 0, ?)",
                [message, f"answer {channel}"],
            )
    both, one = client.get("/alerts/deliveries").text, client.get("/alerts/deliveries?channel=2").text
    assert ("answer 1" in both, "answer 2" in both) == (True, True)
    assert ("answer 1" in one, "answer 2" in one) == (False, True)
    assert "to the channel &lt;b&gt;other (all channels)" in words(one)
    assert client.get("/alerts/deliveries?channel=9").status_code == 200


@pytest.mark.parametrize(
    "address", ["/alerts", "/alerts?state=any&kind=down&subject=x", "/alerts/deliveries?channel=5"]
)
def test_pages_of_alerts_are_there_before_any_data(client: FlaskClient, settings: Settings, address: str) -> None:
    assert not settings.database.exists()
    assert client.get(address).status_code == 200
    assert not settings.database.exists()
