"""Reports whose row and file do not belong together."""

from pathlib import Path

from storemon_flask.services import report_store
from storemon_flask.storage import copies, reports


def orphans(database: Path, folder: Path) -> tuple[list[str], list[Path]]:
    """(ids of complete reports without a file, report files without a row), each sorted.

    The files are listed before the rows are read: a report that completes in between is in neither list.
    """
    files = {file.stem.removeprefix("report_"): file for file in folder.glob("report_*.csv")}
    with copies.looking(database) as connection:
        states = reports.states(connection)
    missing = [
        report_id
        for report_id, (state, job) in states.items()
        if state == "complete" and job not in files and not report_store.path(folder, job).is_file()
    ]
    # A running report's file may be in its place before its row says so; equal reports share one.
    wanted = {job for state, job in states.values() if state not in ("deleted", "failed")}
    alone = [file for job, file in files.items() if job not in wanted]
    return sorted(missing), sorted(alone)
