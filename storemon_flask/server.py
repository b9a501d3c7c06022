"""The server: Waitress around the app, the lock, recovery at the start and an orderly end."""

import ipaddress
import logging
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask import cli, logs
from storemon_flask.cli import door as doors
from storemon_flask.cli import interrupts
from storemon_flask.errors import StoremonError

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.reports.worker import Runner
    from storemon_flask.settings import Settings

log = logging.getLogger("storemon.server")
# A report takes a second or two at the most; one that takes longer is put back and runs at the next start.
GRACE_S: Final = 5.0
# Before each template that is compiled ahead, and before a loop that had no memory begins again.
_PAUSE_S: Final = 0.1


def commands() -> list[click.Command]:
    """Every command, for both command lines."""
    from storemon_flask.cli.demo import demo

    return [*cli.COMMANDS, serve_command, demo]


@click.command("serve")
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
    door = doors.door(ctx)
    logs.to_stderr(door.settings.log_format)
    if host is not None and not host.strip():
        raise click.BadParameter("must be a host name or an address", param_hint="--host")
    ready: Callable[[str], object] = _in_a_browser if open_browser else lambda url: None
    try:
        serve(door.make_app(door.settings), host, port, ready, insecure)
    except StoremonError as error:
        if door.settings.log_format != "json":
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
    """Serve until told to stop; `host` and `port` over the settings'. `StoremonError` when the port, the lock or the
    database cannot be had, or when other machines could call without a key and that was not asked for (`insecure`).

    Finishes the report that is running, or puts it back for the next start, before it returns.
    """
    from storemon_flask.database.lock import server_lock
    from storemon_flask.feeds import memory
    from storemon_flask.web import authentication

    runner: Runner = app.extensions["storemon"]
    settings = runner.settings.with_options(host=host, port=port)
    logs.to_stderr(settings.log_format)
    memory.one_arena()
    with _signals_interrupt(runner.stop_waiting), server_lock(settings.database) as in_order:
        authentication.warn(app, host_is_judged=True)
        server = _guarded(app, settings, insecure)
        try:
            runner.database.prepare()
            app.extensions["storemon.metrics"].data.begin()
            again = runner.recover(died=not in_order)
            if again:
                log.info("%d unfinished report(s) of the last run are computed now", again)
            url = f"http://{_shown(settings.host)}:{_port(server)}"
            logs.announce(settings.log_format, log, f"storemon serves {url}  (Ctrl-C stops)")
            ready(url)
            with _ready_pages(app), _retention(runner):
                _run(server)
        except KeyboardInterrupt:
            # Waitress ends its loop on this itself; here it came before or after the loop.
            pass
        finally:
            log.info("stopping: the running report is finished or put back")
            server.close()
            runner.stop(GRACE_S)
            runner.database.close()


def _run(server: Any) -> None:
    """Serve until told to stop; a loop that had no memory begins again with the same connections."""
    while True:
        try:
            server.run()
            return
        except MemoryError:
            log.error("the server's loop had no memory; it goes on")
            time.sleep(_PAUSE_S)


@contextmanager
def _ready_pages(app: "Flask") -> Iterator[None]:
    """The templates are compiled while nobody asks yet: that was most of what the first page took."""
    templates = app.jinja_env
    stopped = threading.Event()

    def compile_all() -> None:
        names = templates.list_templates()
        # Whoever waits for the server to be there asks at once, and shares no processor with this.
        while names and not stopped.wait(_PAUSE_S):
            # One that cannot be read now (no more files can be opened, no memory) is compiled for whoever asks for it.
            with suppress(OSError, MemoryError):
                templates.get_template(names.pop())

    thread = threading.Thread(target=compile_all, name="templates")
    thread.start()
    try:
        yield
    finally:
        stopped.set()
        thread.join()


def _retention(runner: "Runner") -> AbstractContextManager[None]:
    """Old polls are taken out now and once a day while the server runs, if they are not kept for ever."""
    if not runner.settings.keep_polls_days:
        return nullcontext()
    from storemon_flask.database import retention
    from storemon_flask.reports.daily import daily

    return daily(
        "retention",
        lambda stopped: retention.run(runner.database, runner.settings, time.time_ns() // 1000, stopped),
    )


def _guarded(app: "Flask", settings: "Settings", insecure: bool) -> Any:
    """A Waitress server that has its port, and whose app knows where it listens and whether calls need a key.

    Says where other machines reach it without a reverse proxy.
    `StoremonError` when other machines could call without one and that was not asked for, and as `_listening`.
    """
    from storemon_flask.database import keys, start_warnings
    from storemon_flask.web import authentication

    database = app.extensions["storemon"].database
    server, exposed = _listening(app, settings)
    try:
        keyed = keys.required(database, settings.api_key)
        if exposed and not keyed:
            _without_a_key(exposed, insecure, settings.log_format)
        if exposed:
            for sentence in start_warnings.without_a_proxy(settings, f"it listens on {' and '.join(exposed)}"):
                log.warning(sentence)
    except StoremonError:
        server.close()
        database.close()
        raise
    authentication.listens(app, settings, keyed)
    return server


def _listening(app: "Flask", settings: "Settings") -> tuple[Any, list[str]]:
    """A Waitress server that has its port, and those of its addresses that other machines can reach.

    `StoremonError` when the port cannot be had.
    """
    import waitress
    from waitress.server import BaseWSGIServer

    from storemon_flask.web.accepting import Patience, connections
    from storemon_flask.web.channel import Channel, tend_steadily

    sockets: dict[int, Any] = {}
    try:
        server = waitress.create_server(  # type: ignore[attr-defined]
            app,
            map=sockets,
            host=settings.host,
            port=settings.port,
            threads=settings.http_threads,
            ident="storemon",
            # 500 MB come in in 0.8 s; in Waitress's own pieces of 8 KB it takes 2.5 s of the loop that serves
            # everybody.
            recv_bytes=65_536,
            # Waitress refuses a body of just this size.
            max_request_body_size=settings.max_body_bytes + 1,
            # Whoever stops sending in the middle is let go after a while; until then he holds a connection and no
            # thread.
            channel_timeout=settings.connection_timeout_s,
            cleanup_interval=max(1, min(30, settings.connection_timeout_s // 2)),
            # So that a hundred of those (Waitress's own limit) shut nobody out.
            connection_limit=connections(settings),
            # select() fails beyond the 1,024th file.
            asyncore_use_poll=True,
            # What proxies say is read by the app (`web.proxy`), which refuses it in the shape of every other refusal.
            clear_untrusted_proxy_headers=False,
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoremonError(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; "
            "choose another with --port (0 takes a free one) or STOREMON_PORT"
        ) from None
    listening: list[Any] = [one for one in sockets.values() if isinstance(one, BaseWSGIServer)]
    metrics = app.extensions["storemon.metrics"]
    metrics.watch_server(
        connections=lambda: sum(len(one.active_channels) for one in listening),
        waiting=lambda: len(listening[0].task_dispatcher.queue),
    )
    patience = Patience()
    for one in listening:
        patience.give(one)
        one.channel_class = Channel
        one.metrics = metrics
        one.trusted_networks = settings.trusted_networks
        tend_steadily(one)
    # A name may stand for several addresses; what counts is what was bound.
    return server, [one.effective_host for one in listening if not _is_loopback(one.effective_host)]


def _is_loopback(address: str) -> bool:
    found = ipaddress.ip_address(address)
    return (getattr(found, "ipv4_mapped", None) or found).is_loopback


def _without_a_key(exposed: list[str], insecure: bool, log_format: str) -> None:
    """Say that other machines could call without a key; `StoremonError` unless that was asked for."""
    where = " and ".join(exposed)
    if not insecure:
        raise StoremonError(
            f"on {where} everybody who can reach this machine could read and change everything; set STOREMON_API_KEY, or "
            "run `storemon keys add --scope admin`, then start again (or start with --insecure, if that is meant)"
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
    with interrupts.signals_interrupt(stop_waiting):
        if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGHUP"):
            yield
            return
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            yield
        finally:
            signal.signal(signal.SIGHUP, before)


def _port(server: Any) -> int:
    # Two addresses for one name (localhost) make a group of servers.
    ports = getattr(server, "effective_listen", None)
    return int(ports[0][1] if ports else server.effective_port)


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", "*"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host
