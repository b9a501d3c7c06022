"""The sample's report is the one that `docs/sample_report.csv` shows."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from storemon_flask.database.connections import Database
from storemon_flask.feeds import load, sources
from storemon_flask.reports import compute
from storemon_flask.reports.request import ReportRequest
from storemon_flask.settings import load as load_settings

ROOT = Path(__file__).parent.parent


def test_the_sample_gives_the_report_in_docs_byte_for_byte(tmp_path):
    database = Database(tmp_path / "storemon.db")
    result = load.load_sources(
        database, sources.find_sources([ROOT / "storemon_flask" / "sample"]), load.LoadOptions(1_790_000_000_000_000, 0)
    )
    text = compute.compute(
        database,
        compute.make_query(database, ReportRequest(), "America/Chicago", 10**9),
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


@pytest.mark.slow
def test_the_demo_runs_where_only_the_package_is_installed(tmp_path):
    """As `pip install --target` puts it: no checkout beside it, and nothing below the prefix of Python."""
    target, home = tmp_path / "target", tmp_path / "home"
    home.mkdir()
    install = [sys.executable, "-m", "pip", "--disable-pip-version-check", "install", "--quiet", "--no-deps"]
    source = tmp_path / "source"
    shutil.copytree(
        ROOT, source, ignore=shutil.ignore_patterns(".*", "__pycache__", "build", "dist", "tests", "docs", "*.egg-info")
    )
    done = subprocess.run([*install, "--target", target, source], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(file.name for file in (target / "storemon_flask" / "sample").iterdir()) == [
        "menu_hours.csv", "store_status.csv.gz", "timezones.csv",
    ]  # fmt: skip
    environ = {**os.environ, "PYTHONPATH": str(target), "STOREMON_HOME": str(home)}
    ran = subprocess.run(
        [sys.executable, "-m", "storemon_flask", "demo"],
        env=environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    assert f"Loading the sample data of {target / 'storemon_flask' / 'sample'}" in ran.stdout.replace("\n", " ")
    assert "... and 190 more stores" in ran.stdout
