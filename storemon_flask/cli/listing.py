"""Lists for programs: the options `--json` and `--csv`, and what writes a list as one of them."""

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, Final, TextIO, TypeVar

import click

_Function = TypeVar("_Function", bound=Callable[..., Any])
_FORM: Final = "storemon.form"


def listing(function: _Function) -> _Function:
    """Give a command the options `--json` and `--csv`; `form_of` tells which was given."""
    for form, about in (("csv", "Print CSV with a header."), ("json", "Print JSON, named as over HTTP.")):
        function = click.option(f"--{form}", form, is_flag=True, expose_value=False, callback=_choose, help=about)(
            function
        )
    return function


def _choose(ctx: click.Context, param: click.Parameter, value: bool) -> None:
    if value and ctx.meta.setdefault(_FORM, param.name) != param.name:
        raise click.UsageError("Say either --json or --csv.", ctx)


def form_of(ctx: click.Context) -> str:
    """Return `json` or `csv`, as the command was told; nothing for what people read."""
    return str(ctx.meta.get(_FORM, ""))


def write_listing(
    form: str, document: Mapping[str, Any], member: str, columns: Sequence[str], rows: Iterable[Any] | None = None
) -> None:
    """Write a document as JSON, or those columns of the rows in its list `member` (or of other rows) as CSV.

    An iterator in a document gives batches of rows. Both are UTF-8, whatever the terminal's encoding.
    """
    stream = utf8_output()
    if form == "json":
        stream.writelines(_json_text(document))
        return
    # Imported where it is needed: numpy, which comes with it, takes longer to start than the rest of a command.
    from storemon_flask.formatting import csv_value

    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(columns)
    for row in _whole(document[member]) if rows is None else rows:
        writer.writerow([csv_value(row[name]) for name in columns])


def utf8_output() -> TextIO:
    """Return standard output, which takes UTF-8 from now on, whatever the terminal speaks."""
    import io

    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8", newline="\n")
    return sys.stdout


def _json_text(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the document with a line for each member and for each row of a list."""
    before = "{\n"
    for name, value in document.items():
        yield f"{before}{_text(name)}: "
        before = ",\n"
        items = _whole(value)
        if isinstance(items, list) and items and isinstance(items[0], dict):
            yield "[\n"
            yield ",\n".join(map(_text, items))
            yield "\n]"
        else:
            yield _text(items)
    yield "\n}\n" if document else "{}\n"


def _whole(value: Any) -> Any:
    return list(chain.from_iterable(value)) if isinstance(value, Iterator) else value


def _text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)
