"""The sample's report is the one that `docs/sample_report.csv` shows."""

from pathlib import Path

from storemon_flask.services import load, report
from storemon_flask.settings import load as load_settings
from storemon_flask.storage.db import Database

ROOT = Path(__file__).parent.parent


def test_the_sample_gives_the_report_in_docs_byte_for_byte(tmp_path):
    database = Database(tmp_path / "storemon.db")
    result = load.run(database, load.find([ROOT / "data" / "sample"])[0], load.Terms(1_790_000_000_000_000, 0))
    text = report.compute(
        database,
        report.ask(database, report.Asked(), "America/Chicago", 10**9),
        load_settings({}).rules,
        "America/Chicago",
    )
    database.close()
    assert [(s.feed, s.counts.rows, s.counts.rejected) for s in result.files] == [
        ("hours", 1502, 0),
        ("polls", 42267, 70),
        ("timezones", 200, 0),
    ]
    assert text.csv.encode() == (ROOT / "docs" / "sample_report.csv").read_bytes()
