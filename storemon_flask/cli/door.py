"""What every command gets from the command line it was called through."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import click

from storemon_flask import settings as settings_
from storemon_flask.errors import lack_of_memory
from storemon_flask.settings import Settings

if TYPE_CHECKING:
    from flask import Flask

    from storemon_flask.stores.catalogue import Database


@dataclass(slots=True)
class Door:
    """What a command gets from the command line it was called through: settings, and how to get the app."""

    known: Settings | None
    make_app: "Callable[[Settings], Flask]"

    @property
    def settings(self) -> Settings:
        """The settings in force, read when first asked for, so that `--help` works whatever they are."""
        if self.known is None:
            self.known = settings_.load()
        return self.known


def door(ctx: click.Context) -> Door:
    """The door this command was called through; below `flask` it is the app that Flask has loaded."""
    if isinstance(ctx.obj, Door):
        return ctx.obj
    from flask import current_app

    app: Flask = current_app._get_current_object()  # type: ignore[attr-defined]
    return Door(app.extensions["storemon"].settings, lambda settings: app)


def open_database(ctx: click.Context) -> "Database":
    """The database of the settings, whose connections are closed when the command ends, however it ends."""
    from storemon_flask.stores import catalogue

    database = catalogue.database(door(ctx).settings)
    ctx.call_on_close(database.close)
    return database


def in_sentences(command: click.Command) -> click.Command:
    """The command and those below it, saying in a sentence that there is not enough memory, and not in a traceback."""
    if isinstance(command, click.Group):
        for one in command.commands.values():
            in_sentences(one)
    elif command.callback is not None:
        command.callback = lack_of_memory(f"`storemon {command.name}`")(command.callback)
    return command


def instant(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    """A click callback for an instant; microseconds since 1970 UTC, None when the option was not given."""
    from storemon_flask import clock

    if value is None:
        return None
    try:
        return clock.parse_timestamp(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None
