"""`storemon channels` and `storemon alerts` as a person types them."""

import json
import re
from pathlib import Path

import pytest
from channel_helpers import down, now_us, put, sink, tell
from conftest import sql, storemon

from storemon_flask.database.connections import Database
from storemon_flask.model import HOUR_US, MINUTE_US
from storemon_flask.settings import Settings


@pytest.fixture
def home(settings: Settings) -> Path:
    settings.home.mkdir(exist_ok=True)
    return settings.home


def test_a_channel_from_its_adding_to_its_end(home: Path, settings: Settings) -> None:
    with sink() as (url, receiver):
        added = storemon(home, "channels", "add", "ops", "--webhook", url, "--kind", "down", "--group", "North")
        assert added.returncode == 0, added.stderr
        # Nothing else on standard output: SECRET=$(storemon channels add ...) works.
        assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{32}\n", added.stdout)
        assert sql(settings.database, "SELECT secret FROM channel") == [(added.stdout.strip(),)]
        assert "no store is of North yet; is the name right?" in added.stderr
        tested = storemon(home, "channels", "test", "ops")
        assert (tested.returncode, tested.stdout) == (0, "delivered: 200 OK: word\n")
        assert len(receiver.got) == 1
        receiver.status = 500
        failed = storemon(home, "channels", "test", "ops", "--json")
        assert failed.returncode == 1
        assert json.loads(failed.stdout) == {
            "delivered": False, "code": 500, "answer": "500 Internal Server Error: word",
        }  # fmt: skip
    listed = storemon(home, "channels", "list")
    head, row = listed.stdout.splitlines()
    assert head.split() == ["channel", "kind", "address", "receives", "when", "newest", "attempt"]
    assert re.match(r"ops +webhook +http://127\.0\.0\.1:\d+/\.\.\. +down; group North +at once +failed 20", row)
    assert "tok3n" not in listed.stdout + added.stderr
    assert json.loads(storemon(home, "channels", "list", "--json").stdout)["channels"][0]["kinds"] == ["down"]
    asked = storemon(home, "channels", "remove", "ops")
    assert asked.returncode == 2
    assert "Its address and its secret go with it." in " ".join(asked.stderr.split())
    assert "say --yes" in asked.stderr
    assert storemon(home, "channels", "remove", "ops", "--yes").stdout == "ops is removed\n"
    again = storemon(home, "channels", "test", "ops")
    assert (again.returncode, again.stderr) == (
        1, "Error: there is no channel 'ops'; the list of channels has those there are\n",
    )  # fmt: skip


def test_errors_are_explained_and_nothing_is_stored(home: Path, settings: Settings) -> None:
    none = storemon(home, "channels", "add", "ops")
    assert none.returncode == 2
    assert "Say one of --email, --webhook, --apprise and --folder." in none.stderr
    for arguments, sentence in (
        (("--email", "a@example.com"), "STOREMON_SMTP_URL and STOREMON_MAIL_FROM are not set"),
        (("--folder", "/no/such"), "there is no folder /no/such"),
        (("--webhook", "http://127.0.0.1:9/", "--quiet", "late"), "late"),
        # Bytes that are no UTF-8.
        (("--webhook", "http://127.0.0.1:9/", "--group", "\udcff"), "each must be a text of at most 200 characters"),
    ):
        done = storemon(home, "channels", "add", "ops", *arguments)
        assert (done.returncode, sentence in done.stderr, done.stdout) == (1, True, ""), done.stderr
        assert "Traceback" not in done.stderr
    missing = storemon(home, "channels", "test", "\udcff")
    assert (missing.returncode, "there is no channel" in missing.stderr) == (1, True), missing.stderr
    assert not settings.database.exists() or sql(settings.database, "SELECT count(*) FROM channel") == [(0,)]


def test_alerts_say_what_is_open_and_history_what_was(home: Path, database: Database) -> None:
    nothing = storemon(home, "alerts")
    assert (nothing.returncode, nothing.stdout, nothing.stderr) == (0, "", "No incident is open.\n")
    now = now_us()
    storemon(home, "channels", "add", "ops", "--webhook", "http://127.0.0.1:9/x")
    numbers = put(
        database,
        down("NYC/7", now - 5 * MINUTE_US, "A name of a store that is as long as they seldom are, to see it fit"),
        down("old", now - 3 * HOUR_US, "Old", ended_us=now - 2 * HOUR_US),
    )
    tell(database, 1, numbers[0], "opened", "sent", now)
    out = storemon(home, "alerts").stdout
    assert "(NYC/7): down for 1 h 5 min of business time, since" in " ".join(out.split())
    assert "told ops" in " ".join(out.split())
    assert "Old" not in out
    assert max(map(len, out.splitlines())) <= 80
    past = " ".join(storemon(home, "alerts", "--history").stdout.split())
    # The newest first, which is the one that was added last.
    assert past.index("Old (old): up again; was down for 2 h of business time") < past.index("NYC/7")
    assert "NYC/7" not in storemon(home, "alerts", "--history", "--subject", "old").stdout
    listed = json.loads(storemon(home, "alerts", "--json").stdout)["incidents"]
    assert [(one["store_id"], one["notified"][0]["state"]) for one in listed] == [("NYC/7", "sent")]
    assert storemon(home, "alerts", "--history", "--csv").stdout.count("\n") == 3
    assert storemon(home, "alerts", "--kind", "up").returncode == 2
