"""Loads listed over HTTP, and bodies on the wire of a real server."""

import contextlib
import gzip
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

from conftest import SMALL_CSV, Server, http, sql
from feed_helpers import BAD, GOOD, ZONES, counts, problem, push, stored
from feed_helpers import fleet as fleet
from flask.testing import FlaskClient

from storemon_flask.settings import Settings

COUNTS = ("rows", "new", "changed", "unchanged", "repeated", "rejected")


def test_loads_are_listed_newest_first_page_by_page(client: FlaskClient) -> None:
    for number in range(7):
        push(client, "timezones", ZONES + f"s{number},UTC\n" + "bad,x\n" * number)
    whole = client.get("/api/v1/loads").json
    assert [load["load_id"] for load in whole["loads"]] == [7, 6, 5, 4, 3, 2, 1]
    assert whole["next"] is None
    for load in whole["loads"]:
        shown = client.get(f"/api/v1/loads/{load['load_id']}").json
        (file,) = shown.pop("files")
        assert counts(file) == (load["load_id"], 1, 0, 0, 0, load["load_id"] - 1)
        assert set(load) == {"load_id", "started", "notes", "file", "file_count", "failed_count", *COUNTS}
        assert len(load["started"]) == 27
        assert "rejects" not in file
        assert shown == load
        assert [load[name] for name in ("file", "file_count", "failed_count")] == ["body", 1, 0]
        assert [load[name] for name in COUNTS] == [file[name] for name in COUNTS]
    pages, cursor = [], ""
    while cursor is not None:
        page = client.get(f"/api/v1/loads?limit=3{cursor and '&cursor=' + cursor}").json
        pages.append([load["load_id"] for load in page["loads"]])
        cursor = page["next"]
    assert pages == [[7, 6, 5], [4, 3, 2], [1]]
    assert client.get("/api/v1/loads?limit=7").json["next"] is None
    assert client.get("/api/v1/loads?cursor=1").json == {"loads": [], "next": None}
    assert client.get("/api/v1/loads?cursor=9223372036854775807").json == whole
    for query in ("limit=0", "limit=1001", "limit=x", "cursor=0", "cursor=9223372036854775808", "cursor=-1", "page=2"):
        assert query.partition("=")[0] in problem(client.get(f"/api/v1/loads?{query}"), 422)


def test_loads_that_never_were(client: FlaskClient, fleet: FlaskClient) -> None:
    for number in (0, 5, 99, 1 << 63, 10**40):
        for path in ("", "/rejects", "/rejects?format=csv"):
            assert f"there is no load {number}" in problem(client.get(f"/api/v1/loads/{number}{path}"), 404)
    for path in ("-1", "x", "1.0", "1/rejected"):
        problem(client.get(f"/api/v1/loads/{path}"), 404)
    assert "format" in problem(client.get("/api/v1/loads/1/rejects?format=xml"), 422)
    assert client.get("/api/v1/loads/1/rejects").json == {"load_id": 1, "rejects": []}
    assert client.get("/api/v1/loads/1/rejects?format=csv").text == "load,file,line,reason,text\n"


def test_head_has_no_body(fleet: FlaskClient) -> None:
    for path in ("/api/v1/loads", "/api/v1/loads/1", "/api/v1/loads/1/rejects"):
        answer = fleet.head(path)
        assert (answer.status_code, answer.data) == (200, b"")


def raw(url: str, *parts: bytes) -> bytes:
    """What the server answers to these bytes."""
    place = urlsplit(url)
    with contextlib.closing(socket.create_connection((place.hostname, place.port), timeout=20)) as line:
        for part in parts:
            line.sendall(part)
        found = b""
        while piece := line.recv(65536):
            found += piece
        return found


HEAD = b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: text/csv\r\n"


def test_bodies_on_the_wire(server: Server, settings: Settings) -> None:
    body = b"store_id,timestamp_utc,status\nworked,2024-10-14 11:15:00 UTC,inactive\n"
    chunks = b"".join(
        f"{len(body[at : at + 7]):x}\r\n".encode() + body[at : at + 7] + b"\r\n" for at in range(0, len(body), 7)
    )
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunks, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"unchanged":1' in answer.replace(b" ", b"")
    answer = raw(server.url, HEAD + f"Content-Length: {len(body)}\r\n\r\n".encode(), body[:10], body[10:])
    assert answer.startswith(b"HTTP/1.1 200 ")
    answer = raw(server.url, HEAD + b"\r\n")
    assert answer.startswith(b"HTTP/1.1 4")
    assert b"application/problem+json" in answer
    for wrong in (b"Content-Length: x\r\n\r\n", b"Content-Length: -1\r\n\r\n", b"Transfer-Encoding: br\r\n\r\n"):
        answer = raw(server.url, HEAD + wrong)
        assert answer.split(b" ")[1][:1] in (b"4", b"5"), answer
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", b"zz\r\nbad\r\n")
    assert answer.startswith(b"HTTP/1.1 400 ")
    (found,) = sql(settings.database, "SELECT count(*) FROM poll")
    assert found == (4,)
    assert server.wait_for(server.trigger()).body == SMALL_CSV.encode()


def test_too_much_on_the_wire(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_MAX_BODY_MB="1")
    assert raw(server.url, HEAD + b"Content-Length: 100000001\r\n\r\n").startswith(b"HTTP/1.1 413 ")
    chunk = b"186a0\r\n" + b"x" * 100_000 + b"\r\n"
    answer = raw(server.url, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", chunk * 11, b"0\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert server.get("/healthz").status == 200


def test_pushes_through_the_real_server(serve: Callable[..., Server], settings: Settings) -> None:
    server = serve()
    for feed, text in GOOD.items():
        answer = http(
            f"{server.url}/api/v1/feeds/{feed}",
            "POST",
            gzip.compress(text.encode()),
            Content_Type="text/csv",
            Content_Encoding="gzip",
        )
        assert answer.status == 200, answer.body
        assert answer.json["feed"] == feed
        assert answer.json["new"] == answer.json["rows"] > 0
    bad, reason = BAD["polls"]
    answer = http(f"{server.url}/api/v1/feeds/polls?atomic=1", "POST", (GOOD["polls"] + bad).encode())
    assert (answer.status, answer.json["rejects"][0]["reason"]) == (422, reason)
    assert http(f"{server.url}/api/v1/loads/5/rejects").json["rejects"] == answer.json["rejects"]
    assert http(f"{server.url}/api/v1/stores/a/hours", "DELETE").status == 204
    assert [len(rows) for rows in stored(settings).values()] == [2, 1, 2, 2]
