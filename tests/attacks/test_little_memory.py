"""A server that may have little more memory than it needs: it says so, loses nothing, and answers when less is asked."""

import resource
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ANSWER_PATIENCE_S, STOREMON, Server, environment, http, storemon, wait_until

pytestmark = pytest.mark.slow

Serve = Callable[..., Server]
# One poll a second of as many stores, for half a day: what a report of them takes is far more than the server is left.
STORES = 40
SECONDS = 43_200
START_S = 1_728_864_000
HEADER = "store_id,timestamp_utc,status\n"
ROOM_MB = 60


def polls(store: int) -> str:
    rows = (f"s{store},{START_S + second}000,{'in' if second % 7 == 0 else ''}active\n" for second in range(SECONDS))
    return HEADER + "".join(rows)


def left(pid: int, room_mb: int | None) -> None:
    """Let the process have so much more address space than it has now."""
    limit = resource.RLIM_INFINITY
    if room_mb is not None:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + (room_mb << 20)
    resource.prlimit(pid, resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))


def test_a_server_without_memory_says_so_and_goes_on_when_it_has_some(serve: Serve, tmp_path: Path) -> None:
    for store in range(STORES):
        (tmp_path / f"{store}.csv").write_text(polls(store))
    server = serve()
    assert storemon(server.home, "load-data", *map(str, tmp_path.glob("*.csv"))).returncode == 0
    pid = server.process.pid
    # What is imported and started only when it is needed is there.
    assert server.get("/api/v1/stores").status == 200
    server.wait_for(server.trigger(b'{"stores": ["s1"]}'))
    left(pid, ROOM_MB)

    for path in ("/api/v1/stores", "/", "/stores/s1", "/api/v1/stores/s1/timeline"):
        answer = server.get(path, Accept="text/html" if "api" not in path else "application/json")
        assert answer.status in (200, 422, 503), (path, answer.body[:300])
        if answer.status == 503:
            assert b"not enough" in answer.body
            assert int(answer.headers["Retry-After"]) > 0
    report_id = server.trigger(b'{"columns": "full"}')
    wait_until(lambda: "is tried again in" in server.log.read_text(), "a report that had no memory", ANSWER_PATIENCE_S)
    pushed = http(
        f"{server.url}/api/"
            f"v1/feeds/polls", "POST", "".join([HEADER, *(f"n{n},{START_S},"
                f"active\n" for n in range(900_000))]).encode(),
        Content_Type="text/csv",
    )  # fmt: skip
    assert pushed.status == 503, pushed.body[:300]
    assert pushed.headers["Retry-After"] == "10"
    assert server.get("/healthz").status == 200

    left(pid, None)
    assert server.get("/api/v1/stores?limit=1").json["total"] == STORES
    # Where the push above took long, its next try is a minute away, or four.
    assert server.wait_for(report_id, 600).body.count(b"\n") == STORES + 1
    small = http(f"{server.url}/api/v1/feeds/polls", "POST", f"{HEADER}n1,{START_S},active\n".encode())
    assert small.status in (200, 415)
    assert "Traceback" not in server.log.read_text()
    assert server.end() == 0


@pytest.mark.parametrize("mb", [150, 250])
def test_load_data_without_memory_is_rolled_back_and_says_so(tmp_path: Path, mb: int) -> None:
    home = tmp_path / "home"
    home.mkdir()
    file = tmp_path / "polls.csv"
    file.write_text("".join([HEADER, *(f"store-{n},{START_S},active\n" for n in range(1_500_000))]))

    def limit() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (mb << 20, mb << 20))

    done = subprocess.run(
        [*STOREMON, "load-data", str(file)],
        env=environment(home, OPENBLAS_NUM_THREADS="1"),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=limit,
        timeout=600,
    )
    assert done.returncode == 1, done.stderr
    assert "not enough memory for loading polls.csv" in done.stderr.replace(f"{file}", "polls.csv")
    assert "Traceback" not in done.stderr
    assert "polls.csv" not in storemon(home, "loads").stdout
