"""Lists of incidents: their columns, times, and what is known of the time between them."""

import time
from pathlib import Path

import pytest
from cli_helpers import Run, home, line, run  # noqa: F401

from imports.made_sources import read
from storemon_flask import clock
from storemon_flask.errors import DataError
from storemon_flask.imports import incidents
from storemon_flask.imports.incidents import IncidentReader


def reader(path: Path, *lines: str, **options: object) -> IncidentReader:
    path = path / "incidents.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return IncidentReader(path, **options)  # type: ignore[arg-type]


def statuses(polls: list[tuple[str, str, str]]) -> str:
    return " ".join(
        f"{time.removesuffix('.000000Z')}{'-' if status == 'inactive' else ''}" for _, time, status in polls
    )


def test_only_the_incident_and_its_edges_are_known(tmp_path: Path) -> None:
    polls, said = read(reader(tmp_path, "Name,Started at,Resolved at", "oak,2026-10-05 10:03:00,2026-10-05T10:23:30Z"))
    assert {store for store, _, _ in polls} == {"oak"}
    assert statuses(polls) == "10:02:59 10:03:00- 10:10:00- 10:20:00- 10:23:29- 10:23:30"
    assert said == [
        "from a list of incidents, 1 name; 6 polls made of it: one in 10 minutes, and both sides of each change",
        "only the incidents and their edges; of the time between them the list says nothing (--from and --to say when "
        "all was watched)",
    ]


def test_watched_time_is_up_outside_of_incidents_also_without_one(tmp_path: Path) -> None:
    polls, _ = read(
        reader(
            tmp_path,
            "name;start;end",
            "oak;2026-10-05 10:03;2026-10-05 10:05",
            from_us=clock.parse_timestamp("2026-10-05T10:00Z"),
            to_us=clock.parse_timestamp("2026-10-05T10:20Z"),
            known_names=["elm"],
        ),
        {"oak": "oak", "elm": "elm"},
    )
    assert statuses([poll for poll in polls if poll[0] == "oak"]) == (
        "10:00:00 10:02:59 10:03:00- 10:04:59- 10:05:00 10:10:00 10:19:59"
    )
    assert statuses([poll for poll in polls if poll[0] == "elm"]) == "10:00:00 10:10:00 10:19:59"


def test_an_incident_without_an_end_is_not_over(tmp_path: Path) -> None:
    polls, said = read(reader(tmp_path, "name,start,end", "oak,2026-10-05 10:00,"))
    assert statuses(polls) == "09:59:59 10:00:00-"
    assert said[-1] == "1 incident without an end: only its beginning is loaded (--to says until when)"


def test_a_log_of_events_with_durations_says_when_it_was_up_and_paused(tmp_path: Path) -> None:
    polls, _ = read(
        reader(
            tmp_path,
            "Event,Date-Time,Reason,Duration",
            "Up,2026-10-05 10:05:00,OK,300",
            'Down,2026-10-05 10:00:00,"Timeout","0 hrs, 5 mins"',
            "Paused,2026-10-05 10:10:00,,0:30:00",
            only_name="oak",
        )
    )
    assert statuses(polls) == "09:59:59 10:00:00- 10:04:59- 10:05:00 10:09:59"


def test_local_times_are_read_in_the_zone(tmp_path: Path) -> None:
    polls, said = read(
        reader(tmp_path, "name,start,end", 'oak,"Oct 5, 2026, 12:00 PM",2026-10-05 12:05', zone="europe/berlin")
    )
    assert statuses(polls) == "09:59:59 10:00:00- 10:04:59- 10:05:00"
    assert said[-1] == "timestamps without a zone were read in Europe/Berlin"


def test_what_cannot_be_used_is_a_reject_with_its_line(tmp_path: Path) -> None:
    rows = {
        "oak,10/05/2026 10:00,2026-10-05 11:00": incidents.NO_START,
        "oak,2026-10-05,2026-10-05 11:00": incidents.NO_START,
        "oak,Oct 5 10:00,2026-10-05 11:00": incidents.NO_START,
        "oak,2026-10-05 10:00,tomorrow": incidents.NO_END,
        "oak,2026-10-05 10:00,2026-10-05 09:00": incidents.BACKWARDS,
        "oak,2024-10-05 10:00,2026-10-05 09:00": incidents.TOO_LONG,
        ",2026-10-05 10:00,2026-10-05 11:00": incidents.NO_NAME,
        "oak,2026-10-05 10:00": incidents.FEW_FIELDS,
    }
    from storemon_flask.imports.checks import ImportedPolls

    polls = ImportedPolls(reader(tmp_path, "name,start,end", *rows), None)
    (batch,) = polls.batches()
    assert [(record.line, record.text, record.problem) for record in batch] == [
        (line, text, reason) for line, (text, reason) in enumerate(rows.items(), start=2)
    ]


def test_dates_and_lengths_that_nobody_can_compute_with_are_rejects(tmp_path: Path) -> None:
    starts = ("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00")
    polls, _ = read(reader(tmp_path, "name,start,end", *(f"a,{start}," for start in starts)))
    assert polls == [("a", start, incidents.NO_START) for start in starts]
    lengths = ("9" * 400, "9" * 5_000 + ":00:00", "9" * 90)
    polls, _ = read(reader(tmp_path, "name,start,duration", *(f"a,2026-10-05 10:00,{length}" for length in lengths)))
    assert [reason for _, _, reason in polls] == [incidents.NO_LENGTH, incidents.NO_LENGTH, incidents.TOO_LONG]


def test_many_incidents_of_one_name_take_time_in_proportion(tmp_path: Path) -> None:
    day_us = clock.parse_timestamp("2026-01-01T00:00:00Z")
    texts = [clock.timestamp_text(day_us + minute * 60_000_000)[:19] for minute in range(0, 200_000, 10)]
    spans = [f"{start},{end}" for start, end in zip(texts[::2], texts[1::2], strict=True)]
    took_s = []
    for names in (["a"] * len(spans), range(len(spans))):
        began_s = time.process_time()
        polls, _ = read(
            reader(tmp_path, "name,start,end", *(f"{name},{at}" for name, at in zip(names, spans, strict=True)))
        )
        took_s.append(time.process_time() - began_s)
        assert len(polls) == 4 * len(spans)
    # Where each of one name was compared with each it took 18 times as long as now.
    assert took_s[0] < 6 * took_s[1]


def test_columns_are_named_or_the_message_says_how(tmp_path: Path) -> None:
    lines = ("Shop,Went away,Came back", "oak,2026-10-05 10:00,2026-10-05 10:01")
    with pytest.raises(DataError, match="say which it is, as --column start='Its heading'"):
        read(reader(tmp_path, *lines))
    headings = {"name": "Shop", "start": "Went away", "end": "Came back"}
    assert len(read(reader(tmp_path, *lines, headings=headings))[0]) == 4
    with pytest.raises(DataError, match="has no column 'Nope'"):
        read(reader(tmp_path, *lines, headings={"name": "Nope"}))


@pytest.mark.parametrize("begin", [b"PK\x03\x04", b"\xd0\xcf\x11\xe0"])
def test_a_workbook_is_named_as_one(tmp_path: Path, begin: bytes) -> None:
    path = tmp_path / "incidents.xlsx"
    path.write_bytes(begin + b"\x00" * 100)
    with pytest.raises(DataError, match=r"is a workbook or a zip; save its sheet as CSV in UTF-8, and import that$"):
        read(IncidentReader(path))


def test_the_command_takes_its_options(run: Run, home: Path) -> None:  # noqa: F811
    (home / "log.csv").write_text("Was,At,Duration\nDown,2026-10-05 12:00:00,300\nDown,noon,5\n")
    arguments = ["log.csv", "--name", "oak", "--column", "start=At", "--column", "event=Was", "--zone", "Europe/Berlin"]
    span = ["--from", "2026-10-05T09:00Z", "--to", "2026-10-05T11:00Z"]
    assert run("import", "incidents", *arguments, *span[:2]).code == 1
    done = run("import", "incidents", *arguments, *span)
    assert done.code == 0, done.err
    assert line(done, "log.csv") == ["polls", "17", "16", "0", "0", "0", "1"]
    row = run("report", "--as-of", "2026-10-05T11:00:00Z").out.splitlines()[1].split(",")
    assert row[:2] + row[4:5] == ["oak", "55.00", "5.00"]
    wrong = run("import", "incidents", "log.csv", "--column", "begin=At")
    assert (wrong.code, "'begin' is none of name, start, end, duration, event" in wrong.err) == (2, True)
