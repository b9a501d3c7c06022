"""The page of a store whose time zone was replaced from a date on: each day by the clock that hung there then."""

import re

import pytest
from flask.testing import FlaskClient
from pages.test_pages import page_of

POLLS = "store_id,timestamp_utc,status\n" + "".join(
    f"moved,2024-10-{day:02d} {hour:02d}:00:00,active\n" for day in range(1, 15) for hour in range(24)
)
HOURS = "store_id,day,start_time_local,end_time_local\n" + "".join(f"moved,{day},08:00,20:00\n" for day in range(7))


def moved(client: FlaskClient, before: str, after: str) -> str:
    """The store's page, its zone replaced from 2024-10-10 on, blanks made single."""
    zones = f"store_id,timezone_str,valid_from\nmoved,{before},\nmoved,{after},2024-10-10\n"
    for feed, body in (("polls", POLLS), ("hours", HOURS), ("timezones", zones)):
        assert client.post(f"/api/v1/feeds/{feed}", data=body).status_code == 200
    return re.sub(r"\s+", " ", page_of(client, "/stores/moved").text)


def days(client: FlaskClient) -> list[str]:
    """What each row says of itself, the newest first."""
    found = page_of(client, "/stores/moved?days=30")
    return [given["aria-label"] for given in found.all("svg") if given.get("class", "").split()[:1] == ["day"]]


def test_days_before_the_move_are_those_of_the_zone_before(client: FlaskClient) -> None:
    text = moved(client, "America/Chicago", "Australia/Perth")
    assert "Local time of America/Chicago, from 2024-10-10 on Australia/Perth." in text
    # Midnight in Perth is 11:00 CDT. What was open then in Chicago goes on until 20:00 CDT, an hour into the first
    # day's hours.
    told = {label[4:14]: label for label in days(client)}
    assert "11 h: another time zone" in told["2024-10-09"]
    assert "12 h up" in told["2024-10-08"]
    assert "20 h up" in told["2024-10-10"]
    assert "12 h up" in told["2024-10-11"]
    assert "08:00 CDT–" in text
    assert "08:00 AWST–" in text


def test_days_are_those_of_the_report_by_day(client: FlaskClient) -> None:
    moved(client, "America/Chicago", "Australia/Perth")
    asked = {"by": "day", "windows": ["last_week"]}
    answer = client.post("/trigger_report", json=asked)
    csv = client.get(f"/get_report?report_id={answer.json['report_id']}").text.splitlines()
    place = csv[0].split(",").index("uptime_hours")
    hours = {row.split(",")[1]: float(row.split(",")[place]) for row in csv[1:]}
    told = {label[4:14]: label for label in days(client)}
    whole = sorted(hours)[1:-1]
    assert len(whole) >= 5
    for day in whole:
        found = re.search(r": (\d+) h(?: (\d+) min)? up", told[day])
        assert found
        assert int(found[1]) + int(found[2] or 0) / 60 == pytest.approx(hours[day], abs=0.01)


def test_a_move_around_the_world_is_shown_all_the_same(client: FlaskClient) -> None:
    text = moved(client, "Pacific/Kiritimati", "Pacific/Pago_Pago")
    assert "from 2024-10-10 on Pacific/Pago_Pago" in text
    labels = days(client)
    assert len(labels) == 29
    assert any("49 h: another time zone" in label for label in labels)
