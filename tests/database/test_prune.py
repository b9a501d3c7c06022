"""`storemon prune` and the retention setting: what is older goes, everything else stays true, also after a kill."""

import random
import re
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from conftest import STOREMON, Server, environment, sql, storemon, wait_until
from kill_points import killed_at

from storemon_flask import settings as settings_
from storemon_flask.database import check, loads, prune
from storemon_flask.database.connections import Database
from storemon_flask.errors import Unprocessable
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.settings import Settings

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
    words = f"{gone:,} polls ({gone * 8 / 1e6:.1f} MB), 1 loads and 1 rejected rows"
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
    for _ in range(30):
        with closing(sqlite3.connect(pristine)) as source, closing(sqlite3.connect(settings.database)) as target:
            source.backup(target)
        with subprocess.Popen(
            [*STOREMON, "prune", "--before", CUT, "--yes"], env=environment(settings.home), stdout=subprocess.DEVNULL
        ) as process:
            time.sleep(whole_s * chance.uniform(0.3, 1.2))
            process.send_signal(signal.SIGKILL)
        assert check.check_database(settings).problems == 0
        left = sql(settings.database, "SELECT count(*) FROM poll")[0][0]
        partly += total > left
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
