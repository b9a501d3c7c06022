"""The page of push addresses: what it lists."""

import re

from conftest import sql
from flask import Flask
from flask.testing import FlaskClient

from storemon_flask.database import tokens
from storemon_flask.settings import Settings


def listed(client: FlaskClient) -> list[str]:
    return re.findall(r"<code>(st_[0-9a-f]{8})…</code>", client.get("/data/push").text)


def test_addresses_that_work_stand_before_those_that_do_not_the_newest_first(app: Flask, client: FlaskClient) -> None:
    database = app.extensions["storemon"].database
    prefixes = [tokens.add(database, f"s{number}", "", number)[:11] for number in range(1, 5)]
    tokens.revoke(database, prefixes[3], 9)
    assert listed(client) == [prefixes[2], prefixes[1], prefixes[0], prefixes[3]]
    assert "storemon tokens list" not in client.get("/data/push").text


def test_of_very_many_addresses_the_page_has_five_hundred_and_says_where_the_others_are(
    app: Flask, client: FlaskClient, settings: Settings
) -> None:
    tokens.add(app.extensions["storemon"].database, "a", "", 1)
    with app.extensions["storemon"].database.write() as connection:
        connection.executemany(
            "INSERT INTO push_token (prefix, digest, store_id, label, created_us) VALUES (?, ?, ?, '', ?)",
            [(f"st_{number:08x}", "0" * 64, f"s{number}", number) for number in range(10_000)],
        )
    assert sql(settings.database, "SELECT count(*) FROM push_token") == [(10_001,)]
    text = client.get("/data/push").text
    assert listed(client) == [f"st_{number:08x}" for number in range(9_999, 9_499, -1)]
    assert "And 9,501 more, older or revoked: <code>storemon tokens list</code> has all." in text
    assert len(text) < 400_000
