"""Answers that are made while they are sent."""

from collections.abc import Callable, Iterator

from flask import Response

from storemon_flask.errors import Busy
from storemon_flask.web.app import runner


def streamed(pieces: Iterator[str], content_type: str, close: Callable[[], object] = lambda: None) -> Response:
    """An answer of pieces that are made as its reader takes them; `close` is called when it is sent, or its reader gone.

    It holds a thread that long, so there are only so many at once: `Busy` beyond that.
    """
    try:
        give_back = runner().places.for_an_answer()
    except Busy:
        close()
        raise

    def end() -> None:
        close()
        give_back()

    def sent() -> Iterator[str]:
        try:
            yield from pieces
        finally:
            end()

    answer = Response(sent(), content_type=content_type)
    # One that was never begun (HEAD) has no end of its own.
    answer.call_on_close(end)
    return answer
