"""From a report to a store: its page and its JSON at the report's as-of say the same numbers, cell by cell."""

import html
import re
from typing import Any

import pytest
from flask.testing import FlaskClient
from report_helpers import asked, rows_of
from report_helpers import fleet as fleet

from storemon_flask.database.connections import Database
from storemon_flask.formatting import known_text
from storemon_flask.reports import request as requests

AMOUNTS = ("uptime", "downtime", "unknown", "business", "measured")
BROWSER = {"Accept": "text/html"}


def numbers(page: str) -> dict[str, list[str]]:
    """The cells of the page's numbers by the name of their row: the percentage, low and high, and amounts."""
    body = page[page.index('<tbody id="sums"') : page.index("</tbody></table></div>")]
    rows = [
        [" ".join(html.unescape(re.sub(r"<[^>]+>", "", cell)).split()) for cell in re.findall(r"<t[hd][^>]*>(.*?)</"
            r"t[hd]>", row)]
        for row in re.findall(r"<tr>(.*?)</tr>", body, re.DOTALL)
    ]  # fmt: skip
    return {name.lower(): cells for name, *cells in rows}


def expected(row: dict[str, str], suffix: str, unit: str, percent: str) -> list[str]:
    """What the page shows of a row of a full report: the percentage with its likely range, and the amounts."""
    amounts = [row[f"{name}{suffix}"] for name in AMOUNTS]
    known = known_text(*(round(100 * float(row[f"{name}{suffix}"])) for name in ("unknown", "business")), unit)
    shown = f"{row[percent]} % {known}".strip() if row[percent] else "–"
    low, high = (row[percent.replace("percent", f"percent_likely_{end}", 1)] for end in ("low", "high"))
    if low:
        shown += f" likely {low} to {high}"
    return [shown, *(f"{amount} min" if unit == "min" else amount for amount in amounts)]


def links(client: FlaskClient, body: dict[str, Any], limit: int = 500) -> tuple[str, list[dict[str, str]], list[str]]:
    """A report asked for, its rows, and for each that is of a store the address that the report's page leads to."""
    answer = client.post("/trigger_report", json=body)
    assert answer.status_code == 202, answer.text
    report_id = answer.json["report_id"]
    rows = rows_of(client.get(f"/get_report?report_id={report_id}").text)
    page = client.get(f"/reports/{report_id}?limit={limit}").text
    found = [html.unescape(one) for one in re.findall(r'<th scope="row"><bdi[^>]*><a href="([^"]+)"', page)]
    return report_id, rows, found


WINDOWED = [
    {},
    {"as_of": "2024-10-03T11:07:45.250000Z"},
    {"as_of": "2024-10-20T00:00:00Z"},
    {"windows": ["last_hour", "last_day", "last_week"], "totals": True},
    {"windows": ["last_30_days", {"from": "2024-10-01", "to": "2024-10-08"}]},
    {"windows": ["today", "yesterday", "this_week", "last_week_calendar", "last_7_days", "this_month", "last_month"]},
    {
        "windows": [
            {"from": "2024-10-02T09:00:00-05:00", "to": "2024-10-05T09:30:15.5+02:00", "name": "a = b..c & <d>"},
            {"from": "2024-10-01", "to": "2024-10-03", "name": "first days"},
            "last_week",
        ],
        "as_of": "2024-10-09T00:00:00Z",
    },
    {"method": "previous", "windows": ["last_week"]},
    {"method": "previous"},
]


@pytest.mark.parametrize("body", WINDOWED)
def test_the_link_of_a_report_leads_to_its_numbers(fleet: Database, client: FlaskClient, body: dict[str, Any]) -> None:
    _, rows, found = links(client, {**body, "columns": "full"})
    rows = [row for row in rows if row.get("kind", "store") == "store"]
    assert len(rows) == len(found) == 40
    names = [name.removeprefix("business_") for name in rows[0] if name.startswith("business_")]
    for row, address in list(zip(rows, found, strict=True))[::9]:
        assert f"/stores/{row['store_id']}?as_of=" in address
        page = client.get(address, headers=BROWSER)
        assert page.status_code == 200, page.text
        shown = numbers(page.text)
        for name in names:
            unit = "min" if name == "last_hour" else "h"
            percent, _, *amounts = shown[requests.window_words(name).lower()]
            assert [percent, *amounts] == expected(row, f"_{name}", unit, f"uptime_percent_{name}"), (row, name)


@pytest.mark.parametrize(
    "body",
    [
        {"by": "day", "windows": [{"from": "2024-10-05", "to": "2024-10-13"}]},
        {"by": "hour", "as_of": "2024-10-10T13:20:00Z"},
        {"by": "daypart", "windows": [{"from": "2024-10-05", "to": "2024-10-13"}]},
        {"by": "week", "method": "previous"},
        {"by": "month", "totals": True},
    ],
)
def test_the_link_of_a_period_leads_to_that_period(fleet: Database, client: FlaskClient, body: dict[str, Any]) -> None:
    _, rows, found = links(client, {**body, "columns": "full"})
    rows = [row for row in rows if row.get("kind", "store") == "store"]
    assert len(found) > 40
    for row, address in list(zip(rows, found, strict=False))[3::23]:
        shown = numbers(client.get(address, headers=BROWSER).text)
        unit, suffix = ("min", "_minutes") if body["by"] == "hour" else ("h", "_hours")
        ((label, (percent, _, *amounts)),) = shown.items()
        assert [percent, *amounts] == expected(row, suffix, unit, "uptime_percent"), (row, label)
        name = " ".join(row[column] for column in ("period", "daypart") if column in row)
        assert label == requests.window_words(name).lower()


def test_the_link_of_an_outage_leads_to_that_outage(fleet: Database, client: FlaskClient) -> None:
    windows = [{"from": "2024-09-20", "to": "2024-10-14"}]
    _, rows, found = links(client, {"kind": "outages", "windows": windows})
    assert len(found) > 20
    for row, address in list(zip(rows, found, strict=False))[::7]:
        page = client.get(address, headers=BROWSER).text
        listed = page[page.index('<div id="listed"') :]
        (one,) = [line for line in re.findall(r"<tr>.*?</tr>", listed, re.DOTALL) if row["start"] in line]
        instants = re.findall(r'<time datetime="([^"]+)"', one)
        names = ("start", "start_earliest", "start_latest", "end", "end_earliest", "end_latest")
        assert instants == [row[name] for name in (names if row["ongoing"] == "no" else names[:3])]
        assert f'title="{row["down_minutes"]} min"' in one
        assert one.endswith(f'<td class="num">{row["polls"]}</td></tr>')


@pytest.mark.parametrize(
    "query", ["until=2024-10-08", "until=2024-10-08&days=1", "until=2024-10-11&as_of=2024-10-12T00:00:00Z"]
)
def test_numbers_follow_the_last_day_and_are_those_of_a_report_then(
    fleet: Database, client: FlaskClient, query: str
) -> None:
    for store_id in [row["store_id"] for row in rows_of(asked(client))][::13]:
        page = client.get(f"/stores/{store_id}?{query}", headers=BROWSER).text
        speaks = page[page.index('id="speaks"') :]
        as_of = re.findall(r'datetime="([^"]+)"', speaks)[0]
        assert as_of.startswith(("2024-10-09", "2024-10-12"))
        body = {"as_of": as_of, "stores": [store_id], "columns": "full"}
        (row,) = rows_of(asked(client, **body))
        (longer,) = rows_of(asked(client, **body, windows=["last_30_days"]))
        shown = numbers(page)
        assert list(shown) == ["last hour", "last day", "last week", "last 30 days"]
        for name, (percent, _, *amounts) in shown.items():
            suffix = name.replace(" ", "_")
            cells = longer if name == "last 30 days" else row
            unit = "min" if name == "last hour" else "h"
            assert [percent, *amounts] == expected(cells, f"_{suffix}", unit, f"uptime_percent_{suffix}")


def test_other_days_keep_what_the_page_speaks_of(fleet: Database, client: FlaskClient) -> None:
    store_id = rows_of(asked(client))[5]["store_id"]
    query = "as_of=2024-10-10T13:20:00Z&window=last_week&window=x%3D2024-10-01..2024-10-03&method=previous"
    page = client.get(f"/stores/{store_id}?{query}", headers=BROWSER).text
    assert "<b>Not now.</b>" in page
    assert f'<a data-key="today" href="/stores/{store_id}">' in page
    addresses = [
        html.unescape(one) for one in re.findall(r'data-key="(?:days-\d+|earlier|later)"[^>]* href="([^"]+)"', page)
    ]
    assert len(addresses) == 5
    for address in addresses:
        assert all(part in address for part in ("as_of=2024-10-10T13:20:00Z", "window=last_week", "method=previous"))
        assert "window=x%3D2024-10-01..2024-10-03" in address or "window=x=2024-10-01..2024-10-03" in address
        assert client.get(address, headers=BROWSER).status_code == 200
    for name, value in (
        ("as_of", "2024-10-10T13:20:00Z"),
        ("window", "x=2024-10-01..2024-10-03"),
        ("method", "previous"),
    ):
        assert f'<input type="hidden" name="{name}" value="{value}">' in page
    # The timeline that programs get is of the same instant, and so are the days.
    (timeline,) = re.findall(r'data-key="timeline" href="([^"]+)"', page)
    assert client.get(html.unescape(timeline)).json["as_of"] == "2024-10-10T13:20:00.000000Z"
    assert list(numbers(page)) == ["last week", "x"]
    tagged = client.get(f"/stores/{store_id}?{query}")
    assert (
        client.get(f"/stores/{store_id}?{query}", headers={"If-None-Match": tagged.headers["ETag"]}).status_code == 304
    )


@pytest.mark.parametrize("as_of", ["2024-10-03T11:07:45.250000Z", "2024-10-14T00:00:00+05:30", "2030-01-01"])
def test_one_store_as_json_is_judged_at_the_as_of_that_is_asked_for(
    fleet: Database, client: FlaskClient, as_of: str
) -> None:
    for row in rows_of(asked(client, as_of=as_of, columns="full"))[::11]:
        one = client.get(f"/api/v1/stores/{row['store_id']}", query_string={"as_of": as_of}).json
        assert (one["status"], one["last_poll"] or "", one["notice"]) == (row["status_now"], row["last_poll_utc"], None)
        for name in (f"{name}_{window}" for name in AMOUNTS[:4] for window in ("last_day", "last_week")):
            assert one[name] == float(row[name])
        polls = client.get(
            f"/api/v1/stores/{row['store_id']}/timeline", query_string={"as_of": as_of, "from": "2024-09-13"}
        )
        if as_of != "2030-01-01":
            assert polls.json["as_of"] == one["as_of"]
            assert one["polls"] == len(polls.json["polls"]) > 10
    assert client.get(f"/api/v1/stores/{row['store_id']}?as_of=soon").status_code == 422
    before = client.get(f"/api/v1/stores/{row['store_id']}?as_of=1999-01-01").json
    assert (before["polls"], before["first_poll"], before["last_poll"], before["status"]) == (0, None, None, "no_data")


@pytest.mark.parametrize(
    ("query", "sentence"),
    [
        ("as_of=1969-12-31", "as_of must lie between 1970-01-01 and 2200-01-01"),
        ("as_of=2200-01-02", "as_of must lie between 1970-01-01 and 2200-01-01"),
        ("as_of=1970-01-01", "the days must not lie before 1970-02-01"),
        ("as_of=2024-10-14&as_of=2024-10-15", "as_of is given more than once"),
        ("as_of=", "as_of '' is not an instant such as"),
        ("window=soon", "last_7_days, last_30_days, last_90_days, or an object with from and to"),
        ("window=2024-10-01..2024-10-01", "an end after its start"),
        ("window=2024-10-01..", "a date such as 2024-10-01"),
        ("as_of=2024-10-03&window=2024-10-01T00:00:00Z..2024-10-05T00:00:00Z", "a window that ends by the as-of"),
        ("window=0001-01-01..0001-02-01", "between 1970-01-01 and 2200-01-01"),
        ("window=last_day&window=last_day", "a name of its own for each window"),
        ("window=last_30_days&by=hour", "a page shows at most 100"),
        ("window=last_day&window=last_week&by=day", "one window with `by`"),
        ("method=last", "method must be one of: nearest, previous"),
    ],
)
def test_what_cannot_be_shown_is_a_sentence(fleet: Database, client: FlaskClient, query: str, sentence: str) -> None:
    store_id = rows_of(asked(client))[0]["store_id"]
    answer = client.get(f"/stores/{store_id}?{query}", headers=BROWSER)
    assert answer.status_code == 422
    assert sentence.lower() in html.unescape(answer.text).lower()


def test_a_report_of_many_windows_is_a_small_page(fleet: Database, client: FlaskClient) -> None:
    windows = [
        {"from": f"2024-09-{day:02d}", "to": f"2024-10-{day:02d}", "name": f"{'w' * 60}{day}"} for day in range(1, 14)
    ]
    report_id, _, found = links(client, {"windows": windows, "columns": "full"})
    page = client.get(f"/reports/{report_id}?limit=500")
    assert len(page.data) < 150_000
    assert len(numbers(client.get(found[0], headers=BROWSER).text)) == 13
