"""E-mail, through the mail server of STOREMON_SMTP_URL."""

import re
import smtplib
import socket
import ssl
from base64 import b64encode
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from email.utils import format_datetime
from typing import IO, Final
from urllib.parse import unquote, urlsplit

from storemon_flask import clock
from storemon_flask.delivery import attachments
from storemon_flask.delivery.answer import Answer
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.delivery.tls import untrusted_text, verifying_context
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Secret, Settings

_PORTS: Final = {"smtp": 587, "smtps": 465}
_LOOPBACK: Final = ("localhost", "127.0.0.1", "::1")
# Seven bits go through every mail server.
_POLICY: Final = SMTP.clone(cte_type="7bit")
_MAX_ADDRESSES: Final = 20
_MAX_SUBJECT: Final = 200
_MOST_BYTES: Final = 64 << 10
_ADDRESS: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~.-]{1,64}@[A-Za-z0-9]([A-Za-z0-9.-]{0,253}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    tls_first: bool
    user: str
    password: str

    @property
    def secrets(self) -> list[str]:
        """Return what no answer may show: the password, and how it is sent."""
        encoded = [b64encode(text.encode()).decode() for text in (self.password, f"\0{self.user}\0{self.password}")]
        return [self.password, *encoded] if self.password else []


class _Refused(Exception):
    """The mail cannot be handed over in the way the settings ask for; the sentence says why."""


def check(address: str, settings: Settings) -> str:
    """Return the addresses, with commas between them; `Unprocessable` for a wrong one, or when no mail can be sent."""
    addresses = [one.strip() for one in address.split(",")]
    wrong = next((one for one in addresses if not _ADDRESS.fullmatch(one) or ".." in one), None)
    if wrong is not None:
        raise Unprocessable(
            f"{wrong!r} is no mail address; write it as alerts@example.com, and several with commas between them"
        )
    if len(addresses) > _MAX_ADDRESSES:
        raise Unprocessable(f"a channel has at most {_MAX_ADDRESSES} mail addresses; make a mailing list of them")
    if not settings.smtp_url or not settings.mail_from:
        raise Unprocessable(_missing(settings))
    return ",".join(dict.fromkeys(addresses))


def shown(address: str) -> str:
    """Return the addresses for people."""
    return address.replace(",", ", ")


def send(parcel: Parcel, deadline: Deadline) -> Answer:
    """Hand the message to the mail server, for all addresses of the channel; its Message-ID is the same at every
    try."""
    if not parcel.settings.smtp_url or not parcel.settings.mail_from:
        return Answer(False, _missing(parcel.settings))
    server = _server(parcel.settings.smtp_url)
    mail = _compose(parcel)
    return _hand_over(server, mail, parcel, deadline).without(server.secrets)


def _missing(settings: Settings) -> str:
    missing = [
        name
        for name, value in (("STOREMON_SMTP_URL", settings.smtp_url), ("STOREMON_MAIL_FROM", settings.mail_from))
        if not value
    ]
    verb = "are" if len(missing) > 1 else "is"
    return f"no mail can be sent: {' and '.join(missing)} {verb} not set, in the environment or in .env"


def _server(url: Secret) -> _Server:
    parts = urlsplit(url.value)
    host = parts.hostname or ""
    # On port 465 servers speak TLS from the first byte.
    tls_first = parts.scheme == "smtps"
    return _Server(
        host,
        parts.port or _PORTS[parts.scheme],
        tls_first,
        unquote(parts.username or ""),
        unquote(parts.password or ""),
    )


def _compose(parcel: Parcel) -> EmailMessage:
    message, settings = parcel.message, parcel.settings
    mail = EmailMessage(policy=_POLICY)
    # No line end may get into a header, because subjects contain names of stores.
    mail["Subject"] = _one_line(message.content["subject"])[:_MAX_SUBJECT]
    name, _, domain = settings.mail_from.rpartition("@")
    mail["From"] = Address("storemon", name, domain)
    mail["To"] = ", ".join(parcel.channel.address.value.split(","))
    mail["Date"] = format_datetime(clock.utc_datetime(message.created_us))
    mail["Message-ID"] = f"<{message.id}@{domain}>"
    mail["Auto-Submitted"] = "auto-generated"
    mail.set_content(message.content["text"])
    mail.add_alternative(message.content["html"], subtype="html")
    with attachments.opened(parcel.database, settings.reports_dir, message.content.get("attachment")) as attachment:
        if attachment is not None:
            maintype, _, subtype = attachment.media_type.partition(";")[0].partition("/")
            file_name = _one_line(attachment.name)
            # Text without a charset is taken for ASCII.
            params = {"charset": "utf-8"} if maintype == "text" else {}
            mail.add_attachment(
                attachment.stream.read(), maintype=maintype, subtype=subtype, filename=file_name, params=params
            )
    return mail


def _one_line(text: str) -> str:
    """Return the text without characters that are not printed; blanks stand for them."""
    return " ".join("".join(letter if letter.isprintable() else " " for letter in text).split())


class _Replies:
    """What a server says, up to a bound: its replies have as many lines as it likes."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self._left = _MOST_BYTES

    def readline(self, most: int) -> bytes:
        """Return the next line, as a file does."""
        line = self._stream.readline(most)
        self._left -= len(line)
        if self._left < 0:
            raise _Refused(f"its answers are longer than {_MOST_BYTES >> 10} KB")
        return line

    def close(self) -> None:
        """Read no more."""
        self._stream.close()


class _Connection(smtplib.SMTP):
    """A connection that the deadline can cut."""

    def __init__(self, server: _Server, deadline: Deadline, context: ssl.SSLContext) -> None:
        self._deadline = deadline
        self._context = context if server.tls_first else None
        name = socket.gethostname()
        # The name that it would ask a name server for, which takes long where there is none.
        full_name = name if "." in name and name.isascii() else "[127.0.0.1]"
        super().__init__(server.host, server.port, full_name, timeout=deadline.left_s)

    def getreply(self) -> tuple[int, bytes]:
        """Return the next reply of the server."""
        if self.file is None and self.sock is not None:
            self.file = _Replies(self.sock.makefile("rb"))
        return super().getreply()

    def _get_socket(self, host: str, port: int, timeout: float) -> socket.socket:
        connection = self._deadline.connect((host, port))
        if self._context is None:
            return connection
        return self._context.wrap_socket(connection, server_hostname=host)


def _hand_over(server: _Server, mail: EmailMessage, parcel: Parcel, deadline: Deadline) -> Answer:
    where = f"{server.host} port {server.port}"
    try:
        context = verifying_context()
        connection = _Connection(server, deadline, context)
        try:
            _begin(connection, server, context)
            answer = _send(connection, mail, parcel)
            # It has the mail now, whatever becomes of the rest.
            if not deadline.is_over:
                connection.docmd("QUIT")
            return answer
        finally:
            connection.close()
    except _Refused as error:
        return Answer(False, f"{where}: {error}")
    except smtplib.SMTPResponseException as error:
        return Answer(False, f"{where}: {error.smtp_code} {_text(error.smtp_error)}", error.smtp_code)
    except (OSError, UnicodeError, ValueError) as error:
        return Answer(False, f"{where}: {_reason(error, deadline)}")


def _reason(error: Exception, deadline: Deadline) -> str:
    if deadline.is_over or isinstance(error, TimeoutError):
        return f"no answer within {deadline.seconds:g} s"
    if isinstance(error, ssl.SSLCertVerificationError):
        return untrusted_text(error)
    if isinstance(error, UnicodeError):
        return "user and password can have letters of ASCII only"
    return str(getattr(error, "strerror", None) or error or type(error).__name__)


def _begin(connection: _Connection, server: _Server, context: ssl.SSLContext) -> None:
    """Say hello, encrypt, and log in. A password is sent over TLS only, or to this machine."""
    connection.ehlo_or_helo_if_needed()
    if not server.tls_first and connection.has_extn("starttls"):
        connection.starttls(context=context)
        connection.ehlo()
    elif not server.tls_first and server.password and server.host not in _LOOPBACK:
        raise _Refused("it offers no TLS, and a password is not sent without; write smtps:// if it speaks TLS at once")
    if server.user:
        if not connection.has_extn("auth"):
            raise _Refused("it takes no user and password; leave them out of STOREMON_SMTP_URL")
        connection.login(server.user, server.password)


def _send(connection: _Connection, mail: EmailMessage, parcel: Parcel) -> Answer:
    """Send the mail once for all addresses; it counts as delivered if the server accepts at least one of them."""
    _expect(connection.mail(parcel.settings.mail_from))
    refused = []
    addresses = parcel.channel.address.value.split(",")
    for address in addresses:
        code, text = connection.rcpt(address)
        if code not in (250, 251):
            refused.append((code, f"{address}: {code} {_text(text)}"))
    if len(refused) == len(addresses):
        return Answer(False, "; ".join(words for _, words in refused), refused[0][0])
    code, text = _expect(connection.data(mail.as_bytes()))
    not_to = f"; not to {'; '.join(words for _, words in refused)}" if refused else ""
    return Answer(True, f"{code} {_text(text)}{not_to}", code)


def _expect(answer: tuple[int, bytes]) -> tuple[int, bytes]:
    code, text = answer
    if code != 250:
        raise smtplib.SMTPResponseException(code, text)
    return answer


def _text(words: bytes | str) -> str:
    return words.decode("utf-8", "replace") if isinstance(words, bytes) else words
