"""Errors as pages: a sentence for people, and a link to the place it concerns. Programs keep their own."""

import html
import re
from pathlib import Path

import pytest
from conftest import sql
from flask.testing import FlaskClient
from report_page_helpers import BROWSER, asked

from storemon_flask.reports.worker import Worker

ID = "0" * 32
REPORT = "There is no report of that id; the list of reports has those there are."
# What only programs and command lines have. These two addresses are for programs, and say what to send there.
FOR_PROGRAMS = ("/get_report", "/reports/x/delete")
_OF_PROGRAMS = re.compile(r"\b(GET|POST|trigger|api/v1|report_id|storemon [a-z]|STOREMON_|allow(s|ed) are)\b|`")


def told(client: FlaskClient, path: str, status: int) -> tuple[str, list[tuple[str, str]]]:
    """The sentence of the error that a browser sees, and where it leads."""
    answer = client.get(path, headers=BROWSER)
    assert (answer.status_code, answer.mimetype) == (status, "text/html"), answer.text
    found = re.search(r'<section class="message">.*?<p>(.*?)</p>(.*)</section>', answer.text, re.DOTALL)
    assert found, answer.text
    links = re.findall(r'<a class="button[^"]*" href="([^"]*)">([^<]*)</a>', found[2])
    sentence = html.unescape(found[1])
    if path not in FOR_PROGRAMS:
        assert not _OF_PROGRAMS.search(sentence), sentence
    return sentence, [(html.unescape(address), words) for address, words in links]


@pytest.mark.parametrize(
    ("path", "status", "sentence", "links"),
    [
        ("/stores/nowhere", 404, "There is no store 'nowhere'; the "
            "list of stores has those there are.", [("/", "All stores")]),
        (f"/reports/{ID}", 404, REPORT, [("/reports", "Reports")]),
        (f"/reports/{ID}/changes?against=x", 404, REPORT, [("/reports", "Reports")]),
        (f"/reports/{ID}/changes", 404, REPORT, [("/reports", "Reports")]),
        ("/reports?again=x", 404, REPORT, [("/reports", "Reports")]),
        ("/reports?before=x", 400, "The address names no page of "
            "reports; go back to /reports.", [("/reports", "Reports")]),
        ("/get_report", 400, "Name the report: /get_report?report_id=ID, "
            "with the id that POST /trigger_report answered.", [("/reports", "Reports")]),
        ("/get_report?report_id=x", 404, REPORT, [("/reports", "Reports")]),
        ("/data/loads/77", 404, "There is no load 77; the list of loads has those there are.", [("/data", "Data")]),
        ("/reports/x/delete", 405, "/reports/x/delete does not answer GET; use POST.", [("/reports", "Reports")]),
        ("/nothing", 404, "There is nothing at /nothing; the pages are /, /"
            "reports, /data and /docs, which lists every call.", [("/", "All stores")]),
    ],
)  # fmt: skip
def test_an_error_speaks_to_people_and_leads_on(
    client: FlaskClient, small_fleet: Path, path: str, status: int, sentence: str, links: list[tuple[str, str]]
) -> None:
    assert told(client, path, status) == (sentence, links)
    assert client.get(links[0][0]).status_code == 200


@pytest.mark.parametrize("path", ["/stores/nowhere", f"/reports/{ID}", "/data/loads/77", "/nothing"])
def test_a_program_gets_the_same_sentence(client: FlaskClient, small_fleet: Path, path: str) -> None:
    answer = client.get(path)
    assert answer.mimetype == "application/problem+json"
    assert sorted(answer.json) == ["detail", "status", "title", "type"]
    sentence, _ = told(client, path, 404)
    assert sentence == answer.json["detail"][0].upper() + answer.json["detail"][1:] + "."


@pytest.mark.parametrize(
    ("gone", "sentence"),
    [
        (None, "The report was deleted; ask for a new one."),
        ("old", "The report was deleted because it was older than reports are kept here; ask for a new one."),
    ],
)
def test_a_report_that_is_gone_leads_to_reports(
    client: FlaskClient, runner: Worker, small_fleet: Path, gone: str | None, sentence: str
) -> None:
    location = asked(client)
    sql(runner.settings.database, "UPDATE report SET state = 'deleted', gone = ?", gone)
    assert told(client, location, 410) == (sentence, [("/reports", "Reports")])


def test_changes_since_no_report_lead_back_to_the_report(
    client: FlaskClient, runner: Worker, small_fleet: Path
) -> None:
    location, other, outages = asked(client), asked(client, columns="full"), asked(client, kind="outages")
    for query in ("", "?against="):
        answer = client.get(f"{location}/changes{query}", headers=BROWSER)
        assert (answer.status_code, answer.headers["Location"]) == (302, location)
    back = [(location, "The report"), ("/reports", "Reports")]
    assert told(client, f"{location}/changes?against=x", 404) == (REPORT, back)
    sentence = "The two reports have no column of numbers in common; compare reports of the same windows."
    assert told(client, f"{location}/changes?against={outages[9:]}", 422) == (sentence, back)
    sql(runner.settings.database, "UPDATE report SET state = 'running' WHERE id = ?", other[9:])
    sentence = f"Report {other[9:]} is running, not complete; ask again when it is."
    assert told(client, f"{location}/changes?against={other[9:]}", 409) == (sentence, back)


def test_a_column_that_is_not_there_leads_back_to_the_table(client: FlaskClient, small_fleet: Path) -> None:
    location = asked(client)
    sentence, links = told(client, f"{location}?sort=colour", 422)
    assert sentence == "The report has no column 'colour'; sort by one that it has."
    assert links == [(location, "The same page as it usually is"), ("/reports", "Reports")]
