"""Whoever may put files into a data folder, or send some, reads no other file of the machine by it, and holds nobody
up.
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import SMALL_FLEET, STOREMON, Server, environment, http, sql, storemon

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

Serve = Callable[..., Server]
SECRET = "hunter2"
SECRETS = {
    "passwd": f"{SECRET}:x:0:0:root:/root:/bin/bash\n",
    "key": f"-----BEGIN {SECRET} KEY-----\nabc\n",
    "id": f"store_id,{SECRET}\n1,2\n",
    "twice": f"store_id,Store ID,timestamp_utc,status,{SECRET}\n",
    "two feeds": f"store_id,timestamp_utc,status,timezone,{SECRET}\n",
    "semicolons": f"store_id;{SECRET};status\n",
    "quote": f'"{SECRET}\n',
    "long": SECRET * 300_000,
    "many columns": f"{SECRET}," * 20_000,
    "one column": SECRET,
}


def everything_kept(settings: Settings) -> str:
    """All rows of all tables, and the server's log."""
    tables = sql(settings.database, "SELECT name FROM sqlite_master WHERE type = 'table'")
    rows = [sql(settings.database, f'SELECT * FROM "{table}"') for (table,) in tables]
    log = settings.home / "server.log"
    return repr(rows) + (log.read_text() if log.exists() else "")


def test_no_other_file_is_read_by_a_link_in_a_data_folder(settings: Settings, tmp_path: Path) -> None:
    folder, outside = settings.home / "data", tmp_path / "outside"
    for made in (folder, outside, folder / "below", folder / "..data"):
        made.mkdir(parents=True)
    for name, text in SMALL_FLEET.items():
        (folder / "..data" / name).write_text(text)
        (folder / name).symlink_to(f"..data/{name}")
    # A good feed, so that reading it would leave a trace.
    (outside / "feed").write_text(f"store_id,timestamp_utc,status\n{SECRET},2024-10-14 10:00:00 UTC,active\n")
    for number, (name, text) in enumerate({**SECRETS, "feed": (outside / "feed").read_text()}.items()):
        (outside / name).write_text(text)
        for ending in ("csv", "csv.gz", "zip"):
            (folder / f"{number}.{ending}").symlink_to(outside / name)
            (folder / f"up{number}.{ending}").symlink_to(f"../../outside/{name}")
            (folder / "below" / f"{number}.{ending}").symlink_to(outside / name)
            (folder / f"by{number}.{ending}").symlink_to(f"below/{number}.{ending}")
    for number, special in enumerate(("/dev/zero", "/dev/stdin", "/dev/tty", "/proc/self/environ", "/proc/kmsg")):
        (folder / f"special{number}.csv").symlink_to(special)
    for name in ("pipe.csv", "pipe.csv.gz", "pipe.zip"):
        os.mkfifo(folder / name)
    (folder / "pipe link.csv").symlink_to("pipe.csv")
    done = subprocess.run(
        [*STOREMON, "load-data"],
        env=environment(settings.home),
        cwd=settings.home,
        input=f"store_id,timestamp_utc,status\n{SECRET},2024-10-14 10:00:00 UTC,active\n",
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert SECRET not in everything_kept(settings)
    assert sql(settings.database, "SELECT count(*) FROM load_file") == [(len(SMALL_FLEET),)]
    assert "a link that leads out of the folder" in " ".join(done.stdout.split())


def test_no_text_of_what_is_no_feed_is_kept_shown_or_logged(serve: Serve, settings: Settings, tmp_path: Path) -> None:
    server = serve(STOREMON_LOG_FORMAT="json")
    polls = SMALL_FLEET["polls.csv"].encode()
    assert http(f"{server.url}/api/v1/feeds/polls", "POST", polls, Content_Type="text/csv").status == 200
    for name, text in SECRETS.items():
        (tmp_path / f"{name}.csv").write_text(text)
        done = storemon(settings.home, "load-data", str(tmp_path / f"{name}.csv"))
        assert done.returncode == 1
        assert SECRET not in done.stdout + done.stderr, name
        head = '--x\r\nContent-Disposition: form-data; name="file"; filename="a.csv"\r\n\r\n'
        body = head.encode() + text.encode() + b"\r\n--x--\r\n"
        for path in ("/api/v1/feeds", "/data"):
            answer = http(f"{server.url}{path}", "POST", body, Content_Type="multipart/form-data; boundary=x")
            assert SECRET.encode() not in answer.body, (name, path)
        for feed in ("polls", "hours", "timezones", "stores", "special_hours"):
            answer = http(f"{server.url}/api/v1/feeds/{feed}", "POST", text.encode(), Content_Type="text/csv")
            assert answer.status == 422, (name, feed, answer.body)
            assert SECRET.encode() not in answer.body, (name, feed)
    loads = server.get("/api/v1/loads?limit=1000").json["loads"]
    assert sum(load["failed_count"] for load in loads) == 8 * len(SECRETS)
    for path in ["/data", *(f"/data/loads/{load['load_id']}" for load in loads)]:
        page = server.get(path, Accept="text/html")
        assert page.status == 200
        assert SECRET.encode() not in page.body
    server.end()
    assert SECRET not in everything_kept(settings)
