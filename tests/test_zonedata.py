"""The zone data are new enough, and say so when they are not."""

import csv
import io
from pathlib import Path

import pytest
from cli_helpers import Run
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import ROOT, Server

from storemon_flask import zonedata

CHANGES = Path(__file__).parent / "zone_changes_2026"


def test_vancouver_and_edmonton_keep_their_summer_time_in_november_2026(run: Run, home: Path) -> None:
    """Their Tuesday of 8:00 to 20:00 begins at 15:00 and 14:00 UTC; what is down from about 14:37 to 15:37 is theirs in
    part.
    """
    assert run("load-data", CHANGES).code == 0
    done = run("report", "--columns", "full", "--as-of", "2026-11-14T23:07:00Z")
    rows = {row["store_id"]: row for row in csv.DictReader(io.StringIO(done.out))}
    week = {name: (row["uptime_last_week"], row["downtime_last_week"]) for name, row in rows.items()}
    assert week["van"] == ("83.38", "0.62")
    assert week["edm"] == ("83.00", "1.00")


@pytest.mark.parametrize(
    ("version", "now_year", "old"),
    [("2026.6", 2026, False), ("2026.6", 2027, False), ("2026.6", 2028, True), ("2021.2.post0", 2026, True)],
)
def test_data_of_a_year_are_old_once_the_next_year_is_over(
    monkeypatch: pytest.MonkeyPatch, version: str, now_year: int, old: bool
) -> None:
    monkeypatch.setattr(zonedata, "version", lambda: version)
    sentence = zonedata.old_sentence(now_year)
    assert (sentence is not None) is old
    assert not old or f"tzdata {version}" in str(sentence)


def test_info_warns_of_old_data(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "warning" not in run("info").out
    monkeypatch.setattr(zonedata, "version", lambda: "2023.1")
    assert "warning" in run("info").out
    assert "the time zone data (tzdata 2023.1) are more than a year old" in run("info").out


def test_a_server_that_starts_with_old_data_warns(serve: object, tmp_path: Path) -> None:
    code = (
        "import sys; from storemon_flask import zonedata, __main__; zonedata.version = lambda: '2023.1'; "
        "sys.argv = ['storemon', 'serve', '--port', '0']; __main__.main()"
    )
    import sys

    server: Server = serve([sys.executable, "-c", code])  # type: ignore[operator]
    assert server.get("/healthz").status == 200
    assert "the time zone data (tzdata 2023.1) are more than a year old" in server.log.read_text()


def test_the_oldest_data_that_may_be_installed_have_these_changes() -> None:
    (line,) = [line for line in (ROOT / "requirements.txt").read_text().splitlines() if line.startswith("tzdata")]
    assert line == "tzdata>=2026.6"
