"""The push address of a store: whoever has its token says that it is active or inactive now."""

import io
import json
import time
from typing import Any, Final

from flask import Blueprint, request
from marshmallow import ValidationError, fields
from werkzeug.exceptions import MethodNotAllowed

from storemon_flask.api.feeds import one_load
from storemon_flask.api.schemas import PushedSchema
from storemon_flask.clock import timestamp_text
from storemon_flask.database import tokens
from storemon_flask.errors import Forbidden, Unprocessable
from storemon_flask.feeds.schema import BadValue, parse_status
from storemon_flask.feeds.sources import Source
from storemon_flask.web.app import storemon
from storemon_flask.web.contract import Answer, Closed, operation

blueprint = Blueprint("push", __name__)

# A poll is of the beginning of such a stretch, so that there is one for each: the last that was pushed in it.
EVERY_US: Final = 10_000_000
_ALLOWED: Final = "must be active or inactive"
# By these a browser, or the preview of a chat, says that nobody has opened an address yet.
_PURPOSES: Final = ("Sec-Purpose", "Purpose", "X-Purpose", "X-Moz")
_AHEAD: Final = ("prefetch", "prerender", "preview")


class Status(fields.Field[bool]):
    """`active` or `inactive`, in any case."""

    default_error_messages = {"required": f"Missing: it {_ALLOWED}"}  # noqa: RUF012

    def _deserialize(self, value: Any, attr: str | None, data: Any, **kwargs: Any) -> bool:
        try:
            return parse_status(value)
        except BadValue:
            raise ValidationError(f"{value[:100]!r} is no status; it {_ALLOWED}") from None


class PushQuery(Closed):
    """What the store is now."""

    status = Status(required=True, metadata={"description": "active or inactive", "enum": ["active", "inactive"]})


def _push(token: str, query: dict[str, Any]) -> dict[str, Any]:
    app = storemon()
    store_id = tokens.store_of(app.database, token)
    now_us = time.time_ns() // 1000
    poll = {
        "store_id": store_id,
        "timestamp_utc": timestamp_text(now_us - now_us % EVERY_US),
        "status": "active" if query["status"] else "inactive",
    }
    text = json.dumps(poll).encode()
    source = Source("push", len(text), lambda: io.BytesIO(text), format="json", feed="polls")
    with one_load(patient=True) as options:
        result = app.poll_groups.load(source, options)
    if result.error is not None:
        raise result.error
    (summary,) = result.files
    if summary.rejects:
        raise Unprocessable(f"the poll was rejected: {summary.rejects[0].reason}")
    return poll


_PUSH: Final[dict[str, Any]] = {
    "scope": None,
    "tag": "feeds",
    "query": PushQuery(),
    "answers": {
        200: Answer("the poll, which is stored", PushedSchema()),
        403: Answer("a page of another site sent this, or a browser fetches the address before anybody opens it"),
        404: Answer("no such push address"),
    },
}


@operation(blueprint, "GET", "/push/<string:token>", **_PUSH)
def get_push(token: str, query: dict[str, Any]) -> dict[str, Any]:
    """Say that the store of a push address is active or inactive now.

    The token is all that it takes (`storemon tokens add --store ID`). The poll is of the beginning of the ten seconds
    it came in; another one in the same ten seconds replaces it.
    """
    if request.method == "HEAD":
        # Who only looks whether the address is there has not said what the store is.
        raise MethodNotAllowed(["GET", "POST"])
    if any(word in request.headers.get(name, "").lower() for name in _PURPOSES for word in _AHEAD):
        raise Forbidden(
            "this is fetched before anybody opens the address, so nothing was stored; open it, or send POST"
        )
    return _push(token, query)


@operation(blueprint, "POST", "/push/<string:token>", **_PUSH)
def post_push(token: str, query: dict[str, Any]) -> dict[str, Any]:
    """Say that the store of a push address is active or inactive now, as `GET` does; a body is not read."""
    return _push(token, query)
