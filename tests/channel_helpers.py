"""Incidents, channels and a receiver of webhooks, for tests."""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from storemon_flask import clock
from storemon_flask.database import incidents, messages
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.feeds import load, sources
from storemon_flask.model import HOUR_US, MINUTE_US, IncidentKind, Outcome


def now_us() -> int:
    """The machine's clock."""
    return time.time_ns() // 1000


def down(
    store: str, found_us: int, name: str = "", ended_us: int | None = None, kind: IncidentKind = IncidentKind.DOWN
) -> Incident:
    """Return an incident of a store that was detected an hour after it began, and is over if it has an end."""
    since_us = found_us - HOUR_US
    over = {} if ended_us is None else {"resolved_us": ended_us, "ended_us": ended_us, "outcome": Outcome.OVER}
    return Incident(
        0, kind, "store", store, since_us, found_us, business_us=(ended_us or found_us) - since_us,
        details={"name": name, "group": "North", "zone": "America/New_York", "last_up_us": since_us - 30 * MINUTE_US,
                 "seen_us": since_us + 30 * MINUTE_US},
        **over,
    )  # fmt: skip


def put(database: Database, *some: Incident) -> list[int]:
    """Store incidents, open and ended ones, and return their numbers."""
    with database.write() as connection:
        numbers = incidents.add(connection, some)
        for number, one in zip(numbers, some, strict=True):
            if one.outcome is not None:
                connection.execute(
                    "UPDATE incident SET resolved_us = ?, ended_us = ?, outcome = ? WHERE id = ?",
                    (one.resolved_us, one.ended_us, one.outcome, number),
                )
    return numbers


def tell(database: Database, channel: int, incident: int, event: str, state: str, at_us: int) -> None:
    """Store the notice of an incident for a channel as sent, waiting or failed."""
    content = {"subject": "s", "summary": "s", "text": "t", "html": "<p>t", "event": {}}
    with database.write() as connection:
        messages.add_notices(connection, [(channel, incident, event)], at_us)
        if state == "waiting":
            return
        waiting = [one.id for one in messages.waiting_notices(connection, channel) if one.incident == incident]
        message = messages.add(connection, channel, "incidents", content, at_us, waiting)
        messages.finish(connection, message, None if state == "sent" else "refused", at_us)


class _Sink(BaseHTTPRequestHandler):
    got: list[tuple[dict[str, str], bytes]]
    status: int

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        type(self).got.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.send_response(type(self).status)
        self.send_header("Content-Length", "4")
        self.end_headers()
        self.wfile.write(b"word")

    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextmanager
def sink(status: int = 200) -> Iterator[tuple[str, Any]]:
    """The address of a receiver that answers so, and its class with what it `got`."""
    kind = type("Sink", (_Sink,), {"got": [], "status": status})
    with ThreadingHTTPServer(("127.0.0.1", 0), kind) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/in/tok3n-secret", kind
        finally:
            server.shutdown()
            thread.join()


def live_fleet(database: Database, folder: Path) -> list[str]:
    """Load six stores of the group North that were up all the last day, and return their ids."""
    ids = [f"s{number}" for number in range(6)]
    polls = [
        f"{store},{clock.timestamp_text(now_us() - back * HOUR_US - MINUTE_US)},active\n"
        for store in ids
        for back in range(24)
    ]
    (folder / "polls.csv").write_text("store_id,timestamp_utc,status\n" + "".join(polls))
    (folder / "stores.csv").write_text("store_id,name,group\n" + "".join(f"{store},,North\n" for store in ids))
    result = load.load_sources(database, sources.find_sources([folder]), load.LoadOptions(now_us(), 300_000_000))
    assert (result.failed, result.rejected) == (False, 0)
    return ids
