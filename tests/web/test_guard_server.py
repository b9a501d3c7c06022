"""What the server refuses by itself, and where it may listen."""

import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from conftest import Server, http, storemon

from storemon_flask.settings import Settings

Serve = Callable[..., Server]
MASTER = "correct-horse:battery"
HEAD = b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"


def raw(server: Server, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server says to those bytes until it closes the connection."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        for piece in pieces:
            peer.sendall(piece)
            time.sleep(pause_s)
        return b"".join(iter(lambda: peer.recv(65536), b""))


GARBAGE = {
    "no request line": (b"HELLO\r\n\r\n", 400),
    "no version and more": (b"GET / HTTP/9.x y z\r\n\r\n", 400),
    "small letters": (b"get / HTTP/1.1\r\nHost: localhost\r\n\r\n", 400),
    "no header": (b"GET / HTTP/1.1\r\nHost localhost\r\n\r\n", 400),
    "a bare line feed": (b"GET / HTTP/1.1\r\nHost: local\nhost\r\n\r\n", 400),
    "a length that is none": (b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n", 400),
    "two lengths": (b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nx", 400),
    "another coding": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: gzip\r\n\r\n", 501),
    "a bad chunk": (b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n", 400),
    "TLS": (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(20) + b"\r\n\r\n", 400),
    "headers of 300 KB": (b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 300_000 + b"\r\n\r\n", 431),
    "a path of 300 KB": (b"GET /" + b"x" * 300_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n", 431),
}


def test_what_is_no_http_is_refused_and_hurts_nobody(server: Server) -> None:
    for name, (request, status) in GARBAGE.items():
        assert raw(server, request).split(b" ")[1] == str(status).encode(), name
    assert server.get("/healthz").status == 200
    assert "Traceback" not in server.log.read_text()


def test_a_header_of_100_kb_is_a_401_like_any_other(serve: Serve) -> None:
    server = serve(STOREMON_API_KEY=MASTER)
    for header in ("Bearer " + "x" * 100_000, "Basic " + "QUFB" * 25_000):
        answer = server.get("/get_report", Authorization=header)
        assert answer.status == 401
        assert answer.headers.get_all("WWW-Authenticate") == [
            'Bearer realm="storemon"',
            'Basic realm="storemon", charset="UTF-8"',
        ]
    assert MASTER not in server.log.read_text()


def test_host_and_origin_over_http(server: Server) -> None:
    foreign = server.get("/healthz", Host="evil.example")
    assert (foreign.status, foreign.headers["Content-Type"]) == (400, "application/problem+json")
    assert "'evil.example'" in foreign.json["detail"]
    there = server.url.removeprefix("http://")
    trigger = server.url + "/trigger_report"
    assert http(trigger, "POST", b"", Origin="http://evil.example").status == 403
    assert http(trigger, "POST", b"", Sec_Fetch_Site="cross-site").status == 403
    assert http(trigger, "POST", b"", Origin=f"http://{there}", Sec_Fetch_Site="same-origin").status == 202
    bare = raw(server, b"GET /healthz HTTP/1.1\r\nConnection: close\r\n\r\n")
    assert bare.startswith(b"HTTP/1.1 400 ")
    assert b"the request does not say which host it is for" in bare
    twice = raw(server, b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nHost: evil\r\nConnection: close\r\n\r\n")
    assert twice.startswith(b"HTTP/1.1 400 ")


@pytest.fixture
def small(serve: Serve) -> Server:
    """A server that takes bodies of one megabyte."""
    return serve(STOREMON_MAX_BODY_MB="1")


TOO_LARGE = "the body is larger than the 1,000,000 bytes that this call takes; send it in parts"


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not(small: Server) -> None:
    trigger = small.url + "/trigger_report"
    assert http(trigger, "POST", b" " * 1_000_000).status == 409
    over = http(trigger, "POST", b" " * 1_000_001)
    assert (over.status, over.headers["Content-Type"]) == (413, "application/problem+json")
    assert over.json["detail"] == TOO_LARGE


def test_a_client_that_is_still_sending_hears_that_it_is_too_much(small: Server) -> None:
    for _ in range(10):
        answer = http(small.url + "/trigger_report", "POST", b" " * 20_000_000)
        assert (answer.status, answer.json["detail"]) == (413, TOO_LARGE)
    chunk = b"186A0\r\n" + b" " * 100_000 + b"\r\n"
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
    assert TOO_LARGE.encode() in raw(small, chunked, *[chunk] * 40, b"0\r\n\r\n")


def test_a_client_that_asks_first_is_told_to_send(small: Server) -> None:
    asked = raw(small, HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"{}", pause_s=0.3)
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 ")


def test_far_too_much_is_refused_before_it_is_sent(small: Server) -> None:
    assert raw(small, HEAD + b"Content-Length: 5000000000\r\n\r\n").startswith(b"HTTP/1.1 413 ")


@pytest.mark.slow
def test_a_refused_client_that_never_ends_is_cut_off_and_holds_nobody_up(small: Server) -> None:
    host, port = small.url.removeprefix("http://").rsplit(":", 1)
    started = time.monotonic()

    def stubborn() -> float:
        with socket.create_connection((host, int(port)), timeout=20) as peer:
            peer.sendall(HEAD + b"Content-Length: 5000000000\r\n\r\n")
            try:
                while time.monotonic() - started < 40:
                    peer.sendall(b" " * 1000)
                    time.sleep(0.05)
            except OSError:
                pass
        return time.monotonic() - started

    with ThreadPoolExecutor(20) as pool:
        ended = [pool.submit(stubborn) for _ in range(20)]
        for _ in range(20):
            asked = time.monotonic()
            assert small.get("/healthz").status == 200
            assert time.monotonic() - asked < 5
        assert max(future.result() for future in ended) < 30


@pytest.mark.parametrize("host", ["0.0.0.0", "*"])
def test_listening_to_others_without_a_key_stops_the_start(tmp_path: Path, host: str) -> None:
    tmp_path.mkdir(exist_ok=True)
    done = storemon(tmp_path, "serve", "--host", host, "--port", "0")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: on 0.0.0.0 ")
    assert done.stderr.endswith(
        "everybody who can reach this machine could read and change everything; set STOREMON_API_KEY, or "
        "run `storemon keys add --scope admin`, then start again (or start with --insecure, if that is meant)\n"
    )
    assert not (tmp_path / "instance" / "storemon.db").exists()
    by_setting = storemon(tmp_path, "serve", "--port", "0", STOREMON_HOST=host)
    assert (by_setting.returncode, by_setting.stderr) == (1, done.stderr)


def listening(serve: Serve, *arguments: str, **variables: str) -> Server:
    from conftest import STOREMON

    return serve([*STOREMON, "serve", "--port", "0", *arguments], **variables)


def test_with_a_key_it_may_and_answers_to_any_name(serve: Serve, settings: Settings) -> None:
    assert storemon(settings.home, "keys", "add", "--scope", "read").returncode == 0
    server = listening(serve, "--host", "0.0.0.0")
    assert server.get("/healthz", Host="shop.example").status == 200
    assert server.get("/nothing", Host="shop.example").status == 401
    assert "no key" not in server.log.read_text()


def test_with_the_key_of_the_settings_it_may_too(serve: Serve) -> None:
    server = listening(serve, "--host", "0.0.0.0", STOREMON_API_KEY=MASTER)
    assert server.get("/nothing").status == 401
    assert server.get("/nothing", Authorization=f"Bearer {MASTER}").status == 404


def test_insecure_is_said_aloud_and_answers_to_its_own_names_only(serve: Serve) -> None:
    server = listening(serve, "--host", "0.0.0.0", "--insecure")
    assert server.get("/nothing").status == 404
    assert server.get("/healthz", Host="rebound.example").status == 400
    assert server.get("/healthz", Host=socket.gethostname()).status == 200
    assert "warning: no key is set: everybody who can reach 0.0.0.0 can read and change everything" in (
        server.log.read_text()
    )


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.9.10", "localhost"])
def test_this_machine_alone_needs_no_key(serve: Serve, host: str) -> None:
    server = listening(serve, "--host", host)
    assert server.url.startswith(f"http://{host}:")
    assert server.get("/nothing").status == 404
    assert "warning" not in server.log.read_text()


def test_a_name_is_judged_by_the_addresses_it_stands_for(serve: Serve, settings: Settings) -> None:
    own = socket.gethostname()
    addresses = {info[4][0] for info in socket.getaddrinfo(own, None, type=socket.SOCK_STREAM)}
    if all(str(address).startswith("127.") or address == "::1" for address in addresses):
        assert listening(serve, "--host", own).get("/nothing").status == 404
    else:
        done = storemon(settings.home, "serve", "--host", own, "--port", "0")
        assert done.returncode == 1
        assert "could read and change everything" in done.stderr
