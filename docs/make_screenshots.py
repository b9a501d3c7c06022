"""Pictures of every page, in light, dark and on a phone, for the README and docs/pages.md: `make screenshots`.

The sample data in a home of its own, a real server, the system's Chromium. To add a page: a line in PAGES.
Alerts speak of the present only, so their pages have a second server: its polls are the sample's, moved to now.
"""

import csv
import gzip
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Sink
from playwright.sync_api import Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
IMAGES = ROOT / "docs" / "images"
SAMPLE = ROOT / "storemon_flask" / "sample"
# Its newest poll, but for rows that are ahead of any clock on purpose.
SAMPLE_END = datetime(2024, 10, 14, 23, 55, 19)
STREETS = ("Main Street", "Harbor", "Elm Park", "Station", "Broadway", "River Road")
STOREMON = [sys.executable, "-m", "storemon_flask"]
# A store of the sample with outages, measured and unknown time.
STORE = "03a8d396-bb73-431e-b05d-d30f31af22ea"

# Name of the picture, address; `{report}` and `{period}` are ids of finished reports.
PAGES = (
    ("now", "/"),
    ("store", f"/stores/{STORE}"),
    ("reports", "/reports"),
    ("report", "/reports/{report}"),
    ("data", "/data"),
    ("docs", "/docs"),
)
LIVE_PAGES = (
    ("overview", "/overview"),
    ("period", "/reports/{period}"),
    ("alerts", "/alerts"),
    ("schedules", "/reports/schedules"),
    ("outages", "/outages"),
)
LOOKS: tuple[tuple[str, dict[str, Any]], ...] = (
    ("light", {"viewport": {"width": 1200, "height": 740}, "color_scheme": "light"}),
    ("dark", {"viewport": {"width": 1200, "height": 740}, "color_scheme": "dark"}),
    ("phone", {"viewport": {"width": 360, "height": 780}, "color_scheme": "light", "has_touch": True}),
)
MOST_BYTES = 200_000


def main() -> None:
    """Make every picture anew."""
    chromium = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if chromium is None:
        sys.exit("no Chromium here: install the package chromium")
    with _server() as (url, environ):
        _run(environ, "load-data", str(SAMPLE))
        report = _report(url)
        _pictures(chromium, url, [(name, address.format(report=report)) for name, address in PAGES])
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    mails = Controller(Sink(), "127.0.0.1", port)
    mails.start()
    try:
        settings = {
            "STOREMON_SMTP_URL": f"smtp://127.0.0.1:{port}",
            "STOREMON_MAIL_FROM": "storemon@example.com",
            "STOREMON_ALERT_GROUP_SECONDS": "0",
        }
        with _server(**settings) as (url, environ):
            _tell_of_incidents(url, environ)
            period = _report(url, windows=["last_7_days"], compare="previous", totals=True)
            _pictures(chromium, url, [(name, address.format(period=period)) for name, address in LIVE_PAGES])
    finally:
        mails.stop()


@contextmanager
def _server(**settings: str) -> Iterator[tuple[str, dict[str, str]]]:
    """Run a server in a home of its own; give its address and the environment of commands beside it."""
    with tempfile.TemporaryDirectory() as home:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
        environ |= {"STOREMON_HOME": home, "PYTHONUNBUFFERED": "1", **settings}
        server = subprocess.Popen([*STOREMON, "serve", "--port", "0"], env=environ, stdout=subprocess.PIPE, text=True)
        try:
            assert server.stdout is not None
            yield next(word for word in server.stdout.readline().split() if word.startswith("http://")), environ
        finally:
            server.terminate()
            server.wait(30)


def _run(environ: dict[str, str], *arguments: str) -> None:
    subprocess.run([*STOREMON, *arguments], env=environ, check=True)


def _pictures(chromium: str, url: str, pages: Sequence[tuple[str, str]]) -> None:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        for look, options in LOOKS:
            page = browser.new_page(base_url=url, **options)
            for name, address in pages:
                _picture(page, address, IMAGES / f"page-{name}-{look}.png")
            page.close()
        browser.close()


def _tell_of_incidents(url: str, environ: dict[str, str]) -> None:
    """Load the sample as if its newest poll were of now, in two parts, so that stores go down while it is watched;
    a channel is told of that, and a schedule has run."""
    earlier, now = _write_live_sample(Path(environ["STOREMON_HOME"]) / "live")
    _run(environ, "load-data", str(earlier))
    _wait_for(lambda: _get(url + "/api/v1/incidents?state=open")["incidents"], "incidents")
    _run(environ, "channels", "add", "ops", "--email", "ops@example.com")
    _run(environ, "channels", "add", "north", "--email", "north@example.com", "--group", "North", "--kind", "down",
         "--digest", "08:00 America/New_York")  # fmt: skip
    _run(environ, "channels", "test", "north")
    _run(environ, "schedules", "add", "North", "--due", "weekly mon 07:00", "--timezone", "America/New_York",
         "--group", "North", "--channel", "ops")  # fmt: skip
    _run(environ, "schedules", "add", "Every store", "--due", "daily 07:00", "--timezone", "Europe/Berlin",
         "--channel", "ops")  # fmt: skip
    _run(environ, "schedules", "run", "North")
    _run(environ, "load-data", str(now))

    def purposes() -> set[str]:
        return {row["purpose"] for row in _get(url + "/api/v1/deliveries")["deliveries"]}

    _wait_for(lambda: {"incidents", "report"} <= purposes(), "mails of incidents and of a report")


def _write_live_sample(folder: Path) -> tuple[Path, Path]:
    """Write the sample moved by whole weeks of the local clock, up to a minute ago: all but the polls of the last hour,
    and those, in which one store in twelve is down. Return both folders."""
    with gzip.open(SAMPLE / "store_status.csv.gz", "rt", newline="") as stream:
        rows = [(row["store_id"], row["status"], _instant(row["timestamp_utc"])) for row in csv.DictReader(stream)]
    moved, end = _weeks_since_the_sample(), datetime.now(UTC).replace(tzinfo=None) - timedelta(minutes=1)
    # Rows that are bad on purpose stay behind; later than the sample's end are those ahead of any clock.
    polls = [(store, status, at + moved) for store, status, at in rows if at is not None and at <= SAMPLE_END]
    earlier, last = folder / "earlier", folder / "last"
    ids = sorted({store for store, _, _ in polls if store})
    goes_down = set(ids[::12])
    for path, is_last in ((earlier, False), (last, True)):
        path.mkdir(parents=True)
        with (path / "polls.csv").open("w", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["store_id", "status", "timestamp_utc"])
            writer.writerows(
                (store, "inactive" if is_last and store in goes_down else status, at.isoformat())
                for store, status, at in polls
                if at <= end and (at > end - timedelta(hours=1)) == is_last
            )
    for name in ("menu_hours.csv", "timezones.csv"):
        shutil.copy(SAMPLE / name, earlier)
    with (earlier / "stores.csv").open("w", newline="") as stream:
        writer = csv.writer(stream)
        writer.writerow(["store_id", "name", "group", "region"])
        for number, store in enumerate(ids):
            name, group = f"{STREETS[number % len(STREETS)]} {number}", ("North", "South")[number % 2]
            writer.writerow([store, name, group, ("East", "Midwest", "West")[number % 3]])
    return earlier, last


def _weeks_since_the_sample() -> timedelta:
    """Return whole weeks, so that stores are polled in their business hours, also over a change of the clocks."""
    zone, now = ZoneInfo("America/Chicago"), datetime.now(UTC)
    sample_end = SAMPLE_END.replace(tzinfo=UTC)
    weeks = timedelta(weeks=-((sample_end - now) // timedelta(weeks=1)))
    before, after = (at.astimezone(zone).utcoffset() or timedelta() for at in (sample_end, now))
    return weeks + before - after


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        return None


def _get(url: str) -> Any:
    with urllib.request.urlopen(url, timeout=30) as answer:
        return json.load(answer)


def _wait_for(condition: Callable[[], Any], what: str) -> None:
    for _ in range(600):
        if condition():
            return
        time.sleep(0.1)
    sys.exit(f"no {what} within a minute")


def _report(url: str, **fields: Any) -> str:
    """The id of a full report, finished."""
    request = urllib.request.Request(url + "/trigger_report", data=json.dumps({"columns": "full", **fields}).encode())
    with urllib.request.urlopen(request, timeout=30) as answer:
        report: str = json.load(answer)["report_id"]
    _wait_for(lambda: _get(f"{url}/api/v1/reports/{report}")["status"] == "Complete", "finished report")
    return report


def _picture(page: Page, address: str, file: Path) -> None:
    answer = page.goto(address)
    assert answer is not None
    assert answer.ok, (address, answer.status)
    page.screenshot(path=file)
    size = file.stat().st_size
    print(f"{file.relative_to(ROOT)}  {size:,} bytes")
    assert size < MOST_BYTES, file


if __name__ == "__main__":
    main()
