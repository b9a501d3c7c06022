"""Time whose polls were pruned is unknown, whoever asks: no poll that is left speaks for it (SPEC 3.4)."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest
from brute_force import measures
from brute_force import report as brute_force
from conftest import Server, http, load_folder, sql, storemon
from fleets import compute
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from store_list_helpers import sums_of, timeline_of
from uptime.cases import cases

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import check, prune
from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, WEEK_US, Rules
from storemon_flask.reports import compute as reports
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings
from storemon_flask.stores import live_list

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
    for row in rows(database, settings, kind="outages", windows=["last_30_days"]):
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
