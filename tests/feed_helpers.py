"""Pushing feeds over HTTP in tests, and what the database holds afterwards."""

import io
from typing import Any

import pytest
from conftest import sql
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from storemon_flask.settings import Settings

POLLS = "store_id,timestamp_utc,status\n"


HOURS = "store_id,day,start_time_local,end_time_local\n"


ZONES = "store_id,timezone_str\n"


STORES = "store_id,name,group\n"


GOOD = {
    "polls": POLLS + "a,2024-10-14 10:00:00 UTC,active\nb,2024-10-14 10:00:00 UTC,inactive\n",
    "hours": HOURS + "a,0,09:00,17:00\na,1,09:00,17:00\nb,0,10:00,10:00\n",
    "timezones": ZONES + "a,Asia/Tokyo\nb,UTC\n",
    "stores": STORES + "a,Alpha,North\nb,Beta,\n",
}


# One row of each feed that cannot be used, and why.
BAD = {
    "polls": ("c,2024-10-14 10:00:00 UTC,up\n", "status is neither active nor inactive"),
    "hours": ("c,7,09:00,17:00\n", "day of week is not a whole number from 0 (Monday) to 6 (Sunday)"),
    "timezones": ("c,Mars/Phobos\n", "time zone is not the name of an IANA zone"),
    "stores": (f"c,{'x' * 201},\n", "name or group is longer than 200 characters"),
}


PROBLEM = "application/problem+json"


def push(client: FlaskClient, feed: str, body: str | bytes, kind: str = "text/csv", **more: Any) -> TestResponse:
    if not body:
        more["environ_overrides"] = {"CONTENT_LENGTH": "0"}
    return client.post(f"/api/v1/feeds/{feed}", data=body, content_type=kind, **more)


def upload(client: FlaskClient, *files: tuple[str, bytes | str], query: str = "") -> TestResponse:
    sent = [(io.BytesIO(data.encode() if isinstance(data, str) else data), name) for name, data in files]
    return client.post(f"/api/v1/feeds{query}", data={"file": sent}, content_type="multipart/form-data")


def counts(answer: Any) -> tuple[int, ...]:
    """rows, new, changed, unchanged, repeated, rejected."""
    found = tuple(answer[name] for name in ("rows", "new", "changed", "unchanged", "repeated", "rejected"))
    assert found[0] == sum(found[1:])
    assert sum(answer["reasons"].values()) == answer["rejected"]
    return found


def problem(answer: TestResponse, status: int) -> str:
    """The sentence of a problem of that status."""
    assert (answer.status_code, answer.content_type) == (status, PROBLEM), answer.text
    body = answer.get_json(force=True)
    assert body["status"] == status
    assert body["type"].startswith("urn:storemon:problem:")
    detail: str = body["detail"]
    return detail


def stored(settings: Settings) -> dict[str, list[tuple[Any, ...]]]:
    """What the feeds left, by plain SQL."""
    return {
        "polls": sql(settings.database, "SELECT store_id, timestamp_utc, status FROM poll ORDER BY 1, 2"),
        "hours": sql(
            settings.database,
            "SELECT store_id, day, start_s, end_s FROM hours JOIN store_record ON number = store ORDER BY 1, 2, 3, 4",
        ),
        "timezones": sql(
            settings.database,
            "SELECT store_id, timezone.name FROM timezone JOIN store_record ON number = store ORDER BY 1",
        ),
        "stores": sql(settings.database, "SELECT store_id, name, group_name FROM store_record ORDER BY 1"),
    }


@pytest.fixture
def fleet(client: FlaskClient) -> FlaskClient:
    """A client after all four feeds were pushed."""
    for feed, text in GOOD.items():
        assert push(client, feed, text).status_code == 200
    return client
