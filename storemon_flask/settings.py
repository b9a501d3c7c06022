"""Every setting in one table: from it come the values, the checks, `storemon info` and docs/settings.md.

Option > environment variable > `.env` in the home folder > default. Relative paths start at the home folder.
"""

import codecs
import io
import ipaddress
import os
import re
import stat
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from storemon_flask import zonedata
from storemon_flask.errors import SettingsError
from storemon_flask.rules import DEFAULT_DAYPARTS, HOUR_US, MINUTE_US, Daypart, Rules

if TYPE_CHECKING:
    from dotenv.parser import Binding


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: `read` turns its text into a value or raises ValueError; `allowed` completes "must be ..."."""

    name: str
    field: str
    default: str
    unit: str
    allowed: str
    read: Callable[[str], Any]
    help: str
    secret: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class Secret:
    """A value that no message, log or traceback shows: its text says only whether there is one."""

    value: str

    def __str__(self) -> str:
        return "set, not shown" if self.value else "none"

    __repr__ = __str__

    def __bool__(self) -> bool:
        return bool(self.value)


def _whole(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        """Return the integer of a text; `ValueError` when it is none or out of range."""
        if not (text.isascii() and text.removeprefix("-").isdigit()):
            raise ValueError
        value = int(text)
        if not low <= value <= high:
            raise ValueError
        return value

    return read


def _span(unit_us: int, low: float, high: float) -> Callable[[str], int]:
    def read(text: str) -> int:
        """Return the span in microseconds; `ValueError` when it is none or out of range."""
        value = float(text)
        if not low <= value <= high:
            raise ValueError
        return round(value * unit_us)

    return read


def one_of(*words: str) -> Callable[[str], str]:
    """Return what reads a text that must be one of those words."""

    def read(text: str) -> str:
        """Return the text if it is one of the words; else `ValueError`."""
        if text not in words:
            raise ValueError
        return text

    return read


def _zone(text: str) -> str:
    name = zonedata.find(text)
    if name is None:
        raise ValueError
    return name


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError
    return Path(text)


def _host(text: str) -> str:
    if not text or any(c.isspace() for c in text):
        raise ValueError
    return text


def _secret(text: str) -> Secret:
    if text == "none":
        return Secret("")
    if not 16 <= len(text) <= 1000 or any(not "!" <= character <= "~" for character in text):
        raise ValueError
    return Secret(text)


# What `storemon listen` can listen to.
STREAM_SCHEMES: Final = ("amqp", "amqps", "mqtt", "mqtts", "redis", "rediss", "sqs")


def _stream(text: str) -> Secret:
    if text == "none":
        return Secret("")
    if text.partition("://")[0] not in STREAM_SCHEMES or any(not "!" <= character <= "~" for character in text):
        raise ValueError
    return Secret(text)


def _address_of(schemes: tuple[str, ...], secret: bool) -> Callable[[str], Any]:
    """Return what reads an URL of those schemes, or none; a host is needed."""

    def read(text: str) -> Any:
        """Return the address of a text, empty for `none`; `ValueError` when it is no such URL."""
        if text != "none":
            parts = urlsplit(text)
            if parts.scheme not in schemes or not parts.hostname or any(not "!" <= letter <= "~" for letter in text):
                raise ValueError
            # A port that is none raises ValueError.
            _ = parts.port
        value = "" if text == "none" else text
        return Secret(value) if secret else value.rstrip("/")

    return read


def _mail_address(text: str) -> str:
    if text == "none":
        return ""
    name, at, domain = text.rpartition("@")
    if not (name and at and domain) or any(letter.isspace() or not letter.isprintable() for letter in text):
        raise ValueError
    return text


_NAME = re.compile(r"\.?[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*", re.IGNORECASE)


def _trusted(text: str) -> str:
    if text in ("auto", "*"):
        return text
    return ",".join(_trusted_host(part.strip()) for part in text.split(","))


def _trusted_host(text: str) -> str:
    if ":" in text:
        return f"[{ipaddress.IPv6Address(text.removeprefix('[').removesuffix(']'))}]"
    if not _NAME.fullmatch(text):
        raise ValueError
    return text.lower()


_MOST_DAYPARTS: Final = 12
_DAY_S: Final = 86_400
# No name can be run by a spreadsheet, or needs quotes in a CSV.
_DAYPART: Final = re.compile(r"(\w[\w '&/-]{0,39}) +([0-9]{1,2}):([0-9]{2}) *- *([0-9]{1,2}):([0-9]{2})")


class WrongValue(ValueError):
    """A value of the right form that cannot be; the text says why."""


def _dayparts(text: str) -> tuple[Daypart, ...]:
    dayparts = sorted((_daypart(part.strip()) for part in text.split(",")), key=lambda daypart: daypart.start_s)
    if len(dayparts) > _MOST_DAYPARTS:
        raise WrongValue(f"it has {len(dayparts)} parts")
    names = [daypart.name for daypart in dayparts]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise WrongValue(f"it names {twice!r} twice")
    for daypart, following in zip(dayparts, [*dayparts[1:], dayparts[0]], strict=True):
        if daypart.end_s != following.start_s:
            raise WrongValue(f"“{daypart}” does not end where “{following}” begins")
        if len(dayparts) > 1 and daypart.start_s == daypart.end_s:
            raise WrongValue(f"“{daypart}” is a whole day, and there are other parts")
    return tuple(dayparts)


def _daypart(text: str) -> Daypart:
    match = _DAYPART.fullmatch(text)
    if match is None:
        raise ValueError
    times = [(int(hour), int(minute)) for hour, minute in (match.group(2, 3), match.group(4, 5))]
    if any(hour > 24 or minute > 59 or (hour == 24 and minute) for hour, minute in times):
        raise ValueError
    start_s, end_s = (hour * 3600 % _DAY_S + minute * 60 for hour, minute in times)
    return Daypart(match[1].strip(), start_s, end_s)


Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def _networks(text: str) -> str:
    if text == "none":
        return text
    return ",".join(str(ipaddress.ip_network(part.strip())) for part in text.split(","))


SETTINGS: tuple[Setting, ...] = (
    Setting("STOREMON_DATABASE", "database", "instance/storemon.db", "path", "a path", _path,
        "the SQLite file that holds everything"),
    Setting("STOREMON_REPORTS_DIR", "reports_dir", "reports", "path", "a path", _path,
        "where finished reports are kept"),
    Setting("STOREMON_HOST", "host", "127.0.0.1", "address", "a host name or an address", _host,
        "the address the server listens on"),
    Setting("STOREMON_PORT", "port", "8000", "port", "a whole number from 0 (any free port) to 65535", _whole(0, 65535),
        "the port the server listens on"),
    Setting("STOREMON_REPORT_WORKERS", "report_workers", "1", "threads", "a whole number from 1 to 64", _whole(1, 64),
        "reports computed at once"),
    Setting("STOREMON_HTTP_THREADS", "http_threads", "32", "threads", "a whole number from 1 to 256", _whole(1, 256),
        "requests answered at once"),
    Setting("STOREMON_CONNECTION_TIMEOUT_SECONDS", "connection_timeout_s", "60", "seconds",
        "a whole number of seconds from 1 to 3600", _whole(1, 3600),
        "how long a client may be silent, or take nothing of an answer that waits for it, before its connection "
        "is closed"),
    Setting("STOREMON_MIN_FREE_MB", "min_free_mb", "50", "MB",
        "a whole number of megabytes from 0 to 1000000000", _whole(0, 1_000_000_000),
        "with less free on the disk of the database, of the reports or of temporary files, `/readyz` says so; "
        "with less for the database or the reports, no report is begun"),
    Setting("STOREMON_LOG_FORMAT", "log_format", "text", "word", "text or json", one_of("text", "json"),
        "how the server logs to standard error: lines for people, or one JSON object a line"),
    Setting("STOREMON_MAX_BODY_MB", "max_body_mb", "1024", "MB",
        "a whole number of megabytes from 1 to 1000000", _whole(1, 1_000_000),
        "the largest body of a request, and the most that may come out of what is compressed in it, or out of one "
        "compressed file of `load-data`"),
    Setting("STOREMON_API_KEY", "api_key", "none", "key",
        "16 to 1000 printable ASCII characters without blanks, or none", _secret,
        "a key that allows everything; with it, or with one of `storemon keys`, every call but `/healthz`, "
        "`/readyz` and push addresses needs a key; never shown", secret=True),
    Setting("STOREMON_TRUSTED_HOSTS", "trusted_hosts", "auto", "names",
        "auto, *, or host names and addresses without ports, separated by commas", _trusted,
        "the names this server may be called by (its `Host`)"),
    Setting("STOREMON_TRUSTED_PROXY", "trusted_proxy", "none", "addresses",
        "none, or addresses and networks such as 10.0.0.0/8, separated by commas", _networks,
        "the proxies whose `X-Forwarded-For` and `X-Forwarded-Proto` say who asks, and how; those of anybody else "
        "are ignored"),
    Setting("STOREMON_REACH_HOURS", "reach_us", "24", "hours",
        "a number of hours from 0.01 to 168", _span(HOUR_US, 0.01, 168),
        "how far a poll may speak for the time around it"),
    Setting("STOREMON_MAX_GAP_MINUTES", "max_gap_us", "150", "minutes",
        "a number of minutes from 1 to 10080, at most twice the reach", _span(MINUTE_US, 1, 10080),
        "the longest gap between two polls that counts as measured, and the age at which a last poll is stale"),
    Setting("STOREMON_MAX_CLOCK_SKEW_MINUTES", "max_clock_skew_us", "5", "minutes",
        "a number of minutes from 0 to 1440", _span(MINUTE_US, 0, 1440),
        "a poll further ahead of this machine's clock is rejected, and is not the newest poll when it is there "
        "already"),
    Setting("STOREMON_MAX_REPORT_ROWS", "max_report_rows", "1000000", "rows",
        "a whole number from 1 to 1000000000", _whole(1, 1_000_000_000),
        "the longest report that may be asked for"),
    Setting("STOREMON_KEEP_POLLS_DAYS", "keep_polls_days", "0", "days",
        "a whole number of days from 0 (for ever) to 100000", _whole(0, 100_000),
        "polls, loads and rejected rows older than so many days before the newest poll that is not in the future "
        "are taken out when the server starts and once a day; 0 keeps them for ever"),
    Setting("STOREMON_UNDO_DAYS", "undo_days", "30", "days",
        "a whole number of days from 0 (nothing is kept) to 36500", _whole(0, 36_500),
        "what a load replaced is kept for so long, so that the load can be undone; 0 keeps nothing"),
    Setting("STOREMON_UNDO_PERCENT", "undo_percent", "10", "%",
        "a whole number from 0 (nothing is kept) to 50", _whole(0, 50),
        "what loads replaced takes at most so much of the database, or 16 MB while that is more; then the oldest loads "
        "cannot be undone any more"),
    Setting("STOREMON_KEEP_REPORTS_DAYS", "keep_reports_days", "90", "days",
        "a whole number of days from 0 (for ever) to 36500", _whole(0, 36_500),
        "finished reports are deleted after this long; 0 keeps them for ever"),
    Setting("STOREMON_MAX_REPORTS_MB", "max_reports_mb", "10000", "MB",
        "a whole number of megabytes from 0 (no limit) to 1000000000", _whole(0, 1_000_000_000),
        "when the files of finished reports are larger together, the oldest reports are deleted; 0 sets no limit"),
    Setting("STOREMON_LISTEN", "listen", "none", "address",
        f"none, or an address that begins with {', '.join(f'{one}://' for one in STREAM_SCHEMES)}, in printable ASCII "
        "without blanks", _stream,
        "the message broker that `serve` listens to for polls, as `storemon listen` does; never shown, for it may hold "
        "a password", secret=True),
    Setting("STOREMON_PUBLIC_URL", "public_url", "none", "URL",
        "none, or an address that begins with http:// or https://", _address_of(("http", "https"), secret=False),
        "how people reach this server: what links in messages begin with; none leaves the links out"),
    Setting("STOREMON_SMTP_URL", "smtp_url", "none", "URL",
        "none, or smtp://user:password@host:port (STARTTLS) or smtps://... (TLS), user, password and port as needed",
        _address_of(("smtp", "smtps"), secret=True),
        "the mail server that messages go through; never shown, for it may hold a password", secret=True),
    Setting("STOREMON_MAIL_FROM", "mail_from", "none", "address",
        "none, or a mail address such as storemon@example.com", _mail_address,
        "the address that mails come from"),
    Setting("STOREMON_HEARTBEAT_URL", "heartbeat_url", "none", "URL",
        "none, or an address that begins with http:// or https://", _address_of(("http", "https"), secret=True),
        "called every minute while alerts are evaluated, so that another monitor notices when they are not; never "
        "shown, for it may hold a token", secret=True),
    Setting("STOREMON_ALERT_GROUP_SECONDS", "alert_group_s", "60", "seconds",
        "a whole number of seconds from 0 to 3600", _whole(0, 3600),
        "how long the first news of a message waits for more"),
    Setting("STOREMON_ALERT_INTERVAL_SECONDS", "alert_interval_s", "300", "seconds",
        "a whole number of seconds from 0 to 86400", _whole(0, 86_400),
        "a channel is sent at most one message of incidents in so long"),
    Setting("STOREMON_ALERT_MIN_POLLS", "alert_min_polls", "1", "polls",
        "a whole number from 1 to 100", _whole(1, 100),
        "so many polls in a row must find a store down before that is an incident"),
    Setting("STOREMON_ALERT_MIN_MINUTES", "alert_min_us", "0", "minutes",
        "a number of minutes from 0 to 1440", _span(MINUTE_US, 0, 1440),
        "a store must be down for so long, in business time, before that is an incident"),
    Setting("STOREMON_ALERT_CLOSING_MINUTES", "alert_closing_us", "30", "minutes",
        "a number of minutes from 0 to 720", _span(MINUTE_US, 0, 720),
        "no incident of a store begins this shortly before it closes"),
    Setting("STOREMON_DEFAULT_TIMEZONE", "default_timezone", "America/Chicago", "IANA zone",
        "the name of an IANA time zone, such as America/Chicago", _zone,
        "the zone of a store that has none"),
    Setting("STOREMON_DAYPARTS", "dayparts", ", ".join(map(str, DEFAULT_DAYPARTS)), "times",
        f"1 to {_MOST_DAYPARTS} names with times such as lunch 11:00-15:00, separated by commas, that cover the day "
        "once: each ends where the next begins", _dayparts,
        "the parts of a day that `by=daypart` has rows for, in each store's own zone; one that runs over midnight "
        "belongs to the date on which it begins"),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Settings:
    """The values in force. Paths are absolute; spans are microseconds."""

    home: Path
    database: Path
    reports_dir: Path
    host: str
    port: int
    report_workers: int
    http_threads: int
    connection_timeout_s: int
    min_free_mb: int
    log_format: str
    max_body_mb: int
    api_key: Secret
    trusted_hosts: str
    trusted_proxy: str
    reach_us: int
    max_gap_us: int
    max_clock_skew_us: int
    max_report_rows: int
    keep_polls_days: int
    undo_days: int
    undo_percent: int
    keep_reports_days: int
    max_reports_mb: int
    listen: Secret
    public_url: str
    smtp_url: Secret
    mail_from: str
    heartbeat_url: Secret
    alert_group_s: int
    alert_interval_s: int
    alert_min_polls: int
    alert_min_us: int
    alert_closing_us: int
    default_timezone: str
    dayparts: tuple[Daypart, ...]
    # No setting: different reports that may wait to be computed.
    max_pending_reports: int = 1000

    @property
    def rules(self) -> Rules:
        """Return what the calculation needs of them."""
        return Rules(self.reach_us, self.max_gap_us, max_skew_us=self.max_clock_skew_us)

    @property
    def trusted_networks(self) -> tuple[Network, ...]:
        """Return the addresses of the proxies that are trusted."""
        if self.trusted_proxy == "none":
            return ()
        return tuple(ipaddress.ip_network(network) for network in self.trusted_proxy.split(","))

    @property
    def max_body_bytes(self) -> int:
        """Return the bytes of the largest body of a request."""
        return self.max_body_mb * 1_000_000

    @property
    def data_dir(self) -> Path:
        """Return the folder that `load-data` reads when it is given no path."""
        return self.home / "data"

    def with_options(self, **options: Any) -> "Settings":
        """Return the settings with the options of the command line, where they are not None."""
        return replace(self, **{name: value for name, value in options.items() if value is not None})


def load(environ: Mapping[str, str] | None = None) -> Settings:
    """Return the settings of this machine.

    `SettingsError` names the variable, its value and what is allowed when one of them is wrong; the file and the line
    when a line of `.env` cannot be read, or when a name looks as if it should have been STOREMON_API_KEY.
    """
    environ = os.environ if environ is None else environ
    home = _home(environ)
    lines = _read_dotenv(home / ".env", environ)
    _refuse_a_misspelt_key(lines, environ)
    values: dict[str, Any] = {"home": home}
    for setting in SETTINGS:
        values[setting.field] = _value(setting, lines, environ)
    for field in ("database", "reports_dir"):
        values[field] = home / values[field]
    settings = Settings(**values)
    if settings.max_gap_us > 2 * settings.reach_us:
        # Measured time lies within half a gap of a poll; beyond the reach it would be measured and unknown at once.
        raise SettingsError(
            f"STOREMON_MAX_GAP_MINUTES is {settings.max_gap_us / MINUTE_US:g}; it must be at most twice "
            f"STOREMON_REACH_HOURS, that is {2 * settings.reach_us / MINUTE_US:g} minutes"
        )
    return settings


def _home(environ: Mapping[str, str]) -> Path:
    text = environ.get("STOREMON_HOME", ".")
    if not text.strip():
        raise SettingsError(
            "STOREMON_HOME is empty; it must be a path, or not be set (then it is the working directory)"
        )
    return Path(text).absolute()


def _value(setting: Setting, lines: "Mapping[str, DotenvLine]", environ: Mapping[str, str]) -> Any:
    line = lines.get(setting.name)
    if setting.name in environ:
        text, where = environ[setting.name], ""
    elif line is not None:
        text, where = line.value, f"{line.where}: "
    else:
        text, where = setting.default, ""
    try:
        return setting.read(text if setting.secret else text.strip())
    except (ValueError, OverflowError) as error:
        shown = f"has {len(text)} characters that are not shown" if setting.secret else f"is {text!r}"
        if not text:
            # Nothing is never taken for the default: a variable that was to be filled in and was not is a mistake.
            shown = "is empty"
        if isinstance(error, WrongValue):
            shown += f": {error}"
        raise SettingsError(f"{where}{setting.name} {shown}; it must be {setting.allowed}") from None


def log_format(environ: Mapping[str, str] | None = None) -> str:
    """Return how the server logs, as far as it is known when another setting is wrong; `text` when this one is."""
    environ = os.environ if environ is None else environ
    text = environ.get("STOREMON_LOG_FORMAT")
    if text is None:
        try:
            line = _read_dotenv(_home(environ) / ".env", environ).get("STOREMON_LOG_FORMAT")
        except SettingsError:
            line = None
        text = line.value if line is not None else ""
    return "json" if text.strip() == "json" else "text"


_PREFIX: Final = "STOREMON_"
_KEY: Final = "STOREMON_API_KEY"
_KNOWN: Final = frozenset(setting.name for setting in SETTINGS) | {"STOREMON_HOME"}
_WORDS_OF_KEYS: Final = ("KEY", "TOKEN", "SECRET", "PASSWORD")


def unknown(home: Path, environ: Mapping[str, str] | None = None) -> list[str]:
    """Return a warning for each name that begins with STOREMON_ and is no setting: it would be ignored in silence."""
    environ = os.environ if environ is None else environ
    lines = _read_dotenv(home / ".env", environ)
    sentences = []
    for name in sorted({*lines, *environ} - _KNOWN):
        if name not in environ and _looks_like_the_key(name):
            # Where the = is missing, the name may be a part of the key.
            sentences.append(f"{lines[name].where}: the name is no setting; did you mean {_KEY}?")
        elif _folded(name).startswith(_folded(_PREFIX)):
            from difflib import get_close_matches

            near = get_close_matches(
                name.upper().removeprefix(_PREFIX), {one.removeprefix(_PREFIX) for one in _KNOWN}, 1
            )
            sentences.append(f"{name} is no setting{f'; did you mean {_PREFIX}{near[0]}?' if near else ''}")
    if "STOREMON_HOME" in lines and "STOREMON_HOME" not in environ:
        sentences.append(
            f"{lines['STOREMON_HOME'].where}: STOREMON_HOME says where .env is, so it counts in the environment only"
        )
    return sentences + _other_dotenv(home)


def _other_dotenv(home: Path) -> list[str]:
    """Return a warning when the working directory has a `.env` with settings of ours that nobody reads."""
    ours = home / ".env"
    try:
        here = Path.cwd() / ".env"
        if os.path.realpath(here) == os.path.realpath(ours) or not here.is_file():
            return []
        if _PREFIX.encode() not in here.read_bytes():
            return []
    except OSError:
        # Nothing is read from it in any case.
        return []
    return [f"{here} is not read; STOREMON_HOME says that settings are in {ours}"]


def _folded(name: str) -> str:
    """Return the name without what is easily mistaken: case, signs between words, full-width, invisible characters."""
    return re.sub(r"[^A-Z0-9]", "", unicodedata.normalize("NFKC", name).upper())


def _looks_like_the_key(name: str) -> bool:
    folded, key = _folded(name), _folded(_KEY)
    if name in _KNOWN or not any(word in folded for word in _WORDS_OF_KEYS):
        return False
    if folded.startswith(_folded(_PREFIX)):
        return True
    if abs(len(folded) - len(key)) > 2:
        return False
    from difflib import SequenceMatcher

    return SequenceMatcher(None, folded, key).ratio() > 0.9


def _refuse_a_misspelt_key(lines: "Mapping[str, DotenvLine]", environ: Mapping[str, str]) -> None:
    """Raise `SettingsError` when a key seems to be meant and none is set: the server would be open to everybody."""
    if _KEY in environ or _KEY in lines:
        return
    for name in sorted({*lines, *environ}):
        if _looks_like_the_key(name):
            which = f"{name} is no setting" if name in environ else f"{lines[name].where}: the name is no setting"
            raise SettingsError(
                f"{which}, and {_KEY} is not set; if that is what you mean, write its name so "
                f"({_KEY}=none says that there is no key)"
            )


@dataclass(frozen=True, slots=True, repr=False)
class DotenvLine:
    """What a line of `.env` gives to a name."""

    where: str
    value: str


# What python-dotenv takes for a name may hold what was meant as a value.
_DOTENV_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")
_CONTROL: Final = re.compile("[\0-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u2028\u2029]")
_NEWLINE: Final = re.compile(r"\r\n|\n|\r")


def _read_dotenv(path: Path, environ: Mapping[str, str]) -> dict[str, DotenvLine]:
    """Return each name of `.env` with its value; `SettingsError` for the first line that cannot be read.

    It may have been the key, so no message repeats anything of it.
    """
    text = _dotenv_text(path)
    if text is None:
        return {}
    # Not before there is a file: what most starts do not need they do not wait for.
    from dotenv.parser import parse_stream

    lines: dict[str, DotenvLine] = {}
    for number, binding in _numbered(parse_stream(io.StringIO(text))):
        where = f"{path}, line {number}"
        if binding.error or (binding.key is not None and not _is_plain(binding)):
            raise SettingsError(
                f"{where}: this line cannot be read; it must be NAME=value. A value in quotes ends with the same "
                "quote, on the same line, with nothing but a comment (# ...) after it"
            )
        if binding.key is None or binding.value is None:
            continue
        if binding.key in lines and _folded(binding.key).startswith(_folded(_PREFIX)):
            raise SettingsError(
                f"{where}: {binding.key} is there twice ({lines[binding.key].where}); remove one of the lines"
            )
        lines[binding.key] = DotenvLine(where, _resolved(binding.key, binding.value, where, lines, environ))
    return lines


def _dotenv_text(path: Path) -> str | None:
    """Return the text of the file; None when there is none."""
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            raise _no_dotenv(path, "it is no file")
        data = path.read_bytes().removeprefix(codecs.BOM_UTF8)
    except (FileNotFoundError, NotADirectoryError):
        if path.is_symlink():
            raise _no_dotenv(path, "it is a link to a file that does not exist") from None
        return None
    except OSError as error:
        raise _no_dotenv(path, error.strerror or str(error)) from None
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        # The error itself would repeat a part of the line.
        start = error.start
    else:
        control = _CONTROL.search(text)
        if control is None:
            return text
        start = len(text[: control.start()].encode())
    number = data.count(b"\n", 0, start) + 1
    raise _no_dotenv(path, f"line {number} is not UTF-8 text")


def _no_dotenv(path: Path, reason: str) -> SettingsError:
    return SettingsError(
        f"{path} cannot be read: {reason}; it must be a UTF-8 text file of lines NAME=value that this user may read, "
        "or not be there"
    )


def _numbered(bindings: "Iterator[Binding]") -> "Iterator[tuple[int, Binding]]":
    """Yield each binding with the number of its line; python-dotenv counts from the blank lines before it."""
    for binding in bindings:
        before = binding.original.string[: -len(binding.original.string.lstrip()) or None]
        yield binding.original.line + len(_NEWLINE.findall(before)), binding


def _is_plain(binding: "Binding") -> bool:
    """Return whether it has a name and a value that does not run on into a line with a setting (an open quote)."""
    name, value = binding.key or "", binding.value
    if value is None or not _DOTENV_NAME.fullmatch(name):
        return False
    _, *others = _NEWLINE.split(binding.original.string.strip())
    return not others or not (name.upper().startswith(_PREFIX) or any(_PREFIX in line.upper() for line in others))


def _resolved(name: str, value: str, where: str, lines: Mapping[str, DotenvLine], environ: Mapping[str, str]) -> str:
    """Return the value with `${NAME}` and `${NAME:-default}` replaced: by an earlier line, or the environment."""
    if "${" not in value:
        return value
    from dotenv.variables import Variable, parse_variables

    known = {**environ, **{earlier: line.value for earlier, line in lines.items()}}
    atoms = list(parse_variables(value))
    for atom in atoms:
        if isinstance(atom, Variable) and atom.default is None and atom.name not in known and name in _KNOWN:
            raise SettingsError(
                f"{where}: the value of {name} names a variable (${{...}}) that is not set; set it, or write "
                "the value itself"
            )
    return "".join(atom.resolve(known) for atom in atoms)
