"""Push addresses over HTTP: what is stored, who is let in, and what nobody gets to see."""

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PATIENCE_S, Server, http, sql, storemon, wait_until
from feed_helpers import problem, push, stored
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.api import push as push_view
from storemon_flask.database import keys, tokens
from storemon_flask.settings import Settings

Serve = Callable[..., Server]
NOW_US = 1_790_000_007_654_321
TEN = "2026-09-21T14:13:20.000000Z"


@pytest.fixture
def token(app: Flask) -> str:
    return tokens.add(app.extensions["storemon"].database, "NYC/12", "", 1)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Sets what the clock says to pushes, in microseconds after NOW_US; loads must not take it for the future."""
    from storemon_flask.feeds import load

    def set_clock(later_us: int) -> None:
        monkeypatch.setattr(push_view.time, "time_ns", lambda: (NOW_US + later_us) * 1000)
        monkeypatch.setattr(load.time, "time_ns", lambda: (NOW_US + later_us) * 1000)

    set_clock(0)
    return set_clock


def polls(settings: Settings) -> list[tuple[Any, ...]]:
    return stored(settings)["polls"]


@pytest.mark.parametrize("method", ["GET", "POST"])
@pytest.mark.parametrize(("word", "status"), [("active", "active"), ("Inactive", "inactive")])
def test_a_push_is_a_poll_of_its_ten_seconds(
    client: FlaskClient, settings: Settings, token: str, clock: object, method: str, word: str, status: str
) -> None:
    answer = client.open(f"/push/{token}?status={word}", method=method)
    assert answer.status_code == 200, answer.text
    assert answer.json == {"store_id": "NYC/12", "timestamp_utc": "2026-09-21T14:13:20.000000Z", "status": status}
    assert answer.headers["Cache-Control"] == "no-store"
    assert polls(settings) == [("NYC/12", "2026-09-21 14:13:20.000000Z", status)]


def test_of_ten_seconds_the_last_push_is_kept(
    client: FlaskClient, settings: Settings, token: str, clock: Callable[[int], None]
) -> None:
    said = ["active", "inactive", "inactive", "active", "active"]
    # The ten seconds end 2,345,679 us after the clock's first time.
    for later_us, status in zip((0, 1_000_000, 2_345_678, 2_345_679, 12_345_678), said, strict=True):
        clock(later_us)
        assert client.get(f"/push/{token}?status={status}").status_code == 200
    assert polls(settings) == [
        ("NYC/12", "2026-09-21 14:13:20.000000Z", "inactive"),
        ("NYC/12", "2026-09-21 14:13:30.000000Z", "active"),
    ]


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("", "status missing: it must be active or inactive (the parameters are status)"),
        ("?status=", "status '' is no status; it must be active or inactive (the parameters are status)"),
        ("?status=up", "status 'up' is no status; it must be active or inactive (the parameters are status)"),
        ("?status=active&status=active", "status is given more than once (the parameters are status)"),
        ("?status=active&store=b", "store is not a parameter of this address (the parameters are status)"),
    ],
)
def test_a_wrong_status_says_what_is_allowed_and_stores_nothing(
    client: FlaskClient, settings: Settings, token: str, query: str, sentence: str
) -> None:
    for method in ("GET", "POST"):
        answer = client.open(
            f"/push/{token}{query}", method=method, data=b"status=inactive" if method == "POST" else b""
        )
        assert problem(answer, 422) == sentence
    assert polls(settings) == []


@pytest.mark.parametrize("keyed", [False, True])
def test_a_token_pushes_whether_keys_are_needed_or_not_and_does_nothing_else(
    app: Flask, client: FlaskClient, settings: Settings, token: str, keyed: bool
) -> None:
    database = app.extensions["storemon"].database
    if keyed:
        key = keys.add(database, "admin", "", 1)
        assert client.get("/api/v1/stores").status_code == 401
    assert client.get(f"/push/{token}?status=active").status_code == 200
    assert len(polls(settings)) == 1
    if keyed:
        for path in ("/", "/api/v1/stores", "/data/push", "/api/v1/loads"):
            assert client.get(path, headers={"Authorization": f"Bearer {token}"}).status_code == 401
            assert client.get(path, headers={"Authorization": f"Bearer {key}"}).status_code == 200
        row = {"store_id": "NYC/12", "timestamp_utc": "2024-10-14 10:00", "status": "active"}
        answer = client.post("/api/v1/feeds/polls", json=row, headers={"Authorization": f"Bearer {token}"})
        assert answer.status_code == 401
        # Nor is a key a token.
        assert client.get(f"/push/{key}?status=active").status_code == 404
    assert client.delete(f"/push/{token}?status=active").status_code in (401, 405)
    assert len(polls(settings)) == 1


def test_a_wrong_or_revoked_token_is_not_there(app: Flask, client: FlaskClient, settings: Settings, token: str) -> None:
    detail = "there is no such push address, or its token was revoked; `storemon tokens add --store ID` makes one"
    tokens.revoke(app.extensions["storemon"].database, token, 2)
    for wrong in (token, token[:-1] + "g", "st_" + "0" * 56, "x", "%ff", "x" * 5000):
        for method in ("GET", "POST"):
            answer = client.open(f"/push/{wrong}?status=active", method=method)
            assert problem(answer, 404) == detail
    assert polls(settings) == []


def test_who_only_looks_pushes_nothing(client: FlaskClient, settings: Settings, token: str) -> None:
    assert client.head(f"/push/{token}?status=active").status_code == 405
    assert client.options(f"/push/{token}?status=active").status_code == 200
    assert polls(settings) == []


@pytest.mark.parametrize(
    ("name", "purpose"),
    [
        ("Sec-Purpose", "prefetch;prerender"),
        ("Sec-Purpose", "prefetch"),
        ("Purpose", "Prefetch"),
        ("X-Purpose", "preview"),
        ("X-Moz", "prefetch"),
    ],
)
def test_an_address_that_is_fetched_ahead_pushes_nothing(
    client: FlaskClient, settings: Settings, token: str, name: str, purpose: str
) -> None:
    answer = client.get(f"/push/{token}?status=active", headers={name: purpose})
    sentence = "this is fetched before anybody opens the address, so nothing was stored; open it, or send POST"
    assert problem(answer, 403) == sentence
    assert polls(settings) == []
    assert client.get(f"/push/{token}?status=active", headers={"Sec-Fetch-Mode": "navigate"}).status_code == 200
    assert len(polls(settings)) == 1


@pytest.mark.parametrize("accepted", ["text/html", "application/json"])
def test_no_answer_repeats_the_token_or_is_kept_or_passed_on(client: FlaskClient, token: str, accepted: str) -> None:
    """Pages of errors link to others, which must not hear of the address."""
    asked = [
        ("GET", "?status=active", 200), ("GET", "?status=up", 422), ("GET", "", 422), ("PUT", "?status=active", 405),
        ("GET", "/more", 404), ("GET", "0?status=active", 404),
    ]  # fmt: skip
    for method, query, status in asked:
        answer = client.open(f"/push/{token}{query}", method=method, headers={"Accept": accepted})
        assert (answer.status_code, answer.headers["Referrer-Policy"]) == (status, "no-referrer")
        assert answer.headers["Cache-Control"] == "no-store"
        assert token[11:20] not in answer.text


def test_a_page_of_another_site_cannot_post(client: FlaskClient, settings: Settings, token: str) -> None:
    answer = client.post(f"/push/{token}?status=active", headers={"Origin": "https://elsewhere.example"})
    assert answer.status_code == 403
    assert polls(settings) == []


def test_a_push_is_listed_as_a_load_with_its_counts(client: FlaskClient, token: str, clock: object) -> None:
    push(client, "polls", "store_id,timestamp_utc,status\nNYC/12,2026-09-21 14:00,active\n")
    assert client.get(f"/push/{token}?status=inactive").status_code == 200
    newest = client.get("/api/v1/loads").json["loads"][0]
    assert (newest["file"], newest["rows"], newest["new"], newest["rejected"]) == ("push", 1, 1, 0)


def test_a_token_is_made_used_and_revoked_beside_a_server_and_never_logged(serve: Serve, settings: Settings) -> None:
    home = settings.home
    home.mkdir(exist_ok=True)
    server = serve(STOREMON_LOG_FORMAT="json")
    made = storemon(home, "tokens", "add", "--store", "NYC/12", "--label", "tablet, upstairs")
    assert made.returncode == 0, made.stderr
    token = made.stdout.strip()
    assert re.fullmatch(r"st_[0-9a-f]{56}\n", made.stdout)
    assert made.stderr == (
        "note: there is no store NYC/12 yet; its first poll makes it. Is the id right?\n"
        "Keep it now: it is not shown again. The push address is /push/TOKEN?status=active (or inactive).\n"
    )
    assert http(f"{server.url}/push/{token}?status=active").status == 200
    assert http(f"{server.url}/push/{token}?status=active", "POST", b"").status == 200
    assert http(f"{server.url}/push/{token}?status=maybe").status == 422
    assert http(f"{server.url}/push/{token[:-1]}g?status=active").status == 404
    assert http(f"{server.url}/push/{token}/more?status=active").status == 404
    assert http(f"{server.url}/%70ush/{token}?status=active").status == 200
    assert http(f"{server.url}/push/{token}?status=active", "DELETE").status == 405

    listed = storemon(home, "tokens", "list").stdout.splitlines()
    assert listed[0] == "prefix       store_id  created                      revoked  label"
    assert re.fullmatch(rf"{token[:11]}  NYC/12    \S{{27}}  no       tablet, upstairs", listed[1])
    metrics = server.get("/metrics").body.decode()
    assert 'route="/push/<string:token>"' in metrics
    revoked = storemon(home, "tokens", "revoke", token[:11])
    assert re.fullmatch(rf"{token[:11]} is revoked since \S+\n", revoked.stdout)
    assert http(f"{server.url}/push/{token}?status=active").status == 404
    (count,) = sql(settings.database, "SELECT sum(length(polls)) / 8 FROM poll_week")[0]
    assert 1 <= count <= 3
    wait_until(lambda: server.log.read_text().count('"event": "request"') >= 9, "the log")
    assert server.end() == 0
    log = server.log.read_text()
    assert f"/push/{token[:11]}... " in log
    for text in (log, metrics, listed[1], revoked.stdout):
        assert token[11:] not in text
        assert token[11:30] not in text
    for file in (file for file in home.rglob("*") if file.is_file()):
        assert token[11:].encode() not in file.read_bytes(), file


def test_a_store_that_is_none_gets_no_token(settings: Settings) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "tokens", "add", "--store", "8.1E+18")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: '8.1E+18' is no store: ")
    assert list(settings.home.iterdir()) == []


def test_the_guard_takes_as_long_for_any_wrong_token(app: Flask, client: FlaskClient, token: str) -> None:
    """A wrong token with a known prefix is not told from one without, by more than chance."""

    fastest_s = {token[:-1] + "g": PATIENCE_S, "st_00000000" + token[11:]: PATIENCE_S}

    def look() -> bool:
        # In turn, so that a machine that is slow for a while is so for both.
        for wrong in [*fastest_s] * 60:
            began_s = time.perf_counter()
            assert client.get(f"/push/{wrong}?status=active").status_code == 404
            fastest_s[wrong] = min(fastest_s[wrong], time.perf_counter() - began_s)
        known_s, unknown_s = fastest_s.values()
        return abs(known_s - unknown_s) < 0.5 * max(known_s, unknown_s)

    wait_until(look, "both to take as long")


def test_masks_of_paths() -> None:
    from storemon_flask.logs import without_tokens

    token = "st_0123456789abcdef0123456789abcdef"
    assert without_tokens("/api/v1/stores/a") == "/api/v1/stores/a"
    assert without_tokens(f"/push/{token}") == "/push/st_01234567..."
    assert without_tokens(f"/below/push/{token}/x") == "/below/push/st_01234567.../x"
    assert without_tokens(f"/%70ush/{token}") == "/push/st_01234567..."
    assert without_tokens(f"/%70ush/%73t_{token[3:]}") == "/push/st_01234567..."
    assert without_tokens(f"//push//%73t_{token[3:]}/%2e") == "//push/.../st_01234567.../."
    assert without_tokens("/api/v1/stores/NYC%2F7") == "/api/v1/stores/NYC%2F7"
    assert without_tokens("/data/push/st_01234567/revoke") == "/data/push/st_01234567/revoke"


def test_the_sample_of_the_help_is_a_command(settings: Settings, tmp_path: Path) -> None:
    done = storemon(tmp_path, "tokens", "--help")
    assert 'storemon tokens add --store "NYC/12" --label "tablet at the counter"' in done.stdout
