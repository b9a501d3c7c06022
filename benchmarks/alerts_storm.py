"""Measure alerts on a fleet of 14,000 stores: one evaluation, and 5,000 stores that go down in one load.

    python -m benchmarks.alerts_storm [--stores 14000] [--down 5000] [--channels 4] [--group-seconds 10]

Prints the processor time of an evaluation beyond the snapshot (nothing changed), and for the storm how long after the
load each channel's webhook arrived, less the group time, and how many messages each channel had. Takes two minutes.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from benchmarks import processes
from storemon_flask import settings as settings_
from storemon_flask.alerts.evaluator import Evaluator
from storemon_flask.database.connections import Database
from storemon_flask.stores.list_cache import ListCache

_HOURS = 72
_AFTER_S = 20.0


class _Receiver(BaseHTTPRequestHandler):
    """Takes webhooks: (path, when, body)."""

    received: list[tuple[str, float, dict[str, Any]]]

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.received.append((self.path, time.monotonic(), body))
        self.send_response(204)
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Print nothing."""


def _polls(stores: int, hours: range, down: int = 0) -> str:
    """Return hourly polls so many hours back from now, in CSV; the first `down` stores are inactive."""
    now = datetime.now(UTC) - timedelta(minutes=1)
    lines = ["store_id,timestamp_utc,status"]
    for back in hours:
        stamp = f"{now - timedelta(hours=back):%Y-%m-%d %H:%M:%S} UTC"
        lines += [f"s{store},{stamp},{'inactive' if store < down else 'active'}" for store in range(stores)]
    return "\n".join(lines) + "\n"


def _storemon(home: Path, *words: str) -> None:
    subprocess.run(
        [sys.executable, "-m", "storemon_flask", *words],
        cwd=processes.ROOT, env={**os.environ, "STOREMON_HOME": str(home)}, check=True, stdout=subprocess.DEVNULL,
    )  # fmt: skip


def _evaluation_s(home: Path) -> list[float]:
    """Return the processor time of five evaluations that find nothing new, the snapshot apart; the first one learns
    how stores are usually polled."""
    settings = settings_.load({"STOREMON_HOME": str(home)})
    database = Database(settings.database)
    cache = ListCache(database, settings.rules, settings.default_timezone)
    evaluator = Evaluator(database, settings, cache)
    taken = []
    for _ in range(5):
        cache.current()
        started = time.process_time()
        evaluator.evaluate()
        taken.append(time.process_time() - started)
    database.close()
    return taken


def main() -> None:
    """Run the measurement of the module's docstring."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, default in (("--stores", 14_000), ("--down", 5000), ("--channels", 4), ("--group-seconds", 10)):
        parser.add_argument(name, type=int, default=default)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="storemon-storm-") as folder:
        _measure(Path(folder), options)


def _measure(home: Path, options: argparse.Namespace) -> None:
    (home / "polls.csv").write_text(_polls(options.stores, range(1, _HOURS)))
    rows = "".join(f"s{store},Store {store},Group {store % 40}\n" for store in range(options.stores))
    (home / "stores.csv").write_text("store_id,name,group\n" + rows)
    _storemon(home, "load-data", str(home / "polls.csv"), str(home / "stores.csv"))
    taken = _evaluation_s(home)
    print(f"evaluation of {options.stores:,} stores: first {taken[0]:.3f} s, then {max(taken[1:]):.3f} s at most")
    _Receiver.received = []
    with ThreadingHTTPServer(("127.0.0.1", 0), _Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        for number in range(options.channels):
            url = f"http://127.0.0.1:{receiver.server_port}/{number}"
            _storemon(home, "channels", "add", f"channel-{number}", "--webhook", url)
        os.environ["STOREMON_ALERT_GROUP_SECONDS"] = str(options.group_seconds)
        with processes.server(home) as (url, _):
            time.sleep(5)
            body = _polls(options.stores, range(1), options.down).encode()
            request = urllib.request.Request(f"{url}/api/v1/feeds/polls", body, {"Content-Type": "text/csv"})
            urllib.request.urlopen(request).close()
            loaded = time.monotonic()
            time.sleep(options.group_seconds + _AFTER_S)
        receiver.shutdown()
    for number in range(options.channels):
        arrivals = [(when, body) for path, when, body in _Receiver.received if path == f"/{number}"]
        late = ", ".join(f"{when - loaded - options.group_seconds:.2f} s" for when, _ in arrivals)
        summary = arrivals[0][1]["data"]["summary"] if arrivals else ""
        print(f"channel {number}: {len(arrivals)} message(s), after group time: {late}; {summary!r}")


if __name__ == "__main__":
    main()
