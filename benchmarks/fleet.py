"""Make a fleet to measure with: the sample's opening hours and zones under new ids, invented outages, polls about once
an hour.

    python -m benchmarks.fleet OUT [--stores 3678] [--days 60] [--dirty] [--quoted] [--seed 7]

Writes OUT/store_status.csv (in random order), menu_hours.csv and timezones.csv. `--dirty` makes about one row in 500
bad, `--quoted` quotes every field of the polls. The same arguments give the same files.
"""

import argparse
import csv
import uuid
from pathlib import Path

import numpy as np
import pandas as pd

SAMPLE = Path(__file__).resolve().parent.parent / "storemon_flask" / "sample"
HOUR_US = 3_600_000_000
END_US = 1_728_950_118_727_055  # 2024-10-14T23:55:18.727055Z, the sample's newest poll
_PIECE = 500_000


def make(out: Path, stores: int, days: int, dirty: bool = False, quoted: bool = False, seed: int = 7) -> int:
    """Write the three files; the number of rows of the polls."""
    out.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    ids = np.array([str(uuid.UUID(bytes=rng.bytes(16), version=4)) for _ in range(stores)])
    _write_hours_and_zones(out, ids, rng)
    store, instant, active = _polls(stores, days, rng)
    order = rng.permutation(len(store))
    rows = 0
    for at in range(0, len(order), _PIECE):
        piece = order[at : at + _PIECE]
        text = pd.Series(np.datetime_as_string(instant[piece].astype("datetime64[us]"), "us")).str.replace("T", " ")
        # As real exports do: trailing zeros of the fraction are dropped.
        text = text.str.replace(r"\.?0+$", "", regex=True).where(instant[piece] % 10 == 0, text) + " UTC"
        frame = pd.DataFrame(
            {
                "store_id": ids[store[piece]],
                "status": np.where(active[piece], "active", "inactive"),
                "timestamp_utc": text,
            }
        )
        if dirty:
            frame = _soiled(frame, rng)
        frame.to_csv(
            out / "store_status.csv",
            index=False,
            mode="a" if at else "w",
            header=not at,
            quoting=csv.QUOTE_ALL if quoted else csv.QUOTE_MINIMAL,
        )
        rows += len(frame)
    return rows


def _write_hours_and_zones(out: Path, ids: np.ndarray, rng: np.random.Generator) -> None:
    hours = pd.read_csv(SAMPLE / "menu_hours.csv", dtype=str)
    zones = pd.read_csv(SAMPLE / "timezones.csv", dtype=str).set_index("store_id")["timezone_str"]
    models = np.array(sorted(zones.index))
    twin = pd.DataFrame({"new": ids, "store_id": rng.choice(models, len(ids))})
    drawn = twin.merge(hours, on="store_id")
    drawn.drop(columns="store_id").rename(columns={"new": "store_id"}).to_csv(out / "menu_hours.csv", index=False)
    twin.assign(timezone_str=zones.reindex(twin["store_id"]).to_numpy())[["new", "timezone_str"]].rename(
        columns={"new": "store_id"}
    ).to_csv(out / "timezones.csv", index=False)


def _polls(stores: int, days: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Store, instant and state: about 16 polls a day with jitter, states that last for hours."""
    slots = np.arange(END_US - days * 24 * HOUR_US, END_US, HOUR_US)
    parts = []
    for first in range(0, stores, 2000):
        count = min(2000, stores - first)
        store = np.repeat(np.arange(first, first + count, dtype=np.int32), len(slots))
        instant = np.tile(slots, count) + (rng.random(len(store)) * HOUR_US / 2).astype(np.int64)
        # A state changes every ten hours or so; stores are up nine tenths of the time.
        change = rng.random(len(store)) < 0.1
        change[:: len(slots)] = True
        draws = rng.random(int(change.sum())) < 0.9
        active = draws[np.cumsum(change) - 1]
        keep = rng.random(len(store)) < 0.65
        parts.append((store[keep], instant[keep], active[keep]))
    store, instant, active = (np.concatenate(column) for column in zip(*parts, strict=True))
    instant[np.argmax(instant)] = END_US
    return store, instant, active


def _soiled(frame: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    bad = frame.iloc[rng.choice(len(frame), max(5, len(frame) // 500), replace=False)].reset_index(drop=True)
    kind = bad.index % 5
    bad.loc[kind == 0, "timestamp_utc"] = "2024-13-45 99:00:00 UTC"
    bad.loc[kind == 1, "status"] = "unknown"
    bad.loc[kind == 2, "store_id"] = "8.13992624246019E+018"
    bad.loc[kind == 3, "timestamp_utc"] = "2999-01-01 00:00:00 UTC"
    bad.loc[kind == 4, "store_id"] = ""
    return pd.concat([frame, bad]).sample(frac=1, random_state=int(rng.integers(2**31)))


def main() -> None:
    """The command line of the module's text."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("--stores", type=int, default=3678)
    parser.add_argument("--days", type=int, default=60)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--dirty", action="store_true")
    parser.add_argument("--quoted", action="store_true")
    options = parser.parse_args()
    rows = make(options.out, options.stores, options.days, options.dirty, options.quoted, options.seed)
    print(f"{rows:,} polls of {options.stores:,} stores in {options.out}")


if __name__ == "__main__":
    main()
