"""The instant that live views are judged at (SPEC 7)."""

import sqlite3
from dataclasses import dataclass, replace

from storemon_flask import clock
from storemon_flask.clock import duration_text, timestamp_text
from storemon_flask.database import few_heard
from storemon_flask.database.connections import Database
from storemon_flask.database.newest import Newest, future_polls, newest_poll
from storemon_flask.model import DAY_US, Rules

# A feed that has been silent for this long is not a feed but a file.
OLD_US = DAY_US


@dataclass(frozen=True, slots=True)
class Moment:
    """The as-of of a live view; `notice` is the sentence of a banner when that is not the machine's clock, else None,
    and `age` how old the newest poll then is. `note`: the sentence of `few_heard`, if there is one; `future`: that of
    `newest.future_polls`."""

    as_of_us: int
    notice: str | None
    age: str = ""
    note: str | None = None
    future: str | None = None

    @property
    def data_are_old(self) -> bool:
        """Whether the newest poll of all is the as-of, because it is a day old or more."""
        return self.notice is not None

    @property
    def notes(self) -> str | None:
        """Both notes, for programs and terminals; None when there are none."""
        return "; ".join(filter(None, (self.note, self.future))) or None


def moment(
    database: Database, connection: sqlite3.Connection, now_us: int, rules: Rules, as_of_us: int | None = None
) -> Moment:
    """The as-of that was asked for; else `now_us` while the newest poll that is not in the future is younger than a
    day, or there is none; else that poll, and a notice. `Unprocessable` for an as-of outside 1970 to 2200."""
    if as_of_us is not None:
        clock.check_as_of(as_of_us)
        return Moment(as_of_us, None, note=few_heard.sentence(connection, as_of_us))
    found = moment_of(newest_poll(database, connection, rules.latest_us(now_us)), now_us)
    return replace(found, note=few_heard.sentence(connection, found.as_of_us))


def moment_of(newest: Newest, now_us: int) -> Moment:
    """The same, without the note about few stores, for data that have that newest poll."""
    newest_us, future = newest.poll_us, future_polls(newest.ahead)
    if newest_us is None or now_us - newest_us < OLD_US:
        return Moment(now_us, None, future=future)
    age = duration_text(now_us - newest_us)
    return Moment(
        newest_us,
        f"the newest poll is {age} old; everything here is as of that poll, {timestamp_text(newest_us)}",
        age,
        future=future,
    )
