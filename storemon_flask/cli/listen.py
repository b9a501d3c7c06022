"""`listen`: polls from a message broker."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any

import click

from storemon_flask import logs
from storemon_flask.cli.command import command, get_settings, open_database
from storemon_flask.errors import SettingsError, StoremonError

if TYPE_CHECKING:
    from storemon_flask.streams.listener import Listener


@command("listen")
@click.argument("address", required=False)
@click.option("--metrics-port", type=click.IntRange(1, 65535), help="Serve metrics on this port of 127.0.0.1.")
@click.pass_context
def listen(ctx: click.Context, address: str | None, metrics_port: int | None) -> None:
    """Listen to a message broker and store the polls that come in, until Ctrl-C or SIGTERM.

    ADDRESS says which broker, and which queue or topic (default: STOREMON_LISTEN). Messages are CSV, JSON or NDJSON;
    they are acknowledged when their polls are stored. docs/streams.md has the options of an address.

    \b
    Examples:
      storemon listen 'amqp://user:password@broker/?queue=polls'
      storemon listen 'mqtt://broker/?topic=stores/{store_id}/polls'
    """
    from prometheus_client import CollectorRegistry, start_http_server

    from storemon_flask.streams.broker import check_packages
    from storemon_flask.streams.listener import Listener, StreamMetrics
    from storemon_flask.streams.start import prepare_address

    settings = get_settings(ctx)
    text = settings.listen.value if address is None else address
    if not text:
        raise SettingsError(
            "there is no address to listen to; name one, as `storemon listen 'amqp://HOST/?queue=NAME'`, or set "
            "STOREMON_LISTEN"
        )
    parsed = prepare_address(text, settings)
    check_packages(parsed)
    database = open_database(ctx)
    # A database that cannot be used is no reason to wait.
    database.prepare()
    logs.to_stderr(settings.log_format)
    registry = CollectorRegistry()
    listener = Listener(parsed, database, settings, StreamMetrics(registry))
    if metrics_port is not None:
        try:
            start_http_server(metrics_port, "127.0.0.1", registry)
        except OSError as error:
            raise StoremonError(
                f"cannot serve metrics on 127.0.0.1 port {metrics_port}: {error.strerror or error}; choose another "
                "with --metrics-port"
            ) from None
    with _signals_stop(listener):
        listener.run()


@contextmanager
def _signals_stop(listener: "Listener") -> Iterator[None]:
    """SIGTERM and Ctrl-C end it in order; only the main thread may say so."""

    def stop(signum: int, frame: FrameType | None) -> None:
        """Tell the listener to end after the batch at hand. A signal handler."""
        listener.stop()

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before: dict[int, Any] = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
