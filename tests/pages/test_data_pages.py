"""`/data` and a page per load, as they come without a script: put files in, see what became of their rows."""

import gzip
import html
import io
import re
import zipfile
from pathlib import Path
from urllib.parse import quote

import pytest
from conftest import SMALL_FLEET, sql
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from storemon_flask.database import keys
from storemon_flask.reports.worker import Worker

BROWSER = {"Accept": "text/html,application/xhtml+xml"}
BAD_POLLS = """store_id,timestamp_utc,status
a,2024-10-14 10:00:00 UTC,maybe
<script>alert(1)</script>,nonsense,active
b,2024-10-14 10:00:00 UTC,active
"""


def put(client: FlaskClient, *files: tuple[str, str | bytes], atomic: bool = False, **headers: str) -> TestResponse:
    """The answer to the plain form with those files chosen."""
    data = {"file": [(io.BytesIO(text.encode() if isinstance(text, str) else text), name) for name, text in files]}
    address = "/data?atomic=1" if atomic else "/data"
    return client.post(address, data=data, content_type="multipart/form-data", headers=BROWSER | headers)


def feed_rows(page: str) -> dict[str, list[str]]:
    """Rows and stores of each feed, by its name."""
    rows = re.findall(r'<th scope="row">(\w[\w ]*) <small>.*?</th>(.*?)</tr>', page, re.DOTALL)
    return {name: re.findall(r'<td class="num">([0-9,]+)</td>', cells) for name, cells in rows}


def test_files_go_in_by_a_plain_form_and_what_became_of_them_is_shown(client: FlaskClient) -> None:
    answer = put(client, *SMALL_FLEET.items())
    assert (answer.status_code, answer.headers["Location"]) == (303, "/data/loads/1")
    load = client.get("/data/loads/1").text
    for name in SMALL_FLEET:
        assert f"<bdi>{name}</bdi>" in load
    page = client.get("/data").text
    assert feed_rows(page) == {
        "Polls": ["4", "2"], "Business hours": ["2", "2"], "Time zones": ["3", "3"], "Stores": ["0", "0"],
            "Special hours": ["0", "0"],
    }  # fmt: skip
    assert "The newest poll is of 2024-10-14 12:00 UTC" in page
    assert 'href="/data/loads/1"' in page


def test_a_zip_and_gzip_go_in_too(client: FlaskClient) -> None:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("hours.csv", SMALL_FLEET["hours.csv"])
    answer = put(
        client, ("all.zip", packed.getvalue()), ("polls.csv.gz", gzip.compress(SMALL_FLEET["polls.csv"].encode()))
    )
    page = client.get(answer.headers["Location"]).text
    assert ("polls.csv.gz" in page, "hours.csv" in page) == (True, True)
    assert feed_rows(client.get("/data").text)["Polls"] == ["4", "2"]


def test_rejected_rows_are_listed_with_line_and_reason(client: FlaskClient) -> None:
    page = client.get(put(client, ("bad.csv", BAD_POLLS)).headers["Location"]).text
    assert "<b>1</b> rejected: status is neither active nor inactive" in page
    rows = re.findall(r'<td class="num">(\d+)</td><td class="reason">(.*?)</td>.*?<bdi>(.*?)</bdi></code>', page)
    assert rows[0] == ("2", "status is neither active nor inactive", "a,2024-10-14 10:00:00 UTC,maybe")
    assert (rows[1][0], rows[1][2]) == ("3", "&lt;script&gt;alert(1)&lt;/script&gt;,nonsense,active")
    link = re.search(r'href="([^"]+)" download>Rejected rows as CSV', page)
    assert link
    as_csv = client.get(html.unescape(link[1]))
    assert (as_csv.mimetype, len(as_csv.text.splitlines())) == ("text/csv", 3)


def test_the_first_rejects_are_shown_and_the_rest_counted(client: FlaskClient) -> None:
    text = "store_id,timestamp_utc,status\n" + "".join(f"{'<' * 900}{row},x,up\n" for row in range(300))
    answer = client.get(put(client, ("bad.csv", text)).headers["Location"])
    assert "The first 50 of 300." in answer.text
    assert answer.text.count('<td class="reason">') == 50
    assert len(answer.data) < 100_000


def test_all_or_nothing_loads_nothing_and_says_why(client: FlaskClient) -> None:
    put(client, ("polls.csv", SMALL_FLEET["polls.csv"]))
    answer = put(client, ("bad.csv", BAD_POLLS), atomic=True)
    page = client.get(answer.headers["Location"]).text
    assert "nothing of it was stored: 2 rows were rejected, and the load was to be all or nothing" in page
    # The row that fits is counted in words: no row of the file is new or unchanged.
    assert '<p class="note">1 row that fits was not stored either</p>' in page
    assert "1 file · nothing was stored · <span" in page
    assert re.findall(r'<td class="num[^"]*">([^<]+)</td>', page)[:6] == ["–", "–", "–", "–", "–", "2"]
    listed = client.get("/data").text
    assert feed_rows(listed)["Polls"] == ["4", "2"]
    newest = re.findall(r'<a href="/data/loads/2">2</a>.*?</tr>', listed, re.DOTALL)[0]
    assert re.findall(r'<td class="num">([^<]+)</td>', newest) == ["–", "–", "–"]


def test_all_or_nothing_counts_the_rows_of_every_file_that_fit(client: FlaskClient) -> None:
    answer = put(
        client,
        ("bad.csv", BAD_POLLS),
        ("hours.csv", SMALL_FLEET["hours.csv"]),
        ("zones.csv", SMALL_FLEET["zones.csv"]),
        ("no.csv", "a,b\n"),
        atomic=True,
    )
    page = client.get(answer.headers["Location"]).text
    about = dict(re.findall(r"<h3><bdi>(.*?)</bdi></h3>(.*?)</div>", page, re.DOTALL))
    assert "1 row that fits was not stored either" in about["bad.csv"]
    assert "2 rows that fit were not stored either" in about["hours.csv"]
    assert "3 rows that fit were not stored either" in about["zones.csv"]
    assert "the header fits no feed" in about["no.csv"]
    assert "not stored either" not in about["no.csv"]


def test_what_is_no_feed_is_said_where_there_is_no_database_yet(client: FlaskClient) -> None:
    answer = put(client, ("<script>x.csv", "a,b\n1,2\n"))
    assert answer.status_code == 422
    assert "&lt;script&gt;x.csv: the header fits no feed: it has 2 columns, of which storemon knows none" in answer.text
    assert "Nothing is loaded yet." in answer.text


def test_a_misspelled_feed_is_remembered_with_its_sentence(client: FlaskClient) -> None:
    put(client, ("polls.csv", SMALL_FLEET["polls.csv"]))
    page = client.get(put(client, ("mine.csv", "store,when,status\n1,2,up\n")).headers["Location"]).text
    assert "the header fits no feed: it has 3 columns, of which storemon knows status; expected one of polls" in page
    assert "✕</span> 1 not loaded" in client.get("/data").text


@pytest.mark.parametrize("files", [[], [("", "")]])
def test_without_a_file_it_says_so(client: FlaskClient, files: list[tuple[str, str]]) -> None:
    answer = put(client, *files)
    assert (answer.status_code, "no file was chosen; choose CSV files" in answer.text) == (422, True)


def test_a_file_without_a_row_says_that_nothing_was_stored(client: FlaskClient) -> None:
    answer = put(client, ("polls.csv", "store_id,timestamp_utc,status\n"), ("none.csv", ""))
    page = client.get(answer.headers["Location"]).text
    assert page.count("There is no row below its header: nothing was stored.") == 1
    assert page.count("✕</span> not loaded") == 1
    one = put(client, ("polls.csv", "store_id,timestamp_utc,status\na,2024-10-14 10:00:00 UTC,active\n"))
    page = client.get(one.headers["Location"]).text
    assert "1 file · 1 row</p>" in page
    assert "nothing was stored" not in page


def test_another_site_may_not_load(client: FlaskClient, runner: Worker) -> None:
    answer = put(client, ("polls.csv", SMALL_FLEET["polls.csv"]), Origin="https://evil.example")
    assert (answer.status_code, runner.settings.database.exists()) == (403, False)


def test_loading_needs_a_key_that_writes(client: FlaskClient, runner: Worker, small_fleet: Path) -> None:
    reader, writer = (keys.add(runner.database, scope, "", 0) for scope in ("read", "write"))
    polls = ("polls.csv", SMALL_FLEET["polls.csv"])
    assert put(client, polls).status_code == 401
    assert put(client, polls, Authorization=f"Bearer {reader}").status_code == 403
    assert put(client, polls, Authorization=f"Bearer {writer}").status_code == 303


def test_an_empty_database_gets_a_first_hint(client: FlaskClient, runner: Worker) -> None:
    page = client.get("/data").text
    assert "Nothing is loaded yet." in page
    assert "store_id, timestamp_utc, status" in page
    assert page.count('<span class="dim">never</span>') == 5
    assert not runner.settings.database.exists()


def test_the_history_has_pages(client: FlaskClient) -> None:
    for number in range(27):
        assert put(client, ("z.csv", f"store_id,timezone_str\n{number},UTC\n")).status_code == 303
    first = client.get("/data").text
    assert re.findall(r'href="/data/loads/(\d+)"', first) == [str(number) for number in range(27, 2, -1)]
    older = re.search(r'href="(/data\?before=\d+)#loads"', first)
    assert older
    assert re.findall(r'href="/data/loads/(\d+)"', client.get(older[1]).text) == ["2", "1"]
    assert client.get("/data?before=x").status_code == 200


@pytest.mark.parametrize("load", ["7", "0", "99999999999999999999999", "abc", "<script>"])
def test_a_load_that_never_was_is_a_page(client: FlaskClient, small_fleet: Path, load: str) -> None:
    answer = client.get(f"/data/loads/{load}", headers=BROWSER)
    assert (answer.status_code, answer.mimetype, "<script>" in answer.text) == (404, "text/html", False)


@pytest.mark.parametrize("name", ["<script>alert(1)</script>.csv", "x" * 200 + ".csv", "ملف.csv", "🍕#?&.csv"])
def test_hostile_file_names_are_text(client: FlaskClient, name: str) -> None:
    page = client.get(put(client, (name, BAD_POLLS)).headers["Location"])
    assert page.status_code == 200
    assert "<script>alert" not in page.text + client.get("/data").text
    shown = sql_name(client)
    assert html.escape(shown) in page.text


def sql_name(client: FlaskClient) -> str:
    """The name of the newest load's file, as it was kept."""
    runner: Worker = client.application.extensions["storemon"].worker
    found: str = sql(runner.settings.database, "SELECT file FROM load_file ORDER BY id DESC LIMIT 1")[0][0]
    return found


def hidden_in(page: str) -> list[str]:
    """Where the page has characters that steer or hide text and can change what stands beside them."""
    # <bdi>, a list to choose from and a field keep them to themselves.
    rest = re.sub(r"<(bdi|option|textarea|title)\b[^>]*>.*?</\1>|<[^>]*>", "", page, flags=re.DOTALL)
    return re.findall(r".{0,40}[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff].{0,40}", rest)


def test_texts_that_turn_or_hide_others_stay_by_themselves_on_every_page(client: FlaskClient) -> None:
    evil = "\u202eEVIL\u2066\u200b\x1b"
    name = evil.rstrip("\x1b")
    put(client, *SMALL_FLEET.items())
    put(client, ("names.csv", f"store_id,name,group\nworked,{name},{name}\nsilent,{name} two,\n"))
    put(
        client, ("bad.csv", f"store_id,timestamp_utc,status\nworked,{evil},active\n{evil},2024-10-14 10:00:00,active\n")
    )
    put(client, ("zones.csv", f"store_id,timezone_str\nworked,{evil}\n"), ("none.csv", f"{evil},b\n1,2\n"))
    form = {"kind": "", "window": "last_week", "totals": "1", "groups": name}
    report = client.post("/reports", data=form, headers=BROWSER).headers["Location"]
    wrong = client.post(
        "/reports", data={"as_of": evil, "stores": evil, "groups": evil, "zones": evil}, headers=BROWSER
    )
    assert hidden_in(wrong.text) == []
    pages = [
        "/",
        "/stores",
        "/stores/worked",
        "/data",
        *(f"/data/loads/{load}" for load in (1, 2, 3, 4)),
        "/reports",
        report,
    ]
    asked = [
        "/stores/{}", "/?group={}", "/?zone={}", "/?q={}", "/?status={}", "/?sort={}", "/{}", "/data/"
            "loads/{}", "/reports/{}",
        "/stores/worked?as_of={}", "/stores/"
            "worked?window={}", "/stores/worked?until={}", "/docs/{}", "/reports?before={}",
        report + "?filter={}", report + "?sort={}", "/data?before={}", report + "/changes/{}",
    ]  # fmt: skip
    seen, bad = 0, []
    for page in [*pages, *(address.format(quote(evil)) for address in asked)]:
        text = client.get(page, headers=BROWSER).text
        bad += [(page, one) for one in hidden_in(text)]
        seen += "EVIL" in text
    assert bad == []
    assert seen > 15
    assert r"<bdi>worked,\u202eEVIL\u2066\u200b\x1b,active</bdi>" in client.get("/data/loads/3", headers=BROWSER).text
