"""What sums of days follow from, as a number: another one for whatever matters to the days, the same for the rest."""

from dataclasses import replace

import numpy as np
import pytest

from storemon_flask.model import DAY_US, EVER_US, FOREVER, HOUR_US, UNDATED, Hours, Rules, SpecialHours
from storemon_flask.uptime.basis import bases, text_numbers

FIRST, LENGTH = 20_000, 32
# Store, day, start, end, from, until.
WEEKLY = [(0, 0, 32_400, 61_200, UNDATED, FOREVER), (0, 1, 32_400, 61_200, UNDATED, FOREVER)]
DATED = [(1, FIRST + 3, 36_000, 43_200)]


def numbers(weekly=WEEKLY, dated=DATED, rules=Rules(), complete_from_us=EVER_US, texts=("a", "b"), first=FIRST):  # noqa: B008
    hours = Hours(*np.array(weekly, dtype=np.int64).reshape(-1, 6).T)
    special = SpecialHours(*np.array(dated, dtype=np.int64).reshape(-1, 4).T)
    (basis,) = bases(text_numbers(list(texts)), hours, special, rules, complete_from_us, [first], LENGTH)
    return basis.tolist()


@pytest.mark.parametrize(
    ("change", "which"),
    [
        ({"weekly": [*WEEKLY[:1], (0, 2, 32_400, 61_200, UNDATED, FOREVER)]}, [0]),
        ({"weekly": [*WEEKLY[:1], (0, 1, 32_401, 61_200, UNDATED, FOREVER)]}, [0]),
        ({"weekly": [*WEEKLY[:1], (0, 1, 32_400, 61_200, UNDATED, FIRST + 31)]}, [0]),
        ({"weekly": [*WEEKLY[:1], (0, 1, 32_400, 61_200, FIRST - 6, FOREVER)]}, [0]),
        # Hours that begin one day: before that the store is open all the time, not closed.
        ({"weekly": [*WEEKLY, (1, 0, 0, 0, FIRST + 5, FOREVER)]}, [1]),
        ({"dated": [(1, FIRST + 4, 36_000, 43_200)]}, [1]),
        ({"dated": [*DATED, (0, FIRST - 5, -1, -1)]}, [0]),
        ({"rules": Rules(max_gap_us=HOUR_US)}, [0, 1]),
        ({"rules": Rules(reach_us=HOUR_US)}, [0, 1]),
        ({"rules": replace(Rules(), method="previous")}, [0, 1]),
        ({"complete_from_us": FIRST * DAY_US}, [0, 1]),
        ({"texts": ("a", "c")}, [1]),
    ],
)
def test_whatever_matters_to_the_days_changes_the_number(change, which):
    before, after = numbers(), numbers(**change)
    assert [store for store in range(2) if before[store] != after[store]] == which


@pytest.mark.parametrize(
    "change",
    [
        {"weekly": WEEKLY[::-1]},
        {"weekly": [*WEEKLY, (0, 3, 0, 0, FIRST + 60, FOREVER)]},
        {"weekly": [*WEEKLY, (1, 3, 0, 0, FIRST + 60, FOREVER)]},
        {"dated": [*DATED, (0, FIRST - 30, -1, -1), (1, FIRST + 70, -1, -1)]},
        {"complete_from_us": (FIRST - 30) * DAY_US},
        {"rules": Rules(max_skew_us=0)},
    ],
)
def test_what_is_of_another_time_changes_nothing(change):
    assert numbers(**change) == numbers()


def test_spans_in_which_nothing_changes_have_one_number():
    origin, hours = text_numbers(["a"]), Hours(*np.array(WEEKLY, dtype=np.int64).T)
    special = SpecialHours(*np.array([(0, FIRST + 100, -1, -1)], dtype=np.int64).T)
    spans = [FIRST + 32 * at for at in range(5)]
    together = bases(origin, hours, special, Rules(), EVER_US, spans, LENGTH)
    alone = [bases(origin, hours, special, Rules(), EVER_US, [span], LENGTH)[0] for span in spans]
    assert [one.tolist() for one in together] == [one.tolist() for one in alone]
    # The date is in the fourth, and near enough to the third to matter to it.
    assert len({one.item() for one in together}) == 3
    assert together[0] == together[1] == together[4]
