"""Every error of every route is an RFC 9457 problem with a detail that says what to do (SPEC 5)."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse
from worker_helpers import Queue

from storemon_flask import create_app
from storemon_flask.api import reports
from storemon_flask.reports import stored
from storemon_flask.settings import Settings
from storemon_flask.web import contract, problems


def problem(answer: TestResponse, status: int) -> dict[str, Any]:
    """The problem in that answer, after checking its shape."""
    assert (answer.status_code, answer.content_type) == (status, "application/problem+json")
    body: dict[str, Any] = json.loads(answer.data)
    assert list(body)[:4] == ["type", "title", "status", "detail"]
    assert re.fullmatch(r"urn:storemon:problem:[a-z-]+", body["type"]), body["type"]
    assert body["status"] == status
    assert len(body["title"]) > 3
    assert len(body["detail"]) > 10
    assert "<" not in body["detail"]
    return body


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "kind"),
    [
        ("POST", "/trigger_report", b"", 409, "no-polls"),
        ("POST", "/trigger_report", b"{", 400, "bad-request"),
        ("POST", "/trigger_report", b'{"x": 1}', 422, "unprocessable"),
        ("POST", "/trigger_report", b'{"as_of": "2024-01-01", "stores": ["x"]}', 422, "unprocessable"),
        ("GET", "/get_report", None, 400, "bad-request"),
        ("GET", "/get_report?report_id=x", None, 404, "not-found"),
        ("GET", "/get_report?report_id=x&format=xml", None, 400, "bad-request"),
        ("GET", "/nothing", None, 404, "not-found"),
        ("GET", "/get_report/", None, 404, "not-found"),
        ("GET", "/static/../../etc/passwd", None, 404, "not-found"),
        ("GET", "/static/x.css", None, 404, "not-found"),
        ("GET", "/%ff", None, 404, "not-found"),
        ("DELETE", "/nothing", None, 404, "not-found"),
        ("GET", "/trigger_report", None, 405, "method-not-allowed"),
        ("POST", "/get_report", b"", 405, "method-not-allowed"),
        ("PUT", "/healthz", b"", 405, "method-not-allowed"),
    ],
)
def test_every_error_has_the_one_shape(
    client: FlaskClient, method: str, path: str, body: bytes | None, status: int, kind: str
) -> None:
    assert problem(client.open(path, method=method, data=body), status)["type"] == f"urn:storemon:problem:{kind}"


def test_every_wrong_method_of_every_route_names_the_right_ones(app: Flask, client: FlaskClient) -> None:
    asked = 0
    # Also those of a rule with an argument that takes the same address.
    addresses = app.url_map.bind("localhost")
    methods_of = {
        rule.rule: set(addresses.allowed_methods(rule.rule)) for rule in app.url_map.iter_rules() if not rule.arguments
    }
    for path, methods in methods_of.items():
        for method in {"GET", "POST", "PUT", "PATCH", "DELETE"} - methods:
            answer = client.open(path, method=method)
            body = problem(answer, 405)
            assert {name.strip() for name in answer.headers["Allow"].split(",")} == methods
            assert body["detail"].startswith(f"{path} does not answer {method}; use ")
            assert set(body["detail"].split("use ")[1].split(" or ")) == methods - {"HEAD", "OPTIONS"}
            asked += 1
    assert asked >= 12


def test_an_unknown_path_names_it_and_what_there_is(client: FlaskClient) -> None:
    detail = problem(client.get("/triger_report"), 404)["detail"]
    assert detail == (
        "there is nothing at /triger_report; the pages are /, /reports, /data and /docs, which lists every call"
    )


def test_what_is_not_there_has_one_title(client: FlaskClient) -> None:
    for path in ("/nothing", "/get_report?report_id=x", "/api/v1/loads/1", "/static/x.css"):
        assert problem(client.get(path), 404)["title"] == "Not found"


def test_head_of_an_error_has_its_status_and_no_body(client: FlaskClient) -> None:
    for path, status in (("/nothing", 404), ("/get_report", 400), ("/trigger_report", 405)):
        answer = client.head(path)
        assert (answer.status_code, answer.data) == (status, b"")
        assert answer.content_type == "application/problem+json"


def test_healthz_answers_without_a_database(client: FlaskClient, settings: Settings) -> None:
    answer = client.get("/healthz")
    assert (answer.status_code, answer.json) == (200, {"status": "ok"})
    assert client.head("/healthz").status_code == 200
    assert not settings.database.exists()


def test_a_body_too_large_is_a_413(client: FlaskClient) -> None:
    limit = contract.MAX_JSON_BYTES
    assert problem(client.post("/trigger_report", data=b" " * (limit + 1)), 413)["status"] == 413
    # One byte less is read (and is blank, which asks for everything).
    assert problem(client.post("/trigger_report", data=b" " * limit), 409)["status"] == 409


@pytest.mark.parametrize("path", ["/get_report?report_id=x", "/trigger_report"])
def test_an_unexpected_error_is_a_500_without_its_traceback_or_text(
    client: FlaskClient, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    def explode() -> None:
        raise ZeroDivisionError("the secret of the inner part")

    monkeypatch.setattr(reports, "storemon", explode)
    answer = client.open(path, method="GET" if "?" in path else "POST")
    body = problem(answer, 500)
    assert body["type"] == "urn:storemon:problem:internal"
    for word in (b"Traceback", b"ZeroDivisionError", b"secret", b".py"):
        assert word not in answer.data
    # The log has what the answer has not.
    assert "the secret of the inner part" in caplog.text
    assert path.split("?")[0] in caplog.text


def test_a_database_that_is_none_is_a_503_that_names_the_file(client: FlaskClient, settings: Settings) -> None:
    settings.database.parent.mkdir(parents=True)
    settings.database.write_bytes(b"this is not a database, whatever its name says\n" * 100)
    for answer in (client.post("/trigger_report"), client.get("/get_report?report_id=x")):
        body = problem(answer, 503)
        assert body["type"] == "urn:storemon:problem:database"
        assert body["detail"].startswith(f"{settings.database} is not an SQLite database; ")


@pytest.mark.usefixtures("small_fleet")
def test_a_report_file_that_vanishes_while_it_is_answered_is_no_traceback(
    client: FlaskClient, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    where = client.post("/trigger_report").headers["Location"]

    def removed_just_after_the_look(row: object, folder: Path) -> Path:
        return folder / "gone.csv"

    monkeypatch.setattr(stored, "file_of", removed_just_after_the_look)
    for form in ("csv", "json"):
        answer = client.get(f"{where}&format={form}")
        assert answer.content_type == "application/problem+json"
        assert b"Traceback" not in answer.data


def test_a_flood_of_refusals_is_a_line_a_minute(
    settings: Settings, small_fleet: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    now_s = [1000.0]
    monkeypatch.setattr(problems, "time", SimpleNamespace(monotonic=lambda: now_s[0]))
    app = create_app(replace(settings, max_pending_reports=1), Queue())
    client = app.test_client()
    client.post("/trigger_report")
    for passed_s in (0, 1, 2, 3, 60):
        now_s[0] = 1000.0 + passed_s
        assert client.post("/trigger_report", json={"columns": "full"}).status_code == 503
    sentence = "1 report(s) are waiting, as many as may; try again later"
    assert [(record.levelname, record.message) for record in caplog.records if record.name == "storemon.web"] == [
        (
            "WARNING",
            f"{count} request(s) refused since the last line about it, the newest POST /trigger_report: {sentence}",
        )
        for count in (1, 4)
    ]
    app.extensions["storemon"].database.close()
