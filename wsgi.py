"""`app` for any WSGI server; `python wsgi.py` serves it with Waitress."""

import sys

import click

from storemon_flask import create_app
from storemon_flask.server import serve

if __name__ == "__main__":
    try:
        serve(create_app())
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
else:
    app = create_app()
