"""What a broker is to the listener, and how to get the one of an address."""

import importlib
from typing import Final, Protocol

from storemon_flask.errors import StoremonError
from storemon_flask.streams.address import StreamAddress
from storemon_flask.streams.messages import Message
from storemon_flask.version import single_file

# So many messages may be on their way or wait to be stored: two batches, so that one comes in while one is stored.
MAX_UNACKNOWLEDGED: Final = 10_000
_KOMBU: Final = ("kombu", "kombu", "storemon[streams]")
_PAHO: Final = ("paho.mqtt.client", "paho-mqtt", "storemon[streams]")
_REDIS: Final = (_KOMBU, ("redis", "redis", "kombu[redis]"))
# The modules that a scheme needs, the packages they are of, and what brings them.
_PACKAGES: Final = {
    "mqtt": (_PAHO,),
    "mqtts": (_PAHO,),
    "redis": _REDIS,
    "rediss": _REDIS,
    "sqs": (_KOMBU, ("boto3", "boto3", "kombu[sqs]")),
}
CONNECT_TIMEOUT_S: Final = 5
HEARTBEAT_S: Final = 60


class BrokerLost(StoremonError):
    """A broker cannot be reached, refuses what is asked of it, or was lost: what is not acknowledged comes again."""


class MissingExtra(StoremonError):
    """A package that is not part of storemon itself is needed and not there."""


class Broker(Protocol):
    """One connection to a broker. All methods may raise `BrokerLost`; then only `close` is of use."""

    def receive(self, timeout_s: float) -> list[Message]:
        """Return what has come in, in order; wait for it at most so long."""

    def acknowledge(self, messages: list[Message]) -> None:
        """Tell the broker that these, which are the oldest that are not yet acknowledged, need never come again."""

    def count_waiting(self) -> int | None:
        """Return how many messages wait at the broker; None when it does not say."""

    def close(self) -> None:
        """Give back what is not acknowledged, and end the connection. Never raises."""


def check_packages(address: StreamAddress) -> None:
    """`MissingExtra` when what the address needs is not installed."""
    for module, package, extra in _PACKAGES.get(address.scheme, (_KOMBU,)):
        try:
            importlib.import_module(module)
        except ImportError:
            remedy = f"install it with pip install '{extra}'"
            if single_file() is not None:
                remedy = f"the single file cannot have it: install storemon with pip install '{extra}'"
            raise MissingExtra(f"{address.scheme}:// needs {package}, which is not installed; {remedy}") from None


def connect(address: StreamAddress) -> Broker:
    """Return a connection to the broker, at which messages come in; `BrokerLost` when there is none to be had."""
    if address.is_mqtt:
        from storemon_flask.streams.mqtt_broker import MqttBroker

        return MqttBroker(address)
    from storemon_flask.streams.kombu_broker import KombuBroker

    return KombuBroker(address)
