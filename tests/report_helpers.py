"""A small fleet and reports of it in many shapes."""

import csv
import gzip
import io
from pathlib import Path

import pytest
from flask.testing import FlaskClient
from load_helpers import us

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources

ROOT = Path(__file__).resolve().parent.parent


NAMES = "store_id,name,group\n"


@pytest.fixture
def fleet(database: Database, tmp_path: Path) -> Database:
    """Forty stores of the sample, in three groups and one without, one of them with a name that a spreadsheet would
    run.
    """
    folder = tmp_path / "feeds"
    folder.mkdir()
    text = gzip.decompress((ROOT / "storemon_flask/sample/store_status.csv.gz").read_bytes()).decode()
    header, *rows = text.splitlines()
    store, stamp = (header.split(",").index(name) for name in ("store_id", "timestamp_utc"))
    ids = sorted(
        {
            row.split(",")[store]
            for row in rows
            if len(row.split(",")[store]) == len("031782b3-fdfd-44c6-b0f4-c59b2cad6fcb")
        }
    )[:40]
    wanted = set(ids)
    good = [
        row for row in rows if row.split(",")[store] in wanted and row.split(",")[stamp][:7] in ("2024-09", "2024-10")
    ]
    (folder / "polls.csv").write_text("\n".join([header, *good]) + "\n")
    for name in ("menu_hours.csv", "timezones.csv"):
        first, *lines = (ROOT / "storemon_flask/sample" / name).read_text().splitlines()
        place = first.split(",").index("store_id")
        (folder / name).write_text(
            "\n".join([first, *(line for line in lines if line.split(",")[place] in wanted)]) + "\n"
        )
    groups = ["North", "South", "=East", ""]
    (folder / "names.csv").write_text(
        NAMES + "".join(f"{store_id},Store {n},{groups[n % 4]}\n" for n, store_id in enumerate(ids))
    )
    # The sample has bad rows on purpose.
    load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(us("2024-10-15T00:00:00"), 0))
    return database


def asked(client: FlaskClient, **body: object) -> str:
    """The CSV of a report that is asked for over HTTP."""
    answer = client.post("/trigger_report", json=body)
    assert answer.status_code == 202, answer.text
    found = client.get(answer.json["report_id"] and f"/get_report?report_id={answer.json['report_id']}")
    assert found.headers["X-Report-Status"] == "Complete", found.text
    return found.text


def rows_of(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
