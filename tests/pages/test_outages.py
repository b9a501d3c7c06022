"""The page Outages: its numbers, sections, filters, pages and errors."""

import re
from html import unescape

import pytest
from report_helpers import fleet as fleet

from storemon_flask.clock import duration_text, parse_timestamp
from storemon_flask.model import MINUTE_US
from storemon_flask.pages import outages


def text_of(html):
    return re.sub(r"\s+", " ", unescape(re.sub(r"<[^>]+>", " ", html)))


def sections(html):
    """The rows of each section as text, by its id."""
    return {
        name: [text_of(row) for row in re.findall(r"<tr><th scope=\"row\">.*?</tr>", body, re.DOTALL)]
        for name, body in re.findall(r'<div id="(ongoing|list)" data-live>(.*?)</section>', html, re.DOTALL)
    }


def test_what_goes_on_stands_above_what_is_over_with_the_numbers_of_the_api(fleet, client):
    shown = sections(client.get("/outages?window=last_7_days").text)
    for name, query in (("ongoing", "window=today&state=ongoing"), ("list", "window=last_7_days&state=over")):
        answer = client.get(f"/api/v1/outages?{query}&limit=50").json
        rows = answer["outages"][: 20 if name == "ongoing" else 50]
        assert len(shown[name]) == len(rows) > 0
        as_of_us = parse_timestamp(answer["as_of"])
        for text, row in zip(shown[name], rows, strict=True):
            assert (row["name"] or row["store_id"]) in text
            down_us = int(row["down_minutes"] * MINUTE_US) // MINUTE_US * MINUTE_US
            assert (
                f'down"> {duration_text(down_us)}' in text or f" {duration_text(down_us)} {row['polls']} poll" in text
            )
            if row["ongoing"] == "yes":
                assert f"goes on, for {duration_text(as_of_us - parse_timestamp(row['start']))}" in text


def test_a_time_of_the_past_replaces_the_period(fleet, client):
    html = client.get("/outages?at=2024-10-13T15:00").text
    assert "Going on at 2024-10-13 15:00 of each store’s own clock" in html
    answer = client.get("/api/v1/outages?at=2024-10-13T15:00").json
    assert list(sections(html)) == ["list"]
    assert len(sections(html)["list"]) == answer["total"] > 0
    assert "Going on at 2024-10-13 15:00 UTC" in client.get("/outages?at=2024-10-13T15:00Z").text


def test_filters_are_in_every_link(fleet, client):
    html = client.get("/outages?window=this_month&group=North&shortest_minutes=60").text
    links = [unescape(one) for one in re.findall(r'href="(/outages\?[^"]*|/api/v1/outages.csv[^"]*)"', html)]
    assert "/api/v1/outages.csv?window=this_month&group=North&shortest_minutes=60" in links
    assert {"/outages?window=yesterday&group=North&shortest_minutes=60"} < set(links)
    assert all("group=North" in one for one in links)
    assert "<option selected>North</option>" in html
    assert '<option value="60" selected>1 h</option>' in html


def test_it_comes_in_pages(fleet, client, monkeypatch):
    monkeypatch.setattr(outages, "_PER_PAGE", 4)
    total = client.get("/api/v1/outages?window=last_7_days&state=over").json["total"]
    assert total > 8
    first, last = (client.get(f"/outages?window=last_7_days&page={page}").text for page in (1, 99))
    assert {name: len(rows) for name, rows in sections(first).items()} == {"ongoing": 1, "list": 4}
    assert "page=2" in first
    assert len(sections(last)["list"]) == (total - 1) % 4 + 1
    assert f"Page {(total + 3) // 4} of {(total + 3) // 4}" in text_of(last)


@pytest.mark.parametrize(
    ("query", "status", "sentence"),
    [
        ("at=soon", 422, "At must be a time such as 2024-10-14T15:00"),
        ("at=2031-01-01T00:00", 422, "At must not be after the as-of"),
        ("window=soon", 422, "Window is 'soon'; it must be last_hour"),
        ("shortest_minutes=&group=&at=", 200, "Going on now"),
        ("label=colour", 422, "Label "),
        ("label=region%3DWest", 200, '<option value="region=West" selected>West</option>'),
        ("label=", 200, "Going on now"),
        ("shortest_minutes=45", 200, "45 min"),
        ("utm_source=mail", 200, "Going on now"),
    ],
)
def test_what_is_wrong_is_said_and_empty_fields_say_nothing(fleet, client, query, status, sentence):
    answer = client.get(f"/outages?{query}", headers={"Accept": "text/html"})
    assert answer.status_code == status
    assert sentence in unescape(answer.text)


def test_what_did_not_change_is_not_sent_again(fleet, client):
    tag = client.get("/outages").headers["ETag"]
    assert client.get("/outages", headers={"If-None-Match": tag}).status_code == 304
    assert client.get("/outages?group=North", headers={"If-None-Match": tag}).status_code == 200


def test_without_data_it_says_what_to_do(client):
    assert "storemon load-data" in client.get("/outages").text
