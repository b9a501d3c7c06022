"""Schedules over HTTP and in the terminal: add, list, run, remove, and what is refused with what is allowed."""

import json
from typing import Any

import pytest
from conftest import storemon
from flask.testing import FlaskClient
from schedule_helpers import add_channel, weeks

from storemon_flask.database.connections import Database
from storemon_flask.settings import Settings

__all__ = ["weeks"]

PATH = "/api/v1/schedules"


def post(client: FlaskClient, status: int = 201, path: str = PATH, **body: Any) -> Any:
    answer = client.post(path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json


def test_one_is_added_listed_run_and_removed(client: FlaskClient, weeks: Database) -> None:
    add_channel(weeks, "ops")
    asked = {"name": "North", "due": "Weekly Mon 7:00", "zone": "america/new_york", "channels": ["ops"], "below": 99.5}
    added = post(client, **asked, format="xlsx", report={"groups": ["North"], "windows": ["last_week", "last_month"]})
    assert {name: added[name] for name in added if name not in ("next", "schedule_id")} == {
        "name": "North",
        "due": "weekly mon 7:00",
        "zone": "America/New_York",
        "report": {
            "columns": "full",
            "totals": True,
            "windows": ["last_week", "last_month"],
            "groups": ["North"],
        },
        "format": "xlsx",
        "channels": ["ops"],
        "below": 99.5,
        "runs": [],
    }
    assert [one["local"][:3] for one in added["next"]] == ["Mon"] * 3
    assert all(one["local"][14:] in (" 07:00 EST", " 07:00 EDT") for one in added["next"])
    listed = client.get(PATH).json
    assert listed == {"schedules": [added]}
    # What is answered can be sent again.
    client.delete(f"{PATH}/{added['schedule_id']}")
    again = post(client, **{name: added[name] for name in added if name not in ("next", "schedule_id", "runs")})
    assert again["report"] == added["report"]
    run = post(client, 202, f"{PATH}/{again['schedule_id']}/run", due="2024-10-14T11:00:00Z")
    assert (run["state"], run["due"], run["by_hand"]) == ("waiting", "2024-10-14T11:00:00.000000Z", True)
    assert client.get(PATH).json["schedules"][0]["runs"] == [run]  # type: ignore[index]
    assert post(client, 409, f"{PATH}/{again['schedule_id']}/run", due="2024-10-14T11:00:00Z")["status"] == 409
    assert client.delete(f"{PATH}/{again['schedule_id']}").status_code == 204
    assert client.delete(f"{PATH}/{again['schedule_id']}").status_code == 404
    assert client.post(f"{PATH}/{1 << 70}/run").status_code == 404
    assert client.get(PATH).json == {"schedules": []}


@pytest.mark.parametrize(
    ("body", "field", "said"),
    [
        ({"due": "daily 7"}, "due", "due has the time '7'; it must be a time of day from 00:00 to 23:59"),
        ({"due": "sometimes"}, "due", "due is 'sometimes'; it must be `daily 07:00`, `weekly mon 07:00`"),
        ({"zone": "Mars"}, "zone", "zone is 'Mars'; it must be the name of one, such as America/New_York"),
        ({"name": "a\nb"}, "name", "name is 'a\\nb'; it must be 1 to 100 characters that can be seen, on one line"),
        ({"name": " "}, "name", "name is ''; it must be 1 to 100 characters"),
        ({"format": "pdf"}, "format", "format: Must be one of: csv, xlsx"),
        ({"below": 101}, "below", "below: Must be greater than or equal to 0 and less than or equal to 100"),
        ({"channels": ["x"]}, "channels", "channels has 'x', which is no channel; it must be one of ops"),
        ({"channels": ["\ud800"]}, "channels", "channels has '\\ud800', which is no channel; it must be one of ops"),
        ({"report": {"windows": ["2024"]}}, "report", "report.windows[0]: Must be one of: last_hour, last_day"),
        ({"report": {"as_of": "2024-01-01"}}, "report", "report.as_of: Unknown field"),
        ({"report": {"groups": ["West"]}}, "groups", "groups: no store is in 'West'"),
        ({"report": {"stores": ["x"]}}, "stores", "unknown stores: 'x'"),
        ({"report": {"by": "decade"}}, "by", "by is 'decade'; it must be hour, daypart, day, week, month"),
        ({"report": {"totals": 3}}, "totals", "totals is 3; it must be true or false"),
        ({"report": {"kind": "outages", "columns": "full"}}, "columns", "columns does not go with outages"),
        ({"report": {"kind": "outages", "by": "day"}}, "by", "by does not go with outages"),
    ],
)
def test_what_is_wrong_is_named_with_what_is_allowed(
    client: FlaskClient, weeks: Database, body: dict[str, Any], field: str, said: str
) -> None:
    add_channel(weeks, "ops")
    problem = post(client, 422, **{"name": "North", "due": "daily 07:00", **body})
    assert problem["detail"].startswith(said)
    assert field in problem["errors"]
    assert client.get(PATH).json == {"schedules": []}


def test_a_name_is_taken_until_its_schedule_is_removed(client: FlaskClient) -> None:
    post(client, name="North", due="daily 07:00")
    assert "there is a schedule 'North' already" in post(client, 409, name="North", due="daily 08:00")["detail"]


def test_the_terminal_does_the_same(weeks: Database, settings: Settings) -> None:
    add_channel(weeks, "ops")
    weeks.close()

    def run(*arguments: str, group: str = "schedules") -> tuple[int, str, str]:
        done = storemon(settings.home, group, *arguments)
        return done.returncode, done.stdout, done.stderr

    code, out, err = run("add", "North", "--due", "weekly mon 07:00", "--group", "North", "--channel", "ops")
    assert (code, err) == (0, "")
    assert out.startswith("North is due next Mon ")
    assert out.rstrip()[-9:] in ("07:00 CST", "07:00 CDT")
    (listed,) = json.loads(run("list", "--json")[1])["schedules"]
    assert (listed["name"], listed["report"]["groups"], listed["channels"]) == ("North", ["North"], ["ops"])
    assert "weekly mon 07:00" in run("list")[1]
    assert run("run", "North", "--due", "2024-10-14T11:00:00Z") == (
        0, "North as of 2024-10-14T11:00:00.000000Z: it is made once `storemon serve` runs\n", "",
    )  # fmt: skip
    assert "waiting 2024-10-14 11:00 UTC" in run("list")[1]
    for arguments, said in (
        (("add", "x", "--due", "daily 07:00", "--timezone", "Mars"), "--timezone is 'Mars'; it must be the name"),
        (("add", "x", "--due", "daily 07:00", "--window", "w"), "--window has 'w'; it must be last_hour, last_day"),
        (("add", "x", "--due", "daily 07:00", "--channel", "w"), "--channel has 'w', which is no channel; it must be"),
        (("run", "South"), "there is no schedule 'South'"),
        (("run", "North", "--due", "2200-01-01"), "--due is 2200-01-01T00:00:00.000000Z, which is in the future"),
    ):
        code, out, err = run(*arguments)
        assert (code, out) == (1, "")
        assert err.startswith(f"Error: {said}")
    code, out, err = run("remove", "North")
    assert (code, out, "Nobody is there to answer: say --yes" in err) == (2, "", True)
    code, out, err = run("remove", "ops", group="channels")
    assert (code, out) == (2, "")
    assert "It no longer receives the reports of the schedule North." in " ".join(err.split())
    assert run("remove", "North", "--yes") == (0, "North is removed\n", "")
    assert run("remove", "North", "--yes")[0] == 1
