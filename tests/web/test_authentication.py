"""Who may ask: every route with every key and without one."""

import json
import socket
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import replace
from typing import NoReturn

import pytest
from flask import Blueprint, Flask
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st
from werkzeug.exceptions import HTTPException
from werkzeug.routing import AnyConverter, IntegerConverter, Rule
from werkzeug.test import TestResponse

from storemon_flask import create_app
from storemon_flask.api import ops
from storemon_flask.database import keys
from storemon_flask.reports.worker import InlineExecutor
from storemon_flask.settings import Settings
from storemon_flask.web import authentication, contract
from storemon_flask.web.contract import ScopedView
from web.test_problems import problem

MASTER = "correct-horse:battery"
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
METHODS = ("GET", "HEAD", "OPTIONS", "POST", "PUT", "PATCH", "DELETE")


WRONG = "sm_" + "0" * 56


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
    """What the view behind that address declares; `read` where there is none."""
    try:
        rule, _ = app.url_map.bind("localhost").match(path, method, return_rule=True)
    except HTTPException:
        return "read"
    scope = app.view_functions[rule.endpoint].scope
    return "read" if scope and method == "OPTIONS" else scope


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


def test_nothing_is_open_but_the_health_check_and_push_addresses(app: Flask) -> None:
    opened = {rule.rule for rule in app.url_map.iter_rules() if app.view_functions[rule.endpoint].scope is None}
    assert opened == {"/healthz", "/readyz", "/push/<string:token>"}


def test_an_app_with_a_view_that_declares_no_scope_does_not_start(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    undeclared = Blueprint("undeclared", __name__)
    undeclared.add_url_rule("/undeclared", endpoint="view", view_func=lambda: "")
    monkeypatch.setattr(ops, "blueprint", undeclared)
    with pytest.raises(RuntimeError, match=r"declare the scope of undeclared\.view with "):
        create_app(settings)


def test_a_view_that_is_added_later_without_a_scope_answers_nobody(app: Flask, client: FlaskClient) -> None:
    app.add_url_rule("/undeclared", endpoint="undeclared", view_func=lambda: "secret")
    answer = client.get("/undeclared")
    assert (answer.status_code, "secret" in answer.text) == (500, False)


@pytest.mark.parametrize("needed", keys.SCOPES)
def test_an_operation_says_which_scope_it_needs(
    app: Flask, client: FlaskClient, by_scope: dict[str, str], monkeypatch: pytest.MonkeyPatch, needed: contract.Scope
) -> None:
    endpoint = "reports.trigger_report"
    monkeypatch.setitem(app.view_functions, endpoint, replace(app.view_functions[endpoint], scope=needed))
    for index, scope in enumerate(keys.SCOPES):
        answer = client.post("/trigger_report", headers=bearer(by_scope[scope]))
        assert answer.status_code == (409 if index >= keys.SCOPES.index(needed) else 403)
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
    authentication.set_address(app, settings, keyed=True)
    assert client.get("/nothing").status_code == 401
    app.extensions["storemon"].database.close()
    settings.database.unlink()
    assert needs_a_key(client.get("/nothing"))
    assert needs_a_key(client.get("/nothing", headers=bearer(by_scope["admin"])))


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


def test_a_browser_that_asks_by_a_wrong_name_is_told_the_setting(app: Flask) -> None:
    for host in ("evil", "a b", "localhost:99999999", "[::1", "xn--ls8h.la"):
        answer = app.test_client().get("/", headers={"Host": host, "Accept": "text/html"})
        assert (answer.status_code, answer.mimetype) == (400, "application/problem+json"), host
        assert "STOREMON_TRUSTED_HOSTS" in answer.get_json(force=True)["detail"]
