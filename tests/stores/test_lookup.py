"""The store that somebody means: by id, beginning of an id, name, or words."""

import pytest
from conftest import load_folder, storemon

from storemon_flask.errors import NotFound
from storemon_flask.stores.lookup import Match, find_stores

STORES = """store_id,name,group
NYC/12,Corner Café,North
NYC/123,Corner Shop,North
nyc,Harbour,South
BOS/1,Café Corner,
BOS/2,,South
LAX/2,Pier 2,South
"""


@pytest.fixture
def fleet(database, tmp_path):
    (tmp_path / "feeds").mkdir()
    (tmp_path / "feeds" / "stores.csv").write_text(STORES)
    load_folder(database, tmp_path / "feeds")
    return database


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        # The id comes first, although others begin with it.
        ("NYC/12", ["NYC/12"]),
        ("nyc", ["nyc"]),
        # Then a name, although it occurs in others.
        ("HARBOUR", ["nyc"]),
        ("corner  cafe", ["BOS/1", "NYC/12"]),
        ("corner café", ["NYC/12"]),
        # Then the beginning of an id.
        ("NYC/1", ["NYC/12", "NYC/123"]),
        ("bos/2", ["BOS/2"]),
        ("Nyc", ["NYC/12", "NYC/123", "nyc"]),
        # Then words of the name, although the ids of others have them.
        ("2", ["LAX/2"]),
        ("shop", ["NYC/123"]),
        ("cafe 12", ["NYC/12"]),
        ("corner", ["BOS/1", "NYC/12", "NYC/123"]),
    ],
)
def test_a_text_means_stores(fleet, text, ids):
    assert [one.store_id for one in find_stores(fleet, text)] == ids


def test_a_match_has_name_and_group(fleet):
    assert find_stores(fleet, "BOS/2") == [Match("BOS/2", "", "South")]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("Harbor", "did you mean nyc (Harbour)?"),
        ("BOS/22", "did you mean BOS/2"),
        ("xyzzy", "the list of stores has those there are"),
        ("", "there is no store ''"),
        ("\ud800", "there is no store"),
    ],
)
def test_none_is_an_error_that_suggests_some(fleet, text, said):
    with pytest.raises(NotFound) as error:
        find_stores(fleet, text)
    assert said in error.value.message
    assert ("did you mean" in error.value.message) == ("did you mean" in said)


def test_the_command_shows_one_and_lists_several(fleet, settings):
    polls = "store_id,timestamp_utc,status\nNYC/12,2024-10-14 11:00:00,active\n"
    (settings.home / "polls.csv").write_text(polls)
    assert storemon(settings.home, "load-data", "polls.csv").returncode == 0
    one = storemon(settings.home, "store", "corner café")
    assert (one.returncode, one.stdout.splitlines()[0]) == (0, "NYC/12  America/Chicago")
    several = storemon(settings.home, "store", "corner", "--json")
    assert (several.returncode, several.stdout) == (2, "")
    assert several.stderr.splitlines() == [
        "Error: 'corner' means 3 stores; give the id of one:",
        "",
        "store    name         group",
        "BOS/1    Café Corner",
        "NYC/12   Corner Café  North",
        "NYC/123  Corner Shop  North",
    ]
