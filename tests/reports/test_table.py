"""A finished report to look at: pages of its rows, sorted and filtered, with the cells of the CSV and what they say."""

import csv
import io
from pathlib import Path

import pytest
from conftest import FORMULA_ID, QUOTED_ID, SMALL_CSV

from storemon_flask.errors import Gone, Unprocessable
from storemon_flask.model import DAY_US, HOUR_US, WEEK_US
from storemon_flask.reports import table
from storemon_flask.reports.table import ReportTable, View

CLASSIC = {"last_hour": HOUR_US, "last_day": DAY_US, "last_week": WEEK_US}


def look(
    tmp_path: Path,
    text: str,
    view: View = View(),  # noqa: B008
    windows: dict[str, int] = CLASSIC,
    **altered: object,
) -> ReportTable:
    file = tmp_path / "report_1.csv"
    file.write_text(text, "utf-8")
    return table.read_table(file, altered, windows, view)  # type: ignore[arg-type]


def numbers(count: int) -> str:
    rows = [f"s{number:03d},{(number * 7) % count}.00" for number in range(count)]
    return "\n".join(["store_id,uptime_last_day", *rows, ""])


def test_the_cells_are_those_of_the_csv_and_ids_are_as_they_are(tmp_path: Path) -> None:
    page = look(tmp_path, SMALL_CSV, store_id={0: FORMULA_ID})
    lines = list(csv.reader(io.StringIO(SMALL_CSV)))
    assert [cells[1:] for cells in page.rows] == [line[1:] for line in lines[1:]]
    assert [cells[0] for cells in page.rows] == [FORMULA_ID, QUOTED_ID, "silent", "worked"]
    assert (page.total, page.matching, page.hidden) == (4, 4, 0)
    assert [(column.words, column.unit) for column in page.columns[:4]] == [
        ("store", ""), ("uptime last hour", "min"), ("uptime last day", "h"), ("uptime last week", "h"),
    ]  # fmt: skip


def test_a_page_holds_the_rows_it_was_asked_for(tmp_path: Path) -> None:
    page = look(tmp_path, numbers(250), View(number=11, limit=10))
    assert [cells[0] for cells in page.rows] == [f"s{number}" for number in range(100, 110)]
    assert (page.total, page.matching) == (250, 250)
    assert look(tmp_path, numbers(250), View(number=250, limit=1)).rows == [["s249", "243.00"]]
    assert look(tmp_path, numbers(250), View(number=1000)).rows == []


def test_numbers_are_sorted_as_numbers_either_way(tmp_path: Path) -> None:
    up = look(tmp_path, numbers(250), View("uptime_last_day", limit=12))
    assert [cells[1] for cells in up.rows] == [f"{value}.00" for value in range(12)]
    down = look(tmp_path, numbers(250), View("uptime_last_day", True, number=2, limit=1))
    assert [cells[1] for cells in down.rows] == ["248.00"]


@pytest.mark.parametrize("descending", [False, True])
def test_empty_cells_come_last_and_equal_ones_stay_in_order(tmp_path: Path, descending: bool) -> None:
    text = "store_id,uptime_percent_last_day\na,\nb,5.00\nc,5.00\nd,\n"
    page = look(tmp_path, text, View("uptime_percent_last_day", descending))
    assert [cells[0] for cells in page.rows] == ["b", "c", "a", "d"]


def test_texts_are_searched_in_whatever_case_and_as_they_are(tmp_path: Path) -> None:
    text = "store_id,name,uptime_last_day\n1,Straße,1.00\n2,'=Plus,1.00\n3,strand,1.00\n"
    assert [cells[0] for cells in look(tmp_path, text, View(text="STRASSE")).rows] == ["1"]
    found = look(tmp_path, text, View(text="'="), name={1: "=Plus"})
    assert (found.rows, found.matching, found.total) == ([], 0, 3)
    assert look(tmp_path, text, View("store_id", True, text="str")).rows[0][0] == "3"
    assert look(tmp_path, text, View(text="1.00")).matching == 0


def test_what_cannot_be_sorted_by_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(Unprocessable, match="has no column 'oops'"):
        look(tmp_path, SMALL_CSV, View("oops"))
    monkeypatch.setattr(table, "MOST_SORTED", 3)
    with pytest.raises(Unprocessable, match="more than 3 rows are not sorted here"):
        look(tmp_path, SMALL_CSV, View("store_id"))
    assert look(tmp_path, SMALL_CSV, View("store_id", text="w")).rows[0][0] == "worked"


def test_names_and_groups_are_shown_where_some_store_has_one(tmp_path: Path) -> None:
    text = "store_id,name,group,uptime_last_day\na,,,1.00\nb,{},,2.00\n"
    nobody, somebody = look(tmp_path, text.format("")), look(tmp_path, text.format("Bea"), View(limit=1))
    assert [column.name for column in nobody.columns] == ["store_id", "uptime_last_day"]
    assert [column.name for column in somebody.columns] == ["store_id", "name", "uptime_last_day"]
    assert (nobody.rows, somebody.rows) == ([["a", "1.00"], ["b", "2.00"]], [["a", "", "1.00"]])
    assert (nobody.hidden, somebody.hidden) == (0, 0)
    totals = look(tmp_path, "store_id,group,uptime_last_day\n,,3.00\n")
    assert [column.name for column in totals.columns] == ["store_id", "group", "uptime_last_day"]


def test_a_wide_report_is_cut_and_its_page_is_short(tmp_path: Path) -> None:
    windows = {f"w{number}": 0 for number in range(100)}
    text = ",".join(["store_id", *(f"uptime_{name}" for name in windows)]) + "\n"
    text += "".join(f"s{row}," + ",".join(["1.00"] * 100) + "\n" for row in range(200))
    page = look(tmp_path, text, View("uptime_w99", limit=100), windows)
    assert (len(page.columns), page.hidden, len(page.rows), page.limit) == (48, 53, 75, 75)
    assert {len(cells) for cells in page.rows} == {48}


def test_colour_follows_down_and_unknown_time_and_never_calls_unknown_up(tmp_path: Path) -> None:
    header = "store_id,uptime_last_day,downtime_last_day,unknown_last_day,uptime_percent_last_day\n"
    page = look(
        tmp_path,
        header + "a,9.00,0.00,0.00,100.00\nb,8.00,1.00,0.00,88.89\nc,1.00,0.00,8.00,100.00\nd,0.00,0.00,9.00,\n",
    )
    assert [column.name for column in page.columns][:3] == ["store_id", "uptime_percent_last_day", "uptime_last_day"]
    assert page.tones == [
        ["", "up", "up", "", ""],
        ["", "down", "", "down", ""],
        ["", "", "", "", "unknown"],
        ["", "unknown", "", "", "unknown"],
    ]


def test_without_a_column_of_unknown_time_only_uptime_as_long_as_the_window_is_up_all_the_time(tmp_path: Path) -> None:
    header = (
        "store_id,uptime_last_hour,uptime_last_day,uptime_last_week,"
        "downtime_last_hour,downtime_last_day,downtime_last_week\n"
    )
    page = look(
        tmp_path,
        header + "a,60.00,9.00,40.00,0.00,0.00,0.00\nb,59.99,24.00,168.00,0.00,0.00,0.00\nc,30.00,2.00,2.00,0,,\n",
    )
    assert page.tones == [
        ["", "up", "", "", "", "", ""],
        ["", "", "up", "up", "", "", ""],
        ["", "", "", "", "down", "", ""],
    ]


@pytest.mark.parametrize(
    ("length_us", "uptime", "tone"), [(60 * HOUR_US, "60.00", "up"), (61 * HOUR_US, "60.00", ""), (0, "60.00", "")]
)
def test_a_window_of_its_own_length_is_up_by_its_own_length(
    tmp_path: Path, length_us: int, uptime: str, tone: str
) -> None:
    text = f"store_id,uptime_mine,downtime_mine\na,{uptime},0.00\n"
    assert look(tmp_path, text, windows={"mine": length_us}).tones == [["", tone, ""]]


def test_a_period_is_up_all_the_time_when_its_uptime_is_as_long_as_it_is(tmp_path: Path) -> None:
    header = "store_id,period,period_start,period_end,uptime_hours,downtime_hours\n"
    # The night when clocks go back has an hour more than the others.
    rows = (
        "a,2024-11-02,2024-11-02T05:00:00.000000Z,2024-11-03T05:00:00.000000Z,24.00,0.00\n"
        "a,2024-11-03,2024-11-03T05:00:00.000000Z,2024-11-04T06:00:00.000000Z,24.00,0.00\n"
        "a,2024-11-04,2024-11-04T06:00:00.000000Z,2024-11-05T06:00:00.000000Z,9.00,0.00\n"
    )
    page = look(tmp_path, header + rows, windows={"hours": 9 * HOUR_US})
    assert [row[4] for row in page.tones] == ["up", "", ""]


def test_a_sum_over_stores_is_up_only_where_unknown_time_is_told(tmp_path: Path) -> None:
    header = "kind,store_id,uptime_last_hour,downtime_last_hour,group\n"
    rows = "store,a,60.00,0.00,\nstore,b,0.00,0.00,\nfleet,,60.00,0.00,\n"
    page = look(tmp_path, header + rows)
    place = [one.name for one in page.columns].index("uptime_last_hour")
    assert [row[place] for row in page.tones] == ["", "up", ""]
    full = "kind,store_id,uptime_last_hour,downtime_last_hour,unknown_last_hour,uptime_percent_last_hour\n"
    page = look(tmp_path, full + "fleet,,60.00,0.00,0.00,100.00\nfleet,,60.00,0.00,60.00,100.00\n")
    assert [row[2:] for row in page.tones] == [["up", "up", "", ""], ["", "", "", "unknown"]]


def test_a_hundred_percent_that_is_rounded_is_not_up_all_the_time(tmp_path: Path) -> None:
    header = "kind,store_id,uptime_last_week,downtime_last_week,unknown_last_week,uptime_percent_last_week\n"
    page = look(tmp_path, header + "fleet,,99999.00,0.50,0.00,100.00\n")
    assert page.tones == [["", "", "down", "", "down", ""]]


TOTALS = (
    "kind,store_id,group,uptime_last_day,uptime_percent_last_day\n"
    + "".join(f"store,s{number:03d},,{number % 7}.00,{number % 5}.00\n" for number in range(150))
    + "group,,North,9.00,3.00\ngroup,,South,8.00,2.00\nfleet,,,17.00,2.50\n"
)


def test_totals_come_first_on_every_page_in_every_order(tmp_path: Path) -> None:
    everything = look(tmp_path, TOTALS, View(limit=500))
    assert [column.name for column in everything.columns] == [
        "store_id", "kind", "group", "uptime_percent_last_day", "uptime_last_day",
    ]  # fmt: skip
    order = [cells[0] or cells[2] for cells in everything.rows]
    assert order == ["", "North", "South", *(f"s{number:03d}" for number in range(150))]
    assert (everything.total, everything.matching, everything.totals) == (153, 153, 3)
    for limit in (1, 2, 5, 100):
        pages = [look(tmp_path, TOTALS, View(number=number, limit=limit)) for number in range(1, 153 // limit + 2)]
        assert [cells[0] or cells[2] for page in pages for cells in page.rows] == order
    lowest = look(tmp_path, TOTALS, View("uptime_percent_last_day", limit=5))
    assert [cells[0] or cells[2] for cells in lowest.rows] == ["", "South", "North", "s000", "s005"]
    south = look(tmp_path, TOTALS, View(text="south"))
    assert ([cells[2] for cells in south.rows], south.matching, south.totals) == (["South"], 1, 1)


@pytest.mark.parametrize("at_once", [0, 1, 2, 500])
def test_more_totals_than_are_remembered_are_read_in_a_second_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    whole = look(tmp_path, TOTALS, View(limit=500)).rows
    monkeypatch.setattr(table, "_TOTALS_AT_ONCE", at_once)
    for number in range(1, 17):
        page = look(tmp_path, TOTALS, View(number=number, limit=10))
        assert page.rows == whole[10 * number - 10 : 10 * number]
        assert (page.total, page.matching, page.totals) == (153, 153, 3)
    assert look(tmp_path, TOTALS, View(number=5, limit=2, text="s00")).rows == whole[11:13]


def test_percentages_stand_window_by_window_before_amounts(tmp_path: Path) -> None:
    names = [
        "kind", "store_id", "timezone", "name", "uptime_day", "uptime_my_day", "uptime_percent_day",
        "uptime_percent_my_day", "uptime_percent_likely_low_day", "uptime_percent_likely_low_my_day",
        "uptime_percent_previous_my_day", "change_points_day",
    ]  # fmt: skip
    cells = ["store", "a", "UTC", "Bea", *["1.00"] * 8]
    page = look(tmp_path, f"{','.join(names)}\n{','.join(cells)}\n", windows={"day": 0, "my_day": 0})
    assert [column.name for column in page.columns] == [
        "store_id", "kind", "name",
        "uptime_percent_day", "uptime_percent_likely_low_day", "change_points_day",
        "uptime_percent_my_day", "uptime_percent_likely_low_my_day", "uptime_percent_previous_my_day",
        "timezone", "uptime_day", "uptime_my_day",
    ]  # fmt: skip


def test_changes_are_better_or_worse_by_their_sign(tmp_path: Path) -> None:
    header = "store_id,uptime_percent_w,uptime_percent_previous_w,change_points_w\n"
    rows = "a,90.00,99.00,-9.00\nb,99.00,90.00,9.00\nc,90.00,90.00,0.00\nd,90.00,,\n"
    page = look(tmp_path, header + rows, View("change_points_w"), windows={"w": 0})
    assert [(one.words, one.unit, one.numeric) for one in page.columns[1:]] == [
        ("uptime w", "%", True), ("uptime w, before", "%", True), ("change w", "points", True),
    ]  # fmt: skip
    assert [(cells[0], tones[3]) for cells, tones in zip(page.rows, page.tones, strict=True)] == [
        ("a", "worse"), ("c", ""), ("b", "better"), ("d", ""),
    ]  # fmt: skip


LITTLE = """store_id,uptime_hours,downtime_hours,unknown_hours,business_hours,uptime_percent
best,167.00,1.00,0.00,168.00,99.40
little,21.00,0.00,147.00,168.00,100.00
worse,20.00,1.00,147.00,168.00,95.24
nothing,0.00,0.00,168.00,168.00,
tenth,151.20,0.00,16.80,168.00,100.00
closed,0.00,0.00,0.00,0.00,
"""


def test_percentages_that_know_little_say_so_and_come_after_the_others(tmp_path: Path) -> None:
    page = look(tmp_path, LITTLE)
    assert [tones[1] for tones in page.tones] == ["down", "little", "little", "unknown", "", ""]
    assert [known[1] for known in page.known] == ["", "of 21 h known", "of 21 h known", "", "", ""]
    assert {note for known in page.known for note in [known[0], *known[2:]]} == {""}
    down = look(tmp_path, LITTLE, View("uptime_percent", descending=True))
    assert [cells[0] for cells in down.rows] == ["tenth", "best", "little", "worse", "nothing", "closed"]
    up = look(tmp_path, LITTLE, View("uptime_percent"))
    assert [cells[0] for cells in up.rows] == ["best", "tenth", "worse", "little", "nothing", "closed"]
    # Amounts have their own order.
    assert look(tmp_path, LITTLE, View("uptime_hours")).rows[2][0] == "worse"


@pytest.mark.parametrize(
    ("suffixes", "text"),
    [
        (("_last_hour", "_last_hour"), "of 6 min known"),
        (("_last_week", "_last_week"), "of 6 h known"),
        (("_minutes", ""), "of 6 min known"),
        (("_hours", ""), "of 6 h known"),
    ],
)
def test_what_is_known_has_the_unit_of_its_amounts(tmp_path: Path, suffixes: tuple[str, str], text: str) -> None:
    amount, percent = suffixes
    page = look(tmp_path, f"store_id,unknown{amount},business{amount},uptime_percent{percent}\na,54.00,60.00,100.00\n")
    assert page.known == [["", text, "", ""]]


def test_without_columns_of_unknown_and_business_time_nothing_is_said(tmp_path: Path) -> None:
    page = look(tmp_path, "store_id,uptime_percent_last_week\na,100.00\nb,50.00\n", View("uptime_percent_last_week"))
    assert page.known == [["", ""], ["", ""]]
    assert [cells[0] for cells in page.rows] == ["b", "a"]


def test_periods_and_outages_have_their_units(tmp_path: Path) -> None:
    text = (
        "store_id,period,uptime_minutes,downtime_minutes,uptime_percent\na,2024-10-01T09:00-05:00,60.00,0.00,100.00\n"
    )
    page = look(tmp_path, text, windows={"last_day": DAY_US})
    assert [column.unit for column in page.columns] == ["", "", "%", "min", "min"]
    outages = look(tmp_path, "store_id,start,down_minutes,polls\na,2024-10-01T09:00:00.000000Z,12.50,3\n", windows={})
    assert [(one.words, one.unit, one.numeric) for one in outages.columns[2:]] == [
        ("down", "min", True),
        ("polls", "", True),
    ]
    assert outages.tones[0][2] == "down"


def test_a_window_of_its_own_name_is_in_hours(tmp_path: Path) -> None:
    page = look(
        tmp_path,
        "store_id,uptime_my_last_hour,uptime_low_last_hour\na,1.00,2.00\n",
        windows={"my_last_hour": 0, "last_hour": HOUR_US},
    )
    assert [(one.words, one.unit) for one in page.columns[1:]] == [
        ("uptime my_last_hour", "h"),
        ("uptime low last hour", "min"),
    ]


def test_a_file_that_went_or_is_no_text_is_said(tmp_path: Path) -> None:
    with pytest.raises(Gone, match="ask for a new report"):
        table.read_table(tmp_path / "report_2.csv", {}, {}, View())
    (tmp_path / "report_3.csv").write_bytes(b"store_id\n\xff\xfe\n")
    with pytest.raises(Gone, match="cannot be read"):
        table.read_table(tmp_path / "report_3.csv", {}, {}, View())


@pytest.mark.parametrize(
    ("name", "windows", "words", "unit"),
    [
        ("uptime_percent_previous_last_week", ["last_week"], "uptime last week, before", "%"),
        ("change_points_last_week", ["last_week"], "change last week", "points"),
        ("downtime_previous_last_month", ["last_month"], "downtime last month, before", "h"),
        ("unknown_previous_last_hour", ["last_hour"], "unknown last hour, before", "min"),
        # A window may be called so.
        ("downtime_previous_shift", ["previous_shift"], "downtime previous_shift", "h"),
    ],
)
def test_the_period_before_and_the_change_have_words_and_units(
    name: str, windows: list[str], words: str, unit: str
) -> None:
    column = table.describe_column(name, windows)
    assert (column.words, column.unit, column.numeric) == (words, unit, True)


def test_a_percentage_of_the_period_before_says_what_it_rests_on(tmp_path: Path) -> None:
    text = (
        "store_id,uptime_percent_today,uptime_percent_previous_today,change_points_today,unknown_previous_today,"
        "business_previous_today\na,90.00,80.00,10.00,9.00,10.00\nb,90.00,95.00,-5.00,0.00,10.00\n"
    )
    page = look(tmp_path, text, View("change_points_today"), windows={"today": 0})
    assert [cells[:4] for cells in page.rows] == [["b", "90.00", "95.00", "-5.00"], ["a", "90.00", "80.00", "10.00"]]
    assert [known[2] for known in page.known] == ["", "of 1 h known"]
