"""Workbooks while they are made: where their files are, and that nothing of them stays."""

import io
import os
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import datetime
from pathlib import Path

import openpyxl
import pytest
from conftest import Server, storemon, wait_until

from storemon_flask.database.connections import Database
from storemon_flask.errors import NoTemporaryRoom
from storemon_flask.reports import retention, xlsx
from storemon_flask.settings import Settings

HEADER = "store_id,uptime_last_hour,uptime_last_day\n"


def names(folder: Path) -> list[str]:
    return sorted(str(file.relative_to(folder)) for file in folder.rglob("*"))


def test_a_kill_leaves_nothing_in_the_systems_folder_and_the_next_start_removes_the_rest(
    serve: Callable[..., Server], small_fleet: Path, database: Database, settings: Settings, tmp_path: Path
) -> None:
    database.close()
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    server = serve(TMPDIR=str(temporary))
    report_id = server.trigger()
    assert server.wait_for(report_id).status == 200
    file = settings.reports_dir / f"report_{report_id}.csv"
    whole = file.read_bytes()
    # Long enough to be killed in the middle of it.
    file.write_bytes(whole + b"".join(b"s%d,1,1,1,1,1,1\n" % number for number in range(400_000)))
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as peer:
        request = f"GET /get_report?report_id={report_id}&format=xlsx HTTP/1.1\r\nHost: {host}\r\n\r\n"
        peer.sendall(request.encode())
        wait_until(
            lambda: [one for one in settings.reports_dir.glob(".workbook_*/*") if one.stat().st_size], "a sheet's rows"
        )
        server.end(signal.SIGKILL)
    assert names(temporary) == []
    file.write_bytes(whole)
    assert [one for one in names(settings.reports_dir) if "/" in one]
    done = storemon(settings.home, "check")
    assert done.returncode == 0, done.stdout
    assert "0 of no report" in done.stdout
    serve(TMPDIR=str(temporary))
    # The server answers before its first round of retention has ended.
    wait_until(lambda: os.listdir(settings.reports_dir) == [file.name], "the folder to be removed")
    assert names(temporary) == []


def test_folders_that_a_killed_server_made_for_workbooks_are_removed_and_no_others(
    tmp_path: Path, database: Database
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    begun = folder / ".workbook_k3_x9zab"
    begun.mkdir()
    (begun / "tmp1").write_text("x")
    (folder / ".workbook_empty_01").mkdir()
    others = [".workbook_mine", ".workbook_file1234", "tmp1"]
    for name in (".workbook_mine/kept", ".workbook_file1234", "tmp1"):
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("x")
    (folder / "elsewhere").mkdir()
    (folder / "elsewhere" / "kept").write_text("x")
    (folder / ".workbook_link1234").symlink_to(folder / "elsewhere")
    database.prepare()
    assert retention.remove_temporary(database.read, folder, retention.begun_files(folder)) == 1
    kept = [*others, ".workbook_mine/kept", "elsewhere", "elsewhere/kept", ".workbook_link1234"]
    assert names(folder) == sorted(kept)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
@pytest.mark.parametrize("elsewhere", [True, False])
def test_a_full_disk_keeps_nobody_from_a_workbook_if_there_is_room_for_temporary_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: bool
) -> None:
    reports, temporary = tmp_path / "reports", tmp_path / "tmp"
    for folder in (reports, temporary):
        folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    file = reports / "report.csv"
    file.write_text(HEADER + "a,1.00,2.00\n")
    mkstemp, places = tempfile.mkstemp, []

    def on_a_full_disk(dir: str) -> tuple[int, str]:
        places.append(Path(dir).parent.name)
        handle, name = mkstemp(dir=dir)
        if not (elsewhere and Path(dir).parent == temporary):
            Path(name).unlink()
            Path(name).symlink_to("/dev/full")
        return handle, name

    monkeypatch.setattr(tempfile, "mkstemp", on_a_full_disk)
    if elsewhere:
        with xlsx.write(file, 1, {}, {"kind": "times"}) as book:
            found = openpyxl.load_workbook(io.BytesIO(book.read()))
        assert list(found["report"].values) == [tuple(HEADER.strip().split(",")), ("a", 1, 2)]
        assert list(found["method"].values) == [("kind", "times")]
    else:
        with pytest.raises(NoTemporaryRoom, match=f"{temporary}, is full, so no workbook can be made; "):
            xlsx.write(file, 1, {}, {})
    assert set(places) == {"reports", "tmp"}
    assert (names(reports), names(temporary)) == (["report.csv"], [])


def test_nothing_stays_of_a_workbook_that_could_not_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[list[str]] = []

    def rows(*arguments: object) -> Iterator[dict[str, str]]:
        yield {"store_id": "a"}
        seen.append(names(tmp_path))
        raise ValueError("no report")

    (tmp_path / "report.csv").write_text(HEADER)
    monkeypatch.setattr(xlsx, "text_rows", rows)
    with pytest.raises(ValueError, match="no report"):
        xlsx.write(tmp_path / "report.csv", 3, {}, {})
    ((folder, sheet, report),) = seen
    assert sheet.startswith(folder + "/")
    assert names(tmp_path) == [report] == ["report.csv"]


def test_a_report_that_is_gone_is_no_full_disk(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"report\.csv"):
        xlsx.write(tmp_path / "report.csv", 3, {}, {})


def test_one_report_has_one_workbook_byte_for_byte(tmp_path: Path) -> None:
    file = tmp_path / "report.csv"
    file.write_text(HEADER + "a,1.00,2.00\n")
    os.utime(file, (1_728_864_000, 1_728_864_000))
    with xlsx.write(file, 1, {}, {"kind": "times"}) as book:
        first = book.read()
    time.sleep(1.01)
    with xlsx.write(file, 1, {}, {"kind": "times"}) as book:
        assert book.read() == first
    properties = openpyxl.load_workbook(io.BytesIO(first)).properties
    assert properties.created == datetime(2024, 10, 14)
