"""The server: Waitress around the app, the lock, recovery at the start and an orderly end."""

import ipaddress
import logging
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask import cli, logs
from storemon_flask.cli.command import command, command_line, signals_interrupt
from storemon_flask.errors import StoremonError

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.database.connections import Database
    from storemon_flask.settings import Settings
    from storemon_flask.web.app import Storemon

log = logging.getLogger("storemon.server")
# A report takes a second or two at the most; one that takes longer is put back and runs at the next start.
GRACE_S: Final = 5.0
# Of Waitress's own limit, 100, senders that trickle would soon have all.
_MOST_CONNECTIONS: Final = 400
# A body that is larger than allowed by no more than this is received and thrown away.
_REFUSED_WHOLE_BYTES: Final = 64_000_000
# More bytes than there will be.
_NO_LIMIT: Final = 1 << 62


def commands() -> list[click.Command]:
    """Return every command, for both command lines."""
    from storemon_flask.cli.demo import demo

    return [*cli.COMMANDS, serve_command, demo]


@command("serve")
@click.option("--host", help="Address to listen on.  [STOREMON_HOST, default 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [STOREMON_PORT, default 8000]")
@click.option("--insecure", is_flag=True, help="Listen for other machines without a key.")
@click.option("--open", "open_browser", is_flag=True, help="Open the service in a browser.")
@click.pass_context
def serve_command(ctx: click.Context, host: str | None, port: int | None, insecure: bool, open_browser: bool) -> None:
    """Serve until Ctrl-C or SIGTERM.

    For other machines (--host 0.0.0.0) calls need a key: STOREMON_API_KEY, or one of `storemon keys add`.

    \b
    Example:
      storemon serve --port 9000
      curl -X POST http://127.0.0.1:9000/trigger_report
    """
    line = command_line(ctx)
    logs.to_stderr(line.settings.log_format)
    if host is not None and not host.strip():
        raise click.BadParameter("must be a host name or an address", param_hint="--host")
    ready: Callable[[str], object] = _in_a_browser if open_browser else lambda url: None
    try:
        serve(line.make_app(line.settings), host, port, ready, insecure)
    except StoremonError as error:
        if line.settings.log_format != "json":
            raise
        logs.fail(error.message)
        ctx.exit(error.exit_code)


def _in_a_browser(url: str) -> None:
    import webbrowser

    webbrowser.open(url)


def serve(
    app: "Flask",
    host: str | None = None,
    port: int | None = None,
    ready: Callable[[str], object] = lambda url: None,
    insecure: bool = False,
) -> None:
    """Serve until a signal ends it; `host` and `port` replace those of the settings.

    `StoremonError` when the port, the lock or the database cannot be had, or when other machines could call without a
    key and that was not asked for (`insecure`). The report that is running is finished, or left for the next start.
    """
    from storemon_flask.database.files import server_lock
    from storemon_flask.schedules.runner import Runner
    from storemon_flask.streams.start import listening
    from storemon_flask.web import authentication

    storemon: Storemon = app.extensions["storemon"]
    settings = storemon.settings.with_options(host=host, port=port)
    logs.to_stderr(settings.log_format)
    with (
        _signals_interrupt(storemon.worker.stop_waiting),
        server_lock(settings.database) as in_order,
        closing(storemon.database),
        _listening_sockets(settings) as sockets,
    ):
        authentication.log_start_warnings(app, host_is_judged=True)
        authentication.set_address(app, settings, _check_exposure(sockets, settings, storemon.database, insecure))
        try:
            server = _waitress(app, sockets, settings)
            storemon.database.prepare()
            storemon.metrics.data.begin()
            again = storemon.worker.recover(died=not in_order)
            if again:
                log.info("%d unfinished report(s) of the last run are computed now", again)
            url = f"http://{_shown(settings.host)}:{sockets[0].getsockname()[1]}"
            logs.announce(settings.log_format, log, f"storemon serves {url}  (Ctrl-C stops)")
            ready(url)
            _schedule_cleanup(storemon)
            storemon.couriers.start()
            Runner(storemon.worker, storemon.couriers.wake).begin()
            storemon.evaluator.start()
            with listening(settings, storemon.database, storemon.metrics.registry):
                server.run()
        except KeyboardInterrupt:
            # Waitress ends its loop on this itself; here it came before or after the loop.
            pass
        finally:
            log.info("stopping: the running report is finished or requeued")
            end = time.monotonic() + GRACE_S
            storemon.couriers.stop_taking()
            try:
                storemon.worker.stop(GRACE_S)
            finally:
                storemon.evaluator.stop()
                # What is being sent has the same time as what is being computed.
                storemon.couriers.stop(end - time.monotonic())
                storemon.overview_cache.stop()
                storemon.list_cache.stop()


def _schedule_cleanup(storemon: "Storemon") -> None:
    """Delete once a day what was kept long enough."""
    from storemon_flask.model import DAY_US

    scheduler = storemon.worker.scheduler
    if storemon.settings.keep_polls_days:
        scheduler.add("pruning", lambda: _prune(storemon), every_us=DAY_US)
    scheduler.add("undo", lambda: _drop_undo(storemon), every_us=DAY_US)
    scheduler.add("old messages", lambda: _drop_old_messages(storemon), every_us=DAY_US)


def _drop_undo(storemon: "Storemon") -> None:
    """Take out what loads replaced that was kept long enough."""
    from storemon_flask.database import undo

    limits = undo.UndoLimits(storemon.settings.undo_days, storemon.settings.undo_percent)
    if storemon.database.exists():
        with storemon.database.write() as connection:
            undo.drop_what_is_too_much(connection, limits, time.time_ns() // 1000)


def _drop_old_messages(storemon: "Storemon") -> None:
    """Take out messages and incidents that were kept long enough."""
    from storemon_flask.delivery import retention

    retention.drop_old(storemon.database, time.time_ns() // 1000, storemon.worker.scheduler.stopped)


def _prune(storemon: "Storemon") -> None:
    """Take out polls that were kept long enough."""
    from storemon_flask.database import prune

    prune.apply_retention(
        storemon.database, storemon.settings, time.time_ns() // 1000, storemon.worker.scheduler.stopped
    )


def _waitress(app: "Flask", sockets: list[socket.socket], settings: "Settings") -> Any:
    """Return a Waitress server of that app on those sockets; its threads wait already."""
    import waitress

    _allow_many_files()
    return waitress.create_server(  # type: ignore[attr-defined]
        app,
        sockets=sockets,
        threads=settings.http_threads,
        ident="storemon",
        # 500 MB are received in 0.8 s; by Waitress's own 8 KB at once it takes 2.5 s of the loop that serves all.
        recv_bytes=65_536,
        # The app refuses a body that is too large, with a reason. A client that is cut off while it sends reads none.
        max_request_body_size=settings.max_body_bytes + _REFUSED_WHOLE_BYTES,
        channel_timeout=settings.connection_timeout_s,
        cleanup_interval=max(1, min(30, settings.connection_timeout_s // 2)),
        connection_limit=_MOST_CONNECTIONS,
        # A client is read from while its request is answered, so that the views know when it has left.
        channel_request_lookahead=1,
        # No thread waits for a reader: an answer is whole before it is sent, and large ones are files.
        outbuf_high_watermark=_NO_LIMIT,
        # That a client has left is nothing to log with a traceback.
        log_socket_errors=False,
        # select() fails beyond the 1,024th file.
        asyncore_use_poll=True,
        # `web.authentication` reads the headers of proxies itself, to refuse wrong ones as it refuses everything.
        clear_untrusted_proxy_headers=False,
    )


@contextmanager
def _listening_sockets(settings: "Settings") -> Iterator[list[socket.socket]]:
    """Open a socket for each address of the host (`localhost` may have two), of one port, and close them at the end.

    `StoremonError` when the port cannot be had.
    """
    with ExitStack() as stack:
        try:
            sockets = _bind(settings, stack)
        except (OSError, UnicodeError) as error:
            raise StoremonError(
                f"cannot listen on {settings.host} port {settings.port}: {getattr(error, 'strerror', None) or error}; "
                "choose another with --port (0 takes a free one) or STOREMON_PORT"
            ) from None
        yield sockets


def _bind(settings: "Settings", stack: ExitStack) -> list[socket.socket]:
    sockets: list[socket.socket] = []
    host = None if settings.host == "*" else settings.host
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
    ):
        one = stack.enter_context(socket.socket(family, kind, protocol))
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # The connections inherit it: the system cuts off a client that takes nothing, for Waitress would keep it.
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, settings.connection_timeout_s * 1000)
        port = sockets[0].getsockname()[1] if sockets else settings.port
        one.bind((address[0], port, *address[2:]))
        sockets.append(one)
    return sockets


def _allow_many_files() -> None:
    """Raise the soft limit of open files to the hard one: a connection may take three, a thread eight."""
    try:
        import resource
    except ImportError:
        return
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _check_exposure(sockets: list[socket.socket], settings: "Settings", database: "Database", insecure: bool) -> bool:
    """Return whether calls need a key; warn when other machines reach the sockets without a reverse proxy.

    `StoremonError` when they could call without a key and that was not asked for.
    """
    from storemon_flask.database import keys, readiness

    # A name may stand for several addresses; what counts is what was bound.
    exposed = [host for host in (one.getsockname()[0] for one in sockets) if not _is_loopback(host)]
    keyed = keys.required(database, settings.api_key)
    if exposed and not keyed:
        _without_a_key(exposed, insecure, settings.log_format)
    if exposed:
        for sentence in readiness.without_a_proxy(settings, f"it listens on {' and '.join(exposed)}"):
            log.warning(sentence)
    return keyed


def _is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    return (getattr(parsed, "ipv4_mapped", None) or parsed).is_loopback


def _without_a_key(exposed: list[str], insecure: bool, log_format: str) -> None:
    """Say that other machines could call without a key; `StoremonError` unless that was asked for."""
    where = " and ".join(exposed)
    if not insecure:
        raise StoremonError(
            f"on {where} everybody who can reach this machine could read and change everything; set STOREMON_API_KEY, "
            "or run `storemon keys add --scope admin`, then start again (or start with --insecure, if that is meant)"
        )
    sentence = f"no key is set: everybody who can reach {where} can read and change everything"
    if log_format == "json":
        log.warning(sentence)
    else:
        click.echo(f"warning: {sentence}", err=True)


@contextmanager
def _signals_interrupt(stop_waiting: Callable[[], None]) -> Iterator[None]:
    """SIGTERM ends the server's loop as Ctrl-C does, and both tell who waits or loads; only the main thread may say so.

    SIGHUP does nothing: neither a terminal that is closed nor who expects settings to be read again ends the server.
    """
    with signals_interrupt(stop_waiting):
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
            yield
            return
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", "*"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
