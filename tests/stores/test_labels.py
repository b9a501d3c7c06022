"""Lists of stores by label: over HTTP, on Now and at the command line; and labels where a store is shown."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from cli_helpers import Done
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import load_folder
from flask.testing import FlaskClient

from storemon_flask.database.connections import Database
from storemon_flask.stores import live_list
from storemon_flask.stores.live_list import ListQuery

FILE = (
    "store_id,name,group,region,brand,tag:city\n"
    "worked,The Corner,North,West,Acme,Paris\n"
    "silent,,South,West,,\n"
    "new,Annex,,East,,<b>\n"
    "plain,,,,,\n"
)


@pytest.fixture
def labelled(small_fleet: Path, database: Database, tmp_path: Path) -> Database:
    folder = tmp_path / "more"
    folder.mkdir()
    (folder / "names.csv").write_text(FILE)
    load_folder(database, folder)
    return database


def ids(client: FlaskClient, query: str) -> set[str]:
    answer = client.get(f"/api/v1/stores?{query}")
    assert answer.status_code == 200, answer.text
    return {one["store_id"] for one in answer.get_json()["stores"]}


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ("label=region=West", {"worked", "silent"}),
        ("label=region%3DWest&label=region%3DEast", {"worked", "silent", "new"}),
        ("label=region=West&label=tag:city=Paris", {"worked"}),
        ("label=group=North", {"worked"}),
        ("label=region=Mars", set()),
        ("label=region=West&group=South", {"silent"}),
    ],
)
def test_a_list_is_limited_by_labels(labelled: Database, client: FlaskClient, query: str, expected: set[str]) -> None:
    everyone = ids(client, "")
    assert expected <= everyone
    assert ids(client, query) == expected
    rows = client.get(f"/api/v1/stores.csv?{query}").text.splitlines()[1:]
    assert {row.split(",")[0] for row in rows} == ids(client, query)


def test_stores_without_a_label_are_those_with_the_empty_value(labelled: Database, client: FlaskClient) -> None:
    assert ids(client, "label=region=") == ids(client, "") - {"worked", "silent", "new"}
    assert ids(client, "label=tag:nothing=") == ids(client, "")


def test_what_is_no_label_is_refused(labelled: Database, client: FlaskClient) -> None:
    for path in ("/api/v1/stores?label=West", "/api/v1/stores.csv?label=city=x", "/?label=West"):
        answer = client.get(path)
        assert answer.status_code == 422, path
    assert (
        "NAME is group, brand, region, platform or tag:NAME"
        in client.get("/api/v1/stores?label=x").get_json()["detail"]
    )


def test_a_store_has_its_labels_everywhere(labelled: Database, client: FlaskClient) -> None:
    expected = {"brand": "Acme", "region": "West", "tag:city": "Paris"}
    assert client.get("/api/v1/stores/worked").get_json()["labels"] == expected
    (listed,) = (one for one in client.get("/api/v1/stores").get_json()["stores"] if one["store_id"] == "worked")
    assert listed["labels"] == expected
    page = client.get("/stores/worked").text
    for text in ("brand Acme", "region West", "city Paris"):
        assert f"<bdi>{text}</bdi>" in page
    assert "<bdi>city &lt;b&gt;</bdi>" in client.get("/").text


def test_now_has_a_choice_for_each_label(labelled: Database, client: FlaskClient) -> None:
    page = client.get("/").text
    assert page.count('name="label"') == 3
    for name, value in (("region", "West"), ("brand", "Acme"), ("tag:city", "Paris")):
        assert f'<option value="{name}={value}">{value}</option>' in page
    assert '<option value="region=">(none)</option>' in page
    limited = client.get("/?label=region%3DWest&label=&label=").text
    assert '<option value="region=West" selected>West</option>' in limited
    assert 'href="/stores/worked"' in limited
    assert 'href="/stores/new"' not in limited
    # Links of the page go on with it.
    assert "label=region%3DWest" in limited.split('id="counts"')[1].split("</nav>")[0]
    assert "region West" in limited
    two = client.get("/?label=region%3DWest&label=region%3DEast").text
    assert '<input type="hidden" name="label" value="region=East">' in two


def test_the_command_line_lists_by_label_and_shows_labels(run: Callable[..., Done], home: Path) -> None:
    (home / "polls.csv").write_text(
        "store_id,timestamp_utc,status\n"
        + "".join(f"{one},2024-10-14 11:00:00,active\n" for one in ("worked", "new", "x"))
    )
    (home / "names.csv").write_text(FILE)
    assert run("load-data", "polls.csv", "names.csv").code == 0
    done = run("stores", "--label", "region=West", "--label", "region=East", "--label", "brand=Acme", "--json")
    listed = json.loads(done.out)["stores"]
    assert [(one["store_id"], one["labels"]["tag:city"]) for one in listed] == [("worked", "Paris")]
    assert "The Corner (North, brand Acme, region West, city Paris)" in run("stores").out
    assert "The Corner (North, brand Acme, region West, city Paris)" in run("store", "worked").out
    report = run("report", "--window", "last_day", "--label", "tag:city=Paris")
    assert [line.split(",")[0] for line in report.out.splitlines()] == ["store_id", "worked"]
    wrong = run("stores", "--label", "West")
    assert (wrong.code, "it must be NAME=VALUE" in wrong.err) == (2, True)
    unknown = run("report", "--label", "region=Mars")
    assert (unknown.code, "no store is in 'Mars'" in unknown.err) == (1, True)


def test_a_list_of_a_snapshot_is_what_the_labels_say(labelled: Database, settings: object) -> None:
    from storemon_flask.settings import Settings

    assert isinstance(settings, Settings)
    snapshot = live_list.compute_snapshot(labelled, settings.rules, "America/Chicago", 1_728_907_200_000_000)
    for name in ("region", "brand", "tag:city", "group"):
        texts, code = snapshot.labels.codes(name)
        for value in texts:
            page = live_list.select_page(snapshot, ListQuery(labels={name: [value]}, limit=None))
            assert sorted(page.indices) == np.flatnonzero(code == texts.index(value)).tolist()


def test_outages_are_limited_by_labels(labelled: Database, client: FlaskClient) -> None:
    every = client.get("/api/v1/outages?window=this_month").get_json()["outages"]
    assert "worked" in {one["store_id"] for one in every}
    for query, is_in in (("label=region=West&label=brand=Acme", True), ("label=region=East", False)):
        listed = client.get(f"/api/v1/outages?window=this_month&{query}").get_json()["outages"]
        expected = [one for one in every if one["store_id"] == "worked"] if is_in else []
        assert [one for one in listed if one["store_id"] == "worked"] == expected
        assert len(client.get(f"/api/v1/outages.csv?window=this_month&{query}").text.splitlines()) == 1 + len(listed)
        page = client.get(f"/outages?window=this_month&{query}").text
        assert ('href="/stores/worked' in page) == is_in
        assert "label=region%3D" in page
    assert client.get("/outages?label=West").status_code == 422
    assert client.get("/api/v1/outages?label=West").status_code == 422
    assert client.get("/outages?label=&window=this_month").status_code == 200
