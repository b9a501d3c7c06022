"""`/docs`: lists every call from openapi.json, fetches nothing from elsewhere, runs no inline script, is readable as it
comes.
"""

import re
from html.parser import HTMLParser
from typing import Any

import pytest
from conftest import ROOT
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database import keys

STATIC = ROOT / "storemon_flask" / "pages" / "static"
VOID = {"meta", "link", "input", "br", "wbr", "hr", "img"}


class Page(HTMLParser):
    """The elements of a page, each with its attributes; and whether every one is closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, (tag, self.getpos())

    def handle_data(self, data: str) -> None:
        self.text += data

    def all(self, tag: str, **wanted: str) -> list[dict[str, str]]:
        found = [given for name, given in self.elements if name == tag]
        return [given for given in found if all(given.get(name) == value for name, value in wanted.items())]


@pytest.fixture
def page(client: FlaskClient) -> Page:
    answer = client.get("/docs")
    assert (answer.status_code, answer.mimetype) == (200, "text/html")
    return Page(answer.text)


@pytest.fixture
def calls(client: FlaskClient) -> list[tuple[str, str, dict[str, Any]]]:
    paths = client.get("/openapi.json").json["paths"]
    return [(method.upper(), path, one) for path, item in paths.items() for method, one in item.items()]


def test_it_is_well_formed_and_every_id_is_there_once(page: Page) -> None:
    assert page.open == []
    ids = [given["id"] for _, given in page.elements if "id" in given]
    assert len(set(ids)) == len(ids)


def test_it_has_every_call_with_its_parameters_answers_and_scope(
    page: Page, calls: list[tuple[str, str, dict[str, Any]]]
) -> None:
    forms = [(given["data-method"], given["data-path"]) for given in page.all("form") if "data-path" in given]
    assert sorted(forms) == sorted((method, path) for method, path, _ in calls)
    named = {given["id"] for _, given in page.elements if "data-in" in given}
    expected = {f"{one['operationId']}-{told['name']}" for _, _, one in calls for told in one.get("parameters", [])}
    assert named == expected
    for _, _, one in calls:
        assert one["summary"] in page.text
        for answer in one["responses"].values():
            assert answer["description"].replace("`", "") in page.text


def test_every_field_has_a_label(page: Page) -> None:
    labelled = {given["for"] for given in page.all("label")}
    for tag in ("input", "select", "textarea"):
        for given in page.all(tag):
            assert given.get("id") in labelled or given.get("aria-label"), given
    assert page.all("html")[0]["lang"] == "en"


def test_bodies_may_be_sent_in_every_form_that_is_taken(
    page: Page, calls: list[tuple[str, str, dict[str, Any]]]
) -> None:
    offered = [given["data-example"] for given in page.all("option") if "data-example" in given]
    assert len(offered) == sum(len(one.get("requestBody", {}).get("content", {})) for _, _, one in calls)
    assert "store_id,timestamp_utc,status\nstore-1,2024-10-14 11:15:00 UTC,active\n" in offered
    assert '{\n  "timezone": "America/Chicago"\n}' in offered


def test_the_first_example_of_every_body_is_taken(
    client: FlaskClient, page: Page, calls: list[tuple[str, str, dict[str, Any]]]
) -> None:
    client.post("/api/v1/feeds/stores", json={"store_id": "store-1", "name": ""})
    client.post("/api/v1/feeds/polls", data="store_id,timestamp_utc,status\nstore-1,2024-10-14 11:15:00,active\n")
    examples = iter([given["data-example"] for given in page.all("option") if "data-example" in given])
    for method, path, one in calls:
        for kind in one.get("requestBody", {}).get("content", {}):
            example = next(examples)
            if example:
                path = path.replace("{store_id}", "store-1").replace("{schedule}", "1")
                answer = client.open(path, method=method, data=example.encode(), content_type=kind)
                assert answer.status_code in (200, 201, 202), (path, kind, answer.text)
    assert next(examples, None) is None


def test_nothing_is_inline_and_nothing_comes_from_elsewhere(client: FlaskClient, page: Page) -> None:
    assert "script-src 'self'; style-src 'self'" in client.get("/docs").headers["Content-Security-Policy"]
    assert page.all("style") == []
    for tag, given in page.elements:
        assert not [name for name in given if name.startswith("on") or name == "style"], (tag, given)
        assert tag != "script" or given.get("src"), given
        for name in ("src", "href", "action"):
            assert not re.match(r"(https?:)?//", given.get(name, "")), given
    for name in ("docs.css", "docs.js"):
        answer = client.get(f"/static/{name}", buffered=True)
        assert answer.status_code == 200
        assert answer.data == (STATIC / name).read_bytes()
        assert not re.search(
            rb"https?://|@import|\burl\(|innerHTML|eval\(|localStorage|sessionStorage|cookie", answer.data
        )


def test_light_and_dark_have_every_colour() -> None:
    text = (STATIC / "app.css").read_text("utf-8")
    light, dark = (
        set(re.findall(r"(--[\w-]+):", block))
        for block in re.findall(r"^ *:root \{(.*?)\}", text, re.DOTALL | re.M)[:2]
    )
    used = {name for file in STATIC.glob("*.css") for name in re.findall(r"var\((--[\w-]+)\)", file.read_text("utf-8"))}
    assert light == dark
    assert used <= light


def test_the_key_is_asked_for_and_never_written_into_the_page(app: Flask, client: FlaskClient, page: Page) -> None:
    (given,) = page.all("input", id="key")
    assert (given["type"], given["autocomplete"]) == ("password", "off")
    key = keys.add(app.extensions["storemon"].database, "read", "", 1)
    assert client.get("/docs").status_code == 401
    answer = client.get("/docs", headers={"Authorization": f"Bearer {key}"})
    assert answer.status_code == 200
    assert key not in answer.text
