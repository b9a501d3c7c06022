"""Incidents and notices of a real database: one transaction, once, after a load and by the clock."""

import http.server
import threading
import time
from dataclasses import replace
from itertools import count

import numpy as np
import pytest
from conftest import http as call
from conftest import load_folder, sql, wait_until

from storemon_flask.alerts.evaluator import Evaluator
from storemon_flask.alerts.facts import of_snapshot
from storemon_flask.alerts.sight import Sight
from storemon_flask.clock import timestamp_text
from storemon_flask.database import channels, incidents, messages
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.delivery import catalogue
from storemon_flask.delivery.catalogue import NewChannel
from storemon_flask.errors import DatabaseError
from storemon_flask.feeds import load, sources
from storemon_flask.model import DAY_US, HOUR_US, MINUTE_US, IncidentKind, Outcome
from storemon_flask.settings import Secret

_FOLDERS = count()


def now_us():
    return time.time_ns() // 1000


def polls_csv(rows):
    """The file of (store, minutes ago, whether active)."""
    lines = [
        f"{store},{timestamp_text(now_us() - int(ago * MINUTE_US))},{'active' if up else 'inactive'}"
        for store, ago, up in rows
    ]
    return "\n".join(["store_id,timestamp_utc,status", *lines, ""])


@pytest.fixture
def storemon(app):
    return app.extensions["storemon"]


@pytest.fixture
def push(database, tmp_path):
    """Load polls, and other files."""

    def do(rows, **files):
        folder = tmp_path / f"load{next(_FOLDERS)}"
        folder.mkdir()
        (folder / "polls.csv").write_text(polls_csv(rows))
        for name, text in files.items():
            (folder / f"{name}.csv").write_text(text)
        load_folder(database, folder)

    return do


@pytest.fixture
def channel(database):
    def add(name, **filters):
        with database.write() as connection:
            return channels.add(
                connection,
                Channel(0, name, "folder", Secret(f"/tmp/{name}"), Secret(""), Filters(**filters), None, None, 0),
            )

    return add


def open_now(database):
    with database.read() as connection:
        return incidents.open_incidents(connection)


def notices(database):
    with database.read() as connection:
        return sorted(
            (channel.name, one.incident, one.event)
            for channel in channels.live(connection)
            for one in messages.waiting_notices(connection, channel.id)
        )


def test_an_incident_comes_with_its_notices(storemon, database, push, channel):
    push([("a", 70, True), ("b", 70, True), ("a", 10, False), ("b", 10, True)])
    channel("all")
    channel("stale only", kinds=("stale",))
    channel("b only", stores=("b",))
    changes = storemon.evaluator.evaluate()
    assert [one.kind for one in changes.opened] == [IncidentKind.DOWN]
    (incident,) = open_now(database)
    assert (incident.kind, incident.scope, incident.subject) == (IncidentKind.DOWN, "store", "a")
    assert abs(now_us() - 40 * MINUTE_US - incident.since_us) < MINUTE_US
    assert abs(now_us() - incident.opened_us) < MINUTE_US
    # Always open: nothing says when it closes.
    assert "closes_us" not in incident.details
    assert incident.lasted_us(incident.since_us + 90 * DAY_US) == 90 * DAY_US
    assert notices(database) == [("all", incident.id, "opened")]


def test_a_store_without_polls_is_reported_to_who_chose_that(storemon, database, push, settings):
    for name, kinds in (("usual", ()), ("all", tuple(IncidentKind))):
        new = NewChannel(name, "webhook", "http://127.0.0.1:9/", kinds=kinds)
        catalogue.add(database, settings, new, now_us())
    push([("a", 200, True), ("b", 70, True), ("b", 10, False)])
    opened = storemon.evaluator.evaluate().opened
    assert {one.kind: one.subject for one in opened} == {IncidentKind.STALE: "a", IncidentKind.DOWN: "b"}
    subjects = {one.id: one.subject for one in open_now(database)}
    reported = [(name, subjects[number], event) for name, number, event in notices(database)]
    assert sorted(reported) == [("all", "a", "opened"), ("all", "b", "opened"), ("usual", "b", "opened")]


def test_nothing_is_written_when_nothing_changed(storemon, database, push, channel, monkeypatch):
    push([("a", 70, True), ("a", 10, False)])
    channel("all")
    storemon.evaluator.evaluate()
    monkeypatch.setattr(database.__class__, "write", None)
    assert not storemon.evaluator.evaluate()


def test_incident_and_notices_are_committed_together_or_not_at_all(storemon, database, push, channel, monkeypatch):
    push([("a", 70, True), ("a", 10, False)])
    channel("all")
    with monkeypatch.context() as patched:
        patched.setattr(messages, "add_notices", lambda *given: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            storemon.evaluator.evaluate()
    assert not open_now(database)
    storemon.evaluator.evaluate()
    assert [event for _, _, event in notices(database)] == ["opened"]


def test_channels_told_of_the_beginning_are_told_of_the_end(storemon, database, push, channel):
    push([("a", 130, True), ("a", 70, False)])
    told = channel("told")
    storemon.evaluator.evaluate()
    channel("later")
    with database.write() as connection:
        connection.execute("UPDATE channel SET filters = ? WHERE id = ?", ('{"kinds": ["feed"]}', told))
    push([("a", 10, True)])
    (over,) = storemon.evaluator.evaluate().resolved
    assert notices(database) == [("told", over.id, "opened"), ("told", over.id, "resolved")]
    with database.read() as connection:
        kept = incidents.by_ids(connection, [over.id])[over.id]
    assert kept.outcome == Outcome.OVER
    assert abs(kept.business_us - HOUR_US) < MINUTE_US
    assert abs(now_us() - kept.resolved_us) < MINUTE_US


def test_a_disabled_channel_receives_nothing(storemon, database, push, channel):
    push([("a", 70, True), ("a", 10, False)])
    number = channel("off")
    with database.write() as connection:
        channels.disable(connection, number, "gone", now_us())
    storemon.evaluator.evaluate()
    assert notices(database) == []


def test_polls_loaded_late_send_nothing(storemon, database, push, channel):
    channel("all")
    month = 30 * 24 * 60
    push([("a", month + 70, True), ("a", month + 10, False)])
    storemon.evaluator.evaluate()
    (silent,) = open_now(database)
    assert (silent.kind, silent.subject, silent.details["quiet"]) == (IncidentKind.FEED, "silent", True)
    assert notices(database) == []
    # Live polls come: neither what was a month ago nor the end of that is told.
    push([("b", 10, True)])
    storemon.evaluator.evaluate()
    assert open_now(database) == []
    assert notices(database) == []
    # The rest of the month.
    push([("b", month + 90, True), ("b", month + 30, False), ("a", month - 60, False)])
    assert not storemon.evaluator.evaluate()


def test_a_feed_that_stopped_is_reported_once(storemon, database, push, channel):
    channel("all")
    push([("a", 25 * 60 + 70, True), ("a", 25 * 60, False)])
    storemon.evaluator.evaluate()
    (silent,) = open_now(database)
    assert (silent.kind, silent.subject) == (IncidentKind.FEED, "silent")
    assert notices(database) == [("all", silent.id, "opened")]
    assert not storemon.evaluator.evaluate()


def test_many_rejects_are_reported_until_a_better_load_comes(storemon, database, tmp_path):
    def load_rows(bad, good):
        file = tmp_path / f"polls{next(_FOLDERS)}.csv"
        rows = polls_csv([("a", 10 + number / 10, True) for number in range(good)])
        file.write_text(rows + "a,yesterday,active\n" * bad)
        load.load_sources(database, sources.find_sources([file]), load.LoadOptions(now_us(), 300_000_000))

    load_rows(bad=4, good=10)
    assert not storemon.evaluator.evaluate()
    load_rows(bad=6, good=100)
    (rejects,) = storemon.evaluator.evaluate().opened
    assert (rejects.kind, rejects.subject) == (IncidentKind.FEED, "rejects polls")
    assert rejects.details["text"] == "more than 5 % of the polls rows of load 2 were rejected"
    load_rows(bad=5, good=100)
    assert [one.outcome for one in storemon.evaluator.evaluate().resolved] == [Outcome.OVER]


def test_new_ids_without_hours_are_reported(storemon, database, push):
    hours = "store_id,day,start_time_local,end_time_local\n" + "".join(
        f"s{number},{day},00:00,24:00\n" for number in range(10) for day in range(7)
    )
    push([(f"s{number}", 3 * 24 * 60, True) for number in range(10)], hours=hours)
    push([(f"s{number}", 10, True) for number in range(10)])
    assert not storemon.evaluator.evaluate()
    push([(f"S-{number}", 5, True) for number in range(5)])
    (unmatched,) = storemon.evaluator.evaluate().opened
    assert (unmatched.kind, unmatched.subject) == (IncidentKind.FEED, "unmatched")
    assert unmatched.details["text"].startswith("5 of the 5 stores first polled in the last day have no hours")


def test_five_thousand_stores_down_are_one_short_write(storemon, database, push, channel, monkeypatch):
    names = [f"{number:05}" for number in range(5000)]
    push([(name, ago, True) for name in names for ago in (130, 70)])
    channel("all")
    channel("down only", kinds=("down",))
    storemon.evaluator.evaluate()
    push([(name, 10, False) for name in names])
    storemon.list_cache.current()
    took = []
    write = database.__class__.write

    def timed_write(self, *given, **options):
        took.append(time.process_time())
        return write(self, *given, **options)

    monkeypatch.setattr(database.__class__, "write", timed_write)
    changes = storemon.evaluator.evaluate()
    assert len(took) == 1
    assert time.process_time() - took[0] < 1.0
    assert len(changes.opened) == 5001
    counted = sql(database.path, "SELECT name, count(*) FROM notice JOIN channel ON channel.id = channel GROUP BY 1")
    # Who hears of many does not hear of each.
    assert counted == [("all", 1), ("down only", 5000)]
    # The same again, with all of them open, costs little.
    began = time.process_time()
    assert not storemon.evaluator.evaluate()
    assert time.process_time() - began < 0.5


def test_it_goes_on_after_a_failure(storemon, database, push, monkeypatch, caplog):
    push([("a", 70, True), ("a", 10, False)])
    evaluator = storemon.evaluator
    monkeypatch.setattr("storemon_flask.alerts.evaluator._LOOK_EVERY_S", 0.01)
    monkeypatch.setattr("storemon_flask.alerts.evaluator._EVALUATE_EVERY_S", 0.05)
    failures = iter([DatabaseError("the disk is full"), DatabaseError("the disk is full")])
    evaluate = evaluator.evaluate

    def fails_at_first():
        error = next(failures, None)
        if error is not None:
            raise error
        return evaluate()

    monkeypatch.setattr(type(evaluator), "evaluate", lambda self: fails_at_first())
    caplog.set_level("INFO", "storemon.alerts")
    evaluator.start()
    wait_until(lambda: open_now(database), "the incident")
    wait_until(lambda: "evaluated again" in caplog.text, "the end of the failure in the log")
    evaluator.stop()
    assert caplog.text.count("alerts could not be evaluated: the disk is full") == 1
    # Nothing happens after it was stopped.
    push([("a", 5, True)])
    assert len(open_now(database)) == 1


class _Heartbeat(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.calls.append(self.path)
        self.send_response(204)
        self.end_headers()

    def log_message(self, *given):
        pass


def test_a_server_evaluates_pushed_polls_and_calls_the_heartbeat(serve, database):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Heartbeat) as heart:
        heart.calls = []
        beating = threading.Thread(target=heart.serve_forever)
        beating.start()
        try:
            server = serve(STOREMON_HEARTBEAT_URL=f"http://127.0.0.1:{heart.server_port}/ping/token")
            wait_until(lambda: heart.calls == ["/ping/token"], "the first call")
            body = polls_csv([("a", 70, True), ("a", 10, False)]).encode()
            assert call(f"{server.url}/api/v1/feeds/polls", "POST", body, Content_Type="text/csv").status == 200
            (incident,) = wait_until(lambda: open_now(database), "the incident")
            assert (incident.kind, incident.subject) == (IncidentKind.DOWN, "a")
            assert server.end() == 0
        finally:
            heart.shutdown()
            beating.join()
    assert "token" not in server.log.read_text()


def test_an_incident_that_opened_is_kept_as_it_was_found(storemon, database, push):
    push([("a", 70, True), ("a", 10, False)], names="store_id,name,group\na,Main Street,North\n")
    storemon.evaluator.evaluate()
    (incident,) = open_now(database)
    kept = {name: incident.details[name] for name in ("name", "group", "zone")}
    assert kept == {"name": "Main Street", "group": "North", "zone": "America/Chicago"}
    # Found out an hour ago: a machine whose clock is set back by a moment meanwhile says nothing of what is newer.
    sql(database.path, "UPDATE incident SET since_us = since_us - 1, opened_us = opened_us - ?", HOUR_US)
    # It is put right by the next snapshot.
    push([("a", 5, False)])
    (moved,) = storemon.evaluator.evaluate().continued
    assert moved.since_us == incident.since_us


def push_hourly(push, newest_minutes, oldest_minutes, step=60):
    push([(f"s{number}", ago, True) for number in range(6) for ago in range(newest_minutes, oldest_minutes, step)])


def restarted(storemon, database):
    """Return the evaluator of a server that was started again."""
    return Evaluator(database, storemon.settings, storemon.list_cache)


def test_a_blindness_goes_on_over_a_restart_and_is_told_once(storemon, database, push, channel):
    channel("all")
    push_hourly(push, 150, 7 * 24 * 60)
    (found,) = storemon.evaluator.evaluate().opened
    assert (found.kind, found.scope) == (IncidentKind.BLIND, "fleet")
    assert abs(now_us() - 150 * MINUTE_US - found.since_us) < MINUTE_US
    (before,) = open_now(database)
    assert not restarted(storemon, database).evaluate()
    assert open_now(database) == [before]
    # What comes after another restart ends it, as the same incident.
    push_hourly(push, 1, 2)
    (over,) = restarted(storemon, database).evaluate().resolved
    assert (over.id, over.since_us, over.outcome) == (before.id, before.since_us, Outcome.OVER)
    assert abs(now_us() - MINUTE_US - over.ended_us) < MINUTE_US
    assert not restarted(storemon, database).evaluate()
    assert notices(database) == [("all", before.id, "opened"), ("all", before.id, "resolved")]


def test_polls_that_come_late_correct_a_blindness(storemon, database, push, channel):
    channel("all")
    push_hourly(push, 150, 7 * 24 * 60)
    (found,) = storemon.evaluator.evaluate().opened
    assert found.kind == IncidentKind.BLIND
    # The gap is filled, from the poll before it to now.
    push_hourly(push, 1, 150, step=30)
    (over,) = restarted(storemon, database).evaluate().resolved
    assert (over.kind, over.outcome, over.business_us) == (IncidentKind.BLIND, Outcome.CORRECTED, 0)
    assert over.since_us == over.ended_us == found.since_us
    with database.read() as connection:
        assert incidents.blind_spans(connection, 0, now_us(), now_us() + MINUTE_US) == []


def test_how_stores_are_polled_is_learned_again_some_stores_at_a_time(storemon, database, push, monkeypatch):
    monkeypatch.setattr("storemon_flask.alerts.sight._FIRST_STORES", 2)
    monkeypatch.setattr("storemon_flask.alerts.sight._POLLS_AT_ONCE", 800)
    push_hourly(push, 10, 7 * 24 * 60)
    snapshot = storemon.list_cache.current()
    sight = Sight(database, storemon.settings.default_timezone)
    facts = of_snapshot(snapshot, (), now_us())

    def usual(later_us):
        return sight._usual(replace(facts, as_of_us=facts.as_of_us + later_us))

    first = usual(0)
    # Some microseconds go by while the polls are written.
    assert np.abs(first.interval_us - HOUR_US).max() < MINUTE_US
    assert first.always.all()
    # Every half hour from now on.
    push_hourly(push, 40, 7 * 24 * 60)
    assert usual(59 * MINUTE_US) is first
    for minute in range(60, 70):
        again = usual(minute * MINUTE_US)
        if again is not first:
            break
    # The first four stores at 60 minutes, and the last two at 61.
    assert minute == 61
    assert np.abs(again.interval_us - HOUR_US // 2).max() < MINUTE_US
    # After a longer time without a look all are learned at once.
    assert usual(4 * HOUR_US) is not again
