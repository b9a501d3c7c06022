"""Stores with very many polls: what is read of them says the same as all of it."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from conftest import load_folder
from flask.testing import FlaskClient
from fleets import PolledFleet
from hypothesis import given
from hypothesis import strategies as st
from timeline_helpers import timeline_of

from storemon_flask.database import readings
from storemon_flask.database.connections import Database
from storemon_flask.model import DAY_US, FOREVER, HOUR_US, SECOND_US, UNDATED, Hours, Polls, Rules, SpecialHours
from storemon_flask.uptime import evidence, likely, openings
from storemon_flask.uptime.measures import Periods, measure

START_US = 1_728_864_000 * SECOND_US
LAST_US = START_US + 2 * DAY_US
ADDRESSES = (
    "/api/v1/stores/a/timeline",
    "/api/v1/stores/a/timeline?from=2024-10-14T03:00Z&to=2024-10-14T15:00Z",
    "/api/v1/stores/down/timeline?from=2024-11-20T00:00Z",
    "/stores/a",
    "/stores/down?days=30&until=2024-11-30",
    "/api/v1/stores",
)
SHAPES = (
    {"kind": "outages", "windows": ["last_30_days"]},
    {"by": "day", "windows": ["last_30_days"], "columns": "full"},
    {"windows": ["last_30_days"], "columns": "full"},
)


@st.composite
def fleets(draw: st.DrawFn) -> tuple[PolledFleet, Rules]:
    size = 2
    columns: list[tuple[int, int, bool]] = []
    for store in range(size):
        steps = draw(
            st.lists(st.tuples(st.sampled_from([1, 60, 1200, 3601, 9000, 9001, 30_000]), st.booleans()), max_size=60)
        )
        second = draw(st.integers(0, 40_000))
        for step, active in steps:
            second += step
            columns.append((store, START_US + second * SECOND_US, active))
    store_, instant, active_ = (
        (np.array(column) for column in zip(*columns, strict=True)) if columns else (np.empty(0),) * 3
    )
    polls = Polls(store_.astype(np.int64), instant.astype(np.int64), active_.astype(bool))
    day = np.arange(7)
    zero = np.zeros(7, dtype=np.int64)
    hours = Hours(zero + 1, day, zero + 9 * 3600, zero + 17 * 3600, zero + UNDATED, zero + FOREVER)
    nothing = np.empty(0, dtype=np.int64)
    fleet = PolledFleet(
        size=size,
        hours=hours,
        zone_of=np.zeros(size, np.int64),
        zone_names=("UTC",),
        special=SpecialHours(*[nothing] * 4),
        polls=polls,
        last_poll_us=nothing,
    )
    rules = Rules(
        reach_us=draw(st.sampled_from([1, 24])) * HOUR_US,
        max_gap_us=draw(st.sampled_from([1200 * SECOND_US, 9000 * SECOND_US, 5 * HOUR_US])),
        method=draw(st.sampled_from(["nearest", "previous"])),
    )
    return fleet, rules


@given(fleets(), st.integers(1, 30))
def test_thinned_polls_say_the_same(made: tuple[PolledFleet, Rules], size: int) -> None:
    fleet, rules = made
    opened = openings.build(fleet, START_US - DAY_US, LAST_US + DAY_US)
    pieces = [
        evidence.thin_out(
            Polls(
                *(column[at : at + size] for column in (fleet.polls.store, fleet.polls.instant_us, fleet.polls.active))
            ),
            opened,
            rules,
            LAST_US - 5 * HOUR_US,
        )
        for at in range(0, len(fleet.polls), size)
    ] or [evidence.thin_out(fleet.polls, opened, rules, LAST_US)]
    fewer = Polls(
        *(np.concatenate([getattr(piece, name) for piece in pieces]) for name in ("store", "instant_us", "active")),
        weight=np.concatenate([piece.weight for piece in pieces if piece.weight is not None]),
    )
    whole = timeline_of(fleet, START_US, LAST_US, LAST_US, rules)
    found = timeline_of(replace(fleet, polls=fewer), START_US, LAST_US, LAST_US, rules)
    for part in ("segments", "outages", "openings"):
        for name in getattr(whole, part).__slots__:
            assert np.array_equal(getattr(getattr(found, part), name), getattr(getattr(whole, part), name)), (
                part,
                name,
            )
    asked = Periods(
        np.repeat([0, 1], 8), *(np.tile(START_US + np.arange(8) * 5 * HOUR_US + more, 2) for more in (0, 7 * HOUR_US))
    )
    measured, again = (
        measure(opened, evidence.gather(polls, opened, rules), asked, LAST_US) for polls in (fleet.polls, fewer)
    )
    for name, values in measured.items():
        assert np.array_equal(again[name], values), name
    cut_us = LAST_US - 5 * HOUR_US
    counts = [evidence.gather(polls, opened, rules).count_from(cut_us, 2).tolist() for polls in (fleet.polls, fewer)]
    assert counts[0] == counts[1]


def test_of_many_that_agree_a_few_are_left() -> None:
    instant = START_US + np.arange(86_400) * SECOND_US
    zero = np.zeros(len(instant), dtype=np.int64)
    polls = Polls(zero, instant, (np.arange(86_400) % 40_000 > 10).astype(bool))
    always = openings.Openings(zero[:1], np.array([START_US]), np.array([LAST_US]))
    fewer = evidence.thin_out(polls, always, Rules(), LAST_US)
    assert len(fewer) < 60
    assert fewer.weight is not None
    assert fewer.weight.sum() == 86_400


def test_answers_are_the_same_however_polls_are_read(
    database: Database, client: FlaskClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = [f"a,{1_728_864_000 + 600 * n}000,{'in' if n % 50 < 7 else ''}active\n" for n in range(7000)]
    rows += [f"down,{1_728_864_000 + 900 * n}000,inactive\n" for n in range(4600)]
    (tmp_path / "polls.csv").write_text("store_id,timestamp_utc,status\n" + "".join(rows))
    (tmp_path / "hours.csv").write_text(
        "store_id,day,start_time_local,end_time_local\n" + "".join(f"a,{day},09:00,17:30\n" for day in range(6))
    )
    load_folder(database, tmp_path)
    # The answers say how old the data are.
    now_ns = time.time_ns()
    monkeypatch.setattr(time, "time_ns", lambda: now_ns)

    def answers() -> list[bytes]:
        found = [
            client.get(address, headers={"Accept": "text/html" if "api" not in address else "*/*"})
            for address in ADDRESSES
        ]
        assert {answer.status_code for answer in found} == {200}
        ids = [client.post("/trigger_report", json=shape).json["report_id"] for shape in SHAPES]
        reports = [client.get(f"/get_report?report_id={report_id}").data for report_id in ids]
        assert all(report.count(b"\n") > 1 for report in reports)
        for report_id in ids:
            client.delete(f"/api/v1/reports/{report_id}")
        return [answer.data for answer in found] + reports

    # Without a likely range, which is wider where polls of one store are left out (SPEC 3.8).
    monkeypatch.setattr(likely, "FEWEST_BOTH_DOWN", 10**9)
    whole = answers()
    monkeypatch.setattr(readings, "_POLLS_AT_ONCE", 100)
    assert answers() == whole
