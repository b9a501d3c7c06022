"""Since when a store is what it is: one value in the list, the store's page, the timeline and the report of outages."""

import csv
import html
import io
import json
import re
from datetime import UTC, datetime, timedelta

import brute_openings
import numpy as np
import pytest
from brute_force import evidence, line
from conftest import load_folder

from storemon_flask import clock
from storemon_flask.clock import duration_text
from storemon_flask.database import prune
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, Rules

NEWEST_US = clock.parse_timestamp("2024-11-14T16:20:00Z")  # a Thursday, after clocks changed in Europe and America
REACH_US, MAX_GAP_US = Rules().reach_us, Rules().max_gap_us
HOURS = {
    "always": [],
    "office": [(day, "09:00", "17:30") for day in range(5)],
    "night": [(day, "18:00", "12:00") for day in range(7)],
    "thursdays": [(3, "06:00", "20:00")],
    "two shifts": [(day, start, end) for day in range(7) for start, end in (("07:00", "11:00"), ("11:30", "23:59"))],
    "every day": [(day, "00:00", "23:59") for day in range(7)],
}
ZONES = ("America/New_York", "Europe/Berlin", "America/Chicago", "UTC")


def text(instant_us: int) -> str:
    return f"{datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant_us):%Y-%m-%dT%H:%M:%S.%fZ}"


def made_fleet(folder, seed):
    """A fleet of stores that are down for up to 80 days, with gaps and polls that were active; {id: (polls, hours,
    zone)}.
    """
    random = np.random.default_rng(seed)
    stores = {}
    for kind, hours in HOURS.items():
        for number in range(6):
            zone = ZONES[int(random.integers(0, len(ZONES)))]
            days = float(random.choice([1, 6, 7.5, 8, 8.5, 9, 15, 39, 80]) + random.random() / 2)
            step_us = int(random.choice([17, 55, 120])) * MINUTE_US
            instant = np.arange(NEWEST_US, NEWEST_US - int(days * DAY_US), -step_us)[::-1]
            instant = np.maximum.accumulate(instant + random.integers(0, step_us // 2, len(instant)))
            instant = np.append(np.unique(instant[instant < NEWEST_US - HOUR_US]), NEWEST_US - 5 * MINUTE_US)
            active = np.zeros(len(instant), dtype=bool)
            what = int(random.integers(0, 4))
            at = int(random.integers(0, len(instant) - 1))
            if what == 1:  # up until then
                active[:at] = True
            elif what == 2:  # nobody looked for some days
                gone = (instant >= instant[at]) & (instant < instant[at] + int(random.integers(1, 6)) * DAY_US)
                gone[-1] = False
                instant, active = instant[~gone], active[~gone]
            elif what == 3:  # an active poll now and then
                active[random.integers(0, len(instant) - 1, 3)] = True
            polls = sorted(zip(instant.tolist(), active.tolist(), strict=True))
            stores[f"{kind} {number}"] = (polls, hours, zone)
    stores["beside"] = ([(NEWEST_US, True)], [], "UTC")
    write(folder, stores)
    return stores


def write(folder, stores):
    folder.mkdir(exist_ok=True)
    with (folder / "polls.csv").open("w") as stream:
        stream.write("store_id,timestamp_utc,status\n")
        for store_id, (polls, _, _) in stores.items():
            stream.writelines(f"{store_id},{text(at)},{'active' if up else 'inactive'}\n" for at, up in polls)
    with (folder / "hours.csv").open("w") as stream:
        stream.write("store_id,day,start_time_local,end_time_local\n")
        for store_id, (_, hours, _) in stores.items():
            stream.writelines(f"{store_id},{day},{start},{end}\n" for day, start, end in hours)
    with (folder / "zones.csv").open("w") as stream:
        stream.write("store_id,timezone_str\n")
        stream.writelines(f"{store_id},{zone}\n" for store_id, (_, _, zone) in stores.items())


def brute_run(polls, hours, zone, as_of, known_from):
    """(whether the newest poll of the current opening is inactive and fresh, where the run of polls like it begins)."""
    rows = [(*row, "") for row in hours]
    opened = brute_openings.openings(rows, [], zone, "America/Chicago", polls[0][0] - 3 * DAY_US, as_of)
    current = [place for place, (start, end) in enumerate(opened) if start <= as_of < end]
    made = evidence(opened[current[0]], polls) if current else []
    if not made or as_of - made[-1][0] >= MAX_GAP_US:
        return False, None
    status = made[-1][1]

    def left(opening, made, at):
        begin = line(made[at - 1], made[at]) if at else opening[0]
        return max(begin, made[at][0] - REACH_US, known_from)

    def right(opening, made, at):
        return min(line(made[at], made[at + 1]) if at + 1 < len(made) else opening[1], made[at][0] + REACH_US)

    began = None
    for place in range(current[0], -1, -1):
        opening = opened[place]
        made = evidence(opening, polls)
        if began is not None:
            # Closed time does not end the run; unknown time does, on either side of it.
            reaches = bool(made) and right(opening, made, len(made) - 1) == opening[1]
            if not reaches or began != opened[place + 1][0]:
                break
        for at in range(len(made) - 1, -1, -1):
            if made[at][1] != status or (
                at + 1 < len(made) and right(opening, made, at) != left(opening, made, at + 1)
            ):
                return not status, began
            began = left(opening, made, at)
    return not status, began


def times(part):
    return [clock.parse_timestamp(one) for one in re.findall(r'<time datetime="([^"]+)"', part)]


def listed_on_page(client):
    """Per store (since, last poll, words) of every page of `/`."""
    found = {}
    for page in range(1, 10):
        body = client.get(f"/?sort=store_id&page={page}").text
        rows = re.findall(r"<tr><th scope=\"row\">(.*?)</tr>", body, re.DOTALL)
        for row in rows:
            store_id = html.unescape(re.search(r"<bdi>(.*?)</bdi>", row)[1])
            words = re.search(r"</span> <small>(.*?)</small>|<small>((?:up|down|no poll|closed).*?)</small>", row)
            found[store_id] = (times(row), next(filter(None, words.groups()), None) if words else None)
        if len(found) >= int(re.search(r" of (\d+) stores", body)[1]):
            return found
    raise AssertionError("the pages have no end")


def ongoing_on_page(body):
    """(since of the status, start of the outage that goes on in the table)."""
    status = times(re.search(r'<p id="status".*?</p>', body, re.DOTALL)[0])
    goes_on = [row for row in re.findall(r"<tr><td>.*?</tr>", body, re.DOTALL) if "goes on" in row]
    assert len(goes_on) == 1
    return status[0], times(goes_on[0])[0]


def reported(client, **body):
    report_id = client.post("/trigger_report", json={"kind": "outages", **body}).json["report_id"]
    rows = list(csv.DictReader(io.StringIO(client.get(f"/get_report?report_id={report_id}").text)))
    return {row["store_id"]: clock.parse_timestamp(row["start"]) for row in rows if row["ongoing"] == "yes"}


def assert_one_value(client, stores, known_from=0):
    """All that name the start of the outage that goes on name the one that a loop over all polls finds; how many did."""
    answer = client.get("/api/v1/stores?limit=1000").json
    as_of = clock.parse_timestamp(answer["as_of"])
    assert as_of == NEWEST_US
    on_page, in_report = listed_on_page(client), reported(client)
    in_last_hour = reported(client, windows=["last_hour"])
    down = 0
    for one in answer["stores"]:
        store_id = one["store_id"]
        polls, hours, zone = stores[store_id]
        polls = [poll for poll in polls if poll[0] >= known_from]
        is_down, began = brute_run(polls, hours, zone, as_of, known_from) if polls else (False, None)
        assert (one["status"] == "down") is is_down, store_id
        alone = client.get(f"/api/v1/stores/{store_id}").json
        assert {name: alone[name] for name in one} == one
        if not is_down:
            continue
        down += 1
        timeline = client.get(f"/api/v1/stores/{store_id}/timeline").json["outages"]
        page = client.get(f"/stores/{store_id}").text
        assert one["since"] == text(began), store_id
        assert one["since_or_earlier"] is False
        assert [outage["start"] for outage in timeline if outage["ongoing"]] == [text(began)]
        assert ongoing_on_page(page) == (began, began)
        assert on_page[store_id][0] == [began, polls[-1][0]]
        assert (in_report[store_id], in_last_hour[store_id]) == (began, began)
        assert one["last_poll"] == text(polls[-1][0])
        assert one["for_seconds"] == (as_of - began) // 1_000_000
        words = f"down for {duration_text(as_of - began)}"
        assert one["status_text"] == on_page[store_id][1] == words
        assert words in page
    return down


@pytest.mark.parametrize("seed", range(3))
def test_every_view_says_the_same_since_of_a_store_that_is_down(client, database, tmp_path, seed):
    stores = made_fleet(tmp_path / "feeds", seed)
    load_folder(database, tmp_path / "feeds")
    assert assert_one_value(client, stores) >= 20


def test_polls_that_were_pruned_shorten_an_outage_everywhere(client, database, tmp_path):
    stores = made_fleet(tmp_path / "feeds", 9)
    load_folder(database, tmp_path / "feeds")
    before_us = NEWEST_US - 12 * DAY_US - 7 * HOUR_US
    prune.delete_before(database, before_us, NEWEST_US)
    with database.read() as connection:
        (known_from,) = connection.execute("SELECT coalesce(complete_from_us, 0) FROM data_version").fetchone()
    kept = {
        store_id: ([poll for poll in polls if poll[0] >= before_us], hours, zone)
        for store_id, (polls, hours, zone) in stores.items()
    }
    assert assert_one_value(client, kept, known_from) >= 20


def load(database, folder, polls, hours=()):
    write(folder, {"a": (polls, list(hours), "UTC"), "beside": ([(NEWEST_US, True)], [], "UTC")})
    load_folder(database, folder)


def one_store(client):
    return client.get("/api/v1/stores/a").json


def test_a_stale_store_has_had_no_poll_since_its_last_one(client, database, tmp_path):
    last_us = NEWEST_US - 39 * DAY_US - 5 * HOUR_US
    load(database, tmp_path / "feeds", [(last_us - HOUR_US, False), (last_us, True)])
    one = one_store(client)
    assert (one["status"], one["since"], one["last_poll"]) == ("stale", text(last_us), text(last_us))
    assert (one["status_text"], one["for_seconds"]) == ("no poll for 39 days", 39 * 86_400 + 5 * 3600)
    assert listed_on_page(client)["a"] == ([last_us], "no poll for 39 days")
    page = client.get("/stores/a").text
    assert "no poll for 39 days" in page
    assert times(re.search(r'<p id="status".*?</p>', page, re.DOTALL)[0])[-1] == last_us


def test_a_store_that_is_up_was_so_on_every_day_that_is_looked_at(client, database, tmp_path):
    hourly = [(NEWEST_US - hour * HOUR_US, True) for hour in range(30 * 24, -1, -1)]
    load(database, tmp_path / "feeds", hourly)
    one = one_store(client)
    # Six whole days before that of the as-of.
    assert (one["since"], one["since_or_earlier"]) == ("2024-11-08T00:00:00.000000Z", True)
    assert one["status_text"] == "up for over 6 days"
    assert listed_on_page(client)["a"][1] == "up for over 6 days"
    assert "or earlier" in client.get("/").text
    assert "or earlier" in client.get("/stores/a").text


def test_a_store_that_came_up_is_up_since_half_way_between_the_two_polls(client, database, tmp_path):
    up_us = NEWEST_US - 3 * DAY_US - 4 * HOUR_US
    polls = [(up_us - 30 * MINUTE_US, False)] + [(up_us + 30 * MINUTE_US + hour * HOUR_US, True) for hour in range(76)]
    load(database, tmp_path / "feeds", polls)
    one = one_store(client)
    assert (one["since"], one["since_or_earlier"], one["status_text"]) == (text(up_us), False, "up for 3 days 4 h")


def test_closed_and_waiting_stores_say_since_which_edge_of_their_hours(client, database, tmp_path):
    polls = [(NEWEST_US - 2 * DAY_US, True)]
    load(database, tmp_path / "feeds", polls, [(day, "09:00", "12:00") for day in range(7)])
    one = one_store(client)
    assert (one["status"], one["since"]) == ("closed", "2024-11-14T12:00:00.000000Z")
    assert one["status_text"] == "closed for 4 h 20 min"
    write(tmp_path / "more", {"a": ([], [(day, "15:50", "20:00") for day in range(7)], "UTC")})
    (tmp_path / "more" / "polls.csv").unlink()
    load_folder(database, tmp_path / "more")
    one = one_store(client)
    assert (one["status"], one["since"], one["status_text"]) == (
        "waiting",
        "2024-11-14T15:50:00.000000Z",
        "waiting for 30 min",
    )


def test_a_store_never_polled_says_so(client, small_fleet):
    one = client.get("/api/v1/stores/silent").json
    assert (one["status_text"], one["since"], one["for_seconds"]) == ("never polled", None, None)
    assert json.dumps(one).count("never polled") == 1
