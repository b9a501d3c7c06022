"""Workbooks for tests: Excel by xlsxwriter, OpenDocument by hand."""

import io
import zipfile
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time, timedelta
from typing import Any
from xml.sax.saxutils import escape, quoteattr

import xlsxwriter

Rows = Iterable[Iterable[Any]]

_FORMATS = {datetime: "yyyy-mm-dd hh:mm:ss.000", date: "yyyy-mm-dd", time: "hh:mm:ss", timedelta: "[hh]:mm:ss"}
_NAMESPACES = "".join(
    f' xmlns:{name}="urn:{urn}"'
    for name, urn in {
        "office": "oasis:names:tc:opendocument:xmlns:office:1.0",
        "table": "oasis:names:tc:opendocument:xmlns:table:1.0",
        "text": "oasis:names:tc:opendocument:xmlns:text:1.0",
        "calcext": "org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0",
    }.items()
)
_MANIFEST = (
    '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"><manifest:file-entry '
    'manifest:full-path="/" manifest:media-type="application/vnd.oasis.opendocument.spreadsheet"/></manifest:manifest>'
)


class Error(str):
    """An error value of a formula, such as #N/A."""


def workbook(sheets: Mapping[str, Rows], hidden: Iterable[str] = ()) -> bytes:
    """Return an .xlsx. Texts stay texts; numbers, dates, times and durations are typed."""
    file = io.BytesIO()
    book = xlsxwriter.Workbook(file, {"in_memory": True, "strings_to_formulas": False, "strings_to_urls": False})
    formats = {kind: book.add_format({"num_format": form}) for kind, form in _FORMATS.items()}
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        if name in hidden:
            sheet.hide()
        for row, cells in enumerate(rows):
            for column, value in enumerate(cells):
                if isinstance(value, Error):
                    sheet.write_formula(row, column, "=NA()", None, str(value))
                elif isinstance(value, str):
                    sheet.write_string(row, column, value)
                elif type(value) in formats:
                    sheet.write_datetime(row, column, value, formats[type(value)])
                elif value is not None:
                    sheet.write(row, column, value)
    book.close()
    return file.getvalue()


def open_document(sheets: Mapping[str, Rows]) -> bytes:
    """Return an .ods, typed as `workbook`."""
    tables = "".join(
        f"<table:table table:name={quoteattr(name)}>"
        + "".join(f"<table:table-row>{''.join(map(_cell, row))}</table:table-row>" for row in rows)
        + "</table:table>"
        for name, rows in sheets.items()
    )
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as members:
        members.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet", zipfile.ZIP_STORED)
        members.writestr("META-INF/manifest.xml", _MANIFEST)
        members.writestr(
            "content.xml",
            f'<?xml version="1.0" encoding="UTF-8"?><office:document-content{_NAMESPACES} office:version="1.2">'
            f"<office:body><office:spreadsheet>{tables}</office:spreadsheet></office:body></office:document-content>",
        )
    return file.getvalue()


def _cell(value: Any) -> str:
    if value is None or value == "":
        return "<table:table-cell/>"
    text = f"<text:p>{escape(str(value))}</text:p>"
    if isinstance(value, Error):
        kind = 'office:value-type="string" office:string-value="" calcext:value-type="error"'
    elif isinstance(value, str):
        kind = 'office:value-type="string"'
    elif isinstance(value, bool):
        kind = f'office:value-type="boolean" office:boolean-value="{str(value).lower()}"'
    elif isinstance(value, date):
        kind = f'office:value-type="date" office:date-value="{value.isoformat()}"'
    elif isinstance(value, (time, timedelta)):
        seconds = value.total_seconds() if isinstance(value, timedelta) else _seconds(value)
        hours, rest = divmod(int(seconds), 3600)
        kind = f'office:value-type="time" office:time-value="PT{hours:02}H{rest // 60:02}M{rest % 60:02}S"'
    else:
        kind = f'office:value-type="float" office:value="{value}"'
    return f"<table:table-cell {kind}>{text}</table:table-cell>"


def _seconds(value: time) -> int:
    return value.hour * 3600 + value.minute * 60 + value.second
