"""`/data/previews`: what a load would do, shown before it is applied; as it comes without a script."""

import io
import re
import signal
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from conftest import SMALL_FLEET, http
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.datastructures import FileStorage
from werkzeug.test import TestResponse, encode_multipart
from workbook_helpers import workbook

from pages.test_data_pages import BAD_POLLS, BROWSER, put
from storemon_flask.database import keys
from storemon_flask.model import FileSummary
from storemon_flask.reports.worker import Worker
from storemon_flask.web import previews

TWO_POLLS = "store_id,timestamp_utc,status\na,2024-10-14 10:00:00 UTC,active\nb,2024-10-14 10:00:00 UTC,active\n"


def check(client: FlaskClient, *files: tuple[str, str | bytes], query: str = "", **more: Any) -> TestResponse:
    """The answer to the form with those files chosen and "Check" pressed."""
    data = {
        "file": [(io.BytesIO(text.encode() if isinstance(text, str) else text), name) for name, text in files],
        **more.pop("fields", {}),
    }
    return client.post(f"/data/previews{query}", data=data, content_type="multipart/form-data", headers=BROWSER | more)


def preview(client: FlaskClient, *files: tuple[str, str | bytes], **more: Any) -> str:
    """The address of a preview of those files."""
    answer = check(client, *files, **more)
    assert answer.status_code == 303, answer.text
    return answer.headers["Location"]


def press(client: FlaskClient, address: str, button: str) -> TestResponse:
    return client.post(f"{address}/{button}", headers=BROWSER)


def cells(page: str) -> list[list[str]]:
    """The numbers of each file, of a preview or of a load."""
    rows = re.findall(r'<tr><th scope="row" class="files"><bdi>(.*?)</bdi>.*?</th><td>(.*?)</td>(.*?)</tr>', page)
    rows = rows or re.findall(
        r'<tr><th scope="row" class="files"><bdi>(.*?)</bdi>.*?</th><td>(.*?)</td>(.*?)</tr>', page, re.DOTALL
    )
    return [[name, feed, *re.findall(r">([^<>]+)</td>", numbers)] for name, feed, numbers in rows]


def kept(app: Flask) -> tuple[int, int]:
    """How many previews are kept, and their bytes."""
    waiting = app.extensions["storemon"].previews._waiting.values()
    return len(waiting), sum(one.size for one in waiting)


def loads(client: FlaskClient) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = client.get("/api/v1/loads").json["loads"]
    return found


def test_a_preview_says_what_the_load_then_says(client: FlaskClient, app: Flask, runner: Worker) -> None:
    files = (*SMALL_FLEET.items(), ("bad.csv", BAD_POLLS), ("no.csv", "a,b\n"))
    address = preview(client, *files)
    before = client.get(address).text
    assert not runner.settings.database.exists()
    assert kept(app) == (1, sum(len(text) for _, text in files))
    applied = press(client, address, "apply")
    assert (applied.status_code, applied.headers["Location"]) == (303, "/data/loads/1")
    after = client.get("/data/loads/1").text
    assert sorted(cells(before)) == sorted(cells(after))
    assert ["bad.csv", "polls", "3", "1", "0", "0", "0", "2"] in cells(before)
    assert "line 2:</span> <code><bdi>a,2024-10-14 10:00:00 UTC,maybe" in before
    assert "the header fits no feed" in before
    assert "The newest poll would be of 2024-10-14 12:00 UTC." in before
    notes = [re.findall(r"<li><bdi>(.*?)</bdi></li>", page) for page in (before, after)]
    assert notes[0] == notes[1] != []
    assert kept(app) == (0, 0)


def test_apply_pressed_twice_loads_once(client: FlaskClient) -> None:
    address = preview(client, ("polls.csv", TWO_POLLS))
    answers = [press(client, address, button) for button in ("apply", "apply", "discard")]
    assert [(answer.status_code, answer.headers["Location"]) for answer in answers] == [(303, "/data/loads/1")] * 3
    assert client.get(address).headers["Location"] == "/data/loads/1"
    assert len(loads(client)) == 1


def test_apply_pressed_once_more_after_an_undo_says_that_the_load_was_undone(client: FlaskClient) -> None:
    address = preview(client, *SMALL_FLEET.items())
    assert press(client, address, "apply").headers["Location"] == "/data/loads/1"
    assert "<b>Undone.</b>" not in client.get("/data/loads/1").text
    assert client.post("/data/loads/1/undo").headers["Location"] == "/data/loads/2"

    again = client.get(press(client, address, "apply").headers["Location"]).text

    assert '<b>Undone.</b> <a href="/data/loads/2">Load 2</a> undid this load' in again
    assert [load["load_id"] for load in loads(client)] == [2, 1]


def test_apply_pressed_twice_at_once_loads_once(client: FlaskClient, app: Flask) -> None:
    address = preview(client, ("polls.csv", TWO_POLLS))
    cookie = client.get_cookie("storemon_preview", path=address)
    assert cookie
    found: list[str] = []

    def apply() -> None:
        other = app.test_client()
        other.set_cookie("storemon_preview", cookie.value, path=address)
        found.append(press(other, address, "apply").headers["Location"])

    threads = [threading.Thread(target=apply) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == ["/data/loads/1"] * 4
    assert len(loads(client)) == 1


def test_what_changed_in_between_is_said_by_the_load(client: FlaskClient) -> None:
    address = preview(client, ("polls.csv", TWO_POLLS))
    put(client, ("others.csv", TWO_POLLS.replace("b,", "c,")))
    page = client.get(press(client, address, "apply").headers["Location"]).text
    assert cells(page) == [["polls.csv", "polls", "2", "1", "0", "1", "0", "0"]]
    assert (
        "the data changed between the preview and this load: of polls.csv the preview said 2 new, 0 changed, "
        "0 unchanged, 0 rejected, and it is 1 new, 0 changed, 1 unchanged, 0 rejected"
    ) in page


def test_discarding_loads_nothing(client: FlaskClient, app: Flask, runner: Worker) -> None:
    address = preview(client, ("polls.csv", TWO_POLLS))
    assert press(client, address, "discard").headers["Location"] == "/data"
    assert kept(app) == (0, 0)
    for answer in (client.get(address, headers=BROWSER), press(client, address, "apply")):
        assert (answer.status_code, "his preview is gone" in answer.text) == (404, True)
    assert not runner.settings.database.exists()


def test_after_fifteen_minutes_it_is_gone(client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(app.extensions["storemon"].previews, "_clock", lambda: now[0])
    address = preview(client, ("polls.csv", TWO_POLLS))
    content = app.extensions["storemon"].previews._waiting[address.split("/")[-1]].content
    now[0] = 899
    assert client.get(address).status_code == 200
    now[0] = 900
    app.extensions["storemon"].previews.drop_expired()
    assert (kept(app), content.closed) == ((0, 0), True)
    assert press(client, address, "apply").status_code == 404


def test_the_fifteen_minutes_begin_at_the_end_of_the_check(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, kept_previews = [0.0], app.extensions["storemon"].previews
    monkeypatch.setattr(kept_previews, "_clock", lambda: now[0])
    whole = previews._with_examples

    def after_long(summary: FileSummary) -> FileSummary:
        now[0] = 1_000
        kept_previews.drop_expired()
        return whole(summary)

    monkeypatch.setattr(previews, "_with_examples", after_long)
    address = preview(client, ("polls.csv", TWO_POLLS))
    now[0] = 1_899
    assert client.get(address).status_code == 200
    now[0] = 1_900
    assert client.get(address).status_code == 404


def test_only_the_browser_that_made_it_may_apply_it(client: FlaskClient, app: Flask) -> None:
    address = preview(client, ("polls.csv", TWO_POLLS))
    stranger = app.test_client()
    own = preview(stranger, ("mine.csv", TWO_POLLS))
    for _ in range(2):
        pressed = [press(stranger, address, button) for button in ("apply", "discard")]
        for answer in (stranger.get(address, headers=BROWSER), *pressed):
            assert (answer.status_code, "nly the browser that sent the files" in answer.text) == (403, True)
        stranger.set_cookie("storemon_preview", "wrong", path=address)
    assert "<bdi>mine.csv</bdi>" in stranger.get(own).text
    assert "<bdi>polls.csv</bdi>" in client.get(address).text
    assert press(client, address, "apply").status_code == 303


def test_the_cookie_is_for_this_preview_alone(client: FlaskClient) -> None:
    answer = check(client, ("polls.csv", TWO_POLLS))
    cookie = answer.headers["Set-Cookie"]
    address = answer.headers["Location"]
    assert all(part in cookie for part in ("HttpOnly", "SameSite=Strict", f"Path={address}"))
    assert client.get(address).headers["Cache-Control"] == "no-store"


def test_it_is_applied_as_it_was_checked(client: FlaskClient) -> None:
    hours = "store_id,dayOfWeek,start_time_local,end_time_local\na,7,09:00:00,17:00:00\n"
    address = preview(client, ("hours.csv", hours), fields={"days": "iso", "encoding": "cp1252"})
    page = client.get(press(client, address, "apply").headers["Location"]).text
    assert cells(page) == [["hours.csv", "hours", "1", "1", "0", "0", "0", "0"]]
    refused = preview(client, ("bad.csv", BAD_POLLS), query="?atomic=1")
    page = client.get(refused).text
    assert "nothing would be loaded" in page
    assert "/apply" not in page
    assert press(client, refused, "apply").status_code == 422
    assert len(loads(client)) == 1


def test_keys_are_those_of_a_load(client: FlaskClient, runner: Worker) -> None:
    put(client, ("polls.csv", TWO_POLLS))
    reader, writer = (keys.add(runner.database, scope, "", 0) for scope in ("read", "write"))
    polls = ("polls.csv", TWO_POLLS)
    assert check(client, polls).status_code == 401
    assert check(client, polls, Authorization=f"Bearer {reader}").status_code == 403
    assert check(client, polls, Authorization=f"Bearer {writer}").status_code == 303
    assert check(client, polls, Authorization=f"Bearer {writer}", Origin="https://evil.example").status_code == 403


@pytest.mark.parametrize(("limit", "value"), [("_most_bytes", 2 * len(TWO_POLLS)), ("_MOST_PREVIEWS", 2)])
def test_what_does_not_fit_says_how_else(
    client: FlaskClient, app: Flask, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(app.extensions["storemon"].previews if limit[1].islower() else previews, limit, value)
    first, _ = (preview(client, ("polls.csv", TWO_POLLS)) for _ in range(2))
    answer = check(client, ("polls.csv", TWO_POLLS))
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "2")
    assert "storemon load-data --dry-run" in answer.text
    assert kept(app)[0] == 2
    press(client, first, "discard")
    preview(client, ("polls.csv", TWO_POLLS))


@pytest.mark.parametrize("files", [[], [("", "")]])
def test_without_a_file_it_says_so(client: FlaskClient, app: Flask, files: list[tuple[str, str]]) -> None:
    answer = check(client, *files)
    assert (answer.status_code, "no file was chosen" in answer.text) == (422, True)
    assert kept(app) == (0, 0)


def test_a_refusal_is_a_problem_for_a_program(client: FlaskClient) -> None:
    answer = check(client, Accept="application/json")
    assert (answer.status_code, answer.mimetype) == (422, "application/problem+json")
    assert answer.json["detail"].startswith("no file was chosen")


def test_zips_and_workbooks_are_checked_as_they_are_loaded(client: FlaskClient) -> None:
    rows = [("store_id", "timestamp_utc", "status"), ("a", "2024-10-14 10:00:00", "active"), ("b", "x", "active")]
    book = workbook({"Polls": rows, "Notes": [("hello",)]})
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("polls.csv", TWO_POLLS)
    files = [("polls.xlsx", book), ("all.zip", packed.getvalue()), ("late.csv", TWO_POLLS.replace("14 10", "14 11"))]
    address = preview(client, *files)
    before = client.get(address).text
    after = client.get(press(client, address, "apply").headers["Location"]).text
    assert sorted(cells(before)) == sorted(cells(after))
    assert [row[2:] for row in cells(before)] == [
        ["2", "1", "0", "0", "0", "1"], ["2", "1", "0", "1", "0", "0"], ["2", "2", "0", "0", "0", "0"],
    ]  # fmt: skip
    assert "passed over: polls.xlsx/Notes (the header fits no feed" in before
    assert ("line 3:" in before, "would be rejected" in before) == (True, True)


def opened_by(pid: int) -> list[str]:
    """The files that a process has open; of those that it is opening and closing now, some or none."""
    found = []
    for link in Path(f"/proc/{pid}/fd").iterdir():
        with suppress(FileNotFoundError):
            found.append(str(link.readlink()))
    return found


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="no list of open files here")
def test_a_killed_server_leaves_no_file_and_says_that_the_preview_is_gone(
    serve: Callable[..., Any], tmp_path: Path
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    server = serve(TMPDIR=str(temporary))
    kind, body = encode_multipart({"file": FileStorage(io.BytesIO(TWO_POLLS.encode()), "polls.csv")})
    headers = {"Accept": "text/html", "Content-Type": f"multipart/form-data; boundary={kind}"}
    call = urllib.request.Request(f"{server.url}/data/previews", body, headers)
    opener = urllib.request.build_opener(urllib.request.HTTPCookieProcessor())
    with opener.open(call, timeout=30) as answer:
        address, page = answer.url.removeprefix(server.url), answer.read().decode()
    assert "<bdi>polls.csv</bdi>" in page
    opened = opened_by(server.process.pid)
    assert len([name for name in opened if name.startswith(str(temporary)) and name.endswith("(deleted)")]) == 1
    assert list(temporary.iterdir()) == []
    server.end(signal.SIGKILL)
    again = serve(TMPDIR=str(temporary))
    with pytest.raises(urllib.error.HTTPError) as refused:
        opener.open(urllib.request.Request(f"{again.url}{address}/apply", b"", {"Accept": "text/html"}), timeout=30)
    with refused.value as answer:
        assert (answer.code, "his preview is gone" in answer.read().decode()) == (404, True)
    assert list(temporary.iterdir()) == []
    assert http(f"{again.url}/api/v1/loads").json["loads"] == []


def test_what_is_no_feed_cannot_be_applied(client: FlaskClient) -> None:
    address = preview(client, ("<script>x.csv", "a,b\n1,2\n"))
    page = client.get(address).text
    assert "Nothing of this can be loaded." in page
    assert ("<script>x" in page, "/apply" in page) == (False, False)
    assert press(client, address, "apply").status_code == 422
