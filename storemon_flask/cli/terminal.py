"""How output is laid out: columns of a terminal, tables, sentences and bars that fit it, and streams that take any
text; and the signals that end a command.
"""

import codecs
import io
import os
import re
import select
import shutil
import sys
import unicodedata
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Final, Literal, TextIO, cast

import click

from storemon_flask.characters import escaped, escaped_lines

# What is wrapped where there is no terminal to ask.
_PAGE: Final = 80
# A bar of 20 cells with its percentage and the time that is left ("1d 00:00:00") takes as much.
_BAR_CELLS: Final = 20
_BAR_COLUMNS: Final = 43
_SMALLEST_LABEL: Final = 12
_NOTHING: Final[Mapping[int, int]] = MappingProxyType({})


class _PipeWriter(io.FileIO):
    """A standard stream whose reader may leave (`| head`): what is written after that is thrown away."""

    def write(self, data: Any) -> int:
        """Return the number of bytes written, or thrown away because nobody reads them."""
        try:
            return super().write(data)
        except BrokenPipeError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, self.fileno())
            os.close(nowhere)
            return memoryview(data).nbytes


# What storemon itself sends to a terminal: colours, and a progress bar that goes back to the start of its line.
_OWN_SIGNS: Final = re.compile(r"(\r|\x1b\[[0-9;]*m|\x1b\[\?25[lh])")


class _TerminalWriter(_PipeWriter):
    """A standard stream that is a terminal. What it would obey, or nobody would see, is written as `\\x1b`.

    All that this process writes there comes through here, as bytes: by `print`, `click`, `logging`, as a traceback, as
    CSV.
    """

    def __init__(self, descriptor: int, encoding: str) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        ascii_only = codecs.lookup(encoding).name == "ascii"
        # Where the locale is C, click writes UTF-8.
        self._decoder = codecs.getincrementaldecoder("utf-8" if ascii_only else encoding)("surrogateescape")
        self._encoding = encoding
        self.lets_own_signs_through = False

    def write(self, data: Any) -> int:
        """Return the number of bytes taken, which is all of them."""
        text = self._decoder.decode(bytes(data))
        if self.lets_own_signs_through:
            parts = _OWN_SIGNS.split(text)
            text = "".join(part if index % 2 else escaped_lines(part) for index, part in enumerate(parts))
        else:
            text = escaped_lines(text)
        left = memoryview(text.encode(self._encoding, "backslashreplace"))
        while left:
            written = super().write(left)
            if not written:
                # Another program has told the terminal not to wait, and it takes nothing now.
                select.select([], [self], [])
            left = left[written or 0 :]
        return memoryview(data).nbytes


class OwnSigns:
    """A standard stream for what storemon itself has made: colours and progress bars.

    Texts of others are escaped before.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        buffer = getattr(stream, "buffer", None)
        raw = getattr(buffer, "raw", buffer)
        self._terminal = raw if isinstance(raw, _TerminalWriter) else None

    def write(self, text: str) -> int:
        """Write the text with its signs."""
        if self._terminal is None:
            return self._stream.write(text)
        self._stream.flush()
        self._terminal.lets_own_signs_through = True
        try:
            written = self._stream.write(text)
            self._stream.flush()
        finally:
            self._terminal.lets_own_signs_through = False
        return written

    def flush(self) -> None:
        """Write out what the stream holds."""
        self._stream.flush()

    def isatty(self) -> bool:
        """Return whether the stream is a terminal."""
        return self._stream.isatty()


def make_streams_tolerant() -> None:
    """From now on nothing that is printed fails because of a character the terminal lacks or a reader that has left.

    Such a character is printed as `?` on standard output and as its number on standard error. A command whose reader
    has left goes on to its end and to its own exit code. A terminal gets no control character that is not storemon's
    own. Streams that are no files of this process (those of tests) stay.
    """
    sys.stdout = _tolerant(sys.stdout, "replace")
    sys.stderr = _tolerant(sys.stderr, "backslashreplace")


def _tolerant(stream: TextIO, errors: str) -> TextIO:
    buffer = getattr(stream, "buffer", None)
    raw = getattr(buffer, "raw", buffer)
    if type(stream) is not io.TextIOWrapper or type(raw) is not io.FileIO:
        return stream
    stream.flush()
    if raw.isatty():
        writer: _PipeWriter = _TerminalWriter(raw.fileno(), stream.encoding)
    else:
        writer = _PipeWriter(raw.fileno(), "wb", closefd=False)
    # PYTHONUNBUFFERED leaves the buffer out.
    unbuffered = buffer is raw
    return io.TextIOWrapper(
        writer if unbuffered else io.BufferedWriter(writer),
        encoding=stream.encoding,
        errors=errors,
        line_buffering=stream.line_buffering,
        write_through=unbuffered,
    )


def terminal_width() -> int | None:
    """Return how many columns the terminal has; None when standard output is none, and nothing must be cut."""
    return shutil.get_terminal_size().columns if sys.stdout is not None and sys.stdout.isatty() else None


def columns(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    return len(text) if text.isascii() else sum(map(_columns_of, text))


def _columns_of(character: str) -> Literal[0, 1, 2]:
    if unicodedata.category(character) in ("Mn", "Me", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def cut(text: str, most: int) -> str:
    """Return the beginning of the text, in at most so many columns."""
    return text if columns(text) <= most else _beginning(text, most - 2) + ".."


def cut_middle(text: str, most: int) -> str:
    """Return the beginning and end of the text, in at most so many columns: ids often differ at the end."""
    if columns(text) <= most:
        return text
    end = _beginning(text[::-1], (most - 2) // 2)[::-1]
    return _beginning(text, most - 2 - columns(end)) + ".." + end


def _beginning(text: str, room: int) -> str:
    at = 0
    for at, character in enumerate(text):
        room -= _columns_of(character)
        if room < 0:
            return text[:at]
    return text


def printable(text: str) -> str:
    """Return the text for one line of standard output: `escaped`, and what a terminal's encoding lacks is a `?`."""
    text = escaped(text)
    if text.isascii() or terminal_width() is None:
        return text
    encoding = sys.stdout.encoding or "ascii"
    return text.encode(encoding, "replace").decode(encoding)


def table(
    rows: list[list[str]], text_columns: int, width: int | None = None, least: Mapping[int, int] = _NOTHING
) -> list[str]:
    """Each row as text, aligned: the first `text_columns` to the left, the others to the right.

    Where they would not fit into `width`, the columns that `least` names are cut in the middle, to that many columns of
    the terminal at the least; when that is not enough, each row takes as many lines as it needs, with the names of its
    cells.
    """
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(columns, column)) for column in zip(*rows, strict=True)]
    if width is not None:
        over = sum(widths) + 2 * (len(widths) - 1) - width
        for column, shortest in least.items():
            cut_off = max(0, min(over, widths[column] - shortest))
            widths[column] -= cut_off
            over -= cut_off
        if over > 0:
            return [printable(rows[0][0]), *(_in_lines(rows[0], row, width) for row in rows[1:])]
    return ["  ".join(_padded(row, widths, text_columns)).rstrip() for row in rows]


def _padded(row: list[str], widths: list[int], text_columns: int) -> Iterable[str]:
    for column, (cell, width) in enumerate(zip(row, widths, strict=True)):
        shown = cut_middle(cell, width)
        blanks = " " * (width - columns(shown))
        yield shown + blanks if column < text_columns else blanks + shown


def pad(text: str, width: int) -> str:
    """Return the text with blanks up to so many columns."""
    return text + " " * (width - columns(text))


def _in_lines(head: list[str], row: list[str], width: int) -> str:
    """Return the row in as few lines as possible: its first cell, then each of the others after its column's name."""
    cells = [f"{name} {cell}".strip() for name, cell in zip(head[1:], row[1:], strict=True) if cell]
    return "\n".join(_filled([row[0], *cells], width, "", "    ", "  "))


def wrapped(sentences: Iterable[str], indent: str = "  ") -> list[str]:
    """The sentences as a list, as wide as the terminal or a page; what is longer and has no blank, such as an id, stays
    whole.
    """
    width = min(terminal_width() or _PAGE, _PAGE)
    return [
        line
        for sentence in sentences
        for line in _filled(printable(sentence).split(), width, f"{indent}- ", f"{indent}  ", " ", whole=True)
    ]


def say(sentence: str, err: bool = False) -> None:
    """Print a sentence on one line, whatever the names in it."""
    click.echo(escaped(sentence), err=err)


def say_note(note: str | None) -> None:
    """Print a note, if there is one, on standard error."""
    if note:
        width = min(terminal_width() or _PAGE, _PAGE)
        click.echo("\n".join(_filled(printable(f"Note: {note}").split(), width, "", "", " ", whole=True)), err=True)


def below(text: str, indent: str = "    ") -> list[str]:
    """Return the lines of a text below a row: on a terminal as many as it needs, elsewhere one. A path stays whole."""
    width = terminal_width()
    if width is None or columns(indent + printable(text)) <= width:
        return [indent + printable(text)]
    return _filled(printable(text).split(), width, indent, indent, " ", whole=True)


def named(name: str, value: str, name_width: int) -> list[str]:
    """Return the lines of a value beside its name; on a terminal, where it would not fit, as many as it needs."""
    line = f"{name:<{name_width}}  {value}"
    width = terminal_width()
    if width is None or columns(printable(line)) <= width:
        return [printable(line)]
    return [name, *below(value)]


def _filled(words: list[str], width: int, first: str, indent: str, gap: str, whole: bool = False) -> list[str]:
    """Lines of at most `width` columns, as full as they get.

    A word that is longer is broken, unless it must stay `whole`.
    """
    lines, line, empty = [], first, True
    for word in words:
        if not empty and columns(line) + len(gap) + columns(word) > width:
            lines.append(line)
            line, empty = indent, True
        line += word if empty else gap + word
        empty = False
        while not whole and columns(line) > width > len(indent):
            start = _beginning(line, width)
            lines.append(start)
            line = indent + line[len(start) :]
    return [*lines, line.rstrip()]


def echo_coloured(line: str, colour: bool) -> None:
    """Print a line with colours of ours; the texts of others in it are escaped already."""
    click.echo(line, file=cast(TextIO, OwnSigns(sys.stdout)), color=colour)


def progress_bar(length: int | None, label: str, hidden: bool = False) -> Any:
    """Return a bar on standard error, hidden unless that is a terminal. `length` is None when it is unknown."""
    return click.progressbar(
        # What has no length is of unknown length.
        iter(int, 1) if length is None else None,
        length=length,
        label=_bar_label(label),
        width=_BAR_CELLS,
        file=cast(TextIO, OwnSigns(sys.stderr)),
        hidden=hidden or not sys.stderr.isatty(),
    )


def relabel(bar: Any, label: str) -> None:
    """Show beside the bar what is done now."""
    shown = _bar_label(label)
    # As wide as the widest, so that nothing of an earlier label stays; click would count a wide character as one
    # column.
    bar.label = pad(shown, _label_room())
    bar.max_width = None


def _label_room() -> int:
    return max(_SMALLEST_LABEL, shutil.get_terminal_size().columns - _BAR_COLUMNS)


def _bar_label(label: str) -> str:
    shown = escaped(label)
    encoding = sys.stderr.encoding or "ascii"
    shown = shown.encode(encoding, "replace").decode(encoding)
    return cut_middle(shown, _label_room())
