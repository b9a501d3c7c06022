"""Behind a proxy: whose request it is, which headers are believed, and what is asked by address."""

import ipaddress
import json
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, Server, http, storemon, wait_until
from flask import Flask
from nginx_helpers import needs_nginx, nginx_before

from storemon_flask import create_app
from storemon_flask.errors import SettingsError
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings, load
from storemon_flask.web import authentication
from storemon_flask.web.contract import ScopedView

TRUSTED = tuple(ipaddress.ip_network(one) for one in ("127.0.0.1/32", "10.0.0.0/8", "fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded_for", "client"),
    [
        ("127.0.0.1", "192.0.2.7", "192.0.2.7"),
        ("127.0.0.1", " 192.0.2.7:4711 ", "192.0.2.7"),
        ("127.0.0.1", "2001:DB8::1", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]", "2001:db8::1"),
        ("127.0.0.1", "[2001:db8::1]:4711", "2001:db8::1"),
        ("::ffff:10.0.0.1", "192.0.2.7", "192.0.2.7"),
        # What stands before the address that the proxy saw, its client may have made up.
        ("127.0.0.1", "<script>, 1.1.1.1, 192.0.2.7", "192.0.2.7"),
        # A chain of trusted proxies is followed to its beginning.
        ("127.0.0.1", "1.1.1.1, 192.0.2.7, 10.1.2.3, fd00::1", "192.0.2.7"),
        ("127.0.0.1", "10.9.9.9", "10.9.9.9"),
        ("127.0.0.1", "", "127.0.0.1"),
        ("127.0.0.1", "  ", "127.0.0.1"),
        # Whoever is no trusted proxy is believed nothing.
        ("192.0.2.9", "192.0.2.7", "192.0.2.9"),
        ("192.0.2.9", "<script>", "192.0.2.9"),
        ("", "192.0.2.7", ""),
    ],
)
def test_the_client_is_the_last_address_that_is_no_trusted_proxys(peer: str, forwarded_for: str, client: str) -> None:
    assert authentication.client_address(peer, forwarded_for, TRUSTED) == client


MALFORMED = [
    "x",
    "unknown",
    "192.0.2",
    "192.0.2.7:1:2",
    '"',
    "[::1",
    ":80",
    "192.0.2.7,",
    "<script>",
    "1.2.3.4;5",
    "\xff",
]


@pytest.mark.parametrize("text", MALFORMED)
def test_what_is_no_address_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        authentication.client_address("127.0.0.1", text, TRUSTED)


@pytest.fixture
def proxied(settings: Settings) -> Any:
    app = create_app(replace(settings, trusted_proxy="127.0.0.1/32"), InlineExecutor())
    seen = ScopedView(
        view=lambda: {"remote": proxy_request().remote_addr, "url": proxy_request().host_url}, scope="read"
    )
    app.add_url_rule("/seen", endpoint="seen", view_func=seen)
    yield app
    app.extensions["storemon"].database.close()


def proxy_request() -> Any:
    from flask import request

    return request


def test_views_see_the_client_and_the_scheme_of_a_trusted_proxy_only(proxied: Flask) -> None:
    headers = {"X-Forwarded-For": "192.0.2.7", "X-Forwarded-Proto": "https", "X-Forwarded-Host": "evil.example"}
    client = proxied.test_client()
    assert client.get("/seen", headers=headers).json == {"remote": "192.0.2.7", "url": "https://localhost/"}
    from_elsewhere = {"REMOTE_ADDR": "192.0.2.9"}
    seen = client.get("/seen", headers=headers, environ_base=from_elsewhere).json
    assert seen == {"remote": "192.0.2.9", "url": "http://localhost/"}


@pytest.mark.parametrize(
    "header", [{"X-Forwarded-For": text} for text in MALFORMED] + [{"X-Forwarded-Proto": "gopher"}]
)
def test_malformed_headers_of_a_trusted_proxy_are_a_400_and_of_others_nothing(
    proxied: Flask, header: dict[str, str]
) -> None:
    client = proxied.test_client()
    answer = client.get("/healthz", headers=header)
    assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
    assert answer.json["detail"].startswith(next(iter(header)))
    assert client.get("/healthz", headers=header, environ_base={"REMOTE_ADDR": "192.0.2.9"}).status_code == 200


@pytest.mark.parametrize("text", ["10.0.0.1/8", "proxy.example", "*", "127.0.0.1;::1", "10.0.0.0/33", ","])
def test_the_setting_names_addresses_and_networks(text: str) -> None:
    with pytest.raises(SettingsError, match="STOREMON_TRUSTED_PROXY is "):
        load({"STOREMON_TRUSTED_PROXY": text})
    assert load({"STOREMON_TRUSTED_PROXY": " 10.0.0.0/8 , ::1"}).trusted_proxy == "10.0.0.0/8,::1/128"
    assert load({}).trusted_networks == ()


def test_the_log_of_a_server_names_the_client(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_LOG_FORMAT="json", STOREMON_TRUSTED_PROXY="127.0.0.1")
    assert http(f"{server.url}/healthz", X_Forwarded_For="6.6.6.6, 192.0.2.7").status == 200
    assert http(f"{server.url}/healthz", X_Forwarded_For='"').status == 400

    def remotes() -> list[str]:
        lines = [json.loads(line) for line in server.log.read_text().splitlines()]
        return [one["remote"] for one in lines if one.get("event") == "request"]

    wait_until(lambda: len(remotes()) == 2, "two lines")
    assert remotes() == ["192.0.2.7", "127.0.0.1"]


def test_without_the_setting_nobody_is_believed(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_LOG_FORMAT="json")
    assert http(f"{server.url}/healthz", X_Forwarded_For='"', X_Forwarded_Proto="a,b").status == 200
    (line,) = [one for one in map(json.loads, server.log.read_text().splitlines()) if one.get("event") == "request"]
    assert line["remote"] == "127.0.0.1"


PROBES = ("/healthz", "/readyz", "/metrics")
ADDRESSES = ("10.1.2.3", "10.1.2.3:8000", "127.0.0.1:9", "[fd00::6]", "[FD00::6]:8000", "localhost:8000", "LocalHost")


@pytest.mark.parametrize("names", ["storemon.example.org", ".example.org", "[fd00::5],b.example"])
def test_probes_may_ask_by_any_address_and_nothing_else_may(app: Flask, settings: Settings, names: str) -> None:
    authentication.set_address(app, replace(settings, trusted_hosts=names), keyed=False)
    client = app.test_client()
    for host in ADDRESSES:
        for path in PROBES:
            assert client.get(path, headers={"Host": host}).status_code == 200, (host, path)
            assert client.head(path, headers={"Host": host}).status_code == 200, (host, path)
        for path in ("/", "/api/v1/stores", "/healthz/", "/metrics/x", "/openapi.json", "/get_report?x=/metrics"):
            assert client.get(path, headers={"Host": host}).status_code == 400, (host, path)
    for host in (
        "evil.example",
        "10.1.2.3.evil.example",
        "10.1.2.300",
        "[fd00::6",
        "10.1.2.3:x",
        "10.1.2.3:0",
        "1.2.3",
        "",
    ):
        for path in PROBES:
            assert client.get(path, headers={"Host": host}).status_code == 400, (host, path)


def test_probes_of_old_balancers_need_no_name(serve: Callable[..., Server]) -> None:
    server = serve(STOREMON_TRUSTED_HOSTS="storemon.example.org")
    host, port = server.url.removeprefix("http://").split(":")
    for line, status in (
        (b"GET /healthz HTTP/1.0", b"200"),
        (b"GET /api/v1/stores HTTP/1.0", b"400"),
        (b"GET /healthz HTTP/1.1", b"400"),
    ):
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as peer:
            peer.sendall(line + b"\r\n\r\n")
            assert peer.recv(100).split()[1] == status, line


def test_metrics_by_address_need_their_key_all_the_same(app: Flask, settings: Settings) -> None:
    authentication.set_address(app, replace(settings, trusted_hosts="storemon.example.org"), keyed=True)
    client = app.test_client()
    assert client.get("/metrics", headers={"Host": "10.1.2.3"}).status_code == 401
    assert client.get("/healthz", headers={"Host": "10.1.2.3"}).status_code == 200


@needs_nginx
def test_nginx_as_shipped_passes_requests_on_and_bodies_when_they_are_whole(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve(STOREMON_LOG_FORMAT="json", STOREMON_TRUSTED_PROXY="127.0.0.1")
    rows = "store_id,timestamp_utc,status\n" + "".join(f"s{store},1728864000,active\n" for store in range(100_000))
    with nginx_before(server, tmp_path / "nginx") as port:
        # More than nginx's own limit of 1 MB.
        answer = http(f"http://127.0.0.1:{port}/api/v1/feeds/polls", "POST", rows.encode())
        assert (answer.status, answer.json["new"]) == (200, 100_000)
        with ExitStack() as stack:
            for _ in range(10):
                sender = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
                sender.sendall(b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nstore_id")
            assert http(f"http://127.0.0.1:{port}/healthz").status == 200
        assert http(f"http://127.0.0.1:{port}/healthz").status == 200
    paths = [
        one["path"] for one in map(json.loads, server.log.read_text().splitlines()) if one.get("event") == "request"
    ]
    assert paths == ["/api/v1/feeds/polls", "/healthz", "/healthz"]


@needs_nginx
def test_nginx_as_shipped_lets_one_address_have_fifty_requests_at_once(
    serve: Callable[..., Server], tmp_path: Path
) -> None:
    server = serve()
    with nginx_before(server, tmp_path / "nginx") as port:
        with ExitStack() as stack:
            for _ in range(50):
                sender = stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S))
                sender.sendall(b"POST /api/v1/feeds/polls HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\nstore_id")

            def is_refused() -> bool:
                return http(f"http://127.0.0.1:{port}/healthz").status == 429

            wait_until(is_refused, "all fifty to be counted")
            answer = http(f"http://127.0.0.1:{port}/healthz")
            assert (answer.status, answer.headers["Retry-After"]) == (429, "5")
            assert answer.body.startswith(b"Too many requests at once from this address (50 are allowed)")
        wait_until(lambda: http(f"http://127.0.0.1:{port}/healthz").status == 200, "the slots to be free")


@needs_nginx
def test_nginx_as_shipped_logs_no_token_of_a_push_address(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve()
    token = storemon(server.home, "tokens", "add", "--store", "a").stdout.strip()
    folder = tmp_path / "nginx"
    with nginx_before(server, folder) as port:
        here = f"http://127.0.0.1:{port}"
        for path in (f"/push/{token}", f"/%70ush/%73{token[1:]}", f"//push/{token}", f"/push/{token}/more"):
            http(f"{here}{path}?status=active", Referer=f"{here}/push/{token}?status=active")
        assert http(f"{here}/healthz?x=1").status == 200
        assert server.end() == 0
        # What nginx cannot pass on it says in another log.
        assert http(f"{here}/push/{token}?status=active").status == 502
        assert http(f"{here}/healthz").status == 502
        log = wait_until(lambda: (text := (folder / "storemon.log").read_text()).count("\n") == 7 and text, "its log")
    lines = [line.split('"')[1:4:2] for line in log.splitlines()]
    assert [line[0] for line in lines] == [
        *[f"GET /push/{token[:11]}... HTTP/1.1"] * 4,
        "GET /healthz?x=1 HTTP/1.1",
        f"GET /push/{token[:11]}... HTTP/1.1",
        "GET /healthz HTTP/1.1",
    ]
    assert [line[1] for line in lines] == [*[f"/push/{token[:11]}..."] * 4, "-", "-", "-"]
    logged = "".join(file.read_text() for file in folder.glob("*.log"))
    assert "/healthz HTTP/1.1" in (folder / "error.log").read_text()
    assert token[11:20] not in logged
