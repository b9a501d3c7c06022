"""What a report was asked in words, and the form that asks for one: the same fields as a program sends."""

from dataclasses import replace
from typing import Any

import pytest
from werkzeug.datastructures import MultiDict

from storemon_flask.database.reports import ReportRecord
from storemon_flask.model import HOUR_US, ReportState
from storemon_flask.pages import report_form
from storemon_flask.reports import request as requests
from storemon_flask.reports import table


def row(shape: dict[str, Any] | None = None, stores: list[str] | None = None, columns: str = "classic") -> ReportRecord:
    count = None if stores is None else len(stores)
    return ReportRecord("0" * 32, ReportState.COMPLETE, 0, columns, stores, 0, shape, stores_asked=count)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (row(), "The last hour, day and week, every store"),
        (row(None, ["a", "b"], "full"), "The last hour, day and week, a and b, all columns"),
        (row(None, ["a", "b", "c", "d"]), "The last hour, day and week, 4 named stores"),
        (row({"by": "daypart"}), "Daypart by daypart in the last week, every store"),
        (row({"by": "day"}), "Day by day in the last week, every store"),
        (
            row({"windows": ["last_hour", {"from": "2024-10-01", "to": "2024-11-01", "name": "October"}], "totals": True}),
            "The last hour and “October” (1 to 31 October 2024), every store, with totals",
        ),
        (
            row({"kind": "outages", "shortest_minutes": 30, "groups": ["North"]}),
            "Outages of at least 30 minutes in the last week, stores in the group North",
        ),
        (
            row({"method": "previous", "zones": ["A", "B", "C", "D", "E"]}),
            "The last hour, the last day and the last week, stores in A, B and C and 2 more, by the previous poll",
        ),
        (
            row({"compare": "previous", "windows": ["last_month"], "totals": True}),
            "Last month, every store, against the period before, with totals",
        ),
        (row({"kind": "tides"}), "a report that this version does not know"),
    ],
)  # fmt: skip
def test_a_report_says_what_was_asked(asked: ReportRecord, words: str) -> None:
    assert requests.describe(asked) == words


@pytest.mark.parametrize(
    ("asked", "lengths"),
    [
        (row(), {"last_hour": HOUR_US, "last_day": 24 * HOUR_US, "last_week": 168 * HOUR_US}),
        (row({"windows": [{"from": "2024-10-01T00:00Z", "to": "2024-10-01T09:00Z", "name": "last_hour"}]}), {"last_hour": 9 * HOUR_US}),
        (row({"windows": [{"from": "2024-10-01", "to": "2024-10-02", "name": "one"}, "last_day"]}), {"one": 0, "last_day": 24 * HOUR_US}),
        (row({"kind": "tides"}), {"tide": 0}),
    ],
)  # fmt: skip
def test_windows_have_their_lengths_where_stores_do_not_differ(asked: ReportRecord, lengths: dict[str, int]) -> None:
    assert requests.window_lengths(replace(asked, method={"windows": list(lengths)})) == lengths


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("2024-11-02_2024-11-05", "2 to 4 November 2024"),
        ("2024-11-02_2024-11-03", "2 November 2024"),
        ("2024-10-01_2024-11-01", "1 to 31 October 2024"),
        ("2024-10-30_2024-11-03", "30 October to 2 November 2024"),
        ("2024-12-25_2025-01-02", "25 December 2024 to 1 January 2025"),
        ("2024-10-01T09:00-05:00_2024-10-02T09:30Z", "2024-10-01 14:00 to 2024-10-02 09:30 UTC"),
        ("last_30_days", "last 30 days"),
        ("my_last_hour", "my_last_hour"),
        ("2024-11-02_2024-13-05", "2024-11-02_2024-13-05"),
        ("October", "October"),
        ("_", "_"),
    ],
)
def test_a_window_without_a_name_is_called_by_its_days(name: str, words: str) -> None:
    assert requests.window_words(name) == words


def test_the_days_of_a_window_are_in_what_was_asked_and_over_its_columns() -> None:
    asked = row({"windows": [{"from": "2024-11-02", "to": "2024-11-05"}, "last_day"]})
    assert requests.describe(asked) == "2 to 4 November 2024 and the last day, every store"
    column = table.describe_column("uptime_2024-11-02_2024-11-05", ["2024-11-02_2024-11-05"])
    assert (column.words, column.unit) == ("uptime 2 to 4 November 2024", "h")


def test_an_untouched_form_asks_for_the_classic_report() -> None:
    untouched = {
        "as_of": "",
        "columns": "classic",
        "kind": "times",
        "method": "nearest",
        "by": "",
        "stores": " \n ",
        "from0": "",
    }
    assert report_form.body(MultiDict(untouched)) == {}


def test_a_form_is_what_a_program_would_send() -> None:
    form = MultiDict(
        [
            ("as_of", " 2024-10-14 "), ("columns", "full"), ("by", "day"), ("method", "previous"), ("totals", "1"),
            ("window", "last_day"), ("from1", "2024-10-01"), ("to1", "2024-10-02"), ("name1", "one"), ("from2", "x"),
            ("stores", "a\r\n b \n\n"), ("groups", "North"), ("groups", "South"), ("shortest_minutes", "7.5"),
        ]
    )  # fmt: skip
    assert report_form.body(form) == {
        "as_of": "2024-10-14",
        "columns": "full",
        "by": "day",
        "method": "previous",
        "totals": True,
        "windows": ["last_day", {"from": "2024-10-01", "to": "2024-10-02", "name": "one"}, {"from": "x"}],
        "stores": ["a", "b"],
        "groups": ["North", "South"],
        "shortest_minutes": 7.5,
    }
    assert report_form.body(MultiDict({"shortest_minutes": "ten"})) == {"shortest_minutes": "ten"}


def test_what_was_asked_can_be_typed_again() -> None:
    shape = {
        "windows": ["last_day", {"from": "2024-10-01", "to": "2024-10-02", "name": "one"}],
        "groups": ["North"],
        "zones": ["UTC"],
        "totals": True,
        "method": "previous",
    }
    form = report_form.filled_in(row(shape, ["a"], "full"))
    assert report_form.body(form) == {**shape, "stores": ["a"], "columns": "full"}
    outages = {"kind": "outages", "shortest_minutes": 30.0}
    assert report_form.body(report_form.filled_in(row(outages))) == outages
