"""A report whose polls are taken in pieces says what it says when they are taken at once."""

from itertools import product
from pathlib import Path

import numpy as np
import pytest
from conftest import load_folder

from storemon_flask.clock import parse_timestamp as instant
from storemon_flask.database import polls, readings, stores
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US
from storemon_flask.reports import compute
from storemon_flask.reports.csv import ReportText
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import Settings

AS_OF = instant("2024-10-14T12:00Z")


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    """Stores with no poll at all, with one, and with hundreds, in turn; some with hours, special hours and a zone that
    changes.
    """
    chance = np.random.default_rng(1)
    lines = ["store_id,timestamp_utc,status"]
    for number in range(40):
        for us in chance.integers(AS_OF - 12 * DAY_US, AS_OF, [0, 1, 3, 300][number % 4]).tolist():
            at = str(np.datetime64(us, "us")).replace("T", " ")
            lines.append(f"s{number:02d},{at} UTC,{'active' if chance.random() < 0.8 else 'inactive'}")
    hours = [f"s{number:02d},{day},09:00,{17 + day % 5}:30" for number in range(0, 40, 3) for day in range(6)]
    folder = tmp_path / "feeds"
    folder.mkdir()
    for name, text in {
        "polls": "\n".join(lines),
        "hours": "store_id,day,start_time_local,end_time_local\n" + "\n".join(hours),
        "special": "store_id,date,start_time_local,end_time_local\ns03,2024-10-10,,\ns07,2024-10-11,10:00,12:00",
        "zones": "store_id,timezone_str,valid_from\ns09,Asia/Tokyo,2024-10-09\ns12,Europe/Paris,",
        "names": "store_id,name\n" + "\n".join(f"s{number:02d},Store {number}" for number in range(40)),
    }.items():
        (folder / f"{name}.csv").write_text(text + "\n")
    load_folder(database, folder)
    return database


@pytest.mark.parametrize("most", [1, 7, 301, 2000])
def test_the_report_is_the_same_in_pieces(
    fleet: Database, settings: Settings, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    def text(columns: str) -> ReportText:
        question = compute.make_query(fleet, ReportRequest(AS_OF, columns), "America/Chicago", 10**6)
        return compute.compute(fleet, question, settings.rules, "America/Chicago")

    whole = {columns: text(columns) for columns in ("classic", "full")}
    monkeypatch.setattr(readings, "_POLLS_AT_ONCE", most)
    for columns, found in whole.items():
        assert found.rows == 40
        assert text(columns) == found


def test_a_range_of_polls_has_those_at_its_ends_and_no_others(fleet: Database) -> None:
    with fleet.read() as connection:
        number = stores.all_rows(connection).number
        ids = stores.all_rows(connection).ids
        stored = sorted(
            (ids.index(store_id), instant(f"{stamp[:10]}T{stamp[11:26]}Z"), status == "active")
            for store_id, stamp, status in connection.execute("SELECT store_id, timestamp_utc, status FROM poll")
        )
        # Both of an active and of an inactive poll, in one week and across two.
        ends = [
            next(us for _, us, active in stored[skipped:] if active == up)
            for skipped in (0, 900, 2000)
            for up in (0, 1)
        ]
        for first, last in product([end + off for end in ends for off in (-1, 0, 1)], repeat=2):
            found = polls.read(connection, number, first, last)
            expected = [poll for poll in stored if first <= poll[1] <= last]
            assert (
                list(zip(found.store.tolist(), found.instant_us.tolist(), found.active.tolist(), strict=True))
                == expected
            )
