"""The `storemon` command: the same commands as `flask --app storemon_flask`, without Flask's own."""

import os
import sys
from collections.abc import Callable

import click

from storemon_flask import create_app, logs
from storemon_flask.characters import escaped
from storemon_flask.cli.command import CommandLine
from storemon_flask.cli.terminal import make_streams_tolerant
from storemon_flask.errors import lack_of_memory
from storemon_flask.server import commands
from storemon_flask.settings import log_format
from storemon_flask.version import VERSION, build, single_file

_HELP = """How long was each store really up during the hours it was meant to be open?

\b
Examples:
  storemon demo                      the whole thing on sample data
  storemon load-data exports/        load the CSVs of a folder
  storemon report -o report.csv      the report, now, into a file
  storemon serve                     the service on http://127.0.0.1:8000
"""


def main() -> None:
    """Run the command line; the exit code is 0 done, 1 failed, 2 wrong usage, 130 interrupted."""
    make_streams_tolerant()
    group = click.Group(
        "storemon",
        commands={command.name or "": command for command in commands()},
        help=_HELP,
        params=[_version_option()],
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
    )
    status: object = 0
    try:
        with lack_of_memory():
            status = group.main(_arguments(), obj=CommandLine(None, create_app), standalone_mode=False)
            sys.stdout.flush()
    except click.ClickException as error:
        # What was typed, or a file was called, is one line of the sentence; the help is not.
        if not isinstance(error, click.exceptions.NoArgsIsHelpError):
            vars(error)["message"] = escaped(error.message)
        _fail(error.format_message(), error.show)
        status = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        _fail("interrupted", lambda: click.echo("interrupted", err=True))
        status = 130
    except OSError as error:
        sentence = f"the output cannot be written: {error.strerror or error}"
        _fail(sentence, lambda: click.echo(f"Error: {sentence}", err=True))
        # Python must not try again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        status = 1
    sys.exit(status if isinstance(status, int) else 0)


def _fail(sentence: str, show: Callable[[], None]) -> None:
    """Say why the command failed.

    Every line of a server that logs JSON is an object, also that of a start that failed.
    """
    if sys.argv[1:2] == ["serve"] and log_format() == "json":
        logs.fail(sentence)
    else:
        show()


def _arguments() -> list[str]:
    """Return the arguments of the command line; for a single file that was double-clicked, `serve --open`."""
    given = sys.argv[1:]
    if (
        given
        or single_file() is None
        or any(stream and stream.isatty() for stream in (sys.stdin, sys.stdout, sys.stderr))
    ):
        return given
    return ["serve", "--open"]


def _version_option() -> click.Option:
    def show(ctx: click.Context, param: click.Parameter, value: bool) -> None:
        """Print the version and exit. A click callback."""
        if value and not ctx.resilient_parsing:
            click.echo(f"storemon {VERSION}" + (f" ({build()})" if build() else ""))
            ctx.exit()

    return click.Option(
        ["--version"], is_flag=True, is_eager=True, expose_value=False, callback=show, help="Show the version and exit."
    )


if __name__ == "__main__":
    main()
