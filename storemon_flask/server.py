"""The server: Waitress around the app, the lock, recovery at the start and an orderly end."""

import logging
import signal
import threading
import webbrowser
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask import cli
from storemon_flask.cli import door as doors
from storemon_flask.errors import StoremonError
from storemon_flask.jobs.lock import server_lock
from storemon_flask.jobs.runner import Runner
from storemon_flask.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

log = logging.getLogger("storemon.server")
# A report takes a second or two at the most; one that takes longer is put back and runs at the next start.
GRACE_S: Final = 5.0


def commands() -> list[click.Command]:
    """Every command, for both command lines."""
    from storemon_flask.demo import demo

    return [*cli.COMMANDS, serve_command, demo]


@click.command("serve")
@click.option("--host", help="Address to listen on.  [STOREMON_HOST, default 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="Port; 0 takes a free one.  [STOREMON_PORT, default 8000]")
@click.option("--open", "open_browser", is_flag=True, help="Open the service in a browser.")
@click.pass_context
def serve_command(ctx: click.Context, host: str | None, port: int | None, open_browser: bool) -> None:
    """Serve the two endpoints until Ctrl-C or SIGTERM.

    \b
    Example:
      storemon serve --port 9000
      curl -X POST http://127.0.0.1:9000/trigger_report
    """
    door = doors.door(ctx)
    if host is not None and not host.strip():
        raise click.BadParameter("must be a host name or an address", param_hint="--host")
    serve(door.make_app(door.settings), host, port, ready=webbrowser.open if open_browser else lambda url: None)


def serve(
    app: "Flask", host: str | None = None, port: int | None = None, ready: Callable[[str], object] = lambda url: None
) -> None:
    """Serve until told to stop; `host` and `port` over the settings'. `StoremonError` when the port, the lock or the database cannot be had.

    Finishes the report that is running, or puts it back for the next start, before it returns.
    """
    runner: Runner = app.extensions["storemon"]
    settings = runner.settings.with_options(host=host, port=port)
    _log_to_stderr()
    with _signals_interrupt(runner.database.stop_waiting), server_lock(settings.database):
        server = _listening(app, settings)
        try:
            runner.database.prepare()
            again = runner.recover()
            if again:
                log.info("%d unfinished report(s) of the last run are computed now", again)
            url = f"http://{_shown(settings.host)}:{_port(server)}"
            click.echo(f"storemon serves {url}  (Ctrl-C stops)")
            ready(url)
            server.run()
        except KeyboardInterrupt:
            # Waitress ends its loop on this itself; here it came before or after the loop.
            pass
        finally:
            click.echo("stopping: the running report is finished or put back", err=True)
            server.close()
            runner.stop(GRACE_S)
            runner.database.close()


def _listening(app: "Flask", settings: Settings) -> Any:
    """A Waitress server that has its port; `StoremonError` when that cannot be had."""
    import waitress

    try:
        return waitress.create_server(  # type: ignore[attr-defined]
            app, host=settings.host, port=settings.port, threads=settings.http_threads, ident="storemon"
        )
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise StoremonError(
            f"cannot listen on {settings.host} port {settings.port}: {reason}; "
            "choose another with --port (0 takes a free one) or STOREMON_PORT"
        ) from None


@contextmanager
def _signals_interrupt(stop_waiting: Callable[[], None]) -> Iterator[None]:
    """SIGTERM ends the server's loop as Ctrl-C does, and both tell waiting writers; only the main thread may say so."""

    def interrupt(signum: int, frame: FrameType | None) -> None:
        stop_waiting()
        raise KeyboardInterrupt

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _port(server: Any) -> int:
    # Two addresses for one name (localhost) make a group of servers.
    ports = getattr(server, "effective_listen", None)
    return int(ports[0][1] if ports else server.effective_port)


def _shown(host: str) -> str:
    if host in ("0.0.0.0", "::", "*"):
        return "127.0.0.1"
    return f"[{host}]" if ":" in host else host


def _log_to_stderr() -> None:
    root = logging.getLogger("storemon")
    if not root.handlers:
        handler = logging.StreamHandler()
        handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
        root.addHandler(handler)
        root.setLevel(logging.INFO)
