"""The calculation of SPEC.md 3, 4 and 7 done slowly and literally, to check the fast one against.

`report` and `measures` are the entrances. Every time is an integer: microseconds since 1970-01-01T00:00Z. A poll is
`(instant, active)`, an opening or a piece of one `(start, end)` with the end outside. The one trick: cut business time
at every instant where an answer could change, then ask the SPEC's questions of each piece. Quadratic in the polls.
"""

from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Any

from brute_openings import Opening, Row, Special, Zone, openings, zone_at

Poll = tuple[int, bool]
MINUTE = 60_000_000
HOUR = 60 * MINUTE
DAY = 24 * HOUR
WEEK = 168 * HOUR
EVER = -(10**18)
WINDOWS = {"last_hour": HOUR, "last_day": DAY, "last_week": WEEK}
FIGURES = ("business", "uptime", "downtime", "unknown", "measured", "uptime_low", "uptime_high")


# Evidence


def evidence(opening: Opening, polls: list[Poll]) -> list[Poll]:
    """The polls made during the opening, `start <= t < end` (SPEC 3.2)."""
    return [(instant, active) for instant, active in polls if opening[0] <= instant < opening[1]]


def line(earlier: Poll, later: Poll) -> int:
    """Where the later poll begins to speak: the midpoint, rounded down (SPEC 3.3)."""
    return (earlier[0] + later[0]) // 2


def nearest(moment: int, polls: list[Poll]) -> Poll:
    """The poll that a moment is nearest to; before the first and after the last, that one (SPEC 3.3)."""
    speaker = polls[0]
    for earlier, later in pairwise(polls):
        if moment >= line(earlier, later):
            speaker = later
    return speaker


def previous_word(piece: Opening, polls: list[Poll], reach: int) -> str:
    """What the last poll before a piece says for at most twice the reach; before the first poll, `unknown`."""
    before = [(instant, active) for instant, active in polls if instant <= piece[0]]
    if not before or piece[1] > before[-1][0] + 2 * reach:
        return "unknown"
    return "uptime" if before[-1][1] else "downtime"


def word(piece: Opening, polls: list[Poll], reach: int) -> str:
    """`uptime`, `downtime`, or `unknown` where the nearest poll is further away than the reach (SPEC 3.3, 3.4)."""
    if not polls:
        return "unknown"
    instant, active = nearest(piece[0], polls)
    if piece[0] < instant - reach or piece[1] > instant + reach:
        return "unknown"
    return "uptime" if active else "downtime"


def measured_between(piece: Opening, polls: list[Poll], max_gap: int) -> tuple[bool, bool] | None:
    """What the neighbours around a piece saw, None where they are further apart than the max gap (SPEC 3.5)."""
    for earlier, later in pairwise(polls):
        if earlier[0] <= piece[0] and piece[1] <= later[0] and later[0] - earlier[0] <= max_gap:
            return earlier[1], later[1]
    return None


# Pieces


def pieces(opening: Opening, polls: list[Poll], edges: set[int], reach: int) -> Iterator[Opening]:
    """The opening, within the outermost window edges, cut wherever an answer could change."""
    start, end = max(opening[0], min(edges)), min(opening[1], max(edges))
    cuts = {start, end} | edges
    cuts |= {line(earlier, later) for earlier, later in pairwise(polls)}
    for instant, _ in polls:
        cuts |= {instant - reach, instant, instant + reach, instant + 2 * reach}
    return pairwise(sorted(cut for cut in cuts if start <= cut <= end))


def figures(piece: Opening, polls: list[Poll], reach: int, max_gap: int, method: str, complete_from: int) -> set[str]:
    """The names of the sums that a piece of business time belongs to (SPEC 1; 3.3 to 3.5)."""
    if piece[1] <= complete_from:
        return {"business", "unknown", "uptime_high"}
    between = measured_between(piece, polls, max_gap)
    belongs = {"business", {"nearest": word, "previous": previous_word}[method](piece, polls, reach)}
    if between is not None:
        belongs.add("measured")
    if between == (True, True):
        belongs.add("uptime_low")
    if between != (False, False):
        belongs.add("uptime_high")
    return belongs


# Answers


def status_now(polls: list[Poll], opened: list[Opening], as_of: int, max_gap: int) -> str:
    """`no_data`, `closed`, `up`, `down`, `waiting` or `stale`, judged at the as-of (SPEC 7)."""
    if not polls:
        return "no_data"
    current = [(start, end) for start, end in opened if start <= as_of < end]
    if not current:
        return "closed"
    made = evidence(current[0], polls)
    if made and as_of - made[-1][0] < max_gap:
        return "up" if made[-1][1] else "down"
    return "waiting" if as_of - current[0][0] < max_gap else "stale"


def sums(
    polls: list[Poll],
    opened: list[Opening],
    window: Opening,
    as_of: int,
    reach: int,
    max_gap: int,
    method: str,
    complete_from: int = EVER,
) -> dict[str, int]:
    """The figures of one window of one store, cut at the as-of (SPEC 1; 3.3 to 3.5)."""
    start, end = window[0], min(window[1], as_of)
    total = dict.fromkeys(FIGURES, 0)
    if start >= end:
        return total
    for opening in opened:
        made = evidence(opening, polls)
        edges = {start, end} | ({complete_from} if start < complete_from < end else set())
        for piece in pieces(opening, made, edges, reach):
            for figure in figures(piece, made, reach, max_gap, method, complete_from):
                total[figure] += piece[1] - piece[0]
    return total


def store_report(
    polls: list[Poll],
    rows: list[Row],
    special: list[Special],
    zones: Zone,
    default_zone: str,
    as_of: int,
    reach: int,
    max_gap: int,
    windows: Mapping[str, int],
    method: str,
    complete_from: int,
) -> dict[str, Any]:
    """One store's answers; `polls` in order of time, each instant once, none after the as-of (SPEC 4)."""
    # Further back than this no poll can speak for a window, measure in it, be counted, or make an opening young.
    since = as_of - max([WEEK, *windows.values()]) - 2 * reach - max_gap
    opened = openings(rows, special, zones, default_zone, since, as_of)
    answer: dict[str, Any] = {}
    for window, length in windows.items():
        found = sums(polls, opened, (as_of - length, as_of), as_of, reach, max_gap, method, complete_from)
        answer |= {f"{figure}_{window}": value for figure, value in found.items()}
    counted = [instant for opening in opened for instant, _ in evidence(opening, polls) if instant >= as_of - WEEK]
    answer["polls_last_week"] = len(counted)
    answer["last_poll_us"] = polls[-1][0] if polls else None
    answer["status_now"] = status_now(polls, opened, as_of, max_gap)
    answer["timezone"] = zones if isinstance(zones, str) else zone_at(as_of, list(zones), default_zone)
    return answer


def gathered(
    polls: Iterable[tuple[str, int, bool]],
    hours: Iterable[tuple[Any, ...]],
    special: Iterable[tuple[str, str, str, str]],
    as_of: int,
) -> tuple[dict[str, dict[int, bool]], dict[str, list[Row]], dict[str, list[Special]]]:
    """Per store its polls up to the as-of, its rows of hours and its special ones."""
    seen: dict[str, dict[int, bool]] = {}
    opens: dict[str, list[Row]] = {}
    for store, instant, active in polls:
        known = seen.setdefault(store, {})  # a poll after the as-of names its store, and no more
        if instant <= as_of:
            known[instant] = active  # the later row wins (SPEC 2, polls)
    for store, weekday, start, end, *since in hours:
        opens.setdefault(store, []).append((weekday, start, end, since[0] if since else ""))
    days: dict[str, list[Special]] = {}
    for store, day, start, end in special:
        days.setdefault(store, []).append((day, start, end))
    return seen, opens, days


def measures(
    polls: Iterable[tuple[str, int, bool]],
    hours: Iterable[tuple[Any, ...]],
    zones: Mapping[str, Zone],
    as_of_us: int,
    asked: Iterable[tuple[str, int, int]],
    *,
    reach_us: int = 24 * HOUR,
    max_gap_us: int = 150 * MINUTE,
    default_zone: str = "America/Chicago",
    method: str = "nearest",
    special: Iterable[tuple[str, str, str, str]] = (),
    complete_from: int = EVER,
) -> list[dict[str, int]]:
    """The figures of each (store, from, to) asked, in microseconds.

    Polls before `complete_from` were pruned (SPEC 3.4).
    """
    polls = [poll for poll in polls if poll[1] >= complete_from]
    seen, opens, days = gathered(polls, hours, special, as_of_us)
    wanted = list(asked)
    since = min([as_of_us, *(start for _, start, _ in wanted)]) - 2 * reach_us - max_gap_us
    found = []
    for store, start, end in wanted:
        zone = zones.get(store, default_zone)
        opened = openings(opens.get(store, []), days.get(store, []), zone, default_zone, since, as_of_us)
        known = sorted(seen.get(store, {}).items())
        found.append(sums(known, opened, (start, end), as_of_us, reach_us, max_gap_us, method, complete_from))
    return found


def report(
    polls: Iterable[tuple[str, int, bool]],
    hours: Iterable[tuple[Any, ...]],
    zones: Mapping[str, Zone],
    as_of_us: int,
    *,
    reach_us: int = 24 * HOUR,
    max_gap_us: int = 150 * MINUTE,
    default_zone: str = "America/Chicago",
    windows: Mapping[str, int] = WINDOWS,
    method: str = "nearest",
    special: Iterable[tuple[str, str, str, str]] = (),
    complete_from: int = EVER,
) -> dict[str, dict[str, Any]]:
    """Store id to answers, for every store that any row names, sorted by id; all durations in microseconds (SPEC 4).

    Polls before `complete_from` were pruned, and their stores are known still (SPEC 3.4).
    """
    polls = list(polls)
    named = {store for store, _, _ in polls}
    polls = [poll for poll in polls if poll[1] >= complete_from]
    seen, opens, days = gathered(polls, hours, special, as_of_us)
    answers = {}
    for store in sorted(named | seen.keys() | opens.keys() | days.keys() | zones.keys()):
        known_polls, zone = sorted(seen.get(store, {}).items()), zones.get(store, default_zone)
        rows, dates = opens.get(store, []), days.get(store, [])
        answers[store] = store_report(
            known_polls, rows, dates, zone, default_zone, as_of_us, reach_us, max_gap_us, windows, method, complete_from
        )
    return answers
