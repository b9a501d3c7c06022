"""The hours of one command, archive or request: one replacement set, however many files it has (SPEC 2)."""

import sqlite3
from collections.abc import Iterable

from storemon_flask.ingest.rejects import RejectLog
from storemon_flask.ingest.small import HoursRow
from storemon_flask.model import FileSummary
from storemon_flask.storage import stores

KEPT = "another hours row of this store was rejected; the store keeps the hours it had"
Week = tuple[int, int, int]


class HoursSet:
    """Gathers the hours files of a load and applies them together."""

    def __init__(self) -> None:
        self.files: list[tuple[FileSummary, RejectLog]] = []
        self.spoiled: set[str] = set()
        self._rows: list[list[HoursRow]] = []

    def add(self, summary: FileSummary, log: RejectLog, rows: Iterable[HoursRow]) -> None:
        """One file's good rows; nothing of it is kept when reading it fails half-way."""
        read = list(rows)
        self.files.append((summary, log))
        self._rows.append(read)

    def apply(self, connection: sqlite3.Connection) -> bool:
        """Replace the hours of every store in the set and fill in the summaries; whether anything changed."""
        named = {row.store_id for rows in self._rows for row in rows}
        old = stores.hours_of(connection, named | self.spoiled)
        kept = self.spoiled & old.keys()
        seen: dict[str, set[Week]] = {}
        for (summary, log), rows in zip(self.files, self._rows, strict=True):
            self._count(summary, log, rows, old, kept, seen)
        changed = {store_id: sorted(weeks) for store_id, weeks in seen.items() if weeks != old.get(store_id)}
        gone = sum(len(old.get(store_id, set()) - set(weeks)) for store_id, weeks in changed.items())
        stores.replace_hours(connection, changed)
        if self.files:
            self._note(self.files[-1][0], seen, kept, gone)
        return bool(changed)

    def _count(
        self,
        summary: FileSummary,
        log: RejectLog,
        rows: list[HoursRow],
        old: dict[str, set[Week]],
        kept: set[str],
        seen: dict[str, set[Week]],
    ) -> None:
        counts = summary.counts
        all_day = 0
        starts = {store_id: {week[:2] for week in weeks} for store_id, weeks in old.items()}
        for row in rows:
            week = (row.day, row.start_s, row.end_s)
            if row.store_id in kept:
                log.add(row.line, KEPT, row.text)
                continue
            before, mine = old.get(row.store_id, set()), seen.setdefault(row.store_id, set())
            if week in mine:
                counts.repeated += 1
                continue
            mine.add(week)
            all_day += row.start_s == row.end_s
            if week in before:
                counts.unchanged += 1
            elif week[:2] in starts.get(row.store_id, ()):
                counts.changed += 1
            else:
                counts.new += 1
        counts.rejected = log.count
        counts.rows = counts.new + counts.changed + counts.unchanged + counts.repeated + counts.rejected
        if all_day:
            summary.notes.append(f"{all_day:,} rows with equal start and end were read as 24 hours")

    def _note(self, summary: FileSummary, seen: dict[str, set[Week]], kept: set[str], gone: int) -> None:
        if gone:
            summary.notes.append(f"{gone:,} earlier rows of these stores were replaced")
        for store_id in sorted(self.spoiled):
            if store_id in kept:
                summary.notes.append(f"{store_id}: a row was rejected; the store keeps the hours it had")
            elif seen.get(store_id):
                summary.notes.append(
                    f"{store_id}: a row was rejected; its other rows apply, and it is closed elsewhere"
                )
            else:
                summary.notes.append(f"{store_id}: no row could be used and it had none before; it counts as open 24x7")
