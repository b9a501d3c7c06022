"""Polls, hours and zones to draw, around the calendar's worst days."""

from datetime import UTC, datetime

from hypothesis import strategies as st

from storemon_flask.model import HOUR_US, MINUTE_US, WEEK_US

# Zones with half-hour shifts, odd offsets, a skipped day, midnight changes, and ordinary ones; around their changes.
DAYS = [
    ("America/New_York", datetime(2023, 3, 12, tzinfo=UTC)),
    ("America/New_York", datetime(2023, 11, 5, tzinfo=UTC)),
    ("America/Chicago", datetime(2024, 3, 10, tzinfo=UTC)),
    ("Europe/Dublin", datetime(2023, 10, 29, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2023, 4, 1, tzinfo=UTC)),
    ("Australia/Lord_Howe", datetime(2023, 9, 30, tzinfo=UTC)),
    ("Pacific/Apia", datetime(2011, 12, 30, tzinfo=UTC)),
    ("America/Sao_Paulo", datetime(2018, 11, 4, tzinfo=UTC)),
    ("Africa/Casablanca", datetime(2023, 3, 19, tzinfo=UTC)),
    ("Asia/Kathmandu", datetime(2023, 1, 25, tzinfo=UTC)),
    ("Pacific/Chatham", datetime(2023, 9, 23, tzinfo=UTC)),
    ("America/St_Johns", datetime(2006, 10, 29, tzinfo=UTC)),
    ("Etc/UTC", datetime(2024, 2, 29, tzinfo=UTC)),
]
TIMES = ["0:00", "00:01", "01:30", "02:00", "02:30:15", "3:00", "09:00", "12:00:00", "17:59:59.9", "18:00", "22:00"]
ENDS = [*TIMES, "23:58:59", "23:59", "23:59:59", "24:00"]


@st.composite
def cases(draw):
    zone, day = draw(st.sampled_from(DAYS))
    middle = int(day.timestamp()) * 1_000_000
    as_of = middle + draw(
        st.one_of(
            st.integers(-3 * 24 * HOUR_US, 5 * 24 * HOUR_US),
            st.integers(-72, 120).map(lambda hour: hour * HOUR_US),
        )
    )
    names = ["a", "b", "c"][: draw(st.integers(1, 3))]
    hours = []
    for name in names:
        for weekday, start, end in draw(
            st.lists(
                st.tuples(st.integers(0, 6), st.sampled_from(TIMES), st.sampled_from(ENDS)), max_size=12, unique=True
            )
        ):
            hours.append((name, weekday, start, end))
    # Polls at whole half hours often fall on an edge of an opening or of a window; others fall anywhere.
    near = st.one_of(
        st.integers(-9 * 48, 2 * 48).map(lambda half: as_of + half * HOUR_US // 2),
        st.integers(-9 * 24 * 60, 60).map(lambda minute: (as_of // MINUTE_US + minute) * MINUTE_US),
        st.integers(as_of - 9 * 24 * HOUR_US, as_of + HOUR_US),
        st.integers(as_of - 3 * HOUR_US, as_of + 1),
        st.just(as_of),
        st.just(as_of - WEEK_US),
    )
    polls = draw(st.lists(st.tuples(st.sampled_from(names), near, st.booleans()), max_size=40))
    zones = {name: zone for name in names if draw(st.booleans())}
    reach = draw(st.sampled_from([24 * HOUR_US, 6 * HOUR_US, HOUR_US, 72 * HOUR_US, 1_000_001]))
    gap = draw(st.sampled_from([150 * MINUTE_US, 30 * MINUTE_US, 2 * reach, 2_000_001]))
    return polls, hours, zones, as_of, reach, min(gap, 2 * reach)
