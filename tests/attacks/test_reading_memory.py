"""Calls that read: of a store that is polled every second, and of long reports, in bounded memory."""

import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server, sql, storemon

from storemon_flask.settings import Settings

pytestmark = pytest.mark.slow

Serve = Callable[..., Server]
SECONDS = 31 * 86_400
START_S = 1_728_864_000
ROWS = 500_000
PAGE = {"Accept": "text/html"}


def peak_mb(server: Server) -> float:
    """The most memory that the server has had, since this was asked last."""
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    Path(f"/proc/{server.process.pid}/clear_refs").write_text("5")
    return int(status.split("VmHWM:")[1].split()[0]) / 1024


@pytest.fixture
def dense(serve: Serve, tmp_path: Path) -> Server:
    """Two stores, polled every second for 31 days: one mostly up, one that is never twice the same."""
    file = tmp_path / "polls.csv"
    with file.open("w") as stream:
        stream.write("store_id,timestamp_utc,status\n")
        for day in range(0, SECONDS, 86_400):
            stream.write(
                "".join(f"up,{START_S + n},{'in' if n % 5000 < 40 else ''}active\n" for n in range(day, day + 86_400))
            )
            stream.write(
                "".join(f"alternating,{START_S + n},{'in' * (n % 2)}active\n" for n in range(day, day + 86_400))
            )
    server = serve()
    assert storemon(server.home, "load-data", str(file)).returncode == 0
    return server


def test_a_store_that_is_polled_every_second(dense: Server) -> None:
    assert dense.get("/api/v1/stores").status == 200
    assert dense.get("/stores/up?days=1", **PAGE).status == 200
    idle = peak_mb(dense)
    refused = dense.get("/api/v1/stores/up/timeline?from=2024-10-14T00:00Z")
    assert refused.status == 422
    assert "one answer has at most 100,000; ask for fewer days" in refused.json["detail"]
    whole = dense.get("/api/v1/stores/alternating/timeline?from=2024-11-13T00:00Z")
    assert whole.status == 200
    assert (len(whole.json["polls"]), len(whole.json["outages"])) == (86_399, 43_200)
    page = dense.get("/stores/up?days=30", **PAGE)
    assert page.status == 200
    assert peak_mb(dense) < idle + 300
    # Nothing of this store can be left out: some whole arrays of 2.6 million polls.
    page = dense.get("/stores/alternating?days=30", **PAGE)
    assert page.status == 200
    assert b"more" in page.body
    assert peak_mb(dense) < idle + 1000


def test_two_long_reports(serve: Serve, small_fleet: Path, settings: Settings) -> None:
    server = serve()
    ids = [server.trigger(b'{"as_of": "2024-10-14T12:00:00Z"}'), server.trigger(b'{"as_of": "2024-10-14T11:00:00Z"}')]
    for shift, report_id in enumerate(ids):
        server.wait_for(report_id)
        (file,) = (server.home / "reports").glob(f"report_{report_id}.csv")
        header = file.read_text().split("\n")[0]
        rows = (f"{n:07d},{(7 * n + shift) % 60}.00,{n % 24}.50,1.00,0.00,0.00,0.00\n" for n in range(ROWS))
        file.write_text(header + "\n" + "".join(rows))
        sql(settings.database, "UPDATE report SET byte_count = ? WHERE id = ?", file.stat().st_size, report_id)
    idle = peak_mb(server)
    answers: list[tuple[int, int]] = []

    def compare() -> None:
        answer = server.get(f"/api/v1/reports/{ids[1]}/diff?against={ids[0]}&limit=3")
        answers.append((answer.json["total"], len(answer.json["changes"])))

    thread = threading.Thread(target=compare)
    thread.start()
    assert server.get("/healthz").status == 200
    thread.join()
    assert answers == [(ROWS, 3)]
    assert peak_mb(server) < idle + 100
