"""What the pages Now and a store say besides numbers: on paper, where there is nothing to count, what the words mean."""

import re
from urllib.parse import quote

import pytest
from flask.testing import FlaskClient

from storemon_flask.web.pages.words import STATUS_MEANINGS, STATUS_WORDS


@pytest.fixture
def loaded(client: FlaskClient, small_fleet: object) -> FlaskClient:
    return client


def text_of(html: str) -> str:
    """What stands between the tags, blanks as one."""
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", "", html))


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("q=evil&zone=America/Chicago", "Only: name or id has “evil”, zone America/Chicago"),
        ("q=+o+&group=A,%20B&status=down&status=no_data", "Only: name or id has “o”, group A, B, status Down, No data"),
        ("q=" + quote("<b>"), "Only: name or id has “&lt;b&gt;”"),
    ],
)
def test_a_list_on_paper_says_what_it_was_kept_to(loaded: FlaskClient, query: str, sentence: str) -> None:
    page = loaded.get("/?" + query).text
    (only,) = re.findall(r'<span class="paper">\. (Only: .*?)</span>', page)
    assert only == sentence
    assert re.search(r'<span class="noprint">\. <a data-key="clear"', page)


def test_a_list_of_all_says_nothing_of_the_kind(loaded: FlaskClient) -> None:
    page = loaded.get("/?sort=name&q=+").text
    assert "Only:" not in page
    assert "Clear filters" not in page


def test_a_window_without_business_hours_says_so(loaded: FlaskClient) -> None:
    # Open on Sundays only; the newest poll is a Monday's.
    body = "store_id,day,start_time_local,end_time_local\nworked,6,09:00,12:00\n"
    assert loaded.post("/api/v1/feeds/hours", data=body).status_code == 200
    polls = "store_id,timestamp_utc,status\nworked,2024-10-16 10:00:00,active\n"
    assert loaded.post("/api/v1/feeds/polls", data=polls).status_code == 200
    page = loaded.get("/stores/worked").text
    day, week, _ = re.findall(r"<tr><th scope=\"row\">Last .*?</tr>", page, re.DOTALL)
    assert text_of(day) == "Last day–no hours0.000.000.000.000.00"
    assert "no hours" not in week
    assert "–––" not in page


@pytest.mark.parametrize("path", ["/", "/stores/worked"])
def test_words_are_explained_where_a_finger_can_unfold_them(loaded: FlaskClient, path: str) -> None:
    page = loaded.get(path).text
    (folded,) = re.findall(r'<details class="words.*?</details>', page, re.DOTALL)
    said = text_of(folded)
    assert said.startswith("What the words mean")
    for status, (word, sign) in STATUS_WORDS.items():
        assert f"{sign} {word}{STATUS_MEANINGS[status]}" in said
    for word in ("As of", "%", "Low–high", *(["Business h", "Unknown h", "Measured h"] if path != "/" else ["7 days"])):
        assert f"<dt>{word}</dt><dd>" in folded
