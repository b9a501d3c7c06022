"""What every command is made of: settings, database, timestamps, signals, and errors that are sentences."""

import math
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import TYPE_CHECKING, Any, Final

import click

from storemon_flask import settings as settings_
from storemon_flask.characters import escaped
from storemon_flask.errors import Unprocessable, lack_of_memory
from storemon_flask.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.database.connections import Database


class NumberRange(click.FloatRange):
    """A number within bounds; `nan`, which compares with nothing, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the number; a `BadParameter` says what is wrong."""
        number = float(super().convert(value, param, ctx))
        if math.isnan(number):
            self.fail(f"{value!r} is not a number.", param, ctx)
        return number


class Command(click.Command):
    """A command that reports a lack of memory in one sentence."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        with lack_of_memory(f"`storemon {self.name}`"):
            return super().invoke(ctx)


class Group(Command, click.Group):
    """A command with commands below it."""

    command_class = Command


command = partial(click.command, cls=Command)


@dataclass(slots=True)
class CommandLine:
    """The command line that a command was called through: its settings, and how to make the app."""

    known: Settings | None
    make_app: "Callable[[Settings], Flask]"

    @property
    def settings(self) -> Settings:
        """The settings in force, read when they are first asked for, so that `--help` works whatever they are."""
        if self.known is None:
            self.known = settings_.load()
        return self.known


def command_line(ctx: click.Context) -> CommandLine:
    """Return the command line of `storemon`; below `flask` one that has the app which Flask has loaded."""
    if isinstance(ctx.obj, CommandLine):
        return ctx.obj
    from flask import current_app

    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return CommandLine(app.extensions["storemon"].settings, lambda settings: app)


def get_settings(ctx: click.Context) -> Settings:
    """Return the settings of the command; `SettingsError` when one is wrong."""
    return command_line(ctx).settings


def open_database(ctx: click.Context) -> "Database":
    """Return the database of the settings; its connections are closed when the command ends, however it ends."""
    from storemon_flask.database.connections import Database

    database = Database(get_settings(ctx).database)
    ctx.call_on_close(database.close)
    return database


def parse_timestamp(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """Return the timestamp of an option in microseconds UTC; None when it was not given. A click callback."""
    from storemon_flask import clock

    try:
        return None if value is None else clock.parse_timestamp(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


# Fields of a report's request whose options are not called the same.
_OPTIONS: Final = {
    "channels": "channel", "groups": "group", "labels": "label", "shortest_minutes": "shortest", "stores": "store",
    "windows": "window", "zone": "timezone", "zones": "zone",
}  # fmt: skip


@contextmanager
def options_in_errors() -> Iterator[None]:
    """Within it an error that names a field of a request, such as `windows[0].from`, names its option instead."""
    try:
        yield
    except Unprocessable as error:
        sentence = error.message.replace("an object with from and to", "[NAME=]FROM..TO")
        name, rest = re.match(r"(\w+)[^ :]*(.*)", sentence, re.DOTALL).groups()  # type: ignore[union-attr]
        named = error.members.get("errors")
        if isinstance(named, dict) and any(field_name.startswith(name) for field_name in named):
            sentence = f"--{_OPTIONS.get(name, name)}{rest}"
        raise Unprocessable(sentence) from None


# A signal to all processes of a group reaches a single file twice: its unpacker passes its own on. That is one signal.
_ONE_SIGNAL_S: Final = 1.0


@contextmanager
def signals_interrupt(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and Ctrl-C alike call `stop` and then raise `KeyboardInterrupt` in the main thread; in another thread
    nothing changes.
    """
    last_s = -_ONE_SIGNAL_S

    def interrupt(signum: int, frame: FrameType | None) -> None:
        """Call `stop` and raise `KeyboardInterrupt`; a copy of the same signal does nothing."""
        nonlocal last_s
        again, last_s = time.monotonic() - last_s < _ONE_SIGNAL_S, time.monotonic()
        if again:
            return
        stop()
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


def must_ask(yes: bool) -> bool:
    """Return whether to ask before something that can be undone: at a terminal, unless the answer is `yes` already."""
    return not yes and sys.stdin.isatty()


def confirm(ctx: click.Context, yes: bool, question: str) -> None:
    """Ask at a terminal, unless the answer is `yes` already; `UsageError` in a script, `Abort` for a no."""
    if yes:
        return
    if not sys.stdin.isatty():
        raise click.UsageError(f"{question} Nobody is there to answer: say --yes.", ctx)
    click.confirm(escaped(question), abort=True)
