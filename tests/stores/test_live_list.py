"""The list of stores: its numbers, filters, orders and pages."""

import base64
import csv
import io
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from conftest import FORMULA_ID, NEWEST, QUOTED_ID, load_folder
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_helpers import NOW, YEAR_LATER, ZONE, opened, sums_of, timeline_of

from storemon_flask import clock
from storemon_flask.errors import NotFound, Unprocessable
from storemon_flask.formatting import hundredths, known_text, knows_little, percent_hundredths
from storemon_flask.labels import StoreLabels, pack
from storemon_flask.model import DAY_US, HOUR_US, WEEK_US
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import SORTS, STATUS_ORDER, AsOf, ListQuery, Snapshot
from storemon_flask.uptime.status import STATUSES


def made(database, settings, now_us=NOW):
    return live_list.compute_snapshot(database, settings.rules, ZONE, now_us)


def listed(found, **wanted):
    page = live_list.select_page(found, ListQuery(**wanted))
    return [found.ids[place] for place in page.indices]


def records(found):
    return {store_id: found.record(place) for place, store_id in enumerate(found.ids)}


def test_a_store_is_told_with_everything(database, settings, small_fleet):
    one = records(made(database, settings))["worked"]
    assert one == {
        "store_id": "worked",
        "name": None,
        "labels": {},
        "group": None,
        "timezone": "UTC",
        "status": "closed",
        "status_text": "closed for 0 min",
        "since": NEWEST,
        "since_or_earlier": False,
        "for_seconds": 0,
        "last_poll": "2024-10-14T11:15:00.000000Z",
        "uptime_percent_last_day": 58.06,
        "uptime_percent_low_last_day": 0.0,
        "uptime_percent_high_last_day": 100.0,
        "uptime_last_day": 1.74,
        "downtime_last_day": 1.26,
        "unknown_last_day": 0.0,
        "business_last_day": 3.0,
        "little_known_last_day": False,
        "uptime_percent_last_week": 58.06,
        "uptime_percent_low_last_week": 0.0,
        "uptime_percent_high_last_week": 100.0,
        "uptime_last_week": 1.74,
        "downtime_last_week": 1.26,
        "unknown_last_week": 0.0,
        "business_last_week": 3.0,
        "little_known_last_week": False,
    }


def test_what_is_not_known_is_none_and_not_nought(database, settings, small_fleet):
    silent = records(made(database, settings))["silent"]
    assert (silent["status"], silent["since"], silent["last_poll"]) == ("no_data", None, None)
    assert silent["uptime_percent_last_day"] is None
    assert (silent["unknown_last_day"], silent["business_last_day"]) == (24.0, 24.0)
    assert (silent["uptime_percent_low_last_day"], silent["uptime_percent_high_last_day"]) == (0.0, 100.0)
    never_open = records(made(database, settings, NOW - HOUR_US * 4))[QUOTED_ID]
    assert never_open["uptime_percent_low_last_day"] is None


def test_live_views_are_of_the_clock_while_the_newest_poll_is_younger_than_a_day(database, settings, small_fleet):
    young = made(database, settings, NOW + DAY_US - 1)
    assert (young.as_of.as_of_us, young.as_of.notice) == (NOW + DAY_US - 1, None)
    assert records(young)[FORMULA_ID]["status"] == "stale"
    old = made(database, settings, NOW + DAY_US)
    assert (old.as_of.as_of_us, old.as_of.data_are_old) == (NOW, True)
    assert old.as_of.notice == f"the newest poll is 24 h old; everything here is as of that poll, {NEWEST}"
    assert records(old)[FORMULA_ID]["status"] == "up"
    assert "365 days old" in str(made(database, settings, YEAR_LATER).as_of.notice)


def test_the_list_the_full_report_and_the_timelines_say_the_same(database, settings, tmp_path):
    random = np.random.default_rng(5)
    rows = ["store_id,timestamp_utc,status"]
    for store in range(40):
        for instant in random.integers(NOW - 9 * DAY_US, NOW, size=int(random.integers(0, 260))).tolist():
            moment = (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=instant)).strftime(
                "%Y-%m-%d %H:%M:%S.%f"
            )
            rows.append(f"s{store},{moment} UTC,{'active' if random.random() < 0.8 else 'inactive'}")
    hours = ["store_id,day,start_time_local,end_time_local"]
    hours += [f"s{store},{day},09:00,23:59" for store in range(30) for day in range(7) if (store + day) % 5]
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "feeds" / "hours.csv").write_text("\n".join(hours) + "\n")
    load_folder(database, tmp_path / "feeds")

    text = compute.compute(
        database, compute.make_query(database, ReportRequest(NOW, "full"), ZONE, 10**6), settings.rules, ZONE
    ).csv
    reported = {row["store_id"]: row for row in csv.DictReader(io.StringIO(text))}
    found = made(database, settings, NOW)
    assert found.as_of.as_of_us == NOW
    assert len(reported) == len(found.ids) >= 38
    for store_id, one in records(found).items():
        row = reported[store_id]
        assert one["status"] == row["status_now"]
        assert (one["last_poll"] or "") == row["last_poll_utc"]
        for window, length_us in (("last_day", DAY_US), ("last_week", WEEK_US)):
            for name in ("uptime", "downtime", "unknown", "business", "uptime_percent"):
                cell = row[f"{name}_{window}"]
                assert one[f"{name}_{window}"] == (float(cell) if cell else None)
            told = timeline_of(database, store_id, NOW - length_us)
            sums = sums_of(told)
            for name, value in sums.items():
                assert hundredths(np.array([value]), HOUR_US)[0] / 100 == float(row[f"{name}_{window}"])
            for side in ("low", "high"):
                expected = percent_hundredths(np.array([sums[f"uptime_{side}"]]), np.array([sums["business"]]))[0]
                assert one[f"uptime_percent_{side}_{window}"] == (expected / 100 if expected >= 0 else None)
            assert sum(told.outages.down_us.tolist()) >= sums["downtime"]
        with opened(database, store_id) as alone:
            assert alone.snapshot().record(0) == one


def test_one_store_with_its_hours_and_polls(database, settings, small_fleet):
    with opened(database, "worked") as one:
        assert (one.first_poll_us, one.poll_count()) == (clock.parse_timestamp("2024-10-14T10:14:00Z"), 2)
        hours = one.part.hours
    assert (hours.day.tolist(), hours.start_s.tolist(), hours.end_s.tolist()) == ([0], [32_400], [43_200])
    with opened(database, "silent") as silent:
        assert (silent.first_poll_us, silent.poll_count(), len(silent.part.hours)) == (-1, 0, 0)
    with pytest.raises(NotFound, match="there is no store 'nobody'"), opened(database, "nobody"):
        pass


def invented(stores, day=None, status=None, names=None, groups=None, seed=1):
    """A snapshot out of nothing, with many ties."""
    random = np.random.default_rng(seed)
    columns = {name: random.integers(-1, 4, stores) for name in live_list.HUNDREDTHS}
    columns |= {"status": random.integers(0, 6, stores) if status is None else np.array(status)}
    columns |= {name: random.integers(-1, 5, stores) for name in ("since", "last_poll")}
    columns |= {"since_or_earlier": np.zeros(stores, dtype=np.int64)}
    columns |= {name: random.integers(0, 2, stores) for name in live_list.LITTLE_KNOWN}
    if day is not None:
        columns["uptime_percent_last_day"] = np.array(day)
        columns["little_known_last_day"] = np.zeros(stores, dtype=np.int64)
    columns["worst"] = live_list._urgency(columns)
    ids = [f"s{place * 7 % max(stores, 1)}-{place}" for place in range(stores)]
    names = names or [("", "Annex", "bar")[place % 3] for place in range(stores)]
    groups = groups or [("", "North", "South", "West")[place % 4] for place in range(stores)]
    zones = (["Etc/UTC", "Asia/Tokyo"] * stores)[:stores]
    packed = [
        pack({"region": ("West", "", "East")[at % 3], "tag:city": "Paris" if at % 4 else ""}) for at in range(stores)
    ]
    return Snapshot(AsOf(NOW, None), NOW, 1, ids, names, groups, zones, columns, StoreLabels(groups, packed))


def test_worst_first_is_what_a_shift_manager_looks_at_first():
    words = ["up", "down", "stale", "closed", "no_data", "down", "waiting", "up"]
    day = [5000, 9000, 10_000, 2000, -1, 8000, -1, 10_000]
    found = invented(8, day, [STATUSES.index(word) for word in words])
    assert [words[found.ids.index(one)] for one in listed(found)] == [
        *("down", "down", "stale", "closed", "up", "up", "waiting", "no_data")
    ]
    assert found.columns["uptime_percent_last_day"][[found.ids.index(one) for one in listed(found)]].tolist() == [
        *(8000, 9000, 10_000, 2000, 5000, 10_000, -1, -1)
    ]


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("sort", SORTS)
def test_every_sort_is_that_of_the_values_with_ties_by_id_and_nothing_last(sort, descending):
    found = invented(60)

    def value(place):
        if sort == "worst":
            return int(found.columns["worst"][place])
        if sort == "status":
            return STATUS_ORDER.index(STATUSES[int(found.columns["status"][place])])
        return found.record(place)[sort]

    places = sorted(range(60), key=lambda place: found.ids[place])
    # `reverse` keeps the order of ties, by id.
    some = sorted((p for p in places if value(p) is not None), key=value, reverse=descending)
    if "percent" in sort:
        window = sort[-len("last_week") :].strip("_")
        assert {bool(found.record(p)[f"little_known_{window}"]) for p in some} == {False, True}
        some.sort(key=lambda p: found.record(p)[f"little_known_{window}"])
    expected = some + [p for p in places if value(p) is None]
    assert listed(found, sort=sort, descending=descending) == [found.ids[p] for p in expected]


@hypothesis_settings(max_examples=200)
@given(
    st.integers(0, 40),
    st.sampled_from(SORTS),
    st.booleans(),
    st.integers(1, 12),
    st.sets(st.sampled_from(STATUS_ORDER)),
    st.sampled_from([None, "", "s1", "ANNEX", "nothing like it"]),
    st.sampled_from([None, "North", "", "East"]),
)
def test_the_pages_are_the_list(stores, sort, descending, limit, statuses, text, group):
    found = invented(stores)
    wanted = {"statuses": sorted(statuses), "text": text, "group": group, "sort": sort, "descending": descending}
    whole = live_list.select_page(found, ListQuery(**wanted, limit=None))
    expected = {
        place
        for place in range(stores)
        if (not statuses or found.record(place)["status"] in statuses)
        and (not text or text.lower() in found.ids[place] or text.lower() in found.names[place].lower())
        and (group is None or found.groups[place] == group)
    }
    assert set(whole.indices) == expected
    assert (whole.total, whole.next) == (len(expected), None)
    assert sum(whole.counts[word] for word in statuses or STATUS_ORDER) == len(expected)
    places, cursor = [], None
    while True:
        page = live_list.select_page(found, ListQuery(**wanted, limit=limit, cursor=cursor))
        assert (page.total, page.counts) == (whole.total, whole.counts)
        assert len(page.indices) <= limit
        places += page.indices
        cursor = page.next
        if cursor is None:
            break
    assert places == whole.indices


@pytest.mark.parametrize("window", ["last_day", "last_week"])
@pytest.mark.parametrize("below", [0.005, 0.02, 0.025, 0.03, 100])
def test_below_a_percentage_are_those_whose_printed_uptime_is_less(window, below):
    found = invented(60)
    percents = {found.ids[place]: found.record(place)[f"uptime_percent_{window}"] for place in range(60)}
    expected = {store_id for store_id, percent in percents.items() if percent is not None and percent < below}
    assert set(listed(found, below=below, below_window=window)) == expected
    assert None in percents.values()
    assert (0 < len(expected) < 60) == (below > 0.005) or below == 0.005


def test_stores_without_hours_or_zone_of_their_own_are_found(database, settings, tmp_path):
    (tmp_path / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n" + "".join(f"{one},2024-10-14T11:00:00Z,active\n" for one in "abcd")
    )
    (tmp_path / "hours.csv").write_text(
        "store_id,day,start_time_local,end_time_local\n" + "".join(f"{one},0,09:00,17:00\n" for one in "ab")
    )
    # A zone that is the default one is a zone all the same.
    (tmp_path / "zones.csv").write_text(f"store_id,timezone_str\na,Asia/Tokyo\nc,{ZONE}\n")
    load_folder(database, tmp_path)
    found = made(database, settings)
    assert sorted(listed(found, without=["hours"])) == ["c", "d"]
    assert sorted(listed(found, without=["zone"])) == ["b", "d"]
    assert listed(found, without=["hours", "zone"]) == ["d"]
    # The next snapshot knows what was loaded in between.
    (tmp_path / "zones.csv").write_text("store_id,timezone_str\nd,Asia/Tokyo\n")
    load_folder(database, tmp_path)
    assert listed(made(database, settings), without=["zone"]) == ["b"]


def test_a_cursor_survives_a_new_snapshot():
    day = [100, 200, 300, 400, 500]
    found = invented(5, day, [2] * 5)
    first = live_list.select_page(found, ListQuery(sort="uptime_percent_last_day", limit=2))
    assert [day[p] for p in first.indices] == [100, 200]
    # The store that the cursor names has got better, and the one after it is gone.
    later = invented(5, [100, 9000, 150, 400, 500], [2] * 5)
    second = live_list.select_page(later, ListQuery(sort="uptime_percent_last_day", limit=9, cursor=first.next))
    assert [int(later.columns["uptime_percent_last_day"][p]) for p in second.indices] == [400, 500, 9000]


def encoded(text):
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        *("!", "AAAA", "é", "=", ".", "...", "worst.asc.1.AA", "W" * 10_000, "\ud800"),
        *(
            encoded(text)
            for text in (
                *("1", "null", "{}", "[]", '["worst", false, 1]', '["worst", false, 1, "A", 2]', "[" * 100_000),
                *('["colour", false, 1, "A"]', '["worst", 0, 1, "A"]', '["worst", false, "1", "A"]'),
                *('["worst", false, 1.5, "A"]', '["worst", false, true, "A"]', '["worst", false, 1, 2]'),
                *('["name", false, 1, "A"]', '[["name"], false, 1, "A"]'),
            )
        ),
    ],
)
def test_a_broken_cursor_is_said(cursor):
    with pytest.raises(Unprocessable, match="cursor is broken; give the `next` of the page before"):
        live_list.select_page(invented(9), ListQuery(cursor=cursor))


def test_a_cursor_brings_its_sort_and_order_with_it():
    found = invented(9)
    names = {"sort": "name", "descending": True}
    first = live_list.select_page(found, ListQuery(**names, limit=4))
    rest = live_list.select_page(found, ListQuery(sort="worst", cursor=first.next))
    assert [found.ids[place] for place in first.indices + rest.indices] == listed(found, **names)


def test_who_is_known_little_about_is_never_the_best(database, settings, tmp_path):
    """A store up whenever it was looked at, for 21 of 168 hours, and one known for nearly all of them, with an outage."""
    rows = [f"little,2024-10-14 {hour:02d}:00:00,active" for hour in range(9, 12)]
    rows += [
        f"enough,2024-10-{7 + at // 24:02d} {at % 24:02d}:00:00,{'inactive' if at == 60 else 'active'}"
        for at in range(168)
        if at % 24 < 12 or at < 145
    ]
    rows += ["last,2024-10-14 12:00:00,inactive"]
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *rows]) + "\n")
    hours = [f"last,{day},12:00,12:01" for day in range(7)] + ["last,0,13:00,15:00"]
    (tmp_path / "feeds" / "hours.csv").write_text(
        "\n".join(["store_id,day,start_time_local,end_time_local", *hours]) + "\n"
    )
    (tmp_path / "feeds" / "zones.csv").write_text("store_id,timezone\nlittle,UTC\nenough,UTC\nlast,UTC\n")
    load_folder(database, tmp_path / "feeds")
    found = made(database, settings)
    told = records(found)
    assert (told["little"]["uptime_percent_last_week"], told["little"]["little_known_last_week"]) == (100.0, True)
    assert told["enough"]["uptime_percent_last_week"] < 100
    assert told["enough"]["little_known_last_week"] is False
    for name in ("uptime_percent", "uptime_percent_high", "uptime_percent_low"):
        for descending in (False, True):
            order = listed(found, sort=f"{name}_last_week", descending=descending)
            assert order[0] == "enough", (name, descending)


@pytest.mark.parametrize(
    ("unknown", "business", "text"),
    [
        (0, 0, ""),
        (0, 16_800, ""),
        (1_680, 16_800, ""),
        (1_681, 16_800, "of 151.19 h known"),
        (14_700, 16_800, "of 21 h known"),
        (290_000_000, 400_000_000, "of 1,100,000 h known"),
        (14_750, 16_800, "of 20.5 h known"),
        (16_799, 16_800, "of 0.01 h known"),
        (16_800, 16_800, "of under 0.01 h known"),
        (1, 1, "of under 0.01 h known"),
    ],
)
def test_a_percentage_knows_little_when_more_than_a_tenth_is_unknown(unknown, business, text):
    assert known_text(unknown, business) == text
    assert knows_little(unknown, business) is bool(text)
    assert knows_little(np.array([unknown]), np.array([business])).tolist() == [bool(text)]


def test_zone_and_text_filter():
    found = invented(6)
    assert listed(found, timezone="Etc/UTC", sort="store_id") == sorted(found.ids[::2])
    assert listed(found, timezone="Mars/Base") == []
    assert listed(found, text="aNNex", sort="store_id") == sorted(one for p, one in enumerate(found.ids) if p % 3 == 1)
    assert listed(found, text="\n", sort="store_id") == sorted(found.ids)


@pytest.mark.parametrize(
    ("text", "matching"),
    [
        ("cafe", ["1", "3"]),
        ("CAFÉ", ["1", "3"]),
        ("cafe\u0301", ["1", "3"]),
        ("main café", ["1"]),
        ("street 1", ["1"]),
        ("  STRASSE  ", ["2"]),
        ("straße", ["2"]),
        ("cafe nowhere", []),
        ("3\ncafé", ["3"]),
    ],
)
def test_a_search_ignores_accents_case_and_the_order_of_words(text, matching):
    searched = replace(invented(3), ids=["1", "2", "3"], names=["Café Main Street", "Haupt-Straße", "CAFE\u0301"])
    assert listed(searched, text=text, sort="store_id") == matching


def test_the_totals_are_those_of_a_report_of_the_same_stores(database, settings, small_fleet):
    snapshot = made(database, settings)
    for query in ({}, {"statuses": ["up", "closed"]}, {"text": "worked"}, {"timezone": "America/Chicago"}):
        page = live_list.select_page(snapshot, ListQuery(limit=1, **query))
        chosen = [snapshot.ids[index] for index in page.matching.tolist()]
        request = ReportRequest(NOW, "full", chosen, {"windows": ["last_day", "last_week"], "totals": True})
        text = compute.compute(database, compute.make_query(database, request, ZONE, 10**6), settings.rules, ZONE).csv
        fleet = list(csv.DictReader(io.StringIO(text)))[-1]
        totals = live_list.totals_record(snapshot, page.matching)
        assert (fleet["kind"], page.total) == ("fleet", len(chosen))
        for window in ("last_day", "last_week"):
            for name in ("uptime", "downtime", "unknown", "business"):
                assert totals[f"{name}_{window}"] == float(fleet[f"{name}_{window}"])
            percent = fleet[f"uptime_percent_{window}"]
            assert totals[f"uptime_percent_{window}"] == (float(percent) if percent else None)
    assert live_list.totals_record(snapshot, np.empty(0, dtype=np.int64))["uptime_percent_last_week"] is None


def test_totals_of_a_large_fleet_are_exact():
    snapshot = invented(5000)
    for name in ("uptime", "downtime", "unknown", "business", "uptime_low", "uptime_high"):
        snapshot.columns[f"{name}_last_day_us"] = np.full(5000, 7, dtype=np.int64)
        snapshot.columns[f"{name}_last_week_us"] = np.full(5000, WEEK_US, dtype=np.int64)
    totals = live_list.totals_record(snapshot, np.arange(5000))
    assert (totals["uptime_last_week"], totals["uptime_percent_last_week"]) == (840_000.0, 50.0)
    # 35 ms are no hundredth of an hour, and half of them are up all the same.
    assert (totals["uptime_last_day"], totals["uptime_percent_last_day"]) == (0.0, 50.0)
