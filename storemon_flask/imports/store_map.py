"""Which store each name of another monitor is: a CSV with the columns name and store_id, and a proposal for one."""

import csv
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from storemon_flask.clock import timestamp_text
from storemon_flask.database import stores
from storemon_flask.database.connections import Database
from storemon_flask.errors import DataError
from storemon_flask.feeds.schema import DELIMITERS, spelled
from storemon_flask.imports.checks import ImportedPolls

_COLUMNS: Final = ("name", "store_id", "why", "polls", "first", "last")


def read_map(path: Path) -> dict[str, str]:
    """Return the store of each name; an empty one is left out."""
    ids: dict[str, str] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            first = lines.readline()
            delimiter = max(DELIMITERS, key=first.count)
            header = [spelled(cell) for cell in next(csv.reader([first], delimiter=delimiter), [])]
            if header.count("name") != 1 or header.count("storeid") != 1:
                raise DataError(
                    f"{path} has no header with the columns name and store_id; --dry-run writes a file that has"
                )
            name_at, id_at = header.index("name"), header.index("storeid")
            rows = csv.reader(lines, delimiter=delimiter)
            for row in rows:
                if not any(cell.strip() for cell in row):
                    continue
                if len(row) <= max(name_at, id_at):
                    raise DataError(
                        f"{path}, line {rows.line_num + 1}: there is no store_id; leave it empty with a comma"
                    )
                if row[name_at] in ids:
                    raise DataError(f"{path}, line {rows.line_num + 1}: the name {row[name_at]!r} stands there twice")
                ids[row[name_at]] = row[id_at].strip()
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text; save it as CSV UTF-8") from None
    except csv.Error as error:
        raise DataError(f"{path} is not CSV that can be read: {error}") from None
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from None
    return ids


def write_proposal(path: Path, polls: ImportedPolls, database: Database) -> None:
    """Write a map that is to be looked at: each name with the store that it probably is, and why."""
    suggested = suggest_ids(polls, database)
    try:
        with path.open("x", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(_COLUMNS)
            for name, count in polls.names.items():
                span = [_text(count.first_us), _text(count.last_us)]
                writer.writerow([name, *suggested[name], count.polls, *span])
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None


def suggest_ids(polls: ImportedPolls, database: Database) -> dict[str, tuple[str, str]]:
    """Return for each name the id of a store that is stored, by its id or name, or else the name itself; and why."""
    known_ids, id_of_name = _stored(database)
    folded = _unique((store_id.casefold(), store_id) for store_id in known_ids)
    suggested = {}
    for name in polls.names:
        key = name.strip().casefold()
        if name in polls.reader.aside:
            suggested[name] = ("", polls.reader.aside[name])
        elif name in known_ids:
            suggested[name] = (name, "id of a store")
        elif key in id_of_name:
            suggested[name] = (id_of_name[key], "name of a store")
        elif key in folded:
            suggested[name] = (folded[key], "id of a store in another spelling")
        else:
            suggested[name] = (name, "new")
    return suggested


def _stored(database: Database) -> tuple[set[str], dict[str, str]]:
    """The ids there are, and the id of each name that only one store has."""
    if not database.exists():
        return set(), {}
    with database.read() as connection:
        ids = stores.ids(connection)
        names = stores.names_of(connection, ids)
    return set(ids), _unique((name.strip().casefold(), store_id) for (store_id,), (name, *_) in names.items() if name)


def _unique(pairs: Iterable[tuple[str, str]]) -> dict[str, str]:
    listed = list(pairs)
    count = Counter(key for key, _ in listed)
    return {key: value for key, value in listed if count[key] == 1}


def _text(timestamp: int | None) -> str:
    return "" if timestamp is None else timestamp_text(timestamp)[:19] + "Z"
