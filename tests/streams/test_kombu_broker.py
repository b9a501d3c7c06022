"""Messages of queues that say that they are compressed."""

import bz2
import lzma
import resource
import zlib
from collections.abc import Callable

import pytest
from kombu.message import Message as KombuMessage

from storemon_flask.streams import kombu_broker
from storemon_flask.streams.messages import MAX_MESSAGE_BYTES

ROW = b"a,1700000000,active"
KINDS = [
    ("application/x-gzip", zlib.compress), ("application/x-bz2", bz2.compress), ("application/x-lzma", lzma.compress)
]  # fmt: skip


def received(body: bytes, content_type: str) -> KombuMessage:
    """The message as kombu gives it to who consumes."""
    assert kombu_broker.KombuBroker
    return KombuMessage(body, headers={"compression": content_type}, content_type="application/data")


@pytest.mark.parametrize(("content_type", "compress"), KINDS)
def test_a_compressed_message_is_unpacked_up_to_what_a_message_may_have(
    content_type: str, compress: Callable[[bytes], bytes]
) -> None:
    message = received(compress(ROW), content_type)
    assert (message.body, message.errors) == (ROW, [])
    most = received(compress(bytes(MAX_MESSAGE_BYTES)), content_type)
    assert (len(most.body), most.errors) == (MAX_MESSAGE_BYTES, [])
    bomb = compress(bytes(30 * MAX_MESSAGE_BYTES))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = received(bomb, content_type)
    # One more than allowed, so that it is rejected.
    assert len(message.body) == MAX_MESSAGE_BYTES + 1
    # Of 250 MB, after what making the bomb took.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000


@pytest.mark.parametrize(("content_type", "compress"), KINDS)
def test_what_cannot_be_unpacked_stays_as_it_came(content_type: str, compress: Callable[[bytes], bytes]) -> None:
    for body in (compress(ROW * 100)[:-3], b"garbage"):
        message = received(body, content_type)
        assert message.body == body
        assert message.errors
    message = received(ROW, "application/unheard-of")
    assert (message.body, len(message.errors)) == (ROW, 1)
