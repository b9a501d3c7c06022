"""The benchmark suite itself: its fleets, its pairing, its comparison, and that its figures come from real runs."""

import csv

import pytest

from benchmarks import cases, fleet, ours, write
from benchmarks.bench import Bench, Row
from benchmarks.processes import Run


def rows_of(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_a_fleet_is_the_same_twice_and_has_the_rows_it_says(tmp_path):
    count = fleet.make(tmp_path / "a", 12, 5)
    fleet.make(tmp_path / "b", 12, 5)

    for name in ours.FEEDS:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    polls = rows_of(tmp_path / "a" / "store_status.csv")
    assert len(polls) == count
    assert len({row["store_id"] for row in polls}) == 12
    assert max(row["timestamp_utc"] for row in polls) == "2024-10-14 23:55:18.727055 UTC"
    assert {row["store_id"] for row in rows_of(tmp_path / "a" / "timezones.csv")} == {row["store_id"] for row in polls}


def test_a_dirty_fleet_has_as_many_rejects_as_it_was_given_and_a_quoted_one_none(tmp_path):
    clean = fleet.make(tmp_path / "clean", 12, 20)
    dirty = fleet.make(tmp_path / "dirty", 12, 20, dirty=True)
    fleet.make(tmp_path / "quoted", 12, 20, quoted=True)

    rejected = {}
    for kind in ("clean", "dirty", "quoted"):
        rejected[kind] = ours.loaded(tmp_path / kind, tmp_path / "home" / kind).rejected
    assert rejected == {"clean": 0, "dirty": dirty - clean, "quoted": 0}
    assert dirty > clean


def test_both_take_turns_after_one_run_of_each_that_does_not_count(tmp_path):
    seen = []

    def runs(name, seconds):
        def run():
            seen.append(name)
            return Run(seconds, 1.0)

        return run

    first, second = Bench(tmp_path, 3, 1).pairs(runs("ours", 1.0), runs("other", 4.0))

    assert seen == ["ours", "other"] * 4
    assert (len(first), len(second)) == (3, 3)


def test_a_ratio_is_the_median_of_the_ratios_run_by_run():
    row = Row("load", "a fleet", [1.0, 3.0, 2.0], [2.0, 2.0, 8.0], "the other", 0.9, peak_mb=185.4)

    assert row.ratio == 0.5
    assert write.line(row) == (
        "| load | a fleet | 2.000 s (1.000 to 3.000) | the other | 2.000 s (2.000 to 8.000) | **0.50** | 0.90 | 185 |"
    )


@pytest.mark.parametrize("cell", ["9.02", "12.00"])
def test_reports_that_differ_by_more_than_a_hundredth_are_refused(tmp_path, cell):
    head = "store_id,uptime_last_hour\n"
    (tmp_path / "a.csv").write_text(head + "s1,9.00\n")
    (tmp_path / "b.csv").write_text(head + "s1,9.01\n")
    (tmp_path / "c.csv").write_text(head + f"s1,{cell}\n")
    (tmp_path / "d.csv").write_text(head + "s2,9.00\n")

    cases.same(tmp_path / "a.csv", tmp_path / "b.csv")
    with pytest.raises(ValueError, match="s1 uptime_last_hour"):
        cases.same(tmp_path / "a.csv", tmp_path / "c.csv")
    with pytest.raises(ValueError, match="different stores"):
        cases.same(tmp_path / "a.csv", tmp_path / "d.csv")


def test_duckdb_and_storemon_give_the_same_report_of_a_fleet(tmp_path, capsys, monkeypatch):
    peer = pytest.importorskip("benchmarks.duckdb_peer", reason="duckdb is not installed; `make bench` installs it")
    import io

    fleet.make(tmp_path / "fleet", 40, 12)
    ours.load(tmp_path / "fleet", tmp_path / "home")
    monkeypatch.setattr("sys.stdin", io.StringIO("\n"))
    ours.answer(tmp_path / "home", tmp_path / "ours.csv")
    peer.load(tmp_path / "fleet", tmp_path / "d.duckdb")
    peer.main("report", str(tmp_path / "d.duckdb"), str(tmp_path / "other.csv"))

    cases.same(tmp_path / "ours.csv", tmp_path / "other.csv")
    assert len(rows_of(tmp_path / "ours.csv")) == 40
