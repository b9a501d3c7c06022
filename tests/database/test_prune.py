"""`storemon prune` and the retention setting: what is older goes, everything else stays true, also after a kill."""

import csv
import io
import random
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from brute_force import measures
from brute_force import report as brute_force
from conftest import STOREMON, Server, environment, http, load_folder, sql, storemon, wait_until
from fleets import compute
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from kill_helpers import killed_at
from store_helpers import sums_of, timeline_of
from uptime.cases import cases

from storemon_flask import settings as settings_
from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.clock import timestamp_text
from storemon_flask.database import check, loads, prune
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Rules
from storemon_flask.reports import compute as reports
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.stores import live_list

FIRST_US = 1_704_067_200_000_000  # 2024-01-01, a Monday
DAYS = 70
NOW_US = FIRST_US + 100 * DAY_US
CUT = "2024-02-07T05:30:00Z"  # inside a week, and inside an hour
CUT_US = FIRST_US + 37 * DAY_US + 5 * HOUR_US + HOUR_US // 2


@pytest.fixture
def filled(database: Database, tmp_path: Path) -> Database:
    return fill(database, tmp_path, 5)


def fill(database: Database, tmp_path: Path, stores: int) -> Database:
    """So many stores polled every hour, one with a hole around the cut, one that ended before it, one silent."""
    instants = [FIRST_US + hour * HOUR_US for hour in range(24 * DAYS)]
    lines = [(f"s{store:02d}", at) for store in range(stores) for at in instants]
    lines += [("gap", at) for at in instants if abs(at - CUT_US) > 20 * DAY_US]
    lines += [("ended", at) for at in instants if at < CUT_US - 3 * DAY_US]
    folder = tmp_path / "feeds"
    folder.mkdir()
    stamp = time.gmtime
    (folder / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n"
        + "".join(
            f"{store},{time.strftime('%Y-%m-%d %H:%M:%S', stamp(at // 1_000_000))},active\n" for store, at in lines
        )
        + "bad,never,active\n"
    )
    (folder / "zones.csv").write_text("store_id,timezone_str\nsilent,UTC\n")
    load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(FIRST_US + 50 * DAY_US, 10**18))
    with database.write() as connection:
        old = loads.begin(connection, FIRST_US)
        connection.execute("UPDATE load_file SET load = ? WHERE feed = 'polls'", [old])
    return database


def polls(file: Path) -> list[tuple[str, str, str]]:
    return sorted(sql(file, "SELECT store_id, timestamp_utc, status FROM poll"))  # type: ignore[arg-type]


def version(file: Path) -> int:
    found: int = sql(file, "SELECT version FROM data_version")[0][0]
    return found


def test_what_is_older_goes_and_nothing_else(filled: Database, settings: Settings) -> None:
    before, data = polls(settings.database), version(settings.database)
    filled.close()
    kept = [row for row in before if row[1] >= "2024-02-07 05:30:00"]
    dry = storemon(settings.home, "prune", "--before", CUT, "--dry-run")
    gone = len(before) - len(kept)
    words = f"{gone:,} polls ({gone * 8 / 1e6:.1f} MB), 1 load and 1 rejected row"
    assert (dry.returncode, dry.stdout.splitlines()[0]) == (0, f"would take out {words}; nothing was changed")
    assert polls(settings.database) == before
    done = storemon(settings.home, "prune", "--before", CUT, "--yes")
    assert (done.returncode, done.stdout.splitlines()[0]) == (0, f"took out {words}")
    assert "for what is loaded next" in done.stdout
    assert polls(settings.database) == kept
    spans = sql(
        settings.database,
        "SELECT store_id, first_poll_us, last_poll_us FROM store_record WHERE store_id IN ('ended', 'silent')",
    )
    assert {tuple(row[1:]) for row in spans} == {(None, None)}
    assert version(settings.database) > data
    assert check.check_database(settings).problems == 0
    assert [row[0] for row in sql(settings.database, "SELECT feed FROM load_file")] == ["timezones"]


def test_pruning_again_changes_nothing(filled: Database, settings: Settings) -> None:
    assert prune.delete_before(filled, CUT_US, NOW_US).polls > 0
    data = version(settings.database)
    again = prune.delete_before(filled, CUT_US, NOW_US)
    assert (again.polls, again.loads, again.rejects, version(settings.database)) == (0, 0, 0, data)


@pytest.mark.parametrize("before_us", [0, FIRST_US, FIRST_US + 1, FIRST_US + 7 * DAY_US, NOW_US])
def test_edges(filled: Database, settings: Settings, before_us: int) -> None:
    instants = sql(settings.database, "SELECT timestamp_utc FROM poll")
    cut = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(before_us // 1_000_000)) + f".{before_us % 1_000_000:06d}Z"
    older = sum(at < cut for (at,) in instants)
    with filled.read() as connection:
        assert prune.count_before(connection, before_us).polls == older
    assert prune.delete_before(filled, before_us, NOW_US).polls == older
    assert sql(settings.database, "SELECT count(*) FROM poll") == [(len(instants) - older,)]
    assert check.check_database(settings).problems == 0


def test_vacuum_makes_the_file_smaller(filled: Database, settings: Settings) -> None:
    filled.close()
    sql(settings.database, "PRAGMA wal_checkpoint(TRUNCATE)")
    size = settings.database.stat().st_size
    done = storemon(settings.home, "prune", "--before", CUT, "--yes", "--vacuum")
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith(" MB, none of it free\n")
    assert settings.database.stat().st_size < size
    assert check.check_database(settings).problems == 0


def test_a_script_must_say_yes_and_the_future_is_refused(filled: Database, settings: Settings) -> None:
    before = polls(settings.database)
    filled.close()
    asked = storemon(settings.home, "prune", "--before", CUT)
    assert (asked.returncode, "say --yes" in asked.stderr) == (2, True)
    late = storemon(settings.home, "prune", "--before", "2199-01-01", "--yes")
    assert (late.returncode, "lies in the future" in late.stderr) == (1, True)
    assert storemon(settings.home, "prune", "--before", "soon", "--yes").returncode == 2
    assert storemon(settings.home, "prune", "--yes").returncode == 2
    with pytest.raises(Unprocessable):
        prune.delete_before(filled, NOW_US + 1, NOW_US)
    assert polls(settings.database) == before


def test_pruning_makes_no_database(settings: Settings) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "prune", "--before", CUT, "--yes")
    assert (done.returncode, "there is no database" in done.stderr) == (1, True)
    assert list(settings.home.iterdir()) == []


def test_a_server_serves_and_stores_meanwhile_and_vacuum_is_refused(
    filled: Database, settings: Settings, serve: Callable[..., Server]
) -> None:
    from conftest import http

    filled.close()
    server = serve()
    refused = storemon(settings.home, "prune", "--before", CUT, "--yes", "--vacuum")
    assert (refused.returncode, f"process {server.process.pid}" in refused.stderr) == (1, True)
    with subprocess.Popen(
        [*STOREMON, "prune", "--before", CUT, "--yes"], env=environment(settings.home), stdout=subprocess.DEVNULL
    ) as pruning:
        pushes = 0
        while pruning.poll() is None:
            body = f"store_id,timestamp_utc,status\npushed,2024-03-0{1 + pushes % 9} 09:{pushes % 60:02d}:00,active\n"
            assert http(server.url + "/api/v1/feeds/polls", "POST", body.encode()).status == 200
            pushes += 1
    assert pruning.returncode == 0
    assert pushes > 0
    assert sql(settings.database, "SELECT count(*) FROM poll WHERE store_id = 'pushed'")[0][0] > 0
    assert sql(settings.database, "SELECT count(*) FROM poll WHERE timestamp_utc < '2024-02-07 05:30:00'") == [(0,)]
    assert check.check_database(settings).problems == 0


@pytest.mark.parametrize(
    "point", ["polls.first_poll_in = stop", "prune._next_size = stop", "prune._delete_loads = stop"]
)
def test_a_killed_prune_has_done_a_part_and_the_next_does_the_rest(
    point: str, filled: Database, settings: Settings
) -> None:
    kept = [row for row in polls(settings.database) if row[1] >= "2024-02-07 05:30:00"]
    filled.close()
    code = f"""
import pathlib
from storemon_flask.database import prune
from storemon_flask.database import polls
from storemon_flask.database.connections import Database
{point}
prune.delete_before(Database(pathlib.Path(sys.argv[1])), {CUT_US}, {NOW_US})
"""
    killed_at(settings.home, code, settings.database)
    assert check.check_database(settings).problems == 0
    assert set(polls(settings.database)) >= set(kept)
    prune.delete_before(filled, CUT_US, NOW_US)
    assert polls(settings.database) == kept


@pytest.mark.slow
def test_kills_at_random_moments_leave_everything_true(database: Database, tmp_path: Path, settings: Settings) -> None:
    fill(database, tmp_path, 20).close()
    chance, partly = random.Random(3), 0
    total = sql(settings.database, "SELECT count(*) FROM poll")[0][0]
    pristine = settings.database.with_name("pristine.db")
    with closing(sqlite3.connect(settings.database)) as source, closing(sqlite3.connect(pristine)) as target:
        source.backup(target)
    began = time.monotonic()
    assert storemon(settings.home, "prune", "--before", CUT, "--yes").returncode == 0
    whole_s = time.monotonic() - began
    # The machine may become slower: the next kill comes later after one that came before anything was done.
    pace = 1.0
    for _ in range(30):
        with closing(sqlite3.connect(pristine)) as source, closing(sqlite3.connect(settings.database)) as target:
            source.backup(target)
        with subprocess.Popen(
            [*STOREMON, "prune", "--before", CUT, "--yes"], env=environment(settings.home), stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(whole_s * pace * chance.uniform(0.3, 1.2))
            process.send_signal(signal.SIGKILL)
        assert check.check_database(settings).problems == 0
        left = sql(settings.database, "SELECT count(*) FROM poll")[0][0]
        partly += total > left
        pace *= 0.95 if total > left else 1.1
        newer = sql(settings.database, "SELECT count(*) FROM poll WHERE timestamp_utc >= '2024-02-07 05:30:00'")
        assert newer == sql(pristine, "SELECT count(*) FROM poll WHERE timestamp_utc >= '2024-02-07 05:30:00'")
    assert partly > 0


def keeping(settings: Settings, days: int) -> Settings:
    return settings_.load({"STOREMON_HOME": str(settings.home), "STOREMON_KEEP_POLLS_DAYS": str(days)})


def test_polls_are_kept_for_ever_unless_a_setting_says_otherwise(filled: Database, settings: Settings) -> None:
    before = polls(settings.database)
    assert prune.apply_retention(filled, settings, NOW_US).polls == 0
    assert prune.apply_retention(filled, keeping(settings, 100_000), NOW_US).polls == 0
    assert polls(settings.database) == before


@pytest.mark.parametrize("now_us", [NOW_US, NOW_US + 36_500 * DAY_US])
def test_days_count_back_from_the_newest_poll(filled: Database, settings: Settings, now_us: int) -> None:
    """A clock set a hundred years ahead takes no more out than a right one."""
    prune.apply_retention(filled, keeping(settings, 10), now_us)
    oldest = sql(settings.database, "SELECT min(timestamp_utc) FROM poll")
    assert oldest == [("2024-02-29 23:00:00.000000Z",)]


def put_future(database: Database, tmp_path: Path, *rows: tuple[str, int]) -> None:
    """Store polls of the future, as a server does whose clock is ahead."""
    file = tmp_path / "future.csv"
    stamps = [(store, time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at // 1_000_000))) for store, at in rows]
    file.write_text("store_id,timestamp_utc,status\n" + "".join(f"{store},{at},active\n" for store, at in stamps))
    result = load.load_sources(database, sources.find_sources([file]), load.LoadOptions(max(at for _, at in rows), 0))
    assert (result.rejected, result.failed) == (0, False)


@pytest.mark.parametrize("now_us", [FIRST_US + DAYS * DAY_US, NOW_US, NOW_US + 1000 * DAY_US])
def test_days_never_count_back_from_a_poll_in_the_future(
    filled: Database, settings: Settings, tmp_path: Path, now_us: int
) -> None:
    """One poll of 2030 would take out all that there is; the feed may have stopped long ago."""
    put_future(filled, tmp_path, ("s00", FIRST_US + 6 * 365 * DAY_US))
    prune.apply_retention(filled, keeping(settings, 10), now_us)
    oldest = sql(settings.database, "SELECT min(timestamp_utc) FROM poll")
    assert oldest == [("2024-02-29 23:00:00.000000Z",)]
    assert check.check_database(settings).problems == 0


def test_where_every_poll_is_in_the_future_none_is_too_old(filled: Database, settings: Settings) -> None:
    before = polls(settings.database)
    assert prune.apply_retention(filled, keeping(settings, 1), FIRST_US - DAY_US).polls == 0
    assert prune.apply_retention(filled, keeping(settings, 1), 0).polls == 0
    assert (polls(settings.database), prune.complete_from(filled)) == (before, None)


AHEAD = (
    ("s00", NOW_US + HOUR_US),  # in the week of the clock
    ("s00", NOW_US + 200 * DAY_US),
    ("s01", FIRST_US + 150 * 365 * DAY_US),  # a century later
    ("new", NOW_US + DAY_US),  # of a store without any other
)


def test_polls_in_the_future_are_taken_out_and_nothing_else(
    filled: Database, settings: Settings, tmp_path: Path
) -> None:
    before = polls(settings.database)
    spans = "SELECT store_id, first_poll_us, last_poll_us FROM store_record WHERE store_id <> 'new' ORDER BY 1"
    spans_before = sql(settings.database, spans)
    # The newest that a clock of now allows stays.
    put_future(filled, tmp_path, *AHEAD, ("s02", NOW_US))
    data = version(settings.database)
    found, stores = prune.count_future(filled, NOW_US)
    assert (found.polls, found.bytes, found.loads, found.rejects, stores) == (4, 32, 0, 0, 3)
    done = prune.delete_future(filled, lambda: NOW_US)
    assert (done.polls, done.bytes, done.loads, done.rejects) == (4, 32, 0, 0)
    assert version(settings.database) > data
    kept = time.strftime("%Y-%m-%d %H:%M:%S.000000Z", time.gmtime(NOW_US // 1_000_000))
    assert polls(settings.database) == sorted([*before, ("s02", kept, "active")])
    assert [row for row in sql(settings.database, spans) if row[0] != "s02"] == [
        row for row in spans_before if row[0] != "s02"
    ]
    assert sql(settings.database, "SELECT first_poll_us, last_poll_us FROM store_record WHERE store_id = 'new'") == [
        (None, None)
    ]
    # Time before is as known as it was.
    assert prune.complete_from(filled) is None
    assert check.check_database(settings).problems == 0
    data = version(settings.database)
    assert (prune.delete_future(filled, lambda: NOW_US).polls, version(settings.database)) == (0, data)


def test_prune_future_by_command(filled: Database, settings: Settings, tmp_path: Path) -> None:
    before = polls(settings.database)
    put_future(filled, tmp_path, ("s00", FIRST_US + 150 * 365 * DAY_US), ("new", FIRST_US + 150 * 365 * DAY_US))
    filled.close()
    dry = storemon(settings.home, "prune", "--future", "--dry-run")
    words = r"2 polls \(0\.0 MB\) of 2 stores later than 20\d\d-\d\d-\d\d \d\d:\d\d UTC"
    assert re.fullmatch(f"would take out {words}; nothing was changed\n", dry.stdout), dry.stdout + dry.stderr
    asked = storemon(settings.home, "prune", "--future")
    assert asked.returncode == 2
    assert re.search(
        f"This machine's clock says .* UTC. Take out {words}, for good\\? Nobody is there to answer: say --yes.",
        asked.stderr,
    ), asked.stderr
    assert len(polls(settings.database)) == len(before) + 2
    done = storemon(settings.home, "prune", "--future", "--yes", "--vacuum")
    assert (done.returncode, bool(re.match(f"took out {words}\n", done.stdout))) == (0, True), done.stdout + done.stderr
    assert done.stdout.endswith(" MB, none of it free\n")
    assert polls(settings.database) == before
    again = storemon(settings.home, "prune", "--future")
    assert (again.returncode, again.stdout.startswith("took out 0 polls (0.0 MB) of 0 stores")) == (0, True)
    for wrong in (("prune",), ("prune", "--future", "--before", CUT)):
        refused = storemon(settings.home, *wrong, "--yes")
        assert (refused.returncode, "Say either --before DATE or --future." in refused.stderr) == (2, True)


def test_where_every_poll_is_in_the_future_the_clock_is_wrong(filled: Database, settings: Settings) -> None:
    before = polls(settings.database)
    said = r"every poll is later than 1970-01-01 00:05 UTC.*clock first"
    with pytest.raises(Unprocessable, match=said):
        prune.count_future(filled, 300_000_000)
    with pytest.raises(Unprocessable, match=said):
        prune.delete_future(filled, lambda: 300_000_000)
    assert polls(settings.database) == before


def test_polls_whose_time_comes_while_the_future_is_taken_out_stay(
    filled: Database, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = polls(settings.database)
    stores = ("s00", "s01", "s02", "s03")
    put_future(filled, tmp_path, *((store, NOW_US + HOUR_US * at) for at, store in enumerate(stores, start=1)))
    # One store a step, and an hour passes with each.
    monkeypatch.setattr(prune, "_next_size", lambda size, took_s: size)
    monkeypatch.setattr(prune, "_FEWEST", 0.25)
    clock = iter(NOW_US + HOUR_US * step for step in (0, 0, 2, 2, 2, 9))
    assert prune.delete_future(filled, lambda: next(clock)).polls == 3
    assert len(polls(settings.database)) == len(before) + 1
    assert check.check_database(settings).problems == 0


def test_a_killed_prune_of_the_future_has_done_a_part_and_the_next_does_the_rest(
    filled: Database, settings: Settings, tmp_path: Path
) -> None:
    before = polls(settings.database)
    put_future(filled, tmp_path, *AHEAD)
    filled.close()
    code = f"""
import pathlib
from storemon_flask.database import prune
from storemon_flask.database import polls
from storemon_flask.database.connections import Database
prune._next_size = stop
prune._FEWEST = 0.25
prune.delete_future(Database(pathlib.Path(sys.argv[1])), lambda: {NOW_US})
"""
    killed_at(settings.home, code, settings.database)
    assert check.check_database(settings).problems == 0
    assert len(before) < len(polls(settings.database)) < len(before) + len(AHEAD)
    prune.delete_future(filled, lambda: NOW_US)
    assert polls(settings.database) == before
    assert check.check_database(settings).problems == 0


def test_a_clock_set_back_takes_out_less(filled: Database, settings: Settings) -> None:
    assert prune.apply_retention(filled, keeping(settings, 10), FIRST_US + 5 * DAY_US).polls == 0


def test_a_server_takes_old_polls_out_when_it_starts(
    filled: Database, settings: Settings, serve: Callable[..., Server]
) -> None:
    filled.close()
    server = serve(STOREMON_KEEP_POLLS_DAYS="10")
    wait_until(lambda: b"older than 10 days" in server.log.read_bytes(), "the log to say so")
    assert sql(settings.database, "SELECT min(timestamp_utc) FROM poll") == [("2024-02-29 23:00:00.000000Z",)]
    assert server.end() == 0
    assert check.check_database(settings).problems == 0


AS_OF = instant("2024-10-14T12:00Z")
NOW = AS_OF + 3 * DAY_US
ZONE = "America/New_York"
ZONES = {f"s{number}": ZONE for number in range(6)}
Poll = tuple[str, int, bool]
Hours = tuple[str, int, str, str]


@hypothesis_settings(max_examples=300)
@given(cases(), st.one_of(st.integers(0, 9 * 48), st.integers(0, 9 * DAY_US)))
def test_every_column_equals_the_brute_force_that_knows_what_was_pruned(case, back) -> None:
    polls, hours, zones, as_of, reach, gap = case
    complete_from = as_of - (back * HOUR_US // 2 if back <= 9 * 48 else back)
    zones = {store: zones.get(store, "America/Chicago") for store, *_ in (*polls, *hours)} | zones
    assert compute(polls, hours, zones, as_of, Rules(reach, gap), complete_from_us=complete_from) == brute_force(
        polls, hours, zones, as_of, reach_us=reach, max_gap_us=gap, complete_from=complete_from
    )


def drawn(seed: int) -> tuple[list[Poll], list[Hours]]:
    """Six stores polled about hourly for three weeks, with holes and outages: always open, by day, overnight."""
    chance = np.random.default_rng(seed)
    polls: list[Poll] = []
    for number in range(6):
        at, up = AS_OF - 21 * DAY_US, True
        while at <= AS_OF:
            up = bool(chance.random() < (0.95 if up else 0.3))
            polls.append((f"s{number}", at, up))
            at += (
                int(chance.integers(40, 80)) * MINUTE_US
                if chance.random() < 0.97
                else int(chance.integers(2, 30)) * HOUR_US
            )
    hours = [(f"s{number}", day, "09:00", "17:30") for number in (1, 2) for day in range(6)]
    hours += [(f"s{number}", day, "18:00", "02:00") for number in (3, 4) for day in range(7)]
    return polls, hours


def put(database: Database, folder: Path, polls: list[Poll], hours: list[Hours]) -> None:
    folder.mkdir()
    lines = [f"{store},{np.datetime64(at, 'us')},{'active' if up else 'inactive'}" for store, at, up in polls]
    (folder / "polls.csv").write_text("store_id,timestamp_utc,status\n" + "\n".join(lines) + "\n")
    rows = [f"{store},{day},{start},{end}" for store, day, start, end in hours]
    (folder / "hours.csv").write_text("store_id,day,start_time_local,end_time_local\n" + "\n".join(rows) + "\n")
    (folder / "zones.csv").write_text("store_id,timezone_str\n" + "".join(f"{s},{z}\n" for s, z in ZONES.items()))
    load_folder(database, folder)


def rows(database: Database, settings: Settings, **asked: object) -> list[dict[str, str]]:
    shape = {name: value for name, value in asked.items() if name not in ("as_of_us", "columns")}
    question = reports.make_query(
        database,
        ReportRequest(int(asked.get("as_of_us", AS_OF)), str(asked.get("columns", "full")), None, shape),  # type: ignore[call-overload]
        ZONE,
        10**6,
    )
    return list(csv.DictReader(io.StringIO(reports.compute(database, question, settings.rules, ZONE).csv)))


def cell(value_us: int, unit_us: int) -> str:
    hundredths = (value_us + unit_us // 200) // (unit_us // 100)
    return f"{hundredths // 100}.{hundredths % 100:02d}"


@pytest.mark.parametrize("seed", range(6))
def test_every_view_says_unknown_of_pruned_time(
    database: Database, settings: Settings, tmp_path: Path, seed: int
) -> None:
    polls, hours = drawn(seed)
    put(database, tmp_path / "feeds", polls, hours)
    cut = AS_OF - int(np.random.default_rng(seed + 100).integers(6 * HOUR_US, 6 * DAY_US))
    prune.delete_before(database, cut, NOW)
    stores = sorted(ZONES)

    def slow(first: int, last: int, as_of: int = AS_OF) -> dict[str, dict[str, int]]:
        asked = [(store, first, last) for store in stores]
        return dict(zip(stores, measures(polls, hours, ZONES, as_of, asked, complete_from=cut), strict=True))

    week, day = slow(AS_OF - WEEK_US, AS_OF), slow(AS_OF - DAY_US, AS_OF)
    assert sum(week[store]["unknown"] for store in stores) > 0
    for row in rows(database, settings):
        for name in ("uptime", "downtime", "unknown", "business", "measured", "uptime_low", "uptime_high"):
            assert row[f"{name}_last_week"] == cell(week[row["store_id"]][name], HOUR_US)
            assert row[f"{name}_last_day"] == cell(day[row["store_id"]][name], HOUR_US)
    for row in rows(database, settings, by="day", windows=["last_30_days"]):
        expected = slow(instant(row["period_start"]), instant(row["period_end"]))[row["store_id"]]
        for name in ("uptime", "downtime", "unknown", "business"):
            assert row[f"{name}_hours"] == cell(expected[name], HOUR_US)
    # A report that speaks at an instant before the prune knows nothing.
    for row in rows(database, settings, as_of_us=cut - HOUR_US):
        assert (row["uptime_last_week"], row["downtime_last_week"]) == ("0.00", "0.00")
        assert row["unknown_last_week"] == row["business_last_week"]
    down = dict.fromkeys(stores, 0.0)
    month = {"from": timestamp_text(AS_OF - 30 * DAY_US), "to": timestamp_text(AS_OF)}
    for row in rows(database, settings, kind="outages", windows=[month]):
        down[row["store_id"]] += float(row["down_minutes"])
        assert instant(row["start"]) >= cut
        assert instant(row["start_earliest"]) >= cut
    snapshot = live_list.compute_snapshot(database, settings.rules, ZONE, NOW)
    assert snapshot.as_of.as_of_us == max(at for _, at, _ in polls)
    for place, store in enumerate(stores):
        seen = timeline_of(database, store, AS_OF - WEEK_US, AS_OF, NOW, ZONE)
        as_of = seen.store.as_of.as_of_us
        assert sums_of(seen) == slow(AS_OF - WEEK_US, AS_OF, as_of)[store]
        days = live_list.last_days(database, snapshot, [place], settings.rules, ZONE)[0]
        for one in days:
            # New York is four hours behind UTC then.
            start = one.local_us + 4 * HOUR_US
            expected = slow(start, start + DAY_US, as_of)[store]
            assert (one.up_us, one.down_us, one.unknown_us) == tuple(
                expected[name] for name in ("uptime", "downtime", "unknown")
            )
        expected = slow(AS_OF - 30 * DAY_US, AS_OF)[store]
        assert down[store] == pytest.approx(expected["downtime"] / MINUTE_US, abs=0.01 * len(polls) / 6)
        listed = slow(as_of - WEEK_US, as_of, as_of)[store]
        assert snapshot.columns["unknown_last_week"][place] == (listed["unknown"] + HOUR_US // 200) // (HOUR_US // 100)


def test_an_outage_begins_after_the_prune_where_its_first_poll_says(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    """Up for twelve hours after the prune, then down for four days: the same outage however little of it a window
    touches.
    """
    cut = AS_OF - 9 * DAY_US
    polls = [("s0", cut + hour * HOUR_US, hour < 13 or hour > 108) for hour in range(1, 9 * 24 + 1)]
    put(database, tmp_path / "feeds", polls, [])
    prune.delete_before(database, cut, NOW)
    for hour in range(14, 108, 6):
        window = {"from": f"{np.datetime64(cut + hour * HOUR_US, 'us')}Z", "to": "2024-10-14T12:00Z"}
        (row,) = rows(database, settings, kind="outages", windows=[window])
        assert instant(row["start"]) == cut + 25 * HOUR_US // 2, window
        assert (row["polls"], row["down_minutes"]) == ("96", "5760.00"), window


def test_a_store_is_down_since_the_poll_that_says_so_after_a_prune(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    for hours in range(24, 15 * 24, 11):
        cut = AS_OF - hours * HOUR_US
        polls = [("s0", cut + hour * HOUR_US, hour < 13) for hour in range(1, hours + 1)]
        folder = tmp_path / f"feeds{hours}"
        home = Database(tmp_path / f"{hours}.db")
        put(home, folder, polls, [])
        prune.delete_before(home, cut, NOW)
        snapshot = live_list.compute_snapshot(home, settings.rules, ZONE, NOW)
        assert snapshot.columns["since"][0] == cut + 25 * HOUR_US // 2, hours


def test_known_downtime_does_not_become_uptime(database: Database, settings: Settings, tmp_path: Path) -> None:
    # Down for a day, then active again for one: what is left of the polls says nothing of the day that was pruned.
    polls = [("s0", AS_OF - hour * HOUR_US, hour <= 24) for hour in range(48, -1, -1)]
    put(database, tmp_path / "feeds", polls, [])
    (before,) = [row for row in rows(database, settings) if row["store_id"] == "s0"]
    assert (before["downtime_last_week"], before["unknown_last_week"]) == ("47.50", "96.00")
    prune.delete_before(database, AS_OF - 24 * HOUR_US, NOW)
    (after,) = [row for row in rows(database, settings) if row["store_id"] == "s0"]
    assert (after["uptime_last_week"], after["downtime_last_week"]) == ("24.00", "0.00")
    assert after["unknown_last_week"] == "144.00"


def test_a_prune_that_ends_early_has_made_all_of_that_time_unknown(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    polls, hours = drawn(7)
    put(database, tmp_path / "feeds", polls, hours)
    cut = AS_OF - 3 * DAY_US
    with pytest.raises(KeyboardInterrupt):
        prune.delete_before(database, cut, NOW, stopped=interrupt)
    left = sql(settings.database, "SELECT count(*) FROM poll")
    half = rows(database, settings)
    assert check.check_database(settings).problems == 0
    notes = " ".join(check.check_database(settings).notes)
    assert "polls are complete from 2024-10-11 12:00 UTC on; time before it counts as unknown" in notes
    assert (
        "older polls are stored and count for nothing; `storemon prune --before 2024-10-11T12:00:00.000000Z`" in notes
    )
    prune.delete_before(database, cut, NOW)
    assert sql(settings.database, "SELECT count(*) FROM poll") < left
    assert rows(database, settings) == half
    assert "older polls are stored" not in " ".join(check.check_database(settings).notes)


def interrupt() -> bool:
    raise KeyboardInterrupt


def test_an_earlier_date_does_not_bring_time_back(database: Database, tmp_path: Path) -> None:
    put(database, tmp_path / "feeds", *drawn(8))
    prune.delete_before(database, AS_OF - DAY_US, NOW)
    prune.delete_before(database, AS_OF - 3 * DAY_US, NOW)
    assert prune.complete_from(database) == AS_OF - DAY_US


def test_polls_that_come_late_count_for_nothing_and_the_load_says_so(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    polls, hours = drawn(9)
    put(database, tmp_path / "feeds", polls, hours)
    prune.delete_before(database, AS_OF - DAY_US, NOW)
    before = rows(database, settings)
    old = sum(at < AS_OF - DAY_US for _, at, _ in polls)
    result = load.load_sources(
        database, sources.find_sources([tmp_path / "feeds" / "polls.csv"]), load.LoadOptions(NOW, 0)
    )
    assert result.files[0].notes == [
        f"{old:,} polls are older than 2024-10-13 12:00 UTC, up to which polls were pruned; "
        "they count for nothing, and the time before stays unknown"
    ]
    assert rows(database, settings) == before
    with database.read() as connection:
        assert prune.count_before(connection, AS_OF - DAY_US).polls == old


def test_the_commands_say_from_when_on_polls_are_complete(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    put(database, tmp_path / "feeds", *drawn(10))
    database.close()
    said = "polls are complete from 2024-10-13 12:00 UTC on; time before it counts as unknown"
    assert said not in storemon(settings.home, "info").stdout
    arguments = ("prune", "--before", "2024-10-13T12:00Z")
    assert storemon(settings.home, *arguments, "--dry-run").stdout.endswith(f"afterwards {said}\n")
    assert said not in storemon(settings.home, "check").stdout
    assert said in storemon(settings.home, *arguments, "--yes").stdout
    assert said in storemon(settings.home, "info").stdout
    assert said in " ".join(storemon(settings.home, "check").stdout.split())
    exported = storemon(settings.home, "export", str(tmp_path / "exported"))
    assert "`storemon prune --before 2024-10-13T12:00:00.000000Z`" in exported.stdout


def test_an_export_gives_the_same_reports_once_it_is_pruned_like_its_source(
    database: Database, settings: Settings, tmp_path: Path
) -> None:
    put(database, tmp_path / "feeds", *drawn(11))
    cut = AS_OF - 2 * DAY_US
    prune.delete_before(database, cut, NOW)
    from storemon_flask.database import export

    export.export(database, tmp_path / "exported")
    other = Database(tmp_path / "other.db")
    load_folder(other, tmp_path / "exported")
    assert rows(other, settings) != rows(database, settings)
    prune.delete_before(other, cut, NOW)
    assert rows(other, settings) == rows(database, settings)
    other.close()


def test_the_page_of_a_store_says_why_pruned_time_is_unknown(
    database: Database, settings: Settings, tmp_path: Path, serve
) -> None:
    put(database, tmp_path / "feeds", *drawn(12))
    prune.delete_before(database, AS_OF - DAY_US, NOW)
    database.close()
    server: Server = serve()
    page = http(server.url + "/stores/s0", Accept="text/html").body.decode()
    assert "polls from before 2024-10-13 12:00 UTC were pruned" in page
