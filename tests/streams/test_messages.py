"""What messages say: every shape gives the rows that a file or a push of the same would give."""

import json

import pytest

from storemon_flask.feeds import schema
from storemon_flask.feeds.csv_exact import FIELDS_FEW, NOT_UTF8, NUL, QUOTING, Record
from storemon_flask.streams import address, messages
from storemon_flask.streams.messages import Message, MessageReader

NOW_US = 1_728_905_400_000_000
NOW = "2024-10-14T11:30:00.000000Z"
AT = "2024-10-14 11:15:00 UTC"


def reader(options: str, scheme: str = "amqp://h/?queue=q") -> MessageReader:
    return MessageReader(address.parse_address(f"{scheme}{options}").shape)


def rows(body: bytes | str, options: str = "", scheme: str = "amqp://h/?queue=q", **message: object) -> list[list[str]]:
    return [record.fields for record in records(body, options, scheme, **message) if not record.problem]


def records(
    body: bytes | str, options: str = "", scheme: str = "amqp://h/?queue=q", topic: str = "", retained: bool = False
) -> list[Record]:
    raw = body.encode() if isinstance(body, str) else body
    return reader(options, scheme).read(Message(raw, NOW_US, None, topic, retained), 7)


ONE = ["a", AT, "active"]
TWO = [["a", AT, "active"], ["b", AT, "inactive"]]


@pytest.mark.parametrize(
    "body",
    [
        f"a,{AT},active\nb,{AT},inactive",
        f"a,{AT},active\r\n\r\nb,{AT},inactive\r\n",
        f'"a","{AT}",active\n"b",{AT},inactive\n',
        f"status,Store ID,more,timestamp_utc\nactive,a,1,{AT}\ninactive,b,,{AT}\n",
        f'\ufeff{{"store_id": "a", "timestamp_utc": "{AT}", "status": "active"}}\n'
        f'{{"status": "inactive", "timestamp_utc": "{AT}", "store_id": "b", "more": [1]}}\n',
        f'[{{"store_id": "a", "timestamp_utc": "{AT}", "status": "active"}},\n'
        f'{{"store_id": "b", "timestamp_utc": "{AT}", "status": "inactive"}}]',
    ],
    ids=["csv", "breaks", "quoted", "header", "ndjson", "list"],
)
def test_csv_ndjson_and_lists_of_json_are_read_by_their_content(body: str) -> None:
    assert rows(body) == TWO
    assert [record.line for record in records(body)] == [7, 8]


@pytest.mark.parametrize("delimiter", [";", "\t", "|"])
@pytest.mark.parametrize(
    "body",
    [
        f"a,{AT},active\nb,{AT},inactive",
        f'"a",{AT},"active"\r\n,,\n"b",{AT},inactive\r\n',
        f"status,Store ID,more,timestamp_utc\nactive,a,1,{AT}\n,,,\ninactive,b,,{AT}\n",
        f'timestamp_utc,"store_id",status\r{AT},"a",active\r{AT},b,inactive',
    ],
    ids=["in order", "quoted", "header", "returns"],
)
def test_csv_has_the_delimiters_of_files(body: str, delimiter: str) -> None:
    body = body.replace(",", delimiter)
    assert rows(body) == TWO
    assert [record.line for record in records(body)] == [7, 8]


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("header", ["", "store_id,timestamp_utc,status\n"])
def test_other_delimiters_are_text_of_a_field(header: str, delimiter: str) -> None:
    store = "".join(one for one in ";\t|" if one != delimiter) + "x"
    quoted = f'"a{delimiter}b"'
    body = header + f"{quoted},{AT},active\nc{store},{AT},inactive\n"
    body = body.replace(",", delimiter) if delimiter != "," else body
    assert rows(body) == [[f"a{delimiter}b", AT, "active"], [f"c{store}", AT, "inactive"]]


def test_columns_that_nobody_reads_may_be_missing_at_the_end_of_a_row() -> None:
    body = f"store_id,timestamp_utc,status,note\na,{AT},active\nb,{AT}\n"
    assert [(record.fields, record.problem) for record in records(body)] == [
        (ONE, ""), (["b", AT], FIELDS_FEW)
    ]  # fmt: skip


def test_a_mapping_and_a_topic_know_the_delimiters_too() -> None:
    assert rows(f"when;shop;status\n{AT};a;active\n", "&map=store_id=shop,timestamp_utc=when") == [ONE]
    assert rows(f"{AT}|active", scheme="mqtt://h/?topic=s/{store_id}", topic="s/a") == [ONE]
    (record,) = records("a;b;c;d;e")
    assert record.problem == messages.FIELDS.format("store_id,timestamp_utc,status")


@pytest.mark.parametrize("space", [" ", "\n", "\r\n  "])
def test_one_object_may_have_many_lines(space: str) -> None:
    body = f'{{{space}"store_id": "a",{space}"timestamp_utc": "{AT}",{space}"status": "active"{space}}}'
    assert rows(body) == [ONE]


def test_numbers_keep_their_digits() -> None:
    body = '{"store_id": 9007199254740993123, "timestamp_utc": 1728904500.123456789, "status": "active"}'
    assert rows(body) == [["9007199254740993123", "1728904500.123456789", "active"]]


@pytest.mark.parametrize("body", ["", " \n", "[]", "store_id,timestamp_utc,status\n"])
def test_a_message_without_rows_has_none(body: str) -> None:
    assert records(body) == []


@pytest.mark.parametrize(
    ("body", "options", "problem"),
    [
        ("a,active", "", messages.FIELDS.format("store_id,timestamp_utc,status")),
        ("a,b,c,d", "", messages.FIELDS.format("store_id,timestamp_utc,status")),
        ("store_id,timestamp_utc,status\na,b\n", "", FIELDS_FEW),
        ('"a"b,c,d', "", QUOTING),
        (b"a\xff,b,c", "", NOT_UTF8),
        ("{", "", "row is not JSON"),
        ('{"store_id": "a"\n', "", "row is not JSON"),
        ("{}", "", "store_id is missing"),
        ('[{"store_id": 1}', "", messages.NOT_JSON),
        ("[" * 100, "", messages.NOT_JSON),
        ('{"metrics": 1}', "&rows=metrics", messages.NO_ROWS),
        ('{"metrics": {}}', "&rows=metrics", messages.NO_ROWS),
        ("{" * 1000, "&rows=metrics", messages.NOT_JSON),
        (b"\x1f\x8b\x08\x00", "", NUL),
        ("a,b,c\n" * (messages.MAX_MESSAGE_ROWS + 1), "", messages.TOO_MANY),
        ("{}" + "\n{}" * messages.MAX_MESSAGE_ROWS, "", messages.TOO_MANY),
        ("[{}" + ",{}" * messages.MAX_MESSAGE_ROWS + "]", "", messages.TOO_MANY),
        ('{"a": [1' + ",1" * messages.MAX_MESSAGE_ROWS + "]}", "&rows=a", messages.TOO_MANY),
        (b"a" * (messages.MAX_MESSAGE_BYTES + 1), "", messages.TOO_LONG),
    ],
    ids=range(19),
)
def test_what_is_no_row_has_the_reason_and_its_text(body: str | bytes, options: str, problem: str) -> None:
    (record,) = records(body, options)
    assert record.problem == problem
    assert record.text
    assert len(record.text) <= 1000


def test_a_mapping_finds_columns_below_others_and_rows_in_a_list() -> None:
    telegraf = {
        "metrics": [
            {"name": "up", "tags": {"store": "a"}, "fields": {"up": 1}, "timestamp": 1728904500},
            {"name": "up", "tags": {"store": "b"}, "fields": {"up": 0.0}, "timestamp": 1728904500},
            {"name": "up", "tags": {"store": "c"}, "fields": {"up": True}, "timestamp": 1728904500},
        ]
    }
    options = "&rows=metrics&map=store_id=tags.store,timestamp_utc=timestamp,status=fields.up"
    words = "&active=1,true&inactive=0,0.0"
    assert rows(json.dumps(telegraf), options + words) == [
        ["a", "1728904500", "active"],
        ["b", "1728904500", "inactive"],
        ["c", "1728904500", "active"],
    ]
    # Without words nothing is guessed.
    assert [fields[2] for fields in rows(json.dumps(telegraf), options)] == ["1", "0.0", "true"]


def test_what_a_mapping_does_not_name_stands_under_its_own_name() -> None:
    body = f'{{"shop": {{"ids": ["x", "a"]}}, "Timestamp UTC": "{AT}", "status": "active", "store_id": "no"}}'
    assert rows(body, "&map=store_id=shop.ids.1") == [ONE]


def test_a_mapping_names_columns_of_csv() -> None:
    assert rows(f"when,shop,state\n{AT},a,UP\n", "&map=store_id=shop,timestamp_utc=when,status=state&active=up") == [
        ONE
    ]


TOPIC = "mqtt://h/?topic=shops/{store_id}/polls"
TOPIC_BOTH = "mqtt://h/?topic=shops/{store_id}/{status}"


@pytest.mark.parametrize(
    ("scheme", "topic", "body", "options", "expected"),
    [
        (TOPIC, "shops/a/polls", f"{AT},active", "", ONE),
        (TOPIC, "shops/a/polls", f"timestamp_utc,status\n{AT},active", "", ONE),
        (TOPIC, "shops/a/polls", f'{{"timestamp_utc": "{AT}", "status": "active", "store_id": "other"}}', "", ONE),
        (TOPIC, "shops/a/polls", "on", "&timestamp=received&active=ON", ["a", NOW, "active"]),
        (TOPIC, "shops/a/polls", '{"status": "active"}', "&timestamp=received", ["a", NOW, "active"]),
        (TOPIC, "shops/a/polls", f'{{"status": "active", "timestamp_utc": "{AT}"}}', "&timestamp=received", ONE),
        (TOPIC, "shops/a/polls", f"timestamp_utc,status\n{AT},active", "&timestamp=received", ONE),
        (TOPIC_BOTH, "shops/a/active", AT, "", ONE),
        (TOPIC_BOTH, "shops/a/active", "", "&timestamp=received", ["a", NOW, "active"]),
        (TOPIC_BOTH, "shops/a/active", "anything", "&timestamp=received", ["a", NOW, "active"]),
    ],
)
def test_levels_of_the_topic_are_columns(scheme: str, topic: str, body: str, options: str, expected: list[str]) -> None:
    assert rows(body, options, scheme, topic=topic) == [expected]


def test_a_retained_message_is_a_poll_only_with_a_timestamp_of_its_own() -> None:
    (record,) = records("active", "&timestamp=received", TOPIC, topic="shops/a/polls", retained=True)
    assert record.problem == messages.RETAINED
    body = f'{{"status": "active", "timestamp_utc": "{AT}"}}'
    assert rows(body, "&timestamp=received", TOPIC, topic="shops/a/polls", retained=True) == [ONE]
    assert rows(f"{AT},active", "", TOPIC, topic="shops/a/polls", retained=True) == [ONE]


def test_a_retained_message_may_have_its_timestamp_in_the_topic() -> None:
    scheme = "mqtt://h/?topic=shops/{store_id}/{timestamp_utc}"
    topic = "shops/a/1728904500"
    assert rows("active", "&timestamp=received", scheme, topic=topic, retained=True) == [["a", "1728904500", "active"]]


def test_a_store_id_of_a_topic_is_judged_as_any_other() -> None:
    (record,) = records(f"{AT},active", "", TOPIC, topic="shops//polls")
    with pytest.raises(schema.BadValue, match="store_id is empty"):
        schema.parse_store_id(record.fields[0])
