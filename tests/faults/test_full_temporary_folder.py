"""No room in the folder for temporary files: whoever asked is told, nothing is left behind, and the server goes on."""

import gc
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from conftest import Answer, Server, http, sql, wait_until
from serving import serve_at as serve_at
from small_disks import fill, free, mounted

from storemon_flask.errors import NoTemporaryRoom
from storemon_flask.reports import xlsx

pytestmark = pytest.mark.slow

STORES = 60_000
HEADER = b"store_id,timestamp_utc,status\n"
ROWS = b"".join(b"store-number-%06d,2024-10-14 %02d:00:00 UTC,active\n" % (n, n % 24) for n in range(STORES))
FORM = {"Content_Type": "multipart/form-data; boundary=x"}
# Waitress keeps less than half a megabyte of a body, and one of an answer, in memory.
NO_ROOM = 300_000


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with mounted(tmp_path / "small", 5) as place:
        yield place


@pytest.fixture
def server(disk: Path, tmp_path: Path, serve_at: Callable[..., Server]) -> Server:
    """A server whose TMPDIR is a small disk, and whose data are elsewhere."""
    return serve_at(tmp_path / "home", TMPDIR=str(disk), STOREMON_MIN_FREE_MB="0")


def push(server: Server, body: bytes) -> Answer:
    return http(f"{server.url}/api/v1/feeds/polls", "POST", body, Content_Type="text/csv")


def form(*files: bytes) -> bytes:
    parts = [
        b'--x\r\nContent-Disposition: form-data; name="file"; filename="%d.csv"\r\n\r\n%s\r\n' % (number, file)
        for number, file in enumerate(files)
    ]
    return b"".join(parts) + b"--x--\r\n"


def full(disk: Path, outcome: str) -> str:
    return (
        f"the folder for temporary files, {disk}, is full, so {outcome};"
        f" make room there, or start the server with TMPDIR set to a "
        "folder that has more"
    )


def told(server: Server) -> list[str]:
    """What was logged, but for what went well and is in the log all the same."""
    lines = server.log.read_text().splitlines()
    return [line.partition("Z ")[2].partition(" request_id=")[0] for line in lines if " INFO " not in line]


def is_refused(answer: Answer, disk: Path, outcome: str) -> None:
    assert (answer.status, answer.headers["Content-Type"]) == (503, "application/problem+json")
    assert answer.json == {
        "type": "urn:storemon:problem:temporary-files",
        "title": "No room for temporary files",
        "status": 503,
        "detail": full(disk, outcome),
    }


def test_a_body_that_finds_no_room_is_cut_off_and_the_next_that_does_is_taken(
    server: Server, disk: Path, tmp_path: Path
) -> None:
    twenty_mb = HEADER + 7 * ROWS
    assert len(twenty_mb) > 20_000_000
    before = free(disk)
    with pytest.raises(OSError, match=r"reset|closed|pipe|disconnected"):
        push(server, twenty_mb)
    wait_until(lambda: free(disk) == before, "the end of what there was of it")
    wait_until(lambda: "No space left on device" in server.log.read_text(), "the log to say why")
    answer = push(server, HEADER + ROWS)
    assert (answer.status, answer.json["new"]) == (200, STORES)
    assert sql(server.home / "instance" / "storemon.db", "SELECT count(*) FROM load") == [(1,)]


@pytest.mark.parametrize("path", ["/api/v1/feeds", "/data"])
def test_a_form_whose_files_find_no_room_beside_it_is_refused(server: Server, disk: Path, path: str) -> None:
    body = form(HEADER + ROWS)
    # It has room, and what is taken out of it has none.
    assert free(disk) / 2 < len(body) < free(disk)
    answer = http(server.url + path, "POST", body, **FORM)
    sentence = full(disk, "nothing of this was stored")
    if path == "/data":
        assert (answer.status, answer.headers["Content-Type"]) == (503, "text/html; charset=utf-8")
        assert sentence in answer.body.decode()
    else:
        is_refused(answer, disk, "nothing of this was stored")
    assert told(server) == [f"ERROR storemon.web: POST {path}: {sentence}"]
    answer = http(f"{server.url}/api/v1/feeds", "POST", form(HEADER + ROWS[:100_000]), **FORM)
    assert answer.status == 200


@pytest.mark.parametrize(("leave", "size"), [(NO_ROOM, 400_000), (0, 5_000)])
def test_a_preview_that_finds_no_room_is_refused_and_leaves_nothing(
    server: Server, disk: Path, leave: int, size: int
) -> None:
    # A preview is made; without its cookie it is not shown. The folder is chosen now.
    assert http(f"{server.url}/data/previews", "POST", form(HEADER + ROWS[:50]), **FORM).status == 403
    ballast = fill(disk, leave)
    if not leave:
        # To the last block.
        with suppress(OSError), ballast.open("ab", buffering=0) as stream:
            while stream.write(bytes(4096)):
                pass
    before = free(disk)
    answer = http(f"{server.url}/data/previews", "POST", form(HEADER + ROWS[:size]), **FORM)
    is_refused(answer, disk, "this cannot be checked")
    wait_until(lambda: free(disk) == before, "the end of what there was of it")
    ballast.unlink()
    before = free(disk)
    assert http(f"{server.url}/data/previews", "POST", form(HEADER + ROWS[:50_000]), **FORM).status == 403
    assert free(disk) < before
    assert sql(server.home / "instance" / "storemon.db", "SELECT count(*) FROM load") == [(0,)]


def test_a_workbook_is_made_beside_the_reports_and_needs_no_room_there(server: Server, disk: Path) -> None:
    assert push(server, HEADER + ROWS).status == 200
    report_id = server.trigger()
    server.wait_for(report_id)
    ballast = fill(disk, NO_ROOM)
    assert server.get(f"/get_report?report_id={report_id}&format=xlsx").body.startswith(b"PK")
    assert os.listdir(disk) == [ballast.name]
    assert told(server) == []


def test_a_workbook_that_finds_no_room_anywhere_is_refused_and_leaves_nothing(
    serve_at: Callable[..., Server], disk: Path, tmp_path: Path
) -> None:
    server = serve_at(tmp_path / "home", STOREMON_REPORTS_DIR=str(disk), TMPDIR=str(disk), STOREMON_MIN_FREE_MB="0")
    assert push(server, HEADER + ROWS[:200_000]).status == 200
    report_id = server.trigger()
    server.wait_for(report_id)
    fill(disk, 50_000)
    left = sorted(os.listdir(disk))
    is_refused(server.get(f"/get_report?report_id={report_id}&format=xlsx"), disk, "no workbook can be made")
    assert sorted(os.listdir(disk)) == left
    assert told(server) == [f"ERROR storemon.web: GET /get_report: {full(disk, 'no workbook can be made')}"]


@pytest.mark.parametrize("leave", [200_000, 1_400_000, 3_000_000, 4_600_000])
def test_what_a_workbook_has_begun_is_let_go_of_quietly(
    disk: Path, tmp_path: Path, leave: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(disk))
    elsewhere, report = tmp_path / "report.csv", disk / "report.csv"
    elsewhere.write_text(
        "store_id,uptime_last_hour\n" + "".join(f"{pow(7, n, 10**30)},{n}.00\n" for n in range(STORES))
    )
    report.symlink_to(elsewhere)
    fill(disk, leave)
    with pytest.raises(NoTemporaryRoom, match="so no workbook can be made"):
        xlsx.write(report, STORES, {}, {})
    # What is left of it is collected now; an exception from there would be a failure.
    gc.collect()
    assert sorted(os.listdir(disk)) == ["ballast", "report.csv"]


def test_an_answer_that_finds_no_room_is_refused_and_leaves_nothing(server: Server, disk: Path) -> None:
    assert push(server, HEADER + ROWS[:300_000]).status == 200
    report_id = server.trigger()
    path = f"/get_report?report_id={report_id}&format=json"
    server.wait_for(report_id)
    before = free(disk)
    assert len(server.get(path).body) > 1_000_000
    # The file of the answer is closed a moment after its last byte was read; its room must not be taken for ballast's.
    wait_until(lambda: free(disk) >= before, "the answer's file to be closed")
    ballast = fill(disk, NO_ROOM)
    is_refused(server.get(path), disk, "this answer cannot be made")
    assert os.listdir(disk) == [ballast.name]
    assert told(server) == [f"ERROR storemon.web: GET /get_report: {full(disk, 'this answer cannot be made')}"]
    ballast.unlink()
    assert server.get(path).status == 200


def test_the_server_is_not_ready_while_there_is_less_room_than_the_setting(
    disk: Path, tmp_path: Path, serve_at: Callable[..., Server]
) -> None:
    server = serve_at(tmp_path / "home", TMPDIR=str(disk), STOREMON_MIN_FREE_MB="3")
    assert server.get("/readyz").json["checks"]["disk"] == "ok"
    ballast = fill(disk, 2_100_000)
    answer = wait_until(lambda: not_ready(server), "the server to see it")
    sentence = "the disk of the temporary files (TMPDIR) has 2 MB free, less than the 3 of STOREMON_MIN_FREE_MB"
    assert (answer.json["detail"], answer.json["checks"]["disk"]) == (sentence, sentence)
    ballast.unlink()
    wait_until(lambda: not not_ready(server), "the server to be ready")


def not_ready(server: Server) -> Answer | None:
    answer = server.get("/readyz")
    return answer if answer.status == 503 else None
