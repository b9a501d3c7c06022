"""What to listen to: one address says which broker, which queue or topic, and how messages say what a poll is."""

import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from storemon_flask.errors import SettingsError
from storemon_flask.settings import STREAM_SCHEMES, one_of

# In the feed's order.
COLUMNS: Final = ("store_id", "timestamp_utc", "status")
_MQTT: Final = ("mqtt", "mqtts")
_EXAMPLES: Final = "amqp://HOST/?queue=NAME or mqtt://HOST/?topic=stores/{store_id}"
_QUEUE_OPTIONS: Final = ("queue", "exchange", "routing_key")
_TOPIC_OPTIONS: Final = ("topic", "client_id")
_COMMON_OPTIONS: Final = ("map", "rows", "active", "inactive", "timestamp", "seconds", "ca_file")
_SHARED: Final = "$share"
_OPTION: Final = re.compile("[a-z_]{1,20}")
_MAX_SECONDS: Final = 60.0
_MAX_NAME_BYTES: Final = 255


@dataclass(frozen=True, slots=True)
class Shape:
    """How a message says what its polls are.

    `levels` has the column that each level of the topic is (empty: none). `paths` says for a column where in a row it
    stands, `rows` where in a message the list of its rows does (empty: at the top). `words` are other words for
    active and inactive, in small letters. `received`: a row without a timestamp is of the instant it came in.
    """

    levels: tuple[str, ...] = ()
    paths: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    rows: tuple[str, ...] = ()
    words: Mapping[str, str] = field(default_factory=dict)
    received: bool = False


@dataclass(frozen=True, slots=True, repr=False)
class StreamAddress:
    """One address, taken apart. Its `name` has no password and may be shown, `broker` may not.

    `queue`, `exchange` and `routing_key` are those of AMQP; `topic` is the filter that an MQTT broker is asked for.
    A batch is stored at the latest `seconds` after its first message came in.
    """

    scheme: str
    broker: str
    host: str
    port: int | None
    user: str | None
    password: str | None
    name: str
    shape: Shape
    queue: str = ""
    exchange: str = ""
    routing_key: str = ""
    topic: str = ""
    client_id: str = ""
    seconds: float = 1.0
    ca_file: str | None = None

    @property
    def is_mqtt(self) -> bool:
        """Whether it is one of an MQTT broker."""
        return self.scheme in _MQTT


def parse_address(text: str) -> StreamAddress:
    """Return the address taken apart; `SettingsError` says what is wrong with it, without any password of it."""
    # No part of such an address is a fragment: `#` stands in topics.
    base, _, query = text.partition("?")
    try:
        parts = urlsplit(base.replace("#", "%23"))
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise SettingsError(
            f"the address to listen to has no host and port that can be read; write {_EXAMPLES}"
        ) from None
    scheme = parts.scheme.lower()
    if scheme not in STREAM_SCHEMES:
        raise SettingsError(
            f"the address to listen to begins with {scheme + '://' if scheme else 'no scheme'}; it must be one of "
            f"{', '.join(f'{one}://' for one in STREAM_SCHEMES)}, as {_EXAMPLES}"
        )
    is_mqtt = scheme in _MQTT
    options = _read_options(query, (*(_TOPIC_OPTIONS if is_mqtt else _QUEUE_OPTIONS), *_COMMON_OPTIONS))
    needed = "topic" if is_mqtt else "queue"
    if not options.get(needed):
        raise SettingsError(f"the address to listen to names no {needed}; write {_EXAMPLES}")
    if not host and scheme != "sqs":
        raise SettingsError(f"the address to listen to names no host; write {_EXAMPLES}")
    if "@" in parts.path:
        # A password with a slash of its own would be taken for the path, and shown.
        raise SettingsError("the address to listen to has an @ behind its host; in a user or password write %2F for /")
    for name in _QUEUE_OPTIONS:
        if len(options.get(name, "").encode()) > _MAX_NAME_BYTES:
            raise SettingsError(
                f"the option {name} of the address to listen to is longer than the {_MAX_NAME_BYTES} bytes that AMQP "
                "allows"
            )
    topic, levels = _read_topic(options.get("topic", ""))
    where = f"{scheme}://{host}{f':{port}' if port else ''}{parts.path.rstrip('/')}"
    return StreamAddress(
        scheme,
        f"{scheme}://{parts.netloc}{parts.path}",
        host,
        port,
        None if parts.username is None else unquote(parts.username),
        None if parts.password is None else unquote(parts.password),
        f"{where} {needed} {options[needed]}",
        _read_shape(options, levels),
        queue=options.get("queue", ""),
        exchange=options.get("exchange", ""),
        routing_key=options.get("routing_key", ""),
        topic=topic,
        client_id=options.get("client_id", ""),
        seconds=_read_option(
            options, "seconds", "1", _parse_seconds, f"a number of seconds from 0.01 to {_MAX_SECONDS:g}"
        ),
        ca_file=options.get("ca_file"),
    )


def _read_options(query: str, allowed: tuple[str, ...]) -> dict[str, str]:
    options: dict[str, str] = {}
    for pair in filter(None, query.split("&")):
        name, _, value = pair.partition("=")
        if name not in allowed:
            # A password with a question mark of its own would stand here.
            what = f"an option {name!r}" if _OPTION.fullmatch(name) else "something behind its ? that is no option"
            raise SettingsError(
                f"the address to listen to has {what}; the options are {', '.join(allowed)} (in a user, a password "
                "or a value write %3F for ?, %26 for &, %40 for @)"
            )
        if name in options:
            raise SettingsError(f"the address to listen to has the option {name} twice; leave one of them out")
        # A plus sign is one level of a topic, not a blank.
        options[name] = unquote(value)
    return options


def _read_topic(template: str) -> tuple[str, tuple[str, ...]]:
    """The filter to subscribe to, with `+` for each column in braces, and the columns by level."""
    levels, filter_levels = [], []
    for level in template.split("/"):
        column = level[1:-1] if level.startswith("{") and level.endswith("}") else ""
        if column and (column not in COLUMNS or column in levels):
            raise SettingsError(
                f"the topic to listen to has {level!r}; a level in braces is one of "
                f"{', '.join(f'{{{name}}}' for name in COLUMNS)}, each once"
            )
        if level not in ("#", "+") and ("#" in level or "+" in level):
            raise SettingsError(f"the topic to listen to has {level!r}; + and # each stand for a whole level")
        if "#" in filter_levels:
            raise SettingsError("the topic to listen to goes on behind #, which stands for all levels at its end")
        levels.append(column)
        filter_levels.append("+" if column else level)
    if filter_levels[0] == _SHARED:
        # Several share the messages of such a topic; what they get does not name their group.
        levels = levels[2:]
    return "/".join(filter_levels), tuple(levels) if any(levels) else ()


def _read_shape(options: Mapping[str, str], levels: tuple[str, ...]) -> Shape:
    columns = " or ".join(COLUMNS)
    paths = _read_option(
        options, "map", "", _parse_paths, f"pairs such as store_id=tags.store,status=up, of {columns} and a path"
    )
    words: dict[str, str] = {}
    for status in ("active", "inactive"):
        words |= dict.fromkeys(_split_words(options.get(status, "")), status)
    if len(words) < sum(len(set(_split_words(options.get(status, "")))) for status in ("active", "inactive")):
        raise SettingsError("a word stands for active and for inactive in the address to listen to; it can be one only")
    received = _read_option(options, "timestamp", "message", one_of("message", "received"), "message or received")
    return Shape(levels, paths, _split_path(options.get("rows", "")), words, received == "received")


def _read_option(options: Mapping[str, str], name: str, default: str, read: Callable[[str], Any], allowed: str) -> Any:
    text = options.get(name, default)
    try:
        return read(text)
    except ValueError:
        raise SettingsError(
            f"the option {name} of the address to listen to is {text[:100]!r}; it must be {allowed}"
        ) from None


def _parse_seconds(text: str) -> float:
    value = float(text)
    if not (math.isfinite(value) and 0.01 <= value <= _MAX_SECONDS):
        raise ValueError
    return value


def _parse_paths(text: str) -> dict[str, tuple[str, ...]]:
    paths: dict[str, tuple[str, ...]] = {}
    for pair in filter(None, text.split(",")):
        column, _, path = pair.partition("=")
        if column not in COLUMNS or column in paths or not path:
            raise ValueError
        paths[column] = _split_path(path)
    return paths


def _split_path(text: str) -> tuple[str, ...]:
    return tuple(text.split(".")) if text else ()


def _split_words(text: str) -> Iterator[str]:
    return (word.strip().casefold() for word in text.split(",") if word.strip())
