"""Tokens of push addresses: what is kept of one, and that it opens nothing but its store."""

import re

import pytest
from conftest import sql

from storemon_flask.database import keys, tokens
from storemon_flask.database.connections import Database
from storemon_flask.errors import NotFound, Unauthorized, Unprocessable
from storemon_flask.settings import Secret, Settings

NOW = 1_728_907_200_000_000
NONE = Secret("")


def test_a_token_is_of_its_store_until_it_is_revoked(database: Database) -> None:
    first = tokens.add(database, "NYC/12", "tablet", NOW)
    second = tokens.add(database, "NYC/12", "", NOW + 1)
    assert re.fullmatch(r"st_[0-9a-f]{8}[0-9a-f]{48}", first)
    assert [tokens.store_of(database, one) for one in (first, second)] == ["NYC/12", "NYC/12"]
    assert tokens.revoke(database, first, NOW + 2) == tokens.TokenRow(first[:11], "NYC/12", "tablet", NOW, NOW + 2)
    # The first time stays.
    assert tokens.revoke(database, first[3:11], NOW + 3).revoked_us == NOW + 2
    assert tokens.store_of(database, second) == "NYC/12"
    with pytest.raises(NotFound, match="was revoked"):
        tokens.store_of(database, first)
    assert [row.revoked_us for row in tokens.rows(database)] == [NOW + 2, None]


@pytest.mark.parametrize("change", [lambda t: t[:-1], lambda t: t + "0", lambda t: t[:11], lambda t: t.upper(),
                                    lambda t: "", lambda t: t[:11] + "0" * 48, lambda t: "\udcff"])  # fmt: skip
def test_what_is_not_quite_a_token_is_none(database: Database, change: "object") -> None:
    token = tokens.add(database, "a", "", NOW)
    with pytest.raises(NotFound) as wrong:
        tokens.store_of(database, change(token))  # type: ignore[operator]
    assert token[:11] not in wrong.value.message


def test_without_a_database_there_is_none_and_none_is_made(database: Database) -> None:
    with pytest.raises(NotFound):
        tokens.store_of(database, "st_" + "0" * 56)
    assert not database.exists()


def test_a_token_is_no_key_and_a_key_is_no_token(database: Database) -> None:
    token = tokens.add(database, "a", "", NOW)
    # A token alone does not lock the service.
    assert not keys.required(database, NONE)
    key = keys.add(database, "admin", "", NOW)
    for brought in (token, "sm_" + token[3:]):
        with pytest.raises(Unauthorized):
            keys.admit(database, NONE, brought, "read")
    for brought in (key, "st_" + key[3:]):
        with pytest.raises(NotFound):
            tokens.store_of(database, brought)


def test_nothing_of_a_token_but_its_prefix_is_in_the_files(database: Database, settings: Settings) -> None:
    token = tokens.add(database, "a", "label-in-clear", NOW)
    content = b"".join(file.read_bytes() for file in settings.database.parent.iterdir())
    assert b"label-in-clear" in content
    assert token[:11].encode() in content
    assert token[11:].encode() not in content
    assert bytes.fromhex(token[11:]) not in content


def test_a_label_and_a_prefix_that_are_none_are_sentences(database: Database) -> None:
    with pytest.raises(Unprocessable, match="a label is one line of at most 100 printable characters"):
        tokens.add(database, "a", "x" * 101, NOW)
    tokens.add(database, "a", "", NOW)
    with pytest.raises(NotFound, match="there is no token st_nobody; `storemon tokens list` shows the prefixes of all"):
        tokens.revoke(database, "nobody", NOW)
    assert sql(database.path, "SELECT count(*) FROM push_token") == [(1,)]
