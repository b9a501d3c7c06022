"""The ten questions of docs/pages.md, each answered from `/` by its number of clicks, without JavaScript.

A click is one on a link or a button, or a choice from a list; what is typed is none.
"""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from conftest import load_folder
from playwright.sync_api import Browser, Locator, Page, expect
from watching import browser as browser
from watching import follow, watched

from storemon_flask.database.connections import Database

DOCUMENT = (Path(__file__).resolve().parents[2] / "docs" / "pages.md").read_text("utf-8")
MOST_CLICKS = 2
# Thursday, 15:30 in New York.
NEWEST = datetime(2024, 11, 7, 20, 30, tzinfo=UTC)
# By store: from when to when it was down, as instants; the clock of New York was 5 hours behind UTC.
DOWN = {
    # Now, and yesterday from 14:00 to 17:00; last Friday for three hours; both weeks before, an hour each.
    "west-1": [("2024-11-07T18:00", "2024-11-08T00:00"), ("2024-11-06T19:00", "2024-11-06T22:00")],
    "west-2": [("2024-11-06T19:00", "2024-11-06T20:00"), ("2024-11-01T15:00", "2024-11-01T18:00")],
    "east-1": [("2024-11-05T16:00", "2024-11-05T17:00"), ("2024-10-30T16:00", "2024-10-30T19:00")],
    "east-2": [("2024-10-22T14:00", "2024-10-23T01:00")],
}


@pytest.fixture
def restaurants(database: Database, serve: Callable[..., Any], tmp_path: Path) -> Any:
    """A real server over five restaurants, polled every half hour; `east-3` has no hours."""
    ids = [*DOWN, "east-3"]
    instants = [NEWEST - timedelta(minutes=30 * back) for back in range(18 * 48)]
    polls = ["store_id,timestamp_utc,status"]
    for store_id in ids:
        spans = [tuple(datetime.fromisoformat(edge + "+00:00") for edge in span) for span in DOWN.get(store_id, [])]
        polls += [
            f"{store_id},{at:%Y-%m-%dT%H:%M:%SZ},{'inactive' if any(a <= at < b for a, b in spans) else 'active'}"
            for at in instants
        ]
    hours = [f"{store_id},{day},08:00,22:00" for store_id in DOWN for day in range(7)]
    (tmp_path / "polls.csv").write_text("\n".join(polls) + "\n")
    (tmp_path / "hours.csv").write_text("\n".join(["store_id,day,start_time_local,end_time_local", *hours]) + "\n")
    zones = [f"{store_id},America/New_York" for store_id in ids]
    (tmp_path / "zones.csv").write_text("\n".join(["store_id,timezone_str", *zones]) + "\n")
    names = [f"{one},Restaurant {one},{'North' if '1' in one else 'South'},{one[:4].capitalize()}" for one in ids]
    (tmp_path / "stores.csv").write_text("\n".join(["store_id,name,group,region", *names]) + "\n")
    load_folder(database, tmp_path)
    database.close()
    return serve()


class Visit:
    """A page that begins at `/`, and how often something was clicked."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.clicks = 0
        page.goto("/")

    def click(self, target: Locator) -> None:
        """Click a link or a button that leads to a page, and wait for that."""
        self.clicks += 1
        follow(self.page, target)

    def go_to(self, name: str) -> None:
        """Click an entry of the navigation."""
        self.click(self.page.get_by_role("navigation", name="Pages").get_by_role("link", name=name, exact=True))

    def choose(self, label: str, option: str) -> None:
        """Choose from a list."""
        self.clicks += 1
        self.page.get_by_label(label, exact=True).select_option(label=option)

    def stores(self) -> list[str]:
        """The ids of the list on Now, from the top."""
        return [
            str(one.get_attribute("data-key")).removeprefix("store-")
            for one in self.page.locator("#rows [data-key^=store-]").all()
        ]


@contextmanager
def visiting(browser: Browser, server: Any) -> Iterator[Visit]:
    with watched(browser, server.url, java_script_enabled=False) as page:
        yield Visit(page)


def who_is_down(visit: Visit, server: Any) -> None:
    assert visit.stores()[0] == "west-1"
    badges = visit.page.locator("#rows .badge").all_inner_texts()
    assert [text.split()[-1] for text in badges] == ["Down", "Up", "Up", "Up", "Up"]


def since_when(visit: Visit, server: Any) -> None:
    row = visit.page.locator("#rows tr").first
    expect(row).to_contain_text("down for 2 h 45 min")
    expect(row).to_contain_text("since Thu 2024-11-07 12:45 EST")


def worst_region_this_week(visit: Visit, server: Any) -> None:
    visit.go_to("Overview")
    visit.click(visit.page.get_by_role("link", name="region", exact=True))
    groups = visit.page.locator("#groups tr th").all_inner_texts()
    assert [name.strip() for name in groups] == ["West", "East"]
    rows = server.get("/api/v1/overview?by=region").json["groups"]
    assert [row["group"] for row in rows] == ["West", "East"]
    assert rows[0]["uptime_percent_this_week"] < rows[1]["uptime_percent_this_week"]
    shown = visit.page.locator("#groups tr").first.inner_text()
    assert f"{rows[0]['uptime_percent_this_week']:.2f} %" in shown


def this_week_against_last(visit: Visit, server: Any) -> None:
    visit.go_to("Overview")
    fleet = server.get("/api/v1/overview").json["fleet"]
    week = visit.page.locator("#windows div").first
    expect(week).to_contain_text(f"{fleet['uptime_percent_this_week']:.2f} %")
    expect(week).to_contain_text("against the same part of the week before")
    expect(week).to_contain_text(f"{abs(fleet['change']):.2f}")
    # 2.75, 3, 1 and 1 hours; three in the same part of the week before.
    assert fleet["downtime_this_week"] == 7.75
    assert fleet["change"] < 0


def why(visit: Visit, server: Any) -> None:
    visit.click(visit.page.locator("#rows [data-key=store-west-1]"))
    listed = visit.page.locator("#listed tbody tr").all_inner_texts()
    timeline = server.get("/api/v1/stores/west-1/timeline").json
    assert len(listed) == len(timeline["outages"]) == 2
    assert "Thu 2024-11-07 12:45" in listed[0] or "Thu 2024-11-07 12:45" in listed[1]


def stores_below_a_percentage(visit: Visit, server: Any) -> None:
    visit.page.get_by_label("Uptime below, in %").fill("96")
    visit.click(visit.page.get_by_role("button", name="Show"))
    assert visit.stores() == ["west-1", "west-2"]
    listed = server.get("/api/v1/stores?below=96").json["stores"]
    assert [one["store_id"] for one in listed] == visit.stores()
    assert all(one["uptime_percent_last_week"] < 96 for one in listed)


def which_hours_of_the_week_are_worst(visit: Visit, server: Any) -> None:
    visit.go_to("Overview")
    hours = server.get("/api/v1/overview").json["hours"]
    worst = max(hours, key=lambda one: one["downtime"] / max(one["uptime"] + one["downtime"], 0.01))
    days = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
    row = visit.page.locator("#heat tr").filter(has=visit.page.locator("th", has_text=days[worst["weekday"]]))
    shares = [
        float(match[0]) if (match := re.match(r"[0-9.]+", text.strip())) else 0.0
        for text in visit.page.locator("#heat td").all_inner_texts()
    ]
    here = float(re.match(r"[0-9.]+", row.locator("td").nth(worst["hour"]).inner_text().strip())[0])  # type: ignore[index]
    assert len(shares) == 7 * 24
    assert here == max(shares) > 0


def stores_without_hours(visit: Visit, server: Any) -> None:
    visit.choose("Without", "business hours")
    visit.click(visit.page.get_by_role("button", name="Show"))
    assert visit.stores() == ["east-3"]
    assert server.get("/api/v1/stores/east-3").json["always_open"] is True


def what_was_going_on_yesterday_at_three(visit: Visit, server: Any) -> None:
    visit.go_to("Outages")
    visit.page.get_by_label("Going on at (each store’s own clock)").fill("2024-11-06T14:30")
    visit.click(visit.page.get_by_role("button", name="Show"))
    stores = visit.page.locator("table.outages tbody th a").all_inner_texts()
    assert sorted(stores) == ["Restaurant west-1", "Restaurant west-2"]


def outages_longer_than_two_hours_this_month(visit: Visit, server: Any) -> None:
    visit.go_to("Outages")
    visit.click(visit.page.get_by_role("link", name="2 h or longer"))
    rows = [row.inner_text() for row in visit.page.locator("table.outages tbody tr").all()]
    assert [("west-1" in row, "west-2" in row) for row in sorted(rows)].count((True, False)) == 2
    # On 1 November: three hours.
    assert sum("west-2" in row for row in rows) == 1
    assert not any("east" in row for row in rows)


QUESTIONS: dict[str, tuple[Callable[[Visit, Any], None], int]] = {
    "Who is down?": (who_is_down, 0),
    "Since when?": (since_when, 0),
    "Which region was worst this week?": (worst_region_this_week, 2),
    "How is this week against last week?": (this_week_against_last, 1),
    "Why is that number what it is?": (why, 1),
    "Which stores are below a percentage?": (stores_below_a_percentage, 1),
    "Which hours of the week are worst?": (which_hours_of_the_week_are_worst, 1),
    "Which stores have no hours?": (stores_without_hours, 2),
    "What was going on yesterday at 15:00?": (what_was_going_on_yesterday_at_three, 2),
    "Which outages of this month were longer than two hours?": (outages_longer_than_two_hours_this_month, 2),
}


def test_each_question_is_answered_by_its_number_of_clicks(browser: Browser, restaurants: Any) -> None:
    for question, (answer, clicks) in QUESTIONS.items():
        with visiting(browser, restaurants) as visit:
            answer(visit, restaurants)
            assert visit.clicks == clicks <= MOST_CLICKS, question


def test_the_document_has_the_same_questions_and_numbers() -> None:
    section = DOCUMENT[DOCUMENT.index("## Ten questions") :]
    rows = re.findall(r"^\| ([^|]+\?) \| ([0-9]) \| [^|]+ \|$", section, re.MULTILINE)
    assert rows == [(question, str(clicks)) for question, (_, clicks) in QUESTIONS.items()]
