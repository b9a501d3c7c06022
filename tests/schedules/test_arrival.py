"""Scheduled reports that arrive: at a real mail server and in a folder, from a real server, also one that is killed."""

import random
import signal
import socket
import time
from collections.abc import Callable, Iterator
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session
from conftest import Server, http, sql, wait_until
from schedule_helpers import DUE_US, add_channel, add_schedule, weeks

from storemon_flask.database.connections import Database
from storemon_flask.model import HOUR_US
from storemon_flask.reports.worker import DIED
from storemon_flask.settings import Settings

__all__ = ["weeks"]


class Inbox:
    """Takes every mail, and keeps it."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        assert isinstance(envelope.content, bytes)
        mail = message_from_bytes(envelope.content, policy=default)
        assert isinstance(mail, EmailMessage)
        self.mails.append(mail)
        return "250 taken"


@pytest.fixture
def inbox() -> Iterator[tuple[Inbox, str]]:
    """An inbox, and the address of its server."""
    inbox = Inbox()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    controller = Controller(inbox, "127.0.0.1", port, ready_timeout=30)
    controller.start()
    yield inbox, f"smtp://127.0.0.1:{port}"
    controller.stop()


def attached(mail: EmailMessage) -> tuple[str | None, Any]:
    (part,) = mail.iter_attachments()
    return part.get_filename(), part.get_content()


def test_a_report_arrives_by_mail_with_its_file_and_in_a_folder(
    weeks: Database, settings: Settings, inbox: tuple[Inbox, str], serve: Callable[..., Server], tmp_path: Path
) -> None:
    box, url = inbox
    share = tmp_path / "share"
    share.mkdir()
    add_channel(weeks, "boss")
    add_channel(weeks, "share", "folder", str(share))
    add_schedule(weeks, settings, name="Läden", channels=["boss", "share"])
    weeks.close()
    server = serve(
        STOREMON_SMTP_URL=url, STOREMON_MAIL_FROM="storemon@shops.example", STOREMON_PUBLIC_URL="https://up.example/"
    )
    # When it was added is long ago: the newest of the Mondays since then waits for data, this one was skipped.
    body = b'{"due": "2024-10-14T11:00:00Z"}'
    wait_until(lambda: b'"skipped"' in server.get("/api/v1/schedules").body, "the Mondays that were missed")
    assert http(f"{server.url}/api/v1/schedules/1/run", "POST", body).status == 202
    wait_until(lambda: box.mails, "the mail")
    file = wait_until(lambda: list(share.iterdir()), "the file")[0]
    (mail,) = box.mails
    rows = sql(settings.database, "SELECT report FROM schedule_run WHERE state = 'done'")
    csv = server.get(f"/get_report?report_id={rows[0][0]}").body
    assert str(mail["Subject"]).startswith("Läden: ")
    assert str(mail["Subject"]).endswith(" % up last week, 10 stores below 97 %")
    assert mail["To"] == "boss@shops.example"
    assert mail["Auto-Submitted"] == "auto-generated"
    assert mail["Message-ID"] == f"<rep_1_{DUE_US // 1_000_000}_1@shops.example>"
    text, html = (mail.get_body((kind,)) for kind in ("plain", "html"))
    assert text is not None
    assert html is not None
    link = f"https://up.example/reports/{rows[0][0]}"
    assert link in text.get_content()
    assert f'<a href="{link}">' in html.get_content()
    name, content = attached(mail)
    assert name == file.name == "Läden 2024-10-14 0700.csv"
    assert (content.encode() if isinstance(content, str) else content) == file.read_bytes() == csv


@pytest.mark.slow
def test_reports_arrive_with_equal_ids_however_often_the_server_is_killed(
    weeks: Database, settings: Settings, inbox: tuple[Inbox, str], serve: Callable[..., Server]
) -> None:
    box, url = inbox
    add_channel(weeks, "boss")
    add_channel(weeks, "chief", address="chief@shops.example")
    add_schedule(weeks, settings, due="daily 07:00", channels=["boss", "chief"], report={"by": "day"}, format="xlsx")
    weeks.close()
    sql(settings.database, "UPDATE schedule SET next_us = ?", 4_000_000_000_000_000)
    chance, due = random.Random(7), list[int]()
    for number in range(12):
        due.append(DUE_US - number * HOUR_US)
        sql(
            settings.database,
            "INSERT INTO schedule_run (schedule, due_us, state, by_hand, started_us) VALUES (1, ?, 'waiting', 1, ?)",
            due[-1],
            due[-1],
        )
        server = serve(STOREMON_SMTP_URL=url, STOREMON_MAIL_FROM="storemon@shops.example")
        time.sleep(chance.random() * 1.5)
        server.end(signal.SIGKILL)
    serve(STOREMON_SMTP_URL=url, STOREMON_MAIL_FROM="storemon@shops.example")
    ended = "SELECT due_us, state, note FROM schedule_run WHERE state IN ('done', 'failed')"
    wait_until(lambda: len(sql(settings.database, ended)) == len(due), "every run", 120)
    # A report under which the server died twice is not begun again: the message says so.
    found = {due_us: (state, note) for due_us, state, note in sql(settings.database, ended)}
    assert set(found.values()) <= {("done", ""), ("failed", DIED)}
    expected = {
        f"<rep_1_{due_us // 1_000_000}_{channel}{'' if found[due_us][0] == 'done' else '_failed'}@shops.example>"
        for due_us in due
        for channel in (1, 2)
    }
    wait_until(lambda: {str(mail["Message-ID"]) for mail in box.mails} == expected, "every mail", 120)
    by_id: dict[str, set[str]] = {}
    for mail in box.mails:
        body = mail.get_body(("plain",))
        assert body is not None
        by_id.setdefault(str(mail["Message-ID"]), set()).add(body.get_content())
    assert [name for name, texts in by_id.items() if len(texts) > 1] == []
