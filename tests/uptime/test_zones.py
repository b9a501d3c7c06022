"""Local time to UTC against `zoneinfo` itself."""

import re
import shutil
import subprocess
import sys
import zoneinfo
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import tzdata
from conftest import ROOT
from hypothesis import given, settings
from hypothesis import strategies as st

from storemon_flask import zonedata
from storemon_flask.model import DAY_US, HOUR_US
from storemon_flask.uptime.zones import LocalClock, changes_of_year

EPOCH = datetime(1970, 1, 1)


def by_zoneinfo(local_us: int, name: str) -> int:
    """The instant of a wall-clock time, first occurrence, and a skipped one with the offset before the gap."""
    local = EPOCH + timedelta(microseconds=local_us)
    aware = local.replace(tzinfo=zonedata.zone(name), fold=0)
    return (aware.astimezone(UTC).replace(tzinfo=None) - EPOCH) // timedelta(microseconds=1)


NAMES = sorted(zonedata.names())


def test_there_are_the_zones_of_zoneinfo_each_with_its_offsets():
    assert set(NAMES) == zoneinfo.available_timezones() - {"Factory", "localtime"}
    moments = [datetime(year, month, 3, 4) for year in (1900, 1950, 1999, 2024, 2037, 2060) for month in range(1, 13)]
    for name in NAMES:
        ours, theirs = zonedata.zone(name), zoneinfo.ZoneInfo(name)
        assert ours.key == name
        assert [moment.replace(tzinfo=ours).utcoffset() for moment in moments] == [
            moment.replace(tzinfo=theirs).utcoffset() for moment in moments
        ]


@pytest.mark.parametrize("name", ["", "Nope/Nowhere", "america/new_york", "../zones", "Factory"])
def test_a_zone_that_is_none_is_a_key_error_with_its_name(name):
    with pytest.raises(KeyError, match=re.escape(f"No time zone found with key {name}")):
        zonedata.zone(name)


def test_zones_in_a_zip_are_read_without_listing_it_for_each(tmp_path):
    """So they are in the single file, where listing it takes a hundred times as long as reading a zone."""
    packages = Path(tzdata.__file__).parent.parent
    file = shutil.make_archive(str(tmp_path / "zones"), "zip", root_dir=packages, base_dir="tzdata")
    program = """
import sys, zipfile
sys.path.insert(0, sys.argv[1])
listed = []
read = zipfile.ZipFile._RealGetContents
zipfile.ZipFile._RealGetContents = lambda self: (listed.append(1), read(self))[1]
from storemon_flask import zonedata
import tzdata
offsets = {zonedata.zone(name).utcoffset(None) for name in zonedata.names()}
print(tzdata.__file__.startswith(sys.argv[1]), len(zonedata.names()), len(listed))
"""
    done = subprocess.run([sys.executable, "-c", program, file], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == f"True {len(NAMES)} 1\n"


@settings(max_examples=300)
@given(
    st.lists(st.sampled_from(NAMES), min_size=1, max_size=4, unique=True),
    st.integers(1971, 2060),
    st.data(),
)
def test_local_times_become_the_instants_that_zoneinfo_says(names, year, data):
    start = int((datetime(year, 1, 1) - EPOCH).total_seconds()) * 1_000_000
    changes = [second * 1_000_000 for name in names for second, _, _ in changes_of_year(name, year)]
    around = [st.integers(change - 20 * HOUR_US, change + 20 * HOUR_US) for change in changes]
    moments = st.one_of(st.integers(start, start + 365 * DAY_US), *around)
    local = sorted(data.draw(st.lists(moments, min_size=1, max_size=30)))
    clock = LocalClock(tuple(names), local[0], local[-1])
    for place, name in enumerate(names):
        found = clock.to_utc(np.array(local), np.full(len(local), place))
        assert found.tolist() == [by_zoneinfo(moment, name) for moment in local]


@pytest.mark.parametrize(
    ("name", "year", "expected"),
    [
        ("America/New_York", 2023, [("2023-03-12 07:00:00", -18000, -14400), ("2023-11-05 06:00:00", -14400, -18000)]),
        ("Australia/Lord_Howe", 2023, [("2023-04-01 15:00:00", 39600, 37800), ("2023-09-30 15:30:00", 37800, 39600)]),
        ("Pacific/Apia", 2011, [
            ("2011-04-02 14:00:00", -36000, -39600),
            ("2011-09-24 14:00:00", -39600, -36000),
            ("2011-12-30 10:00:00", -36000, 50400),
        ]),
        ("Asia/Kathmandu", 2023, []),
    ],
)  # fmt: skip
def test_the_changes_of_a_year_are_known_to_the_second(name, year, expected):
    found = [
        (str(EPOCH + timedelta(seconds=second)), before, after) for second, before, after in changes_of_year(name, year)
    ]
    assert found == expected


@pytest.mark.slow
def test_no_zone_changes_twice_within_two_days_so_one_question_a_day_finds_every_change():
    for name in NAMES:
        zone = zonedata.zone(name)
        changed_at = []
        before = None
        for second in range(0, 2_208_988_800, 6 * 3600):
            offset = datetime.fromtimestamp(second, zone).utcoffset()
            if before is not None and offset != before:
                changed_at.append(second)
            before = offset
        gaps = np.diff(changed_at)
        assert not len(gaps) or gaps.min() > 2 * 86_400, name
