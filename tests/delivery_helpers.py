"""A receiver of webhooks that can be told to misbehave, a mail server, and channels with something to send."""

import contextlib
import itertools
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from email import message_from_bytes
from email.message import EmailMessage
from email.policy import default
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from storemon_flask.database import channels, incidents, messages
from storemon_flask.database.channels import Channel, Filters
from storemon_flask.database.connections import Database
from storemon_flask.database.incidents import Incident
from storemon_flask.database.messages import Delivery, Message
from storemon_flask.delivery import content, courier, webhook
from storemon_flask.delivery.answer import Answer
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.model import IncidentKind
from storemon_flask.settings import Secret, Settings

NOW_US = 1_764_000_000_000_000
_NUMBERS = itertools.count(1)
FROM = "storemon@monitor.example"


@dataclass
class Call:
    """One call of the sink."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def message_id(self) -> str:
        return self.headers["webhook-id"]


def answering(status: int, body: bytes = b"", **headers: str) -> Callable[[BaseHTTPRequestHandler], None]:
    def answer(handler: BaseHTTPRequestHandler) -> None:
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name.replace("_", "-"), value)
        handler.send_header("Content-Length", str(len(body)))
        handler.end_headers()
        handler.wfile.write(body)

    return answer


@dataclass
class Sink:
    """A receiver of webhooks. `behave` answers a call; the calls are kept, in order."""

    calls: list[Call] = field(default_factory=list)
    behave: Callable[[BaseHTTPRequestHandler], None] = field(default_factory=lambda: answering(200, b"thanks"))
    released: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    def hang(self, handler: BaseHTTPRequestHandler) -> None:
        self.released.wait(60)

    def drip(self, handler: BaseHTTPRequestHandler) -> None:
        """One byte of an answer's head after the other, for ever."""
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
            while not self.released.wait(0.02):
                handler.wfile.write(b"x")

    def drip_body(self, handler: BaseHTTPRequestHandler) -> None:
        with contextlib.suppress(OSError):
            handler.wfile.write(b"HTTP/1.1 200 OK\r\n\r\n")
            while not self.released.wait(0.02):
                handler.wfile.write(b"y")

    def close(self, handler: BaseHTTPRequestHandler) -> None:
        handler.connection.close()

    def garbage(self, handler: BaseHTTPRequestHandler) -> None:
        handler.wfile.write(b"no HTTP at all\r\n\r\n")


@pytest.fixture
def sink() -> Iterator[Sink]:
    with running_sink() as made:
        yield made


@contextlib.contextmanager
def running_sink(context: ssl.SSLContext | None = None) -> Iterator[Sink]:
    """A receiver; with a context one that speaks TLS, as localhost."""
    made = Sink()

    class Handler(BaseHTTPRequestHandler):
        def _call(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            made.calls.append(Call(self.command, self.path, self.headers, body))
            with contextlib.suppress(OSError):
                made.behave(self)

        do_POST = do_GET = do_CONNECT = _call  # noqa: N815

        def log_message(self, format: str, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: Any, client_address: Any) -> None:
            # Clients of these tests leave in the middle.
            pass

    server = Server(("127.0.0.1", 0), Handler)
    made.url = f"http://127.0.0.1:{server.server_address[1]}"
    if context is not None:
        # Handshakes happen in the thread of each connection: a client that leaves in one ends no other.
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        made.url = f"https://localhost:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield made
    finally:
        made.released.set()
        server.shutdown()
        server.server_close()
        thread.join()


class MailServer:
    """A mail server whose mails are kept. `refuse` gives the answer to an address or to a mail, or nothing."""

    def __init__(self) -> None:
        self.mails: list[EmailMessage] = []
        self.envelopes: list[list[str]] = []
        self.refuse: Callable[[str], str | None] = lambda address: None
        self.port = 0

    async def handle_RCPT(  # noqa: N802
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: Any
    ) -> str:
        refused = self.refuse(address)
        if refused:
            return refused
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        refused = self.refuse("DATA")
        if refused:
            return refused
        data = envelope.content
        assert isinstance(data, bytes)
        self.mails.append(message_from_bytes(data, policy=default))  # type: ignore[arg-type]
        self.envelopes.append(list(envelope.rcpt_tos))
        return "250 2.0.0 queued as 42"


def check_login(server: SMTP, session: Session, envelope: Envelope, mechanism: str, data: Any) -> AuthResult:
    right = isinstance(data, LoginPassword) and (data.login, data.password) == (b"ann", b"sw0rdf!sh/")
    # What a server says may repeat what it was sent.
    return AuthResult(success=right, handled=False, message=None if right else f"535 no: {data.password.decode()}")


@contextlib.contextmanager
def running_mail_server(tls: str = "", certificate: Path | None = None, login: bool = False) -> Iterator[MailServer]:
    """`tls`: nothing, `starttls` or `first`."""
    mail_server = MailServer()
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    options: dict[str, Any] = {"tls_context": context} if tls == "starttls" else {}
    if login:
        # aiosmtpd warns of a login that is required without TLS, and takes TLS from the first byte for none.
        only_over_tls = tls == "starttls"
        options |= {"authenticator": check_login, "auth_required": only_over_tls, "auth_require_tls": only_over_tls}
    controller = Controller(
        mail_server, hostname="127.0.0.1", port=free_port(), ssl_context=context if tls == "first" else None,
        ready_timeout=30, **options,
    )  # fmt: skip
    controller.start()
    mail_server.port = controller.port
    try:
        yield mail_server
    finally:
        controller.stop()


def free_port() -> int:
    import socket

    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port: int = one.getsockname()[1]
        return port


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A key and a certificate of localhost, that nobody trusts but who names it."""
    file = tmp_path_factory.mktemp("tls") / "localhost.pem"
    subprocess.run(
        [
            "openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost", "-keyout", f"{file}.key", "-out", f"{file}.crt",
        ],
        check=True, capture_output=True,
    )  # fmt: skip
    file.write_bytes(Path(f"{file}.key").read_bytes() + Path(f"{file}.crt").read_bytes())
    return file


@pytest.fixture
def prepared(database: Database) -> Database:
    database.prepare()
    return database


def add_channel(database: Database, kind: str, address: str, name: str = "", **members: Any) -> Channel:
    """Add a channel, with a secret where it has one."""
    secret = webhook.new_secret() if kind == "webhook" else Secret("")
    one = Channel(0, name or f"{kind} {next(_NUMBERS)}", kind, Secret(address), secret, Filters(), None, None, 0)
    with database.write() as connection:
        number = channels.add(connection, one)
        found = channels.find(connection, number)
    assert found is not None
    return found


def add_news(database: Database, stores: int, told: list[Channel], made_us: int = NOW_US, first: int = 0) -> list[int]:
    """Open incidents of so many stores and let those channels be told."""
    opened = [
        Incident(
            0,
            IncidentKind.DOWN,
            "store",
            f"s{first + number}",
            made_us - 60_000_000,
            made_us,
            details={"name": f"Store {number}"},
        )
        for number in range(stores)
    ]
    with database.write() as connection:
        numbers = incidents.add(connection, opened)
        messages.add_notices(connection, [(one.id, number, "opened") for one in told for number in numbers], made_us)
    return numbers


def add_message(database: Database, channel: Channel, text: str = "hello", now_us: int = NOW_US) -> str:
    """Add a message that is due."""
    said = {
        "subject": text,
        "summary": text,
        "text": f"{text}\n",
        "html": f"<p>{text}</p>",
        "event": {"type": "x", "data": text},
    }
    with database.write() as connection:
        return messages.add(connection, channel.id, "incidents", said, now_us)


def message(database: Database, message_id: str) -> Message:
    with database.read() as connection:
        found = messages.find(connection, message_id)
    assert found is not None
    return found


def tries(database: Database) -> list[Delivery]:
    """Every try, the oldest first."""
    with database.read() as connection:
        return [one for _, one in reversed(messages.newest_deliveries(connection, 10_000))]


def parcel(settings: Settings, database: Database, channel: Channel, **members: Any) -> Parcel:
    """The example, to be sent to a channel."""
    said = {**content.example(NOW_US), **members}
    one = Message("msg_1", channel.id, "incidents", "sending", NOW_US, said, 1, NOW_US, None, None)
    return Parcel(one, channel, settings, database, NOW_US)


def seconds_of(call: Callable[[], object]) -> float:
    started = time.monotonic()
    call()
    return time.monotonic() - started


def send(settings: Settings, database: Database, channel: Channel, seconds: float = 20, **members: Any) -> Answer:
    """What becomes of one try to send the example."""
    return courier.send_once(parcel(settings, database, channel, **members), Deadline(seconds))
