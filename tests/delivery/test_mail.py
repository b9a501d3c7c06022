"""E-mail, through real mail servers: what arrives, TLS, passwords, refusals, and servers that do not answer."""

import contextlib
import logging
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import delivery_helpers
import pytest
from delivery_helpers import (
    FROM,
    NOW_US,
    add_channel,
    free_port,
    running_mail_server,
    seconds_of,
)
from delivery_helpers import certificate as certificate
from delivery_helpers import prepared as prepared

from storemon_flask import settings as settings_
from storemon_flask.clock import utc_datetime
from storemon_flask.database.connections import Database
from storemon_flask.delivery import mail, transports
from storemon_flask.delivery.answer import Answer
from storemon_flask.errors import SettingsError, Unprocessable
from storemon_flask.settings import Settings

PASSWORD = "sw0rdf!sh/"
LOGIN = "ann:sw0rdf%21sh%2F"


def through(home: Path, url: str) -> Settings:
    return settings_.load({"STOREMON_HOME": str(home), "STOREMON_SMTP_URL": url, "STOREMON_MAIL_FROM": FROM})


def send(database: Database, url: str, address: str = "ops@example.com", seconds: float = 20, **members: str) -> Answer:
    settings = through(database.path.parent, url)
    return delivery_helpers.send(settings, database, add_channel(database, "email", address), seconds, **members)


def test_a_mail_arrives_whole(prepared: Database) -> None:
    with running_mail_server() as server:
        answer = send(prepared, f"smtp://127.0.0.1:{server.port}", "ops@example.com,boss@example.com")
        assert answer == Answer(True, "250 2.0.0 queued as 42", 250)
        again = send(prepared, f"smtp://127.0.0.1:{server.port}", "ops@example.com")
        assert again.delivered
    first, second = server.mails
    assert server.envelopes == [["ops@example.com", "boss@example.com"], ["ops@example.com"]]
    assert first["To"] == "ops@example.com, boss@example.com"
    assert first["From"] == f"storemon <{FROM}>"
    assert first["Subject"].startswith("storemon test: Example Store (example-1): down")
    assert first["Message-ID"] == second["Message-ID"] == "<msg_1@monitor.example>"
    assert first["Date"].datetime == utc_datetime(NOW_US).replace(microsecond=0)
    assert first["Auto-Submitted"] == "auto-generated"
    text, html = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "This is a test of the channel." in text.get_content()
    assert "This is a test of the channel." in html.get_content()


def test_no_name_gets_into_a_header_or_ends_the_mail(prepared: Database) -> None:
    evil = "a\r\nBcc: evil@example.com\n\nX\x85Y\u2028Z\0 Käse"
    with running_mail_server() as server:
        answer = send(
            prepared,
            f"smtp://127.0.0.1:{server.port}",
            subject=evil,
            text="one\r\n.\r\nMAIL FROM:<x>\n",
            html="<p>.\n.</p>",
        )
        assert answer.delivered
    (got,) = server.mails
    assert got["Subject"] == "a Bcc: evil@example.com X Y Z Käse"
    assert got["Bcc"] is None
    assert server.envelopes == [["ops@example.com"]]
    body = got.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == ["one", ".", "MAIL FROM:<x>"]


def test_a_name_of_any_length_and_script_is_a_subject(prepared: Database) -> None:
    with running_mail_server() as server:
        assert send(
            prepared, f"smtp://127.0.0.1:{server.port}", subject="東京" * 500, text="x" * 5000 + "é\n"
        ).delivered
    (got,) = server.mails
    assert got["Subject"] == ("東京" * 500)[:200]
    body = got.get_body(("plain",))
    assert body is not None
    assert body.get_content().splitlines() == ["x" * 5000 + "é"]


@pytest.mark.parametrize(("tls", "scheme"), [("starttls", "smtp"), ("first", "smtps")])
def test_the_server_is_verified_and_the_password_sent_over_tls(
    prepared: Database, certificate: Path, monkeypatch: pytest.MonkeyPatch, tls: str, scheme: str
) -> None:
    with running_mail_server(tls, certificate, login=True) as server:
        url = f"{scheme}://{LOGIN}@localhost:{server.port}"
        answer = send(prepared, url)
        assert not answer.delivered
        assert "its certificate is not trusted (self-signed certificate); SSL_CERT_FILE can name" in answer.text
        monkeypatch.setenv("SSL_CERT_FILE", f"{certificate}.crt")
        assert send(prepared, url).delivered
        other = send(prepared, url.replace("localhost", "127.0.0.1"))
        assert "is not trusted (IP address mismatch" in other.text
    assert len(server.mails) == 1


def test_a_wrong_password_is_reported_but_not_shown(prepared: Database, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "storemon")
    caplog.set_level(logging.CRITICAL, "mail.log")
    with running_mail_server(login=True) as server:
        assert send(prepared, f"smtp://{LOGIN}@localhost:{server.port}").delivered
        answer = send(prepared, f"smtp://ann:not-that%21@localhost:{server.port}")
    assert answer == Answer(False, f"localhost port {server.port}: 535 no: ***", 535)
    assert PASSWORD not in caplog.text
    assert "not-that" not in caplog.text


def test_a_password_is_sent_to_no_server_without_tls(prepared: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mail, "_LOOPBACK", ())
    with running_mail_server(login=True) as server:
        answer = send(prepared, f"smtp://{LOGIN}@localhost:{server.port}")
        assert answer.text.startswith(f"localhost port {server.port}: it offers no TLS, and a password is not sent")
        # Without a password there is nothing to keep from others but the mail.
        assert send(prepared, f"smtp://localhost:{server.port}").delivered
    with running_mail_server() as server:
        answer = send(prepared, f"smtp://ann@localhost:{server.port}")
        assert answer.text.endswith("it takes no user and password; leave them out of STOREMON_SMTP_URL")


def test_refusals_are_reported_with_their_code(prepared: Database) -> None:
    with running_mail_server() as server:
        url = f"smtp://127.0.0.1:{server.port}"
        server.refuse = lambda address: "550 5.1.1 no such user" if address.startswith("gone") else None
        assert send(prepared, url, "gone@example.com") == Answer(False, "gone@example.com: 550 5.1.1 no such user", 550)
        # Who is there gets it once, not at each try for the other.
        part = send(prepared, url, "ops@example.com,gone@example.com")
        assert part == Answer(True, "250 2.0.0 queued as 42; not to gone@example.com: 550 5.1.1 no such user", 250)
        server.refuse = lambda address: "451 4.7.1 try later" if address == "DATA" else None
        later = send(prepared, url)
        assert (later.delivered, later.code) == (False, 451)
        assert later.text.endswith("451 4.7.1 try later")


@contextlib.contextmanager
def talking(lines: list[bytes], drip: bool = False) -> Iterator[int]:
    """Yield the port of a server that answers each command with the next of those lines, and then with nothing."""
    over = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError), listener.accept()[0] as line:
            for said in lines:
                line.sendall(said)
                line.recv(4096)
            while drip and not over.wait(0.02):
                line.sendall(b"250-x\r\n")
            over.wait(30)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listener.getsockname()[1]
        over.set()
    thread.join(30)


@pytest.mark.parametrize("drip", [False, True])
@pytest.mark.parametrize("lines", [[], [b"220 hello\r\n"]])
def test_a_server_that_does_not_answer_is_cut_off(prepared: Database, lines: list[bytes], drip: bool) -> None:
    with talking(lines, drip) as port:
        url = f"smtp://127.0.0.1:{port}"
        answers: list[Answer] = []
        assert seconds_of(lambda: answers.append(send(prepared, url, seconds=0.5))) < 5
    assert not answers[0].delivered
    assert answers[0].text == f"127.0.0.1 port {port}: no answer within 0.5 s"


def test_no_more_than_64_kilobytes_of_replies_are_read(prepared: Database) -> None:
    lines = [b"220 hello\r\n", b"250-x\r\n" * 20_000]
    with talking(lines) as port:
        answer = send(prepared, f"smtp://127.0.0.1:{port}")
    assert answer == Answer(False, f"127.0.0.1 port {port}: its answers are longer than 64 KB")


def test_an_absent_or_closing_server_is_reported(prepared: Database) -> None:
    port = free_port()
    assert send(prepared, f"smtp://127.0.0.1:{port}").text == f"127.0.0.1 port {port}: Connection refused"
    with talking([b"421 too busy\r\n"]) as port:
        assert send(prepared, f"smtp://127.0.0.1:{port}") == Answer(False, f"127.0.0.1 port {port}: 421 too busy", 421)
    assert not send(prepared, "smtp://nowhere.invalid").delivered


def test_what_is_missing_is_named(prepared: Database, settings: Settings) -> None:
    channel = add_channel(prepared, "email", "ops@example.com")
    sentence = (
        "no mail can be sent: STOREMON_SMTP_URL and STOREMON_MAIL_FROM are not set, in the environment or in .env"
    )
    assert delivery_helpers.send(settings, prepared, channel) == Answer(False, sentence)
    with pytest.raises(Unprocessable) as bad:
        transports.check_channel("email", "ops@example.com", settings)
    assert bad.value.message == sentence


def test_addresses_are_checked(tmp_path: Path) -> None:
    settings = through(tmp_path, "smtp://mail.example.com")
    check = transports.check_channel
    assert check("email", " a@example.com , b@example.com,a@example.com", settings) == "a@example.com,b@example.com"
    for wrong in (
        "",
        "a",
        "a@",
        "@b",
        "a@b@c",
        "a b@example.com",
        "a@example.com,",
        "a@exa mple.com",
        "a@b.c\r\nBcc: x@y.z",
        "<a@b.c>",
        "a..b@example.com",
        "a@b..c",
    ):
        with pytest.raises(Unprocessable) as bad:
            check("email", wrong, settings)
        assert "is no mail address; write it as alerts@example.com" in bad.value.message
    with pytest.raises(Unprocessable):
        check("email", ",".join(f"a{number}@example.com" for number in range(21)), settings)


@pytest.mark.parametrize("name", ["STOREMON_SMTP_URL", "STOREMON_HEARTBEAT_URL"])
@pytest.mark.parametrize(
    "text",
    [
        "example.com",
        "ftp://ann:hush@example.com",
        "://x",
        "smtp://",
        "http://",
        "smtp://ann:hush@a:port",
        "https://a:99999",
        "http://exa mple.com/hush",
        " ",
    ],
)
def test_a_wrong_secret_setting_is_refused_and_not_shown(tmp_path: Path, name: str, text: str) -> None:
    allowed = next(setting.allowed for setting in settings_.SETTINGS if setting.name == name)
    with pytest.raises(SettingsError) as bad:
        settings_.load({"STOREMON_HOME": str(tmp_path), name: text})
    assert bad.value.message == f"{name} has {len(text)} characters that are not shown; it must be {allowed}"
    assert "hush" not in bad.value.message


def test_right_secret_settings_are_kept_and_not_shown(tmp_path: Path) -> None:
    made = settings_.load(
        {
            "STOREMON_HOME": str(tmp_path),
            "STOREMON_SMTP_URL": "smtps://ann:hush@mail.example.com:465",
            "STOREMON_HEARTBEAT_URL": "https://ping.example.com/hush",
        }
    )
    assert made.smtp_url.value == "smtps://ann:hush@mail.example.com:465"
    assert made.heartbeat_url.value == "https://ping.example.com/hush"
    assert "hush" not in repr(made)
    assert not settings_.load({"STOREMON_HOME": str(tmp_path), "STOREMON_SMTP_URL": "none"}).smtp_url
