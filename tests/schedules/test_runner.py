"""Running schedules: when, for which window, exactly once despite failures; and what the message says."""

import io
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from conftest import load_folder, sql
from load_helpers import us
from schedule_helpers import (
    DUE_US,
    FIRST_US,
    add_channel,
    add_schedule,
    load_polls,
    make_runner,
    messages,
    runs,
    weeks,
)
from worker_helpers import Clock

from storemon_flask.database import backup, schedules
from storemon_flask.database.connections import Database
from storemon_flask.delivery import attachments
from storemon_flask.errors import Conflict, Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US
from storemon_flask.reports import stored
from storemon_flask.reports.csv import json_rows
from storemon_flask.schedules import catalogue, mail
from storemon_flask.schedules import runner as runner_module
from storemon_flask.settings import Settings

__all__ = ["weeks"]


@pytest.fixture
def clock() -> Clock:
    return Clock(DUE_US - MINUTE_US)


def report_rows(database: Database, settings: Settings, run_column: str = "report") -> list[dict[str, Any]]:
    """The rows of the only run's report, as its JSON has them."""
    ((report,),) = sql(settings.database, f"SELECT {run_column} FROM schedule_run WHERE state = 'done'")
    record = stored.get(database, report)
    with stored.file_of(record, settings.reports_dir).open(encoding="utf-8", newline="") as lines:
        return list(json_rows(lines, record.altered))


def test_it_runs_when_it_is_due_and_says_the_numbers_of_its_report(
    weeks: Database, settings: Settings, clock: Clock
) -> None:
    channel, woken = add_channel(weeks, "boss"), []
    add_schedule(weeks, settings, channels=["boss"])
    runner = make_runner(weeks, settings, clock, lambda: woken.append(1))
    runner.run_due()
    assert (runs(settings), woken) == ([], [])
    clock.turn(60)
    runner.run_due()
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "done", "")]
    assert woken == [1]
    ((message_id, content),) = messages(settings).items()
    assert message_id == f"rep_1_{DUE_US // 1_000_000}_{channel}"
    rows = report_rows(weeks, settings)
    fleet = next(row for row in rows if row["kind"] == "fleet")
    stores = [row for row in rows if row["kind"] == "store"]
    # 7 days of 12 hours of 14 stores; of store 13 little is known.
    assert fleet["business_last_week"] == 14 * 84
    assert 0 < fleet["unknown_last_week"] < 84
    below = [row for row in stores if row["uptime_percent_last_week"] < 97 and row["store_id"] != "store-13"]
    assert len(below) == 10
    subject = f"Shops: {fleet['uptime_percent_last_week']:.2f} % up last week, 10 stores below 97 %"
    assert content["subject"] == content["summary"] == content["event"]["data"]["summary"] == subject
    data = content["event"]["data"]
    for name in ("uptime", "downtime", "unknown", "business"):
        assert data[name] == fleet[f"{name}_last_week"]
    worst = sorted(stores[:13], key=lambda row: row["uptime_percent_last_week"])[:10]
    assert [one["store_id"] for one in data["worst"]] == [row["store_id"] for row in worst]
    assert [one["downtime"] for one in data["worst"]] == [row["downtime_last_week"] for row in worst]
    for row in worst:
        line = f"{row['uptime_percent_last_week']:>8.2f} %  {row['downtime_last_week']:>9.2f}  {0:>9.2f}  {row['name']}"
        assert line in content["text"].splitlines()
    assert "Last week (7 to 13 October 2024)" in content["text"]
    assert "Of 1 store too little is known" in content["text"]
    assert f"{fleet['unknown_last_week']:.2f} are unknown" in " ".join(content["text"].split())
    assert "<bdi>Shop &lt;12&gt; &amp; Söhne</bdi>" in content["html"]
    assert max(map(len, content["text"].splitlines())) <= 78


def test_a_late_run_gives_the_same_bytes(weeks: Database, settings: Settings, clock: Clock, tmp_path: Path) -> None:
    add_schedule(weeks, settings)
    add_schedule(weeks, settings, name="Late", report={"groups": ["North"]})
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    runner.run_due()
    first = dict(sql(settings.database, "SELECT schedule, sha256 FROM schedule_run JOIN report ON report.id = report"))
    sql(settings.database, "DELETE FROM schedule_run")
    sql(settings.database, "UPDATE schedule SET next_us = ?", DUE_US)
    # Six hours later more polls are there, which were made after the report was due.
    load_polls(weeks, tmp_path / "later", DUE_US + MINUTE_US, DUE_US + 6 * HOUR_US)
    clock.turn(6 * 3600)
    runner.run_due()
    runner.run_due()
    again = dict(sql(settings.database, "SELECT schedule, sha256 FROM schedule_run JOIN report ON report.id = report"))
    assert len(first) == 2
    assert first == again


def test_after_three_days_of_sleep_only_the_latest_missed_is_run(
    weeks: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    add_channel(weeks, "boss")
    add_schedule(weeks, settings, due="daily 07:00", channels=["boss"])
    clock.now_us = DUE_US - 30 * HOUR_US
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    clock.now_us = DUE_US + 3 * DAY_US + HOUR_US
    load_polls(weeks, tmp_path / "later", DUE_US, clock.now_us)
    runner.run_due()
    runner.run_due()
    skipped = "it was not run in time, and only the newest is made up for"
    # It was awake on Saturday, when the one of Saturday was due, and then slept until Thursday.
    assert runs(settings) == [
        ("2024-10-13T11:00", "skipped", skipped),
        ("2024-10-14T11:00", "skipped", skipped),
        ("2024-10-15T11:00", "skipped", skipped),
        ("2024-10-16T11:00", "skipped", skipped),
        ("2024-10-17T11:00", "done", ""),
    ]
    assert list(messages(settings)) == [f"rep_1_{(DUE_US + 3 * DAY_US) // 1_000_000}_1"]
    # What was skipped can be had by hand, with the bytes it would have had.
    run = catalogue.run_by_hand(weeks, catalogue.find(weeks, 1), DUE_US, clock.now_us)
    assert (run.state, run.by_hand) == ("waiting", True)
    runner.run_due()
    runner.run_due()
    assert runs(settings)[1] == ("2024-10-14T11:00", "done", "")
    assert len(messages(settings)) == 2


def test_it_waits_for_late_data_and_runs_when_they_come(
    weeks: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    add_schedule(weeks, settings, report={"windows": ["last_hour"]})
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "waiting", "")]
    clock.turn(2 * 3600)
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "waiting", "")]
    load_polls(weeks, tmp_path / "later", DUE_US, DUE_US + HOUR_US)
    runner.run_due()
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "done", "")]


def test_after_three_hours_it_says_where_the_data_end(
    database: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    load_polls(database, tmp_path / "feeds", FIRST_US, us("2024-10-13T15:00:00"))
    add_channel(database, "boss")
    add_schedule(database, settings, channels=["boss"])
    runner = make_runner(database, settings, clock)
    clock.turn(60)
    # It slept through the first hours: the wait begins when it is noticed.
    clock.turn(4 * 3600)
    runner.run_due()
    clock.turn(3 * 3600 - 1)
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "waiting", "")]
    clock.turn(1)
    runner.run_due()
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "done", "the data ended early: Sun 2024-10-13 10:12 EDT")]
    (content,) = messages(settings).values()
    # Stores without a zone are in Chicago, whose Sunday ends at 05:00 UTC.
    assert "The data end at Sun 2024-10-13 10:12 EDT, 14 h 48 min too early" in " ".join(content["text"].split())
    assert content["event"]["data"]["data_end"] == "2024-10-13T14:12:00.000000Z"


def test_a_report_without_polls_says_that_nothing_is_known(
    database: Database, settings: Settings, clock: Clock
) -> None:
    add_channel(database, "boss")
    add_schedule(database, settings, channels=["boss"])
    runner = make_runner(database, settings, clock)
    clock.turn(60)
    runner.run_due()
    clock.turn(3 * 3600)
    runner.run_due()
    runner.run_due()
    (content,) = messages(settings).values()
    assert content["subject"] == "Shops: nothing is known of last week"
    assert "There are no polls at all" in content["text"]


def test_the_wait_for_late_data_goes_on_after_a_restart(
    database: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    load_polls(database, tmp_path / "feeds", FIRST_US, us("2024-10-13T15:00:00"))
    add_channel(database, "boss")
    add_schedule(database, settings, channels=["boss"])
    clock.turn(60)
    # Each server begins anew, with its own connections.
    for seconds, expected in ((0, "waiting"), (3600, "waiting"), (2 * 3600 - 1, "waiting"), (1, "done")):
        clock.turn(seconds)
        server = Database(settings.database)
        runner = make_runner(server, settings, clock)
        runner.run_due()
        runner.run_due()
        server.close()
        assert [state for _, state, _ in runs(settings)] == [expected]
    assert len(messages(settings)) == 1


def test_two_processes_that_look_at_once_run_it_once(weeks: Database, settings: Settings, clock: Clock) -> None:
    add_channel(weeks, "boss")
    for number in range(10):
        add_schedule(weeks, settings, name=f"Shops {number}", channels=["boss"])
    clock.turn(60)
    others = [Database(settings.database) for _ in range(2)]
    barrier = threading.Barrier(2)
    failures: list[BaseException] = []

    def look(database: Database) -> None:
        runner = make_runner(database, settings, clock)
        try:
            barrier.wait()
            for _ in range(4):
                runner.run_due()
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=look, args=(other,)) for other in others]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in others:
        other.close()
    assert failures == []
    assert [state for _, state, _ in runs(settings)] == ["done"] * 10
    assert len(messages(settings)) == 10


class Killed(BaseException):
    """The process dies here."""


def kill_at(database: Database, write: int, after: bool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Have the process die at that write of the database, before or after it is committed: it writes no more. Returns a
    list that is not empty once it died."""
    count, dead = 0, list[int]()
    whole = database.write

    @contextmanager
    def dying(*args: Any, **options: Any) -> Iterator[Any]:
        nonlocal count
        count += 1
        if count > write:
            raise Killed
        with whole(*args, **options) as connection:
            yield connection
            if count == write:
                dead.append(write)
                if not after:
                    raise Killed
        if dead:
            raise Killed

    monkeypatch.setattr(database, "write", dying)
    return dead


@pytest.mark.parametrize("after", [False, True])
def test_a_kill_at_any_write_loses_no_run_and_sends_one_message(
    weeks: Database,
    settings: Settings,
    clock: Clock,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    after: bool,
) -> None:
    channel = add_channel(weeks, "boss")
    add_schedule(weeks, settings, due="daily 07:00", channels=["boss"], report={"by": "day"})
    load_polls(weeks, tmp_path / "later", DUE_US, DUE_US + 40 * DAY_US)
    clock.now_us, day, died = DUE_US - DAY_US, -1, [0]
    while died:
        day += 1
        clock.now_us += DAY_US
        victim = Database(settings.database)
        died = kill_at(victim, day + 1, after, monkeypatch)
        runner = make_runner(victim, settings, clock)
        with suppress(Killed):
            for _ in range(3):
                runner.run_due()
        victim.close()
        # The next server runs again what was being computed.
        survivor = make_runner(weeks, settings, clock)
        survivor._worker.recover()
        for _ in range(3):
            survivor.run_due()
        assert runs(settings)[-1][1:] == ("done", ""), day
    # Taking the run, two reports of several steps each, noting them, and the message.
    assert day >= 9
    seconds = [(DUE_US + past * DAY_US) // 1_000_000 for past in range(day + 1)]
    assert sorted(messages(settings)) == [f"rep_1_{second}_{channel}" for second in seconds]


def test_a_clock_that_was_a_year_ahead_for_a_moment_costs_no_report(
    weeks: Database, settings: Settings, clock: Clock
) -> None:
    add_channel(weeks, "boss")
    add_schedule(weeks, settings, due="daily 07:00", channels=["boss"])
    right_us = clock.now_us
    runner = make_runner(weeks, settings, clock)
    clock.now_us = right_us + 365 * DAY_US
    runner.run_due()
    clock.now_us = right_us
    runner.run_due()
    ((next_us,),) = sql(settings.database, "SELECT next_us FROM schedule")
    assert next_us == DUE_US
    clock.now_us = DUE_US
    runner.run_due()
    runner.run_due()
    assert ("2024-10-14T11:00", "done", "") in runs(settings)


def test_a_clock_set_back_after_the_run_does_not_repeat_it(weeks: Database, settings: Settings, clock: Clock) -> None:
    add_channel(weeks, "boss")
    add_schedule(weeks, settings, due="daily 07:00", channels=["boss"])
    runner = make_runner(weeks, settings, clock)
    for second in (60, 1, -600, 1, 700, 1):
        clock.turn(second)
        runner.run_due()
    assert len(messages(settings)) == len(set(messages(settings))) == 1
    assert [run for run in runs(settings) if run[1] == "done"] == [("2024-10-14T11:00", "done", "")]


def test_a_failed_report_is_announced_and_can_be_run_again(
    weeks: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    add_channel(weeks, "boss")
    add_schedule(weeks, settings, channels=["boss"], report={"groups": ["North"]})
    names = tmp_path / "feeds" / "names.csv"
    north = names.read_text()
    names.write_text(north.replace("North", "West"))
    load_folder(weeks, names.parent)
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "failed", "groups: no store is in 'North'")]
    ((message_id, content),) = messages(settings).items()
    assert message_id.endswith("_failed")
    assert content["subject"] == "Shops: the report could not be made"
    assert "Groups: no store is in 'North'." in content["text"]
    assert (content["event"]["type"], content["attachment"]) == ("report.failed", None)
    names.write_text(north)
    load_folder(weeks, names.parent)
    catalogue.run_by_hand(weeks, catalogue.find(weeks, "Shops"), DUE_US, clock.now_us)
    runner.run_due()
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "done", "")]
    assert set(messages(settings)) == {message_id, message_id.removesuffix("_failed")}


def test_by_hand_it_runs_once_a_time_and_never_ahead(weeks: Database, settings: Settings, clock: Clock) -> None:
    schedule = add_schedule(weeks, settings).schedule
    runner = make_runner(weeks, settings, clock)
    catalogue.run_by_hand(weeks, schedule, DUE_US - DAY_US, clock.now_us)
    with pytest.raises(Conflict, match="is running for that time"):
        catalogue.run_by_hand(weeks, schedule, DUE_US - DAY_US, clock.now_us)
    runner.run_due()
    runner.run_due()
    with pytest.raises(Conflict, match=r"'Shops' ran at that time already; its report is [0-9a-f]{32}"):
        catalogue.run_by_hand(weeks, schedule, DUE_US - DAY_US, clock.now_us)
    with pytest.raises(Unprocessable, match="which is in the future"):
        catalogue.run_by_hand(weeks, schedule, DUE_US, clock.now_us)


def test_with_a_removed_schedule_or_channel_nothing_is_sent(weeks: Database, settings: Settings, clock: Clock) -> None:
    add_channel(weeks, "boss")
    schedule = add_schedule(weeks, settings, channels=["boss"], report={"windows": ["last_hour"]}).schedule
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    catalogue.remove(weeks, schedule, clock.now_us)
    clock.turn(4 * 3600)
    runner.run_due()
    assert runs(settings) == [("2024-10-14T11:00", "failed", "the schedule was removed")]
    assert messages(settings) == {}
    # Its name is free again.
    assert add_schedule(weeks, settings).schedule.name == "Shops"


def test_runs_under_way_in_a_backup_are_not_made_after_a_restore(
    weeks: Database, settings: Settings, clock: Clock, tmp_path: Path
) -> None:
    add_channel(weeks, "boss")
    add_schedule(weeks, settings, channels=["boss"], report={"windows": ["last_hour"]})
    clock.turn(60)
    make_runner(weeks, settings, clock).run_due()
    assert runs(settings) == [("2024-10-14T11:00", "waiting", "")]
    backup.backup(weeks.path, tmp_path / "b.db")
    weeks.close()
    backup.restore(weeks.path, tmp_path / "b.db", clock.now_us)
    clock.turn(4 * 3600)
    make_runner(weeks, settings, clock).run_due()
    assert runs(settings) == [("2024-10-14T11:00", "skipped", "it was under way in a backup that was restored")]
    assert messages(settings) == {}


def test_the_file_is_what_was_asked_and_the_mail_quotes_one_with_totals(
    weeks: Database, settings: Settings, clock: Clock
) -> None:
    add_channel(weeks, "boss")
    add_schedule(
        weeks, settings, channels=["boss"], format="xlsx",
        report={"by": "day", "columns": "classic", "totals": False, "groups": ["South"]},
    )  # fmt: skip
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    runner.run_due()
    (content,) = messages(settings).values()
    assert content["attachment"]["name"] == "Shops 2024-10-14 0700.xlsx"
    with attachments.opened(weeks, settings.reports_dir, content["attachment"]) as file:
        assert file is not None
        book = file.stream.read()
    with attachments.opened(weeks, settings.reports_dir, content["attachment"]) as file:
        assert file is not None
        assert file.stream.read() == book
    sheet = openpyxl.load_workbook(io.BytesIO(book))["report"]
    rows = list(sheet.iter_rows(values_only=True))
    assert rows[0] == ("store_id", "period", "period_start", "period_end", "uptime_hours", "downtime_hours")
    assert len(rows) == 1 + 7 * 7
    fleet = next(row for row in report_rows(weeks, settings, "summary_report") if row["kind"] == "fleet")
    assert content["event"]["data"]["downtime"] == fleet["downtime_last_week"] > 0
    assert sum(row[5] for row in rows[1:]) == pytest.approx(fleet["downtime_last_week"], abs=0.2)


def test_a_large_file_is_linked_in_a_mail_and_whole_in_a_folder(
    weeks: Database, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mail, "MOST_ATTACHED_BYTES", 100)
    mail_to, folder = add_channel(weeks, "boss"), add_channel(weeks, "share", "folder", "/tmp")
    add_schedule(weeks, settings, channels=["boss", "share"])
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    runner.run_due()
    by_channel = {int(name.split("_")[3]): content for name, content in messages(settings).items()}
    assert by_channel[mail_to]["attachment"] is None
    assert "too much for a mail; fetch it from the server, as report" in " ".join(by_channel[mail_to]["text"].split())
    assert by_channel[folder]["attachment"]["name"] == "Shops 2024-10-14 0700.csv"


def test_an_error_in_one_schedule_delays_no_other(
    weeks: Database, settings: Settings, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_schedule(weeks, settings, name="A")
    add_schedule(weeks, settings, name="B")
    whole = runner_module.summarize

    def failing(record: Any, file: Path, below: int) -> Any:
        ((schedule,),) = sql(settings.database, "SELECT schedule FROM schedule_run WHERE summary_report = ?", record.id)
        if schedule == 1:
            raise OSError("the disk is gone")
        return whole(record, file, below)

    monkeypatch.setattr(runner_module, "summarize", failing)
    clock.turn(60)
    runner = make_runner(weeks, settings, clock)
    runner.run_due()
    assert runner.run_due()
    with weeks.read() as connection:
        assert {run.schedule: run.state for run in schedules.under_way(connection)} == {1: "computing"}
    monkeypatch.setattr(runner_module, "summarize", whole)
    runner.run_due()
    assert [state for _, state, _ in runs(settings)] == ["done", "done"]
