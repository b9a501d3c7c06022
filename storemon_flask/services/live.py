"""The instant that live views are judged at (SPEC 7)."""

import sqlite3
from dataclasses import dataclass, replace

from storemon_flask.model import DAY_US
from storemon_flask.services import few_heard, instants, report_text
from storemon_flask.services.durations import duration_text
from storemon_flask.storage import stores

# A feed that has been silent for this long is not a feed but a file.
OLD_US = DAY_US


@dataclass(frozen=True, slots=True)
class Moment:
    """The as-of of a live view; `notice` is the sentence of a banner when that is not the machine's clock, else None, and
    `age` how old the newest poll then is. `note`: the sentence of `few_heard`, if there is one."""

    as_of_us: int
    notice: str | None
    age: str = ""
    note: str | None = None

    @property
    def data_are_old(self) -> bool:
        """Whether the newest poll of all is the as-of, because it is a day old or more."""
        return self.notice is not None


def moment(connection: sqlite3.Connection, now_us: int, as_of_us: int | None = None) -> Moment:
    """The as-of that was asked for; else `now_us` while the newest poll of all is younger than a day, or there is none; else that
    poll, and a notice. `Unprocessable` for an as-of outside 1970 to 2200."""
    if as_of_us is not None:
        instants.check_as_of(as_of_us)
        return Moment(as_of_us, None, note=few_heard.sentence(connection, as_of_us))
    newest = stores.newest_poll(connection)
    if newest is None:
        return Moment(now_us, None)
    found = moment_of(newest, now_us)
    return replace(found, note=few_heard.sentence(connection, found.as_of_us))


def moment_of(newest_us: int, now_us: int) -> Moment:
    """The same, without the note, for data whose newest poll is that of `newest_us`."""
    if now_us - newest_us < OLD_US:
        return Moment(now_us, None)
    age = duration_text(now_us - newest_us)
    return Moment(
        newest_us,
        f"the newest poll is {age} old; everything here is as of that poll, {report_text.instant_text(newest_us)}",
        age,
    )
