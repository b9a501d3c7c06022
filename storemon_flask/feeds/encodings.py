"""Other encodings of CSV than UTF-8, decoded to it in a stream: UTF-16 and the cp1252 of Windows.

Whatever the chunks, the same bytes come out. What cannot be decoded becomes bytes that are no UTF-8 (of UTF-16) or a
control character (of cp1252), so that its row is rejected and no other.
"""

import codecs
from collections.abc import Callable
from typing import Final

from storemon_flask.errors import DataError

UTF8: Final = "utf-8"
CP1252: Final = "cp1252"
# What a user may choose. A byte order mark is stronger than a choice.
ENCODINGS: Final = (UTF8, CP1252)
UTF16_MARKS: Final = {codecs.BOM_UTF16_LE: "utf-16-le", codecs.BOM_UTF16_BE: "utf-16-be"}
NOT_CP1252: Final = "the file is UTF-8 text and not cp1252; load it without that encoding"

# Return the UTF-8 of the next bytes; the second argument says that there are no more.
Decode = Callable[[bytes, bool], bytes]


def decode_utf16(encoding: str) -> Decode:
    """Return what decodes one stream of UTF-16, given in `UTF16_MARKS`."""
    decoder = codecs.getincrementaldecoder(encoding)("storemon.no-character")
    return lambda data, final: decoder.decode(data, final).encode("utf-8", "surrogatepass")


def decode_cp1252() -> Decode:
    """Return what decodes one stream of cp1252; it raises `DataError` at the end of what was UTF-8 all along.

    Each letter beyond ASCII would become two others, and of a store two stores.
    """
    check = codecs.getincrementaldecoder("utf-8")()
    may_be_utf8, is_ascii = True, True

    def decode(data: bytes, final: bool) -> bytes:
        """Return the bytes as UTF-8; at the end `DataError` when all of them were UTF-8 already."""
        nonlocal may_be_utf8, is_ascii
        if may_be_utf8:
            try:
                is_ascii = len(check.decode(data, final)) == len(data) and is_ascii and data.isascii()
            except UnicodeDecodeError:
                may_be_utf8 = False
        if final and may_be_utf8 and not is_ascii:
            raise DataError(NOT_CP1252)
        return data if data.isascii() else data.decode("cp1252", "storemon.control-character").encode("utf-8")

    return decode


def _no_character(error: UnicodeError) -> tuple[str, int]:
    """A lone surrogate, which is no UTF-8 when it is encoded."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return "\udfff", error.end


def _control_character(error: UnicodeError) -> tuple[str, int]:
    """The control characters that the bytes are in Latin-1, which no field may have."""
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return error.object[error.start : error.end].decode("latin-1"), error.end


codecs.register_error("storemon.no-character", _no_character)
codecs.register_error("storemon.control-character", _control_character)
