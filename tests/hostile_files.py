"""Workbooks and Parquet files as somebody makes them who means harm, or as a disk or a mail program leaves them."""

import io
import random
import struct
import zipfile
from collections.abc import Callable, Iterator
from typing import Any, Final
from xml.sax.saxutils import escape, quoteattr

ROWS: Final = (("store_id", "timestamp_utc", "status"), ("s1", "2024-10-14 10:00:00 UTC", "active"))
_MAIN: Final = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_OFFICE: Final = "http://schemas.openxmlformats.org/officeDocument/2006"
_PACKAGE: Final = "http://schemas.openxmlformats.org/package/2006"
_HEAD: Final = '<?xml version="1.0" encoding="UTF-8" standalone="yes"?>'
_TYPES: Final = (
    f'{_HEAD}<Types xmlns="{_PACKAGE}/content-types"><Default Extension="rels" ContentType='
    '"application/vnd.openxmlformats-package.relationships+xml"/><Default Extension="xml" ContentType="application/xml"/>'
    '<Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.'
    'main+xml"/></Types>'
)
_ROOT: Final = (
    f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="rId1" '
    f'Type="{_OFFICE}/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>'
)

# A file of a zip: its bytes, or pieces of them that are never all in memory.
Content = bytes | Iterator[bytes]


def cells_xml(rows: Any = ROWS, first: int = 1) -> str:
    """Rows of texts as rows of a sheet."""
    return "".join(
        f'<row r="{line}">'
        + "".join(
            f'<c r="{chr(65 + at)}{line}" t="inlineStr"><is><t>{escape(text)}</t></is></c>'
            for at, text in enumerate(row)
        )
        + "</row>"
        for line, row in enumerate(rows, first)
    )


def sheet_xml(rows: str, before: str = "", after: str = "", head: str = _HEAD) -> bytes:
    """A sheet of these rows."""
    return f'{head}<worksheet xmlns="{_MAIN}">{before}<sheetData>{rows}</sheetData>{after}</worksheet>'.encode()


def xlsx(
    sheet: Content | None = None,
    *,
    names: tuple[str, ...] = ("Polls",),
    states: str = "",
    more: dict[str, Content] | None = None,
    parts: dict[str, Content] | None = None,
) -> bytes:
    """A workbook whose sheets are all that one; `more` are files beside, `parts` stand for those there would be."""
    files: dict[str, Content] = {
        "[Content_Types].xml": _TYPES.encode(),
        "_rels/.rels": _ROOT.encode(),
        "xl/workbook.xml": (
            f'{_HEAD}<workbook xmlns="{_MAIN}" xmlns:r="{_OFFICE}/relationships"><sheets>'
            + "".join(
                f'<sheet name={quoteattr(name)} sheetId="{number}" {states} r:id="rId{number}"/>'
                for number, name in enumerate(names, 1)
            )
            + "</sheets></workbook>"
        ).encode(),
        "xl/_rels/workbook.xml.rels": (
            f'{_HEAD}<Relationships xmlns="{_PACKAGE}/relationships">'
            + "".join(
                f'<Relationship Id="rId{number}" Type="{_OFFICE}/relationships/worksheet" Target="worksheets/sheet1.xml"/>'
                for number in range(1, len(names) + 1)
            )
            + f'<Relationship Id="rIdS" Type="{_OFFICE}/relationships/sharedStrings" Target="sharedStrings.xml"/>'
            "</Relationships>"
        ).encode(),
        "xl/worksheets/sheet1.xml": sheet_xml(cells_xml()) if sheet is None else sheet,
        **(more or {}),
    }
    return zipped({**files, **(parts or {})})


def ods(rows: str, *, head: str = '<?xml version="1.0" encoding="UTF-8"?>', encrypted: bool = False) -> bytes:
    """An OpenDocument workbook with one table."""
    space = "urn:oasis:names:tc:opendocument:xmlns"
    content = (
        f'{head}<office:document-content xmlns:office="{space}:office:1.0" xmlns:table="{space}:table:1.0" '
        f'xmlns:text="{space}:text:1.0" office:version="1.2"><office:body><office:spreadsheet>'
        f'<table:table table:name="Polls">{rows}</table:table></office:spreadsheet></office:body>'
        "</office:document-content>"
    ).encode()
    secret = (
        '<manifest:encryption-data manifest:checksum-type="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0#sha256-1k" '
        'manifest:checksum="YQ=="><manifest:algorithm manifest:algorithm-name="http://www.w3.org/2001/04/xmlenc#aes256-cbc"'
        ' manifest:initialisation-vector="YQ=="/><manifest:key-derivation manifest:key-derivation-name="PBKDF2" '
        'manifest:iteration-count="100000" manifest:salt="YQ=="/></manifest:encryption-data>'
        if encrypted
        else ""
    )
    kind = "application/vnd.oasis.opendocument.spreadsheet"
    manifest = (
        f'<?xml version="1.0"?><manifest:manifest xmlns:manifest="{space}:manifest:1.0"><manifest:file-entry '
        f'manifest:full-path="/" manifest:media-type="{kind}"/><manifest:file-entry manifest:full-path="content.xml" '
        f'manifest:media-type="text/xml">{secret}</manifest:file-entry></manifest:manifest>'
    )
    return zipped(
        {
            "mimetype": kind.encode(),
            "META-INF/manifest.xml": manifest.encode(),
            "content.xml": random.Random(1).randbytes(2_000) if encrypted else content,
        }
    )


def ods_rows(rows: Any = ROWS) -> str:
    """Rows of texts as rows of a table."""
    return "".join(
        "<table:table-row>"
        + "".join(
            f'<table:table-cell office:value-type="string"><text:p>{escape(text)}</text:p></table:table-cell>'
            for text in row
        )
        + "</table:table-row>"
        for row in rows
    )


def zipped(files: dict[str, Content]) -> bytes:
    """A zip of these files, deflated."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, content in files.items():
            with archive.open(name, "w", force_zip64=True) as member:
                for piece in (content,) if isinstance(content, bytes) else content:
                    member.write(piece)
    return made.getvalue()


def lying_about_sizes(data: bytes) -> bytes:
    """A zip whose list says of each member that there are 100 bytes in it."""
    changed = bytearray(data)
    at = changed.find(b"PK\x01\x02")
    while at >= 0:
        changed[at + 24 : at + 28] = struct.pack("<I", 100)
        at = changed.find(b"PK\x01\x02", at + 4)
    return bytes(changed)


def repeated(begin: str, piece: str, count: int, end: str) -> Iterator[bytes]:
    """`piece` so many times between the others."""
    at_once = max(1, min(count, (1 << 20) // len(piece)))
    yield begin.encode()
    for _ in range(count // at_once):
        yield piece.encode() * at_once
    yield end.encode()


# Bytes of OLE files, which old workbooks are, and those with a password.


def ole(streams: dict[str, bytes]) -> bytes:
    """A compound file with these streams in its root, of 4,096 bytes or more each."""
    sector, free, end, fat_sector = 512, 0xFFFFFFFF, 0xFFFFFFFE, 0xFFFFFFFD
    fat, data, entries = [], b"", []

    def place(content: bytes) -> int:
        nonlocal data
        first = len(fat)
        content += bytes(-len(content) % sector)
        count = len(content) // sector
        fat.extend([*range(first + 1, first + count), end])
        data += content
        return first

    def entry(name: str, kind: int, start: int, size: int, child: int = free, right: int = free) -> bytes:
        raw = name.encode("utf-16-le") + b"\0\0"
        return (
            raw.ljust(64, b"\0")
            + struct.pack("<HBBIII", len(raw), kind, 1, free, right, child)
            + bytes(16 + 4 + 16)
            + struct.pack("<IQ", start, size)
        )

    names = sorted(streams, key=lambda name: (len(name), name.upper()))
    for number, name in enumerate(names, 1):
        content = streams[name].ljust(4096, b"\0")
        start = place(content)
        entries.append(entry(name, 2, start, len(content), right=number + 1 if number < len(names) else free))
    directory = place(b"".join([entry("Root Entry", 5, end, 0, child=1), *entries]))
    table = len(fat)
    count = 1
    while (len(fat) + count) * 4 > count * sector:
        count += 1
    fat += [fat_sector] * count
    fat += [free] * (-len(fat) % (sector // 4))
    header = (
        b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
        + bytes(16)
        + struct.pack("<HHHHH6xIIIIIIIII", 0x3E, 3, 0xFFFE, 9, 6, 0, count, directory, 0, 4096, end, 0, end, 0)
        + struct.pack("<109I", *[table + at if at < count else free for at in range(109)])
    )
    return header + data + struct.pack(f"<{len(fat)}I", *fat)


def protected_xlsx() -> bytes:
    """A workbook of Excel that asks for a password."""
    info = (
        struct.pack("<HHI", 4, 4, 0x40)
        + b'<?xml version="1.0"?><encryption xmlns="http://schemas.microsoft.com/office/'
    )
    return ole({"EncryptedPackage": random.Random(2).randbytes(9_000), "EncryptionInfo": info})


def xls(rows: Any = ROWS) -> bytes:
    """A workbook of Excel 97 with one sheet of texts."""

    def record(number: int, content: bytes = b"") -> bytes:
        return struct.pack("<HH", number, len(content)) + content

    def text(value: str, size: str) -> bytes:
        return struct.pack(size, len(value)) + b"\0" + value.encode("latin-1")

    globals_ = record(0x809, struct.pack("<HHHHII", 0x600, 5, 0x0DBB, 0x07CC, 0, 6))
    globals_ += record(0x42, struct.pack("<H", 1200))
    length = len(globals_) + 4 + 6 + len(text("Polls", "<B")) + 4
    globals_ += record(0x85, struct.pack("<IBB", length, 0, 0) + text("Polls", "<B")) + record(0x0A)
    sheet = record(0x809, struct.pack("<HHHHII", 0x600, 0x10, 0x0DBB, 0x07CC, 0, 6))
    sheet += record(0x200, struct.pack("<IIHHH", 0, len(rows), 0, 3, 0))
    for line, row in enumerate(rows):
        for at, value in enumerate(row):
            sheet += record(0x204, struct.pack("<HHH", line, at, 0) + text(value, "<H"))
    return ole({"Workbook": globals_ + sheet + record(0x0A)})


# What becomes of a file on its way


def cut_short(data: bytes, dice: random.Random) -> bytes:
    """The file up to anywhere."""
    return data[: dice.randrange(len(data))]


def flipped(data: bytes, dice: random.Random) -> bytes:
    """The file with a few bytes that are others."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 2, 5, 20))):
        changed[dice.randrange(len(changed))] = dice.randrange(256)
    return bytes(changed)


def flipped_inside(data: bytes, dice: random.Random) -> bytes:
    """The same of what is in a zip, whose checksums fit then."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        files: dict[str, Content] = {name: archive.read(name) for name in archive.namelist()}
    name = dice.choice([name for name, content in files.items() if content])
    files[name] = dice.choice((flipped, cut_short))(files[name], dice)  # type: ignore[arg-type]
    return zipped(files)


def damaged(data: bytes, count: int, seed: int) -> Iterator[bytes]:
    """So many files that this may have become."""
    dice = random.Random(seed)
    ways: list[Callable[[bytes, random.Random], bytes]] = [cut_short, flipped]
    if data.startswith(b"PK"):
        ways.append(flipped_inside)
    for _ in range(count):
        yield dice.choice(ways)(data, dice)
