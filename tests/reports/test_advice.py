"""What polls can prove: the widths against the simulation, the advice, its sentences and its command."""

import json

import numpy as np
import pytest
from conftest import storemon
from likely_helpers import AS_OF_US, RULES, STORES, ZONE
from likely_helpers import outages_fleet as outages_fleet

from benchmarks import likely_coverage
from storemon_flask.clock import timestamp_text
from storemon_flask.model import DAY_US, Rules
from storemon_flask.reports.advice import advise, advise_fleet
from storemon_flask.stores import detail
from storemon_flask.uptime.likely import Distributions, LikelyModel, expected_width

WEEK = 84 * 60.0
MODEL = Distributions(LikelyModel(1 / 2400, 1 / 45, every_minutes=60), Rules())


@pytest.mark.parametrize("every", [60, 15])
def test_the_expected_width_is_that_of_simulated_ranges(every):
    coverage = likely_coverage.measure_coverage(
        likely_coverage.simulate(np.random.default_rng(3), 120, "exponential", 90, every)
    )
    expected = expected_width(Distributions(coverage.model, Rules()), every, WEEK)
    assert expected == pytest.approx(coverage.width, rel=0.2)


def test_polls_every_hour_judge_no_99_percent_of_a_week_and_every_15_minutes_do():
    advice = advise(MODEL, 60, WEEK)
    assert not advice.can_judge
    assert advice.needed_minutes == 15
    assert advice.sentences == [
        "Polled every 60 minutes, a week of 84 business hours is likely known to within 104 min (2.1 %): targets up to "
        "96.9 % a week can be judged. A target of 99 % allows 50 min down: to judge it, poll every 15 minutes."
    ]
    widths = [one.width_minutes for one in advice.intervals]
    assert widths == sorted(widths, reverse=True)
    assert [one.every_minutes for one in advice.intervals] == [60, 30, 20, 15, 10, 5, 2, 1]


def test_a_target_that_the_polls_can_judge():
    advice = advise(MODEL, 15, WEEK)
    assert advice.can_judge
    assert advice.sentences[0].endswith("can be judged; a target of 99 % allows 50 min down.")
    # A longer period needs fewer polls: the width grows with the root of its length.
    assert advise(MODEL, 60, WEEK, period="month").needed_minutes == 30
    assert advise(MODEL, 60, WEEK, 99.99, "day").needed_minutes is None
    assert "polls every minute cannot judge either" in advise(MODEL, 60, WEEK, 99.99, "day").sentences[0]


def test_without_a_model_there_is_the_reason_and_no_sentence():
    advice = advise(Distributions(LikelyModel(reason="too few"), Rules()), 60, WEEK)
    assert (advice.reason, advice.sentences, advice.present) == ("too few", [], None)
    assert advice.record()["intervals"] == []
    assert advise(MODEL, 0, WEEK).present is None
    assert advise(MODEL, 60, 0.0).present is None


def test_the_fleet_is_advised_by_its_own_polls_and_hours(outages_fleet):
    with outages_fleet.read() as connection:
        advice = advise_fleet(outages_fleet, connection, ZONE, AS_OF_US, RULES)
        assert advice.business_minutes == WEEK
        assert advice.present.every_minutes == 20
        opened = detail.open_store(outages_fleet, connection, "s05", RULES, ZONE, AS_OF_US, AS_OF_US)
        assert opened.advise() == advice


def test_the_command_says_what_the_function_does(outages_fleet, settings):
    with outages_fleet.read() as connection:
        # The data are old, so commands speak as of the newest poll.
        opened = detail.open_store(outages_fleet, connection, "s05", RULES, ZONE, AS_OF_US + 2 * DAY_US)
        as_of_us = opened.as_of.as_of_us
        advice = advise_fleet(outages_fleet, connection, ZONE, as_of_us, RULES, 98.0, "month")
        sums = opened.likely_sums()["last_week"]
    outages_fleet.close()
    done = storemon(settings.home, "advise", "--target", "98", "--period", "month", "--json")
    assert json.loads(done.stdout) == advice.record()
    text = storemon(settings.home, "advise", "--target", "98", "--period", "month").stdout
    assert advice.sentences[0] in text.splitlines()[0]
    assert "20 min (now)" in text
    assert len(text.splitlines()) == 2 + 1 + len(advice.intervals)
    # The store's own numbers have its likely range.
    known = sums["uptime"] + sums["downtime"]
    low, high = (f"{100 * sums[name] / known:.2f}" for name in ("likely_low", "likely_high"))
    assert f"{low}-{high}" in storemon(settings.home, "store", "s05").stdout, timestamp_text(as_of_us)


def test_the_page_and_the_json_of_a_store_have_the_range_of_the_report(outages_fleet, app):
    client = app.test_client()
    answer = client.post("/trigger_report", json={"columns": "full", "as_of": timestamp_text(AS_OF_US)})
    report = client.get(f"/get_report?report_id={answer.json['report_id']}&format=json").json
    rows = {row["store_id"]: row for row in report["rows"]}
    assert len(rows) == STORES
    for store_id in ("s00", "s03", "s11"):
        one = client.get(f"/api/v1/stores/{store_id}?as_of={timestamp_text(AS_OF_US)}").json
        names = [
            f"uptime_percent_likely_{side}_last_{window}" for side in ("low", "high") for window in ("day", "week")
        ]
        assert [one[name] for name in names] == [rows[store_id][name] for name in names]
        page = client.get(f"/stores/{store_id}?as_of={timestamp_text(AS_OF_US)}").text
        low, high = (rows[store_id][f"uptime_percent_likely_{side}_last_week"] for side in ("low", "high"))
        if low is not None:
            assert f"likely {low:.2f} to {high:.2f}" in page
        assert "Polled every 20 minutes, a week of" in page
    assert rows["s00"]["uptime_percent_likely_low_last_week"] is None
