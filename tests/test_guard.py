"""Who may ask: every route with every key and without one, hosts, origins, headers, and what the server refuses by itself."""

import json
import socket
import time
from base64 import b64encode
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Server, http, storemon
from flask import Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from test_problems import problem
from werkzeug.exceptions import HTTPException
from werkzeug.routing import AnyConverter, IntegerConverter, Rule
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask.jobs.executors import InlineExecutor
from storemon_flask.services import keys
from storemon_flask.settings import Settings
from storemon_flask.web import contract, guard

Serve = Callable[..., Server]
MASTER = "correct-horse:battery"
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")
WRONG = "sm_" + "0" * 56
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@pytest.fixture
def by_scope(app: Flask) -> dict[str, str]:
    """A key of each scope, in the app's database."""
    database = app.extensions["storemon"].database
    return {scope: keys.add(database, scope, "", 1) for scope in keys.SCOPES}


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def basic(user: str, key: str) -> dict[str, str]:
    return {"Authorization": "Basic " + b64encode(f"{user}:{key}".encode()).decode()}


def path_of(rule: Rule) -> str:
    """An address of that rule, with something for each of its arguments."""
    values: dict[str, object] = {}
    for name, kind in rule._converters.items():
        one_of = sorted(kind.items)[0] if isinstance(kind, AnyConverter) else "NYC/12"
        values[name] = 1 if isinstance(kind, IntegerConverter) else one_of
    built = rule.build(values, append_unknown=False)
    assert built is not None, rule
    return str(built[1])


def needs_a_key(answer: TestResponse, head: bool = False) -> bool:
    """Whether it is a whole 401, one that makes a browser ask."""
    if answer.status_code != 401:
        return False
    assert answer.headers.getlist("WWW-Authenticate") == [
        'Bearer realm="storemon"',
        'Basic realm="storemon", charset="UTF-8"',
    ]
    if not head:
        assert problem(answer, 401)["type"] == "urn:storemon:problem:unauthorized"
    return True


def scope_of(app: Flask, path: str, method: str) -> str | None:
    """What the registry says the route behind that address needs; `read` where it says nothing."""
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except HTTPException:
        return "read"
    if rule.rule in ("/healthz", "/readyz"):
        return None
    if (method, rule.endpoint) in contract.PAGES:
        return contract.PAGES[method, rule.endpoint]
    found = contract.OPERATIONS.get(("GET" if method == "HEAD" else method, rule.endpoint))
    return "read" if found is None or found.scope is None else found.scope


def test_every_method_of_every_route_asks_for_the_key_it_needs(
    app: Flask, client: FlaskClient, by_scope: dict[str, str]
) -> None:
    asked = {"open": 0, "read": 0, "write": 0, "admin": 0}
    for path in sorted({path_of(rule) for rule in app.url_map.iter_rules()}):
        for method in METHODS:
            needed = scope_of(app, path, method)
            bare = client.open(path, method=method)
            asked[needed or "open"] += 1
            if needed is None:
                assert bare.status_code == 200
                assert client.open(path, method=method, headers=bearer(WRONG)).status_code == 200
                continue
            for refused in (bare, client.open(path, method=method, headers=bearer(WRONG))):
                assert needs_a_key(refused, method == "HEAD"), (method, path)
            for scope, key in by_scope.items():
                enough = keys.SCOPES.index(scope) >= keys.SCOPES.index(needed)
                for headers in (bearer(key), basic("anybody", key)):
                    answer = client.open(path, method=method, headers=headers)
                    if enough:
                        assert answer.status_code not in (401, 403), (method, path, scope)
                        assert answer.status_code < 500, (method, path, answer.data)
                    else:
                        assert answer.status_code == 403, (method, path, scope)
                        if method != "HEAD":
                            assert f"needs a key of scope {needed}; " in problem(answer, 403)["detail"]
    assert asked["open"] == 6
    assert asked["read"] > 30
    assert asked["write"] >= 5
    assert asked["admin"] >= 1


def test_nothing_but_the_health_check_is_open() -> None:
    opened = {found.rule for found in contract.OPERATIONS.values() if found.scope is None}
    assert opened == {"/healthz", "/readyz"}


@pytest.mark.parametrize("needed", keys.SCOPES)
def test_an_operation_says_which_scope_it_needs(
    app: Flask, client: FlaskClient, by_scope: dict[str, str], monkeypatch: pytest.MonkeyPatch, needed: contract.Scope
) -> None:
    endpoint = "classic.trigger_report"
    told = contract.Operation("POST", "/trigger_report", endpoint, needed, "reports", "A report.", {})
    monkeypatch.setitem(contract.OPERATIONS, ("POST", endpoint), told)
    for place, scope in enumerate(keys.SCOPES):
        answer = client.post("/trigger_report", headers=bearer(by_scope[scope]))
        assert answer.status_code == (409 if place >= keys.SCOPES.index(needed) else 403)
        # The same path's OPTIONS changes nothing.
        assert client.options("/trigger_report", headers=bearer(by_scope["read"])).status_code == 200


def test_paths_that_are_not_there_are_not_told_to_strangers(client: FlaskClient, by_scope: dict[str, str]) -> None:
    for path in ("/nothing", "/static/x.css", "/get_report/", "/%ff", "/trigger_report/../x"):
        for method in METHODS:
            assert needs_a_key(client.open(path, method=method), method == "HEAD"), (method, path)
    assert client.get("/nothing", headers=bearer(by_scope["read"])).status_code == 404


MALFORMED = {
    "empty": "",
    "another scheme": 'Digest username="x"',
    "no key": "Bearer",
    "blank key": "Bearer    ",
    "two keys": f"Bearer {MASTER}, Bearer {MASTER}",
    "the key alone": MASTER,
    "bad base64": "Basic !!!!",
    "base64 with rubbish": f"Basic {b64encode(f'u:{MASTER}'.encode()).decode()}%",
    "cut base64": "Basic dXNlcjp4e",
    "no colon": f"Basic {b64encode(MASTER.replace(':', '').encode()).decode()}",
    "not UTF-8": f"Basic {b64encode(b'u:' + bytes(range(128, 256))).decode()}",
    "nothing after the colon": f"Basic {b64encode(b'user:').decode()}",
    "zeros": f"Basic {b64encode(bytes(30)).decode()}",
    "other letters": "Bearer \xe4\xf6\xfc\xff",
    "100 KB": "Bearer " + "x" * 100_000,
    "100 KB of base64": "Basic " + "QUFB" * 25_000,
    "the key and 100 KB": f"Bearer {MASTER}{' ' * 100_000}",
}


@pytest.fixture(scope="module")
def locked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FlaskClient]:
    """A client of an app whose settings have a key, and whose database has another."""
    from storemon_flask import settings as settings_

    home = tmp_path_factory.mktemp("locked")
    app = create_app(settings_.load({"STOREMON_HOME": str(home), "STOREMON_API_KEY": MASTER}), InlineExecutor())
    keys.add(app.extensions["storemon"].database, "read", "", 1)
    yield app.test_client()
    app.extensions["storemon"].database.close()


@pytest.mark.parametrize("header", MALFORMED.values(), ids=MALFORMED)
def test_a_header_that_is_no_key_is_a_401(locked: FlaskClient, header: str) -> None:
    assert needs_a_key(locked.get("/get_report", headers={"Authorization": header}))


@given(header=st.text(st.characters(max_codepoint=255, exclude_characters="\r\n"), max_size=80), scheme=st.booleans())
def test_any_other_header_is_a_401_too(locked: FlaskClient, header: str, scheme: bool) -> None:
    for text in (header, f"Bearer {header}", f"Basic {header}", "Basic " + b64encode(header.encode()).decode()):
        assert needs_a_key(locked.get("/get_report", headers={"Authorization": text}))


@pytest.mark.parametrize(
    "header",
    [
        f"Bearer {MASTER}",
        f"bearer   {MASTER} ",
        basic("", MASTER)["Authorization"],
        basic("J\N{LATIN SMALL LETTER O WITH DIAERESIS}rg", MASTER)["Authorization"].replace("Basic", "BASIC"),
    ],
)
def test_the_key_of_the_settings_opens_everything(locked: FlaskClient, header: str) -> None:
    assert locked.get("/get_report", headers={"Authorization": header}).status_code == 400
    assert locked.post("/trigger_report", headers={"Authorization": header}).status_code == 409


def test_without_a_key_anywhere_nothing_is_asked_and_no_database_made(client: FlaskClient, settings: Settings) -> None:
    for headers in ({}, bearer(WRONG), {"Authorization": "Basic !!!"}):
        assert client.get("/get_report", headers=headers).status_code == 400
    assert not settings.database.exists()


def test_a_database_that_cannot_be_read_opens_nothing(client: FlaskClient, settings: Settings) -> None:
    settings.database.parent.mkdir(parents=True)
    settings.database.write_bytes(b"no database at all\n" * 1000)
    assert client.get("/nothing").status_code == 503
    assert client.get("/healthz").status_code == 200


def test_a_database_taken_away_does_not_open_a_server_that_asked_for_a_key(
    app: Flask, client: FlaskClient, settings: Settings, by_scope: dict[str, str]
) -> None:
    guard.listens(app, settings, keyed=True)
    assert client.get("/nothing").status_code == 401
    app.extensions["storemon"].database.close()
    settings.database.unlink()
    assert needs_a_key(client.get("/nothing"))
    assert needs_a_key(client.get("/nothing", headers=bearer(by_scope["admin"])))


# Hosts.


def hosts(settings: Settings, keyed: bool, **changed: str) -> list[str] | None:
    return guard.trusted_hosts(replace(settings, **changed), keyed)


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
    for path in ("/healthz", "/nothing"):
        answer = client.get(path, headers={"Host": host})
        if status == 400:
            detail = json.loads(answer.data)["detail"]
            assert (answer.status_code, answer.content_type) == (400, "application/problem+json")
            assert "STOREMON_TRUSTED_HOSTS" in detail
            assert repr(host)[:100] in detail
            assert len(detail) < 300
        else:
            assert answer.status_code == (200 if path == "/healthz" else 404)


def test_trusted_names_may_be_many_and_may_be_a_domain(app: Flask, client: FlaskClient, settings: Settings) -> None:
    guard.listens(app, replace(settings, trusted_hosts="a.example,.b.example,[fd00::5]"), keyed=False)
    for host in ("a.example", "b.example", "x.B.example:8080", "[FD00::5]:1"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 200, host
    for host in ("localhost", "x.a.example", "xb.example", "[fd00::6]"):
        assert client.get("/healthz", headers={"Host": host}).status_code == 400, host
    guard.listens(app, replace(settings, trusted_hosts="*"), keyed=False)
    assert client.get("/healthz", headers={"Host": "anything.at.all"}).status_code == 200
    # Any name is not no name.
    assert client.get("/healthz", headers={"Host": "not a name"}).status_code == 400


# Origins.

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


# Headers.


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
    def explode() -> None:
        raise ZeroDivisionError

    monkeypatch.setitem(app.view_functions, "classic.get_report", explode)
    answer = client.get("/get_report")
    assert answer.status_code == 500
    assert {header: answer.headers[header] for header in HEADERS} == HEADERS
    assert "ZeroDivisionError" in caplog.text


# The real server.


def raw(server: Server, *pieces: bytes, pause_s: float = 0.0) -> bytes:
    """What the server says to those bytes until it closes the connection."""
    host, port = server.url.removeprefix("http://").rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=20) as peer:
        for piece in pieces:
            peer.sendall(piece)
            time.sleep(pause_s)
        return b"".join(iter(lambda: peer.recv(65536), b""))


def refusal(answer: bytes, status: int) -> str:
    """The detail of a refusal by the server itself, after checking its shape."""
    head, _, body = answer.partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in lines[1:])
    assert lines[0].split()[1] == str(status)
    assert (headers["Content-Type"], headers["Connection"]) == ("application/problem+json", "close")
    assert headers["Server"] == "storemon"
    assert {name: headers[name] for name in HEADERS} == HEADERS
    assert headers["Cache-Control"] == "no-store"
    assert len(body) == int(headers["Content-Length"])
    found = json.loads(body)
    assert found["status"] == status
    assert set(found) == {"type", "title", "status", "detail"}
    assert b"aitress" not in answer
    return str(found["detail"])


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


def test_what_is_no_http_is_a_problem_too_and_hurts_nobody(server: Server) -> None:
    for name, (request, status) in GARBAGE.items():
        detail = refusal(raw(server, request), status)
        said = "262,144 bytes" if status == 431 else "the request is no HTTP that this server reads: "
        assert said in detail, name
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


HEAD = b"POST /trigger_report HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
TOO_LARGE = "the body is larger than 1 MB; send it in parts, or set STOREMON_MAX_BODY_MB"


def test_a_body_of_just_the_limit_is_taken_and_one_byte_more_is_not(small: Server) -> None:
    trigger = small.url + "/trigger_report"
    assert http(trigger, "POST", b" " * 1_000_000).status == 409
    over = http(trigger, "POST", b" " * 1_000_001)
    assert (over.status, over.headers["Content-Type"]) == (413, "application/problem+json")
    assert over.json["detail"] == TOO_LARGE


def test_a_client_that_is_still_sending_hears_that_it_is_too_much(small: Server) -> None:
    # Closing at once would reset the connection, and the answer would be lost more often than not.
    for _ in range(10):
        answer = http(small.url + "/trigger_report", "POST", b" " * 20_000_000)
        assert (answer.status, answer.json["detail"]) == (413, TOO_LARGE)
    chunk = b"186A0\r\n" + b" " * 100_000 + b"\r\n"
    answer_ = raw(small, HEAD + b"Transfer-Encoding: chunked\r\n\r\n", *[chunk] * 40)
    assert refusal(answer_, 413) == TOO_LARGE


def test_a_client_that_asks_first_is_told_before_it_sends(small: Server) -> None:
    answer = raw(small, HEAD + b"Expect: 100-continue\r\nContent-Length: 5000000000\r\n\r\n")
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert refusal(answer, 413) == TOO_LARGE
    asked = raw(small, HEAD + b"Expect: 100-continue\r\nContent-Length: 2\r\n\r\n", b"{}", pause_s=0.3)
    assert asked.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 409 ")


def test_a_refused_head_has_no_body(small: Server) -> None:
    answer = raw(small, HEAD.replace(b"POST", b"HEAD") + b"Content-Length: 5000000\r\n\r\n")
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 413 ")
    assert b"Content-Length: " in head
    assert body == b""


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


# Where a server may listen.


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
    assert "warning" not in server.log.read_text()


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
