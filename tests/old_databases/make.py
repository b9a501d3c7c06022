"""Databases as older states of this program made them, by their own code: `python tests/old_databases/make.py`.

Each state is taken out of the git history and loads the feeds of this folder with its own command (the first had none:
its service is called), then computes a report, if it could. The file is vacuumed and packed. Needs the packages of
`make test`.
"""

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path

HERE = Path(__file__).resolve().parent
# The last commit with each schema. Two steps were changed after they had first been committed: the drafts.
COMMITS = {
    "m001-draft": "43ad6a9",
    "m001": "57b2627",
    "m002": "50370f2",
    "m003": "087b0e0",
    "m004-draft": "826354f",
    "m004": "acfa204",
    "m005": "81fe05d",
    "m006": "ef16d95",
}
LOAD = """
import pathlib, sys, time
from storemon_flask import settings
from storemon_flask.feeds import load
from storemon_flask.database.db import Database
database = Database(settings.load().database)
load.run(database, load.find([pathlib.Path(p) for p in sys.argv[1:]])[0], now_us=time.time_ns() // 1000, max_skew_us=0)
database.close()
"""
REPORT = """
from storemon_flask import create_app, settings
from storemon_flask.reports.worker import InlineExecutor
app = create_app(settings.load(), InlineExecutor())
answer = app.test_client().post("/trigger_report", json={"columns": "full"})
assert answer.status_code == 202, answer.data
app.extensions["storemon"].database.close()
"""


def make(name: str, commit: str, folder: Path) -> Path:
    """The packed database of that commit."""
    code, home = folder / "code", folder / "home"
    code.mkdir(parents=True)
    shutil.copytree(HERE / "feeds", home / "feeds")
    archive = subprocess.run(["git", "archive", commit], cwd=HERE.parent.parent, check=True, capture_output=True).stdout
    subprocess.run(["tar", "-x"], input=archive, cwd=code, check=True)
    feeds = [f"feeds/{feed}" for feed in ("polls.csv", "hours.csv", "zones.csv")]
    if name >= "m003":
        feeds.append("feeds/names.csv")
    draft = name == "m001-draft"
    commands = [["-c", LOAD, *feeds] if draft else ["-m", "storemon_flask", "load-data", *feeds]]
    if not draft:
        commands.append(["-c", REPORT])
    for command in commands:
        subprocess.run(
            [sys.executable, *command],
            check=True,
            cwd=home,
            env={**os.environ, "STOREMON_HOME": str(home), "PYTHONPATH": str(code)},
        )
    database = home / "instance" / "storemon.db"
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
        connection.execute("VACUUM")
    packed = HERE / f"{name}.db.gz"
    packed.write_bytes(gzip.compress(database.read_bytes(), mtime=0))
    return packed


if __name__ == "__main__":
    for name, commit in COMMITS.items():
        with tempfile.TemporaryDirectory() as folder:
            print(make(name, commit, Path(folder)).name)
