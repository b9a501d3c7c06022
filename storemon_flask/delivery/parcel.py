"""The argument of each transport's `send`."""

from dataclasses import dataclass

from storemon_flask.database.channels import Channel
from storemon_flask.database.connections import Database
from storemon_flask.database.messages import Message
from storemon_flask.settings import Settings


@dataclass(frozen=True, slots=True)
class Parcel:
    """A message that is to be sent to a channel now, and where its attachment and the mail server are known from."""

    message: Message
    channel: Channel
    settings: Settings
    database: Database
    now_us: int
