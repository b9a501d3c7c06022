"""Who may ask: hosts, origins, and the headers of every answer."""

import json
import socket
from dataclasses import replace
from typing import NoReturn

import pytest
from api.test_problems import problem
from flask import Flask
from flask.testing import FlaskClient
from guard_helpers import HEADERS, bearer

from storemon_flask.database import keys
from storemon_flask.settings import Settings
from storemon_flask.web import authentication
from storemon_flask.web.contract import ScopedView


def hosts(settings: Settings, keyed: bool, **changed: str) -> list[str] | None:
    return authentication.trusted_hosts(replace(settings, **changed), keyed)


def test_which_names_a_server_answers_to(settings: Settings) -> None:
    local = ["localhost", "127.0.0.1", "[::1]"]
    assert hosts(settings, False) == hosts(settings, True) == [*local, "127.0.0.1"]
    assert hosts(settings, True, host="10.0.0.5") == [*local, "10.0.0.5"]
    assert hosts(settings, False, host="Shop.example") == [*local, "shop.example"]
    assert hosts(settings, False, host="fd00::5") == [*local, "[fd00::5]"]
    for everywhere in ("0.0.0.0", "::", "*"):
        assert hosts(settings, True, host=everywhere) is None
        assert hosts(settings, False, host=everywhere) == [*local, socket.gethostname().lower()]
        assert hosts(settings, True, host=everywhere, trusted_hosts="a,b") == ["a", "b"]
    assert hosts(settings, False, trusted_hosts="*") is None


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("LocalHost:8000", 200),
        ("127.0.0.1:9", 200),
        ("[::1]", 200),
        ("[::1]:8000", 200),
        ("evil.example", 400),
        ("localhost.evil.example", 400),
        ("evil.example:80", 400),
        ("localhost@evil.example", 400),
        ("127.0.0.2", 400),
        ("[::2]", 400),
        ("[::1", 400),
        ("localhost:0", 400),
        ("localhost:x", 400),
        ("localhost, localhost", 400),
        ("", 400),
        ("x" * 5000, 400),
        ("<script>", 400),
        ("\xff", 400),
    ],
)
def test_a_foreign_host_is_a_400_that_names_it_and_the_setting(client: FlaskClient, host: str, status: int) -> None:
    for path in ("/openapi.json", "/nothing"):
        answer = client.get(path, headers={"Host": host})
        if status == 400:
            detail = json.loads(answer.data)["detail"]
            assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
            assert "STOREMON_TRUSTED_HOSTS" in detail
            assert repr(host)[:100] in detail
            assert len(detail) < 300
        else:
            assert answer.status_code == (200 if path == "/openapi.json" else 404)


def test_trusted_names_may_be_many_and_may_be_a_domain(app: Flask, client: FlaskClient, settings: Settings) -> None:
    authentication.set_address(app, replace(settings, trusted_hosts="a.example,.b.example,[fd00::5]"), keyed=False)
    for host in ("a.example", "b.example", "x.B.example:8080", "[FD00::5]:1"):
        assert client.get("/openapi.json", headers={"Host": host}).status_code == 200, host
    for host in ("localhost", "x.a.example", "xb.example", "[fd00::6]"):
        assert client.get("/openapi.json", headers={"Host": host}).status_code == 400, host
    authentication.set_address(app, replace(settings, trusted_hosts="*"), keyed=False)
    assert client.get("/openapi.json", headers={"Host": "anything.at.all"}).status_code == 200
    # Any name is not no name.
    assert client.get("/openapi.json", headers={"Host": "not a name"}).status_code == 400


SAME = ["http://localhost", "http://localhost:80", "http://LOCALHOST", "https://localhost", "https://localhost:443"]


OTHER = [
    "null",
    "",
    "http://evil.example",
    "http://localhost:8001",
    "http://localhost.evil.example",
    "http://evil.example:80",
    "https://localhost:80",
    "localhost",
    "file://",
    "chrome-extension://localhost",
    "http://[::1",
    "http://localhost:99999",
    "http://localhost, http://evil.example",
]


@pytest.mark.parametrize("origin", SAME)
def test_our_own_pages_may_write(client: FlaskClient, origin: str) -> None:
    assert client.post("/trigger_report", headers={"Origin": origin}).status_code == 409
    # The Origin says more than the other header.
    headers = {"Origin": origin, "Sec-Fetch-Site": "cross-site"}
    assert client.post("/trigger_report", headers=headers).status_code == 409


@pytest.mark.parametrize("origin", OTHER)
def test_another_sites_page_may_not_write_and_never_makes_a_browser_ask(
    client: FlaskClient, app: Flask, origin: str
) -> None:
    key = keys.add(app.extensions["storemon"].database, "admin", "", 1)
    for headers in ({}, bearer(key)):
        for method in ("POST", "PUT", "PATCH", "DELETE", "BREW"):
            answer = client.open("/trigger_report", method=method, headers={**headers, "Origin": origin})
            assert "a page of another site (" in problem(answer, 403)["detail"]
            assert "WWW-Authenticate" not in answer.headers
    # Reading is what browsers themselves keep from other sites.
    for method in ("GET", "HEAD", "OPTIONS"):
        assert client.open("/healthz", method=method, headers={"Origin": origin}).status_code == 200


@pytest.mark.parametrize(
    ("host", "origin", "status"),
    [
        ("[::1]:8000", "http://[::1]:8000", 409),
        ("localhost:8000", "http://localhost:8000", 409),
        ("localhost:8000", "https://localhost:8000", 409),
        ("localhost:8000", "http://localhost", 403),
        ("localhost", "http://localhost:8000", 403),
        ("localhost:8000", "http://127.0.0.1:8000", 403),
        ("[::1]:8000", "http://[::2]:8000", 403),
    ],
)
def test_an_origin_is_a_host_and_a_port(client: FlaskClient, host: str, origin: str, status: int) -> None:
    answer = client.post("/trigger_report", headers={"Host": host, "Origin": origin})
    assert answer.status_code == status


@pytest.mark.parametrize(
    ("site", "status"), [("cross-site", 403), ("Cross-Site", 403), ("same-origin", 409), ("none", 409)]
)
def test_without_an_origin_the_browsers_other_word_counts(client: FlaskClient, site: str, status: int) -> None:
    assert client.post("/trigger_report", headers={"Sec-Fetch-Site": site}).status_code == status


@pytest.mark.usefixtures("small_fleet")
def test_every_answer_has_the_headers(client: FlaskClient) -> None:
    where = client.post("/trigger_report").headers["Location"]
    done = client.get(where)
    answers = {
        "report": done,
        "part": client.get(where, headers={"Range": "bytes=0-7"}),
        "beyond": client.get(where, headers={"Range": "bytes=9999999-"}),
        "unchanged": client.get(where, headers={"If-None-Match": done.headers["ETag"]}),
        "rows": client.get(where + "&format=json"),
        "head": client.head(where),
        "json": client.get("/healthz"),
        "missing": client.get("/nothing"),
        "method": client.delete("/healthz"),
        "options": client.options("/healthz"),
        "host": client.get("/healthz", headers={"Host": "x"}),
        "site": client.post("/trigger_report", headers={"Origin": "null"}),
    }
    statuses = {name: answer.status_code for name, answer in answers.items()}
    assert list(statuses.values()) == [200, 206, 416, 304, 200, 200, 200, 404, 405, 200, 400, 403], statuses
    for name, answer in answers.items():
        assert {header: answer.headers.getlist(header) for header in HEADERS} == {
            header: [value] for header, value in HEADERS.items()
        }, name
        policy = answer.headers["Content-Security-Policy"]
        assert "unsafe" not in policy
        for part in ("default-src 'self'", "script-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"):
            assert part in policy.split("; ")
    for name in ("json", "rows", "missing", "host", "beyond"):
        assert answers[name].headers["Cache-Control"] == "no-store", name
    # What a view says of its own stays.
    assert done.headers["Cache-Control"] == "no-cache"


def test_an_unexpected_error_has_the_headers_too(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode() -> NoReturn:
        raise ZeroDivisionError

    monkeypatch.setitem(app.view_functions, "reports.get_report", ScopedView(view=explode, scope="read"))
    answer = client.get("/get_report")
    assert answer.status_code == 500
    assert {header: answer.headers[header] for header in HEADERS} == HEADERS
    assert "ZeroDivisionError" in caplog.text
