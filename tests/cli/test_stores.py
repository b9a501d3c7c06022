"""`storemon stores` and `storemon store`: the same numbers as over HTTP, drawn for an 80-column terminal."""

import re
from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
from channel_helpers import put
from cli_helpers import coloured_text, terminal_bytes
from conftest import FORMULA_ID, NEWEST, QUOTED_ID, load_folder, storemon
from store_helpers import timeline_of

from storemon_flask import clock
from storemon_flask.cli import drawing, terminal
from storemon_flask.cli.stores import lines
from storemon_flask.database.incidents import Incident
from storemon_flask.model import HOUR_US, IncidentKind
from storemon_flask.stores import live_list

NOW = clock.parse_timestamp(NEWEST)
ZONE = "America/Chicago"


@pytest.fixture
def home(settings, small_fleet, database):
    database.close()
    return settings.home


def run(home, *arguments, **variables):
    done = storemon(home, *arguments, **variables)
    assert done.returncode == 0, done.stderr
    return done


def test_the_list(home):
    done = run(home, "stores")
    rows = [re.split(r"  +", line) for line in done.stdout.splitlines()]
    assert rows == [
        ["store", "status", "for", "last poll (UTC)", "day %", "week %"],
        ["worked", "closed", "0 min", "2024-10-14 11:15", "58.06", "58.06"],
        [FORMULA_ID, "up", "24 h 30 min", "2024-10-14 12:00", "100.00", "100.00?", "week of 24.5 h known"],
        [QUOTED_ID, "no_data", "-", "-"],
        ["silent", "no_data", "-", "-"],
    ]
    assert f"everything here is as of that poll, {NEWEST}" in done.stderr
    assert done.stderr.endswith("4 stores (1 up, 1 closed, 2 no_data)\n")


def test_filters_sort_and_limit(home):
    def ids(*arguments):
        return [line.split("  ")[0] for line in run(home, "stores", *arguments).stdout.splitlines()[1:]]

    assert ids("--status", "up", "--status", "closed") == ["worked", FORMULA_ID]
    assert ids("--text", "nyc") == [QUOTED_ID]
    assert ids("--zone", "Asia/Tokyo") == ["silent"]
    assert ids("--group", "North") == []
    assert ids("--sort", "store_id", "--descending", "--limit", "2") == ["worked", "silent"]
    assert "2 of 4 stores" in run(home, "stores", "--limit", "2").stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--status", "broken"], "'broken' is none of no_data, closed, up, down, waiting, stale"),
        (["--sort", "colour"], "'colour' is none of worst, store_id, name"),
        (["--limit", "0"], "0 is not in the range"),
    ],
)
def test_wrong_words_are_wrong_usage(home, arguments, said):
    done = storemon(home, "stores", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr


@pytest.mark.parametrize("arguments", [["stores"], ["store", "worked"]])
def test_without_a_database_none_is_made(tmp_path, arguments):
    done = storemon(tmp_path, *arguments)
    assert done.returncode == 1
    assert "there is no database at" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_one_store(home):
    done = run(home, "store", "worked", "--from", "2024-10-14T00:00:00Z")
    assert (
        done.stdout
        == """\
worked  UTC
closed for 0 min, since 2024-10-14 12:00 UTC; last poll 2024-10-14 11:15 UTC
2024-10-14 00:00 UTC to 2024-10-14 12:00 UTC

               0     3     6     9     12    15    18    21
Mon 10-14 UTC  ..................===XXX                           58.06 %
= up  X down  ? unknown  . closed   half an hour a cell, the worst of it shown

outage from           within     to       within       down  polls
2024-10-14 10:44 UTC  1 h 1 min  ongoing          1 h 15 min      1

           uptime %   low    high  up h  down h  unknown h  business h
last day      58.06  0.00  100.00  1.74    1.26       0.00        3.00
last week     58.06  0.00  100.00  1.74    1.26       0.00        3.00
""".replace("within   to ", "within    to ").replace("     down  polls", "      down  polls")
    )
    assert "Note: the newest poll is" in done.stderr


def test_one_store_names_the_times_in_which_the_poller_was_blind(settings, small_fleet, database):
    start_us = clock.parse_timestamp("2024-10-14T10:20:00Z")
    put(database, Incident(0, IncidentKind.BLIND, "fleet", "", start_us, start_us, details={"reason": "silence"}))
    database.close()
    done = run(settings.home, "store", "worked", "--from", "2024-10-14T00:00:00Z")
    label = "polls missing for all stores, from 2024-10-14 10:20 UTC, no end known at the as-of"
    assert label in " ".join(done.stdout.split())


def test_unknown_time_is_told_from_closed_and_a_store_without_outages_says_so(home):
    done = run(home, "store", "silent", "--from", "2024-10-13T15:00:00Z", "--to", "2024-10-14T03:00:00Z")
    assert "Mon 10-14 JST  ????????????????????????\n" in done.stdout
    assert "no_data: never polled" in done.stdout
    assert "\nno outages\n" in done.stdout
    in_utc = run(home, "store", "silent", "--from", "2024-10-13T15:00:00Z", "--to", "2024-10-14T03:00:00Z", "--utc")
    assert f"Sun 10-13 UTC  {' ' * 30}{'?' * 18}\nMon 10-14 UTC  ??????\n" in in_utc.stdout


def test_an_unknown_store_and_a_wrong_range_are_sentences(home):
    done = storemon(home, "store", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert "Error: there is no store 'nobody'" in done.stderr
    done = storemon(home, "store", "worked", "--from", "2024-08-01")
    assert (done.returncode, done.stdout) == (1, "")
    assert "at most 31 days before to" in done.stderr
    assert storemon(home, "store", "worked", "--from", "whenever").returncode == 2


@pytest.mark.parametrize("command", ["stores", "store"])
def test_help_has_examples_and_costs_little(home, command):
    done = run(home, command, "--help", PYTHONPROFILEIMPORTTIME="1")
    assert f"  storemon {command}" in done.stdout
    assert "pandas" not in done.stderr
    assert "storemon_flask.cli.drawing" not in done.stderr


def with_colours(home, *arguments, **variables):
    return coloured_text(terminal_bytes(home, *arguments, **variables))


def test_colours_are_for_terminals_and_not_with_no_color(home):
    arguments = ("store", "worked", "--from", "2024-10-14T00:00:00Z")
    coloured = with_colours(home, *arguments)
    assert "\x1b[32m===\x1b[0m\x1b[31mXXX\x1b[0m" in coloured
    plain = with_colours(home, *arguments, NO_COLOR="1")
    assert "\x1b" not in plain
    assert re.sub(r"\x1b\[[0-9;]*m", "", coloured) == plain == run(home, *arguments).stdout


def test_percentages_that_know_little_say_so(database, settings, tmp_path):
    rows = [f"{'a' * 36},2024-10-14 {hour:02d}:30:00 UTC,active" for hour in range(12, 24)]
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "polls.csv").write_text("\n".join(["store_id,timestamp_utc,status", *rows]) + "\n")
    (tmp_path / "feeds" / "zones.csv").write_text(f"store_id,timezone_str\n{'a' * 36},UTC\n")
    load_folder(database, tmp_path / "feeds")
    found = live_list.compute_snapshot(database, settings.rules, ZONE, clock.parse_timestamp("2024-10-14T23:30Z"))
    assert lines(found, [0], 80)[1:] == [
        f"{'a' * 36}  up      35 h  100.00  100.00?",
        "  last poll 2024-10-14 23:30 UTC",
        "  week of 35 h known",
    ]
    assert lines(found, [0], 110)[1].endswith("  100.00  100.00?  week of 35 h known")
    database.close()
    shown = run(settings.home, "store", "a" * 36, "--from", "2024-10-12").stdout.splitlines()
    assert [line.split("  ")[-1].strip() for line in shown if line.startswith(("Sun", "Mon"))] == [
        "100.00 of 12h",
        "100.00 %",
    ]
    assert shown[-1] == "  last week: 100.00? is of 35 h known"
    coloured = with_colours(settings.home, "store", "a" * 36)
    assert "\x1b[90m100.00?\x1b[0m" in coloured
    assert "\x1b[90m100.00 of 12h\x1b[0m" in coloured


@pytest.fixture
def changing(database, settings, tmp_path):
    """Stores in zones that change their clocks, polled every half hour; ids as long as a UUID, and names."""
    (tmp_path / "feeds").mkdir()
    zones = {"a" * 36: "America/New_York", "lord-howe": "Australia/Lord_Howe", "apia": "Pacific/Apia"}
    days = {
        "America/New_York": datetime(2023, 3, 13, tzinfo=UTC),
        "Australia/Lord_Howe": datetime(2023, 4, 2, tzinfo=UTC),
    }
    rows = ["store_id,timestamp_utc,status"]
    for store_id, zone in zones.items():
        last = days.get(zone, datetime(2012, 1, 1, tzinfo=UTC))
        for half in range(48 * 6):
            word = "inactive" if half % 97 == 0 else "active"
            rows.append(f"{store_id},{last - half * timedelta(minutes=30):%Y-%m-%d %H:%M:%S},{word}")
    (tmp_path / "feeds" / "polls.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "feeds" / "zones.csv").write_text(
        "store_id,timezone\n" + "".join(f"{store_id},{zone}\n" for store_id, zone in zones.items())
    )
    (tmp_path / "feeds" / "names.csv").write_text(
        f"store_id,name,group\n{'a' * 36},The Old Corner House "
        f"by the River,North of the River\napia,東京駅前の店舗とその別館の店,\n"
    )
    load_folder(database, tmp_path / "feeds")
    return database


def picture(database, settings, store_id, first, last):
    first, last, now = map(clock.parse_timestamp, (first, last, "2023-04-02"))
    found = timeline_of(database, store_id, first, last, now)
    return list(drawing.rows(found, drawing.clock(found.store.zone_now, utc=False), colour=False))


def test_a_day_has_23_hours_when_the_clocks_go_forward(changing, settings):
    rows = picture(changing, settings, "a" * 36, "2023-03-11T05:00Z", "2023-03-13T04:00Z")
    assert [row[:13] for row in rows[1:]] == ["Sat 03-11 EST", "Sun 03-12 EST"]
    assert [len(row[15:].split("  ")[0]) for row in rows[1:]] == [48, 46]
    assert rows[2].endswith("  23 h")
    assert not rows[1].endswith(" h")


def test_a_day_may_have_half_an_hour_more_and_a_day_that_was_skipped_is_not_there(changing, settings):
    rows = picture(changing, settings, "lord-howe", "2023-03-31T13:00Z", "2023-04-02T00:00Z")
    assert [row[:9] for row in rows[1:]] == ["Sat 04-01", "Sun 04-02"]
    assert rows[2].endswith("  24.5 h")
    rows = picture(changing, settings, "apia", "2011-12-29T10:00Z", "2012-01-01T00:00Z")
    assert [row[:9] for row in rows[1:]] == ["Thu 12-29", "Sat 12-31", "Sun 01-01"]
    assert all(set(row[15:].split("  ")[0]) <= {"=", "X"} for row in rows[1:3])


def test_the_cells_are_the_stretches(changing, settings):
    first, last = clock.parse_timestamp("2023-03-11T05:00Z"), clock.parse_timestamp("2023-03-12T05:00Z")
    (row,) = picture(changing, settings, "a" * 36, "2023-03-11T05:00Z", "2023-03-12T05:00Z")[1:]
    found = timeline_of(changing, "a" * 36, first, last, last)
    for place, sign in enumerate(row[15:63]):
        a, b = first + place * HOUR_US // 2, first + (place + 1) * HOUR_US // 2
        touching = (found.segments.start_us < b) & (found.segments.end_us > a)
        assert sign == ("X" if 2 in found.segments.state[touching] else "=")


def test_nothing_is_wider_than_a_terminal_of_80_columns(changing, settings):
    home = settings.home
    changing.close()
    listed = with_colours(home, "stores")
    assert "a" * 36 in listed
    assert "\n  The Old Corner House by the River (North of .., last poll 2023-03-13 00:00 UTC\n" in listed
    drawn = [
        with_colours(home, "store", one, "--from", "2023-03-11", "--to", "2023-04-02") for one in ("a" * 36, "apia")
    ]
    for line in re.sub(r"\x1b\[[0-9;]*m", "", "".join([listed, *drawn])).splitlines():
        assert terminal.columns(line) <= 80, line
    # Where it is not a terminal, nothing is cut.
    assert "The Old Corner House by the River (North of the River)" in run(home, "stores").stdout


def test_the_list_is_cut_to_the_width_and_not_otherwise(changing, settings):
    found = live_list.compute_snapshot(changing, settings.rules, ZONE, NOW)
    places = list(range(len(found.ids)))
    assert max(terminal.columns(line) for line in lines(found, places, 80)) <= 80
    assert any(
        line.endswith("  The Old Corner House by the River (North of the River)") for line in lines(found, places, 150)
    )
    assert [line for line in lines(found, places, None) if line.startswith("  ")] == []
    assert max(terminal.columns(line) for line in lines(found, places, 100)) <= 100


@pytest.mark.parametrize(
    ("text", "most", "shown"), [("abc", 3, "abc"), ("abcd", 3, "a.."), ("東京駅", 5, "東.."), ("", 4, "")]
)
def test_cutting(text, most, shown):
    assert terminal.cut(text, most) == shown


def test_sums_of_cells_never_hide_an_outage(changing, settings):
    found = timeline_of(changing, "a" * 36, *map(clock.parse_timestamp, ("2023-03-10", "2023-03-13")), NOW)
    drawn = "".join(drawing.rows(found, drawing.clock("Etc/UTC", utc=True), colour=False))
    assert drawn.count("X") >= len(found.outages) > 0
    assert np.all(found.outages.down_us > 0)


@pytest.mark.parametrize("arguments", [("stores", "--below"), ("advise", "--target"), ("outages", "--shortest")])
def test_nan_is_wrong_usage(home, arguments):
    done = storemon(home, *arguments, "nan")
    assert done.returncode == 2
    assert done.stderr.endswith(f"'{arguments[1]}': 'nan' is not a number.\n")
    assert done.stdout == ""
