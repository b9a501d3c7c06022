"""Keys: what is made, what is kept of it, who is let in; and the setting that is one."""

import re
import traceback
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from conftest import sql
from hypothesis import given
from hypothesis import strategies as st

from storemon_flask import settings as settings_
from storemon_flask.cli.info import info_rows
from storemon_flask.database import keys
from storemon_flask.database.connections import Database
from storemon_flask.errors import DatabaseError, Forbidden, NotFound, SettingsError, Unauthorized, Unprocessable
from storemon_flask.settings import Secret, Settings

NONE = Secret("")
MASTER = Secret("correct-horse:battery")
NOW = 1_728_907_200_000_000


def lets_in(database: Database, key: str | None, scope: str, master: Secret = NONE) -> bool:
    try:
        keys.admit(database, master, key, scope)
    except (Unauthorized, Forbidden):
        return False
    return True


def test_a_key_is_a_prefix_and_192_random_bits(database: Database) -> None:
    made = [keys.add(database, "read", "", NOW) for _ in range(20)]
    assert all(re.fullmatch(r"sm_[0-9a-f]{8}[0-9a-f]{48}", key) for key in made)
    assert len({key[:11] for key in made}) == len({key[11:] for key in made}) == 20
    assert [row.prefix for row in keys.rows(database)] == [key[:11] for key in made]


def test_what_is_listed_is_what_was_said_of_it(database: Database) -> None:
    first = keys.add(database, "read", "Lyon, \N{GREEK SMALL LETTER ALPHA}", NOW)
    second = keys.add(database, "admin", "", NOW + 1)
    keys.revoke(database, first[:11], NOW + 2)
    assert keys.rows(database) == [
        keys.KeyRow(first[:11], "read", "Lyon, \N{GREEK SMALL LETTER ALPHA}", NOW, NOW + 2),
        keys.KeyRow(second[:11], "admin", "", NOW + 1, None),
    ]


def test_neither_a_key_nor_its_secret_part_is_in_any_file_of_the_database(
    database: Database, settings: Settings
) -> None:
    made = [keys.add(database, scope, "label-in-clear", NOW) for scope in keys.SCOPES]
    files = sorted(settings.database.parent.iterdir())
    content = b"".join(file.read_bytes() for file in files)
    assert b"label-in-clear" in content
    assert all(key[:11].encode() in content for key in made)
    assert not [key for key in made if key.encode() in content or key[11:].encode() in content]
    assert not [key for key in made if bytes.fromhex(key[11:]) in content]


def test_digests_are_made_with_32_bytes_of_this_database_alone(database: Database, tmp_path: Path) -> None:
    keys.add(database, "read", "", NOW)
    keys.add(database, "read", "", NOW)
    other = Database(tmp_path / "other.db")
    keys.add(other, "read", "", NOW)
    other.close()
    (ours,) = sql(database.path, "SELECT value FROM secret")
    (theirs,) = sql(tmp_path / "other.db", "SELECT value FROM secret")
    assert len(ours[0]) == len(theirs[0]) == 32
    assert ours != theirs


@pytest.mark.parametrize("has", keys.SCOPES)
@pytest.mark.parametrize("needed", keys.SCOPES)
def test_a_scope_allows_what_the_smaller_ones_allow(database: Database, has: str, needed: str) -> None:
    key = keys.add(database, has, "", NOW)
    allowed = keys.SCOPES.index(has) >= keys.SCOPES.index(needed)
    assert lets_in(database, key, needed) is allowed
    if not allowed:
        with pytest.raises(Forbidden) as refused:
            keys.admit(database, NONE, key, needed)
        assert f"needs a key of scope {needed}; the one sent has scope {has}" in refused.value.message


def test_without_any_key_everybody_is_let_in_and_no_database_is_made(database: Database) -> None:
    assert lets_in(database, None, "admin")
    assert lets_in(database, "whatever", "admin")
    assert not keys.required(database, NONE)
    assert not database.exists()


def test_a_server_that_started_with_a_key_does_not_open_when_the_database_is_gone(database: Database) -> None:
    with pytest.raises(Unauthorized):
        keys.admit(database, NONE, None, "read", always=True)
    with pytest.raises(Unauthorized):
        keys.admit(database, NONE, "sm_whatever", "read", always=True)


def test_a_revoked_key_is_refused_at_once_and_the_last_one_opens_nothing(database: Database) -> None:
    first, second = (keys.add(database, "write", "", NOW) for _ in range(2))
    assert lets_in(database, first, "write")
    row = keys.revoke(database, first[:11], NOW + 1)
    assert row.revoked_us == NOW + 1
    assert not lets_in(database, first, "read")
    assert lets_in(database, second, "write")
    keys.revoke(database, second, NOW + 2)
    assert not lets_in(database, second, "read")
    assert not lets_in(database, None, "read")
    assert keys.required(database, NONE)
    # The first time counts.
    assert keys.revoke(database, first[:11].removeprefix("sm_"), NOW + 3).revoked_us == NOW + 1


def test_revoking_what_is_not_there_changes_nothing(database: Database) -> None:
    with pytest.raises(DatabaseError, match="there is no database"):
        keys.revoke(database, "sm_00000000", NOW)
    assert not database.exists()
    key = keys.add(database, "read", "", NOW)
    for prefix in ("", "sm_", key[:10], "sm_zzzzzzzz", "%"):
        with pytest.raises(NotFound, match="storemon keys list"):
            keys.revoke(database, prefix, NOW)
    assert lets_in(database, key, "read")


@pytest.mark.parametrize("label", ["x" * 101, "two\nlines", "\x1b[31mred", "tab\there"])
def test_a_label_is_one_short_line(database: Database, label: str) -> None:
    with pytest.raises(Unprocessable, match="a label is one line"):
        keys.add(database, "read", label, NOW)
    assert not database.exists()


def test_a_scope_that_is_none_is_named(database: Database) -> None:
    with pytest.raises(Unprocessable, match="'root' is no scope; it must be read, write, admin"):
        keys.add(database, "root", "", NOW)


def test_the_key_of_the_settings_allows_everything_and_no_other_does(database: Database) -> None:
    assert lets_in(database, MASTER.value, "admin", MASTER)
    for wrong in (None, "", MASTER.value[:-1], MASTER.value + "x", MASTER.value.upper(), "\N{SNOWMAN}" * 21):
        assert not lets_in(database, wrong, "read", MASTER)
    assert not database.exists()
    key = keys.add(database, "read", "", NOW)
    assert lets_in(database, key, "read", MASTER)
    assert not lets_in(database, key, "write", MASTER)
    assert lets_in(database, MASTER.value, "admin", MASTER)
    # It is not stored: without the setting it is nothing.
    assert not lets_in(database, MASTER.value, "read")


@pytest.fixture(scope="module")
def with_a_key(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Database, str]]:
    with closing(Database(tmp_path_factory.mktemp("keys") / "storemon.db")) as database:
        yield database, keys.add(database, "admin", "", NOW)


@given(text=st.text() | st.text("sm_0123456789abcdef", max_size=60), at=st.integers(0, 58))
def test_nothing_but_the_key_itself_is_let_in(with_a_key: tuple[Database, str], text: str, at: int) -> None:
    database, key = with_a_key
    for wrong in (text, key[:at] + text, key[:at] + text + key[at + 1 :]):
        assert lets_in(database, wrong, "read") is (wrong == key)


def test_being_let_in_is_one_read_by_an_index(database: Database) -> None:
    key = keys.add(database, "read", "", NOW)
    said: list[str] = []
    with database.read() as connection:
        connection.set_trace_callback(said.append)
    for brought in (key, "sm_00000000", None):
        said.clear()
        lets_in(database, brought, "read")
        begin, select, rollback = said
        assert (begin, select[:7], rollback) == ("BEGIN", "SELECT ", "ROLLBACK")
        plan = sql(database.path, f"EXPLAIN QUERY PLAN {select}")
        assert [row[3].split()[:2] for row in plan] == [["SEARCH", "secret"], ["SEARCH", "it"]]


# The settings.


@pytest.mark.parametrize(
    "text", ["short", "x" * 15, "x" * 1001, "with a blank in it", " " * 20, "tab\t" * 8, "käse" * 5]
)
def test_a_wrong_key_in_the_settings_is_refused_without_being_shown(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError) as bad:
        settings_.load({"STOREMON_HOME": str(tmp_path), "STOREMON_API_KEY": text})
    assert bad.value.message == (
        f"STOREMON_API_KEY has {len(text)} characters that are not shown; "
        "it must be 16 to 1000 printable ASCII characters without blanks, or none"
    )
    # The lines of a traceback are indented with blanks.
    assert not text.strip() or text not in "".join(traceback.format_exception(bad.value))


def test_a_key_in_the_settings_is_in_no_text_of_them(tmp_path: Path) -> None:
    found = settings_.load({"STOREMON_HOME": str(tmp_path), "STOREMON_API_KEY": MASTER.value})
    assert found.api_key == MASTER
    rows = info_rows(found, Database(found.database))
    texts = [str(found), repr(found), f"{found.api_key}", repr(found.api_key), str(rows)]
    assert not [text for text in texts if MASTER.value in text or "battery" in text]
    assert ("STOREMON_API_KEY", "set, not shown") in rows


@pytest.mark.parametrize("text", [None, "none"])
def test_without_a_key_in_the_settings_there_is_none(tmp_path: Path, text: str | None) -> None:
    environ = {"STOREMON_HOME": str(tmp_path)} | ({} if text is None else {"STOREMON_API_KEY": text})
    assert not settings_.load(environ).api_key


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("auto", "auto"),
        ("*", "*"),
        ("Shop.Example", "shop.example"),
        (" a , .b.example,10.0.0.5 ", "a,.b.example,10.0.0.5"),
        ("::1,[FE80::0:1]", "[::1],[fe80::1]"),
    ],
)
def test_trusted_hosts_are_put_into_one_form(tmp_path: Path, text: str, found: str) -> None:
    environ = {"STOREMON_HOME": str(tmp_path), "STOREMON_TRUSTED_HOSTS": text}
    assert settings_.load(environ).trusted_hosts == found


def test_megabytes_are_millions_of_bytes(tmp_path: Path) -> None:
    assert settings_.load({"STOREMON_HOME": str(tmp_path)}).max_body_bytes == 1_024_000_000
    environ = {"STOREMON_HOME": str(tmp_path), "STOREMON_MAX_BODY_MB": "2"}
    assert settings_.load(environ).max_body_bytes == 2_000_000
