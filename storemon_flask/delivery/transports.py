"""The ways of sending: one module for each kind of channel, with `check`, `shown` and `send`."""

from types import ModuleType
from typing import Final

from storemon_flask.database.channels import KINDS, Channel
from storemon_flask.delivery import apprise, folder, mail, webhook
from storemon_flask.delivery.answer import Answer
from storemon_flask.delivery.deadline import Deadline
from storemon_flask.delivery.parcel import Parcel
from storemon_flask.errors import Unprocessable
from storemon_flask.settings import Settings

_TRANSPORTS: Final[dict[str, ModuleType]] = {"email": mail, "webhook": webhook, "apprise": apprise, "folder": folder}
# A mail may have 5 MB to carry.
DEADLINES_S: Final = {"email": 60.0, "webhook": 30.0, "apprise": 30.0, "folder": 30.0}


def check_channel(kind: str, address: str, settings: Settings) -> str:
    """Return the address of a channel as it is stored; `Unprocessable` when nothing could be sent there, and why."""
    if kind not in _TRANSPORTS:
        raise Unprocessable(f"{kind!r} is no kind of channel; it must be one of {', '.join(KINDS)}")
    checked: str = _TRANSPORTS[kind].check(address, settings)
    return checked


def shown_address(channel: Channel) -> str:
    """Return where a channel goes, without what may be secret of its address; empty for a removed one."""
    shown: str = _TRANSPORTS[channel.kind].shown(channel.address.value) if channel.address else ""
    return shown


def send(parcel: Parcel, deadline: Deadline) -> Answer:
    """Try once to deliver a message."""
    answer: Answer = _TRANSPORTS[parcel.channel.kind].send(parcel, deadline)
    return answer
