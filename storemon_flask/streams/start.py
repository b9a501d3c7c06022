"""What both who listen need: an address in force, and a listener in a thread beside the server."""

import hashlib
import logging
import platform
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Final

from prometheus_client import CollectorRegistry

from storemon_flask.database.connections import Database
from storemon_flask.errors import SettingsError
from storemon_flask.settings import Settings
from storemon_flask.streams import address as addresses
from storemon_flask.streams.address import StreamAddress
from storemon_flask.streams.broker import check_packages
from storemon_flask.streams.listener import Listener, StreamMetrics

log = logging.getLogger("storemon.streams")
# A batch that is being stored when the server stops is stored, or given up, within this.
_END_S: Final = 10.0


def prepare_address(text: str, settings: Settings) -> StreamAddress:
    """Return the address taken apart, with a client id where it has none: always the same for this machine, database
    and topic, for the broker keeps messages under it. `SettingsError` for a wrong one.
    """
    address = addresses.parse_address(text)
    if address.ca_file is not None:
        try:
            Path(address.ca_file).open("rb").close()
        except OSError as error:
            raise SettingsError(
                f"the ca_file of the address to listen to, {address.ca_file}, cannot be read: {error.strerror or error}"
            ) from None
    if address.is_mqtt and not address.client_id:
        known = "\n".join((platform.node(), str(settings.database), address.topic))
        address = replace(address, client_id=f"storemon-{hashlib.sha256(known.encode()).hexdigest()[:12]}")
    return address


@contextmanager
def listening(settings: Settings, database: Database, registry: CollectorRegistry) -> Iterator[None]:
    """Listen to the address of the settings, if there is one, in a thread of its own until the end of the block.

    `SettingsError` for a wrong address, `MissingExtra` when what it needs is not installed; a broker that is not there
    is waited for.
    """
    if not settings.listen:
        yield
        return
    address = prepare_address(settings.listen.value, settings)
    check_packages(address)
    listener = Listener(address, database, settings, StreamMetrics(registry))
    thread = threading.Thread(target=listener.run, name="listener", daemon=True)
    thread.start()
    try:
        yield
    finally:
        listener.stop()
        thread.join(_END_S)
        if thread.is_alive():
            log.warning("the listener does not end; what it has not acknowledged comes again")
