"""Addresses of streams: what they say, and the sentence for each that is wrong."""

import pytest

from storemon_flask.errors import SettingsError
from storemon_flask.streams import address


def test_a_queue_is_named_with_its_broker_and_without_its_password() -> None:
    parsed = address.parse_address("amqp://me:se%2Fcret@broker:5673/shops?queue=polls")
    assert (parsed.name, parsed.queue, parsed.seconds) == ("amqp://broker:5673/shops queue polls", "polls", 1.0)
    assert parsed.broker == "amqp://me:se%2Fcret@broker:5673/shops"
    assert "cret" not in repr(parsed)
    assert not parsed.is_mqtt


def test_a_topic_says_which_level_is_which_column() -> None:
    parsed = address.parse_address(
        "mqtts://me:a%40b@broker/?topic=shops/+/{store_id}/{status}/#&seconds=0.5&client_id=one"
    )
    assert parsed.topic == "shops/+/+/+/#"
    assert parsed.shape.levels == ("", "", "store_id", "status", "")
    assert (parsed.user, parsed.password, parsed.port, parsed.client_id) == ("me", "a@b", None, "one")
    assert (parsed.seconds, parsed.is_mqtt) == (0.5, True)


def test_the_group_of_a_shared_topic_is_no_level() -> None:
    parsed = address.parse_address("mqtt://broker/?topic=$share/storemon/shops/{store_id}")
    assert (parsed.topic, parsed.shape.levels) == ("$share/storemon/shops/+", ("", "store_id"))


def test_a_mapping_says_where_columns_and_rows_stand_and_which_words_mean_what() -> None:
    parsed = address.parse_address(
        "amqp://h/?queue=q&map=store_id=tags.store,status=fields.up&rows=metrics&active=1,Up&inactive=0&timestamp=received"
    )
    assert parsed.shape == address.Shape(
        (),
        {"store_id": ("tags", "store"), "status": ("fields", "up")},
        ("metrics",),
        {"1": "active", "up": "active", "0": "inactive"},
        True,
    )


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("polls", "begins with no scheme; it must be one of amqp://, "),
        ("kafka://h/?topic=a", "begins with kafka://; it must be one of amqp://, amqps://, mqtt://"),
        ("amqp://h/", "names no queue; write amqp://HOST/?queue=NAME or mqtt://"),
        ("mqtt://h/", "names no topic; write "),
        ("mqtt://h/?queue=a", "has an option 'queue'; the options are topic, client_id, map"),
        ("amqp:///?queue=a", "names no host"),
        ("amqp://h:port/?queue=a", "has no host and port that can be read"),
        ("amqp://h/?queue=a&queue=b", "has the option queue twice"),
        ("mqtt://h/?topic={store}/a", "topic to listen to has '{store}'; a level in braces is one of {store_id}, "),
        ("mqtt://h/?topic={store_id}/{store_id}", "each once"),
        ("mqtt://h/?topic=a/#/b", "the topic to listen to goes on behind #"),
        ("mqtt://h/?topic=a%23/b", "the topic to listen to has 'a#'; + and # each stand for a whole level"),
        ("mqtt://h/?topic=a/b+", "the topic to listen to has 'b+'; + and # each stand for a whole level"),
        (f"amqp://h/?queue={'é' * 128}", "the option queue of the address to listen to is longer than the 255 bytes"),
        (f"amqp://h/?queue=q&exchange={'e' * 256}", "the option exchange of the address to listen to is longer than"),
        ("amqp://h/?queue=a&map=store=a", "option map of the address to listen to is 'store=a'; it must be pairs"),
        ("amqp://h/?queue=a&map=status", "it must be pairs"),
        ("amqp://h/?queue=a&seconds=61", "is '61'; it must be a number of seconds from 0.01 to 60"),
        ("amqp://h/?queue=a&seconds=nan", "it must be a number"),
        ("amqp://h/?queue=a&timestamp=now", "is 'now'; it must be message or received"),
        ("amqp://h/?queue=a&active=1&inactive=0,1", "a word stands for active and for inactive"),
    ],
)
def test_a_wrong_address_is_a_sentence_that_says_what_is_allowed(text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as wrong:
        address.parse_address(text)
    assert sentence in wrong.value.message


def test_no_sentence_repeats_a_password() -> None:
    for text in (
        "kafka://me:hidden@h/?topic=a",
        "amqp://me:hidden@h:x/?queue=a",
        "amqp://me:hidden@h/",
        "amqp://me:a?hidden@h/?queue=a",
        "amqp://me:123/hidden@h/?queue=a",
    ):
        with pytest.raises(SettingsError) as wrong:
            address.parse_address(text)
        assert "hidden" not in wrong.value.message
