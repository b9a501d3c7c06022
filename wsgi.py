"""`app` for any WSGI server; `python wsgi.py` serves it with Waitress."""

import sys

import click

from storemon_flask import create_app, logs
from storemon_flask.cli.terminal import make_streams_tolerant
from storemon_flask.server import serve
from storemon_flask.settings import log_format
from storemon_flask.web.authentication import log_start_warnings

if __name__ == "__main__":
    make_streams_tolerant()
    try:
        serve(create_app())
    except click.ClickException as error:
        if log_format() == "json":
            logs.fail(error.format_message())
        else:
            error.show()
        sys.exit(error.exit_code)
else:
    app = create_app()
    log_start_warnings(app)
    # A server may make processes of this one; none may share a connection.
    app.extensions["storemon"].database.close()
