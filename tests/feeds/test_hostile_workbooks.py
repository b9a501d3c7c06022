"""Workbooks of those who mean harm, or that were damaged on their way: a sentence each, and a server that goes on."""

import os
import re
import socket
import sys
import tempfile
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Final

import hostile_files
import pytest
from conftest import Answer, Server, wait_until
from hostile_files import ROWS, cells_xml, ods, ods_rows, repeated, sheet_xml, xls, xlsx
from load_helpers import load

from storemon_flask.database.connections import Database
from storemon_flask.feeds import workbooks

_MAIN: Final = '<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
_STRINGS: Final = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
_DAMAGED: Final = "it is damaged, or no workbook that can be read"
_TOO_MUCH: Final = "MB of memory to read, or is damaged"
_TOO_SLOW: Final = "s to read; save it as CSV"
_SECRET: Final = "what no workbook may read"
# The process may have 512 MB of addresses; the server is 150 MB.
_MOST_MB: Final = 700
# Of a processor, for each file: a machine on which much else goes on takes longer.
_MOST_CPU_S: Final = 90.0
_PATIENCE_S: Final = 600.0


def entities(text: str) -> str:
    """The head of an XML document in which `&j;` becomes that, or a billion of it."""
    ten = "".join(f'<!ENTITY {chr(98 + n)} "{f"&{chr(97 + n)};" * 10}">' for n in range(9))
    return f'<?xml version="1.0"?><!DOCTYPE x [{text or f"<!ENTITY a {chr(34)}ha{chr(34)}>" + ten}]>'


def with_entity(head: str) -> bytes:
    return xlsx(sheet_xml(cells_xml().replace("s1", "&j;"), head=head))


def formula(first_cell: str) -> bytes:
    """A workbook whose store id is a formula."""
    return xlsx(sheet_xml(re.sub(r'<c r="A2".*?</c>', f'<c r="A2" {first_cell}</c>', cells_xml())))


def linked(target: str) -> bytes:
    """A workbook whose id was taken out of another one, which is there."""
    space = "http://schemas.openxmlformats.org"
    link = f'<externalLink xmlns="{space}/spreadsheetml/2006/main"><externalBook r:id="rId1" '
    link += f'xmlns:r="{space}/officeDocument/2006/relationships"/></externalLink>'
    rels = f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship Id="rId1" Type="{space}/'
    rels += (
        f'officeDocument/2006/relationships/externalLinkPath" Target="{target}" TargetMode="External"/></Relationships>'
    )
    cells = re.sub(r'<c r="A2".*?</c>', '<c r="A2" t="str"><f>[1]Sheet1!A1</f><v>s1</v></c>', cells_xml())
    more = {
        "xl/externalLinks/externalLink1.xml": link.encode(),
        "xl/externalLinks/_rels/externalLink1.xml.rels": rels.encode(),
    }
    return xlsx(sheet_xml(cells), more=more)


def out_of_the_zip(target: str) -> bytes:
    """A workbook whose sheet is a file of the machine."""
    space = "http://schemas.openxmlformats.org"
    rels = f'<Relationships xmlns="{space}/package/2006/relationships"><Relationship Id="rId1" Type="{space}/'
    rels += f'officeDocument/2006/relationships/worksheet" Target="{target}"/></Relationships>'
    return xlsx(parts={"xl/_rels/workbook.xml.rels": rels.encode()})


FAR: Final = '<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'
BLANK: Final = (
    '<table:table-row table:number-rows-repeated="1048574"><table:table-cell table:number-columns-repeated="16384"'
)
# What each file is, and what comes of it: so many rows that are stored, or rejected, or the sentence.
FILES: Final[dict[str, tuple[Callable[[], bytes], tuple[int, int] | str]]] = {
    "good.xlsx": (xlsx, (1, 0)),
    "good.ods": (lambda: ods(ods_rows()), (1, 0)),
    "good.xls": (xls, (1, 0)),
    "a cell at the end of the sheet.xlsx": (lambda: xlsx(sheet_xml(cells_xml() + FAR)), _TOO_MUCH),
    "1,048,576 empty rows.xlsx": (
        lambda: xlsx(sheet_xml(cells_xml() + "".join(f'<row r="{row}"/>' for row in range(3, 1_048_577)))),
        (1, 0),
    ),
    "1,048,576 empty rows.ods": (lambda: ods(f"{ods_rows()}{BLANK}/></table:table-row>"), (1, 0)),
    "17 billion cells.ods": (
        lambda: ods(
            f'{ods_rows()}{BLANK} office:value-type="string"><text:p>x</text:p></table:table-cell></table:table-row>'
        ),
        _DAMAGED,
    ),
    "a dimension that is too large.xlsx": (
        lambda: xlsx(sheet_xml(cells_xml(), before='<dimension ref="A1:XFD1048576"/>')),
        (1, 0),
    ),
    "a dimension that is too small.xlsx": (
        lambda: xlsx(sheet_xml(cells_xml(), before='<dimension ref="A1"/>')),
        (1, 0),
    ),
    "a dimension that is none.xlsx": (lambda: xlsx(sheet_xml(cells_xml(), before='<dimension ref="&lt;"/>')), _DAMAGED),
    "a formula with its value.xlsx": (lambda: formula('t="str"><f>"s"&amp;1</f><v>s1</v>'), (1, 0)),
    "a formula without a value.xlsx": (lambda: formula("><f>WEBSERVICE(A1)</f>"), (0, 1)),
    "a formula as a text.xlsx": (
        lambda: xlsx(sheet_xml(cells_xml((ROWS[0], ("=cmd|' /C calc'!A0", *ROWS[1][1:]))))),
        (1, 0),
    ),
    "macros.xlsm": (lambda: xlsx(more={"xl/vbaProject.bin": bytes(range(256)) * 40}), (1, 0)),
    "a password.xlsx": (hostile_files.protected_xlsx, "password"),
    "a password.ods": (lambda: ods("", encrypted=True), "password"),
    "a billion laughs.xlsx": (lambda: with_entity(entities("")), _DAMAGED),
    "a billion laughs.ods": (lambda: ods(ods_rows().replace("s1", "&j;"), head=entities("")), _DAMAGED),
    "a million levels.xlsx": (lambda: xlsx(sheet_xml(cells_xml() + "<a>" * 1_000_000)), (1, 0)),
    "no sheet.xlsx": (lambda: xlsx(names=()), "it has no sheet|it is empty|damaged"),
    "a sheet that is not there.xlsx": (lambda: xlsx(parts={"xl/worksheets/sheet1.xml": b""}), _DAMAGED),
    "a letter.docx": (
        lambda: hostile_files.zipped({"[Content_Types].xml": b"<Types/>", "word/document.xml": b"<w/>"}),
        "",
    ),
    "OLE of zeros.xls": (lambda: b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(5_000), _DAMAGED),
    "OLE in a circle.xls": (lambda: in_a_circle(xls()), f"{_TOO_MUCH}|{_DAMAGED}"),
}
# These take more than five seconds to make and read.
BOMBS: Final[dict[str, tuple[Callable[[], bytes], str]]] = {
    "a sheet of 50 million cells.xlsx": (
        lambda: xlsx(repeated(f"{_MAIN}<sheetData>", '<row r="1"><c r="A1"><v>1</v></c></row>', 25_000_000, "")),
        # A slow machine comes to the end of the time first.
        f"{_TOO_MUCH}|{_TOO_SLOW}",
    ),
    "a cell of 900 MB.xlsx": (
        lambda: xlsx(
            repeated(f'{_MAIN}<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>', "x" * 1000, 900_000, "")
        ),
        _TOO_MUCH,
    ),
    "900 MB of blanks.xlsx": (lambda: xlsx(repeated(f"{_MAIN}<sheetData>", " " * 1000, 900_000, "")), _TOO_MUCH),
    "900 MB of texts.xlsx": (lambda: shared_strings(900_000), _TOO_MUCH),
    "900 MB of texts, said to be few.xlsx": (
        lambda: hostile_files.lying_about_sizes(shared_strings(900_000)),
        f"{_TOO_MUCH}|{_DAMAGED}",
    ),
    "2 GB of texts.xlsx": (lambda: shared_strings(2_000_000), "larger, unpacked, than"),
    "900 MB of content.ods": (
        lambda: hostile_files.zipped(
            {
                "mimetype": b"application/vnd.oasis.opendocument.spreadsheet",
                "content.xml": repeated("<a>", "x" * 1000, 900_000, "</a>"),
            }
        ),
        f"{_TOO_MUCH}|{_DAMAGED}",
    ),
}


def shared_strings(count: int) -> bytes:
    return xlsx(more={"xl/sharedStrings.xml": repeated(_STRINGS, f"<si><t>{'x' * 1000}</t></si>", count, "</sst>")})


def in_a_circle(data: bytes) -> bytes:
    """An OLE file each of whose sectors is followed by itself."""
    table = len(data) - 512
    return data[:table] + b"".join(number.to_bytes(4, "little") for number in range(128))


class Memory:
    """How much the server and the processes it starts have in memory, at the most, together."""

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_mb = 0.0

    def __enter__(self) -> "Memory":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.02):
            self.most_mb = max(self.most_mb, sum(map(resident_mb, [self._pid, *children(self._pid)])))


def children(pid: int) -> list[int]:
    found: list[int] = []
    for file in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += map(int, file.read_text().split())
        except OSError:
            continue
    return found


def resident_mb(pid: int) -> float:
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return 0.0
    found = re.search(r"^VmRSS:\s+(\d+)", status, re.MULTILINE)
    return int(found[1]) / 1024 if found else 0.0


def cpu_s(pid: int) -> float:
    """How many seconds of a processor a process took, and those of its children that have ended."""
    times = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[11:15]
    return sum(map(int, times)) / os.sysconf("SC_CLK_TCK")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    home = tmp_path_factory.mktemp("home")
    (home / "temporary").mkdir()
    started = Server(home, TMPDIR=str(home / "temporary"))
    yield started
    assert started.end() == 0


def ask(url: str, data: bytes, kind: str) -> Answer:
    """What is answered to a POST, be it after as long as the program lets the reading process work, or some times that."""
    call = urllib.request.Request(url, data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(call, timeout=_PATIENCE_S) as answer:
            return Answer(answer.status, answer.headers, answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.headers, error.read())


def push(server: Server, data: bytes) -> Answer:
    return ask(f"{server.url}/api/v1/feeds/polls", data, "application/octet-stream")


def upload(server: Server, name: str, data: bytes) -> Answer:
    head = f'--x\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n\r\n'
    body = head.encode() + data + b"\r\n--x--\r\n"
    return ask(f"{server.url}/api/v1/feeds", body, "multipart/form-data; boundary=x")


def is_as_good_as_before(server: Server) -> None:
    """It answers, no process and no temporary file is left, and no traceback is in its log."""
    assert server.get("/healthz").json == {"status": "ok"}
    wait_until(lambda: not children(server.process.pid), "the process that reads to be gone")
    assert list((server.home / "temporary").iterdir()) == []
    assert "Traceback" not in server.log.read_text()
    assert "panicked" not in server.log.read_text()


def check_answer(answer: Answer, expected: tuple[int, int] | str) -> None:
    assert answer.status in (200, 422), answer.body
    if isinstance(expected, str):
        assert answer.status == 422, answer.body
        sentence = answer.json["detail"]
        assert re.search(expected, sentence), sentence
        assert len(sentence) < 1_000
        assert "\n" not in sentence
        return
    files = answer.json.get("files", [answer.json])
    assert [(file["rows"] - file["rejected"], file["rejected"]) for file in files] == [expected]


@pytest.mark.parametrize("name", FILES)
def test_each_gets_a_sentence_or_is_loaded(server: Server, name: str) -> None:
    made, expected = FILES[name]
    data = made()
    with Memory(server.process.pid) as memory:
        began_s = cpu_s(server.process.pid)
        check_answer(push(server, data), expected)
        check_answer(upload(server, name, data), expected)
        assert cpu_s(server.process.pid) - began_s < _MOST_CPU_S
    assert memory.most_mb < _MOST_MB
    is_as_good_as_before(server)


@pytest.mark.slow
@pytest.mark.parametrize("name", BOMBS)
def test_what_becomes_large_is_not_read_to_its_end(server: Server, name: str) -> None:
    made, expected = BOMBS[name]
    data = made()
    assert len(data) < 20_000_000
    with Memory(server.process.pid) as memory:
        began_s = cpu_s(server.process.pid)
        check_answer(upload(server, name, data), expected)
        assert cpu_s(server.process.pid) - began_s < _MOST_CPU_S
    assert memory.most_mb < _MOST_MB
    is_as_good_as_before(server)


def test_of_many_sheets_the_first_hundred_are_looked_at(server: Server) -> None:
    notes = sheet_xml(cells_xml((("Notes",),)))
    answer = upload(server, "notes.xlsx", xlsx(notes, names=tuple(f"S{number}" for number in range(100_000))))
    assert answer.status == 422
    assert "none of its sheets" in answer.json["detail"]
    assert len(answer.body) < 2_000
    answer = upload(server, "sheets.xlsx", xlsx(names=tuple(f"S{number}" for number in range(120))))
    assert answer.status == 200, answer.body[:500]
    assert len(answer.json["files"]) == 100
    assert "only the first 100 sheets of a workbook are looked at" in answer.body.decode()
    is_as_good_as_before(server)


@pytest.mark.parametrize("make", [linked, lambda url: with_entity(entities(f'<!ENTITY j SYSTEM "{url}">'))])
def test_nothing_is_fetched(server: Server, make: Callable[[str], bytes]) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}/x"
        assert upload(server, "link.xlsx", make(url)).status in (200, 422)
        listening.settimeout(0.2)
        with pytest.raises(TimeoutError):
            listening.accept()
    is_as_good_as_before(server)


@pytest.mark.parametrize(
    "make",
    [
        lambda file: with_entity(entities(f'<!ENTITY j SYSTEM "file://{file}">')),
        lambda file: ods(ods_rows().replace("s1", "&j;"), head=entities(f'<!ENTITY j SYSTEM "file://{file}">')),
        lambda file: out_of_the_zip(f"../../../../../../../..{file}"),
        lambda file: out_of_the_zip(str(file)),
        lambda file: linked(f"file://{file}"),
    ],
    ids=["entity of xlsx", "entity of ods", "relative", "absolute", "link"],
)
def test_no_file_of_the_machine_is_read(server: Server, tmp_path: Path, make: Callable[[Path], bytes]) -> None:
    secret = tmp_path / "secret.xml"
    secret.write_bytes(sheet_xml(cells_xml((ROWS[0], (_SECRET, *ROWS[1][1:])))))
    answer = upload(server, "spy.xlsx", make(secret))
    assert answer.status in (200, 422)
    assert _SECRET not in answer.body.decode()
    assert _SECRET not in server.get("/api/v1/stores").body.decode()
    is_as_good_as_before(server)


def test_names_of_sheets_are_shown_harmless(server: Server) -> None:
    names = ("<script>alert(1)</script>", "a\u202eb\u001b[31m", "=1+1", "x" * 5_000)
    parts = [name.replace("\u001b", "") for name in names]
    answer = upload(server, "names.xlsx", xlsx(names=tuple(parts)))
    assert answer.status == 200, answer.body
    shown = [file["file"] for file in answer.json["files"]]
    assert all(name.isprintable() and len(name) < 500 for name in shown)
    shown_page = server.get(f"/data/loads/{answer.json['load_id']}")
    assert shown_page.status == 200
    page = shown_page.body.decode()
    assert "<script>alert" not in page
    assert "\u202e" not in page
    is_as_good_as_before(server)


KINDS: Final[dict[str, Callable[[], bytes]]] = {
    "xlsx": xlsx,
    "xls": xls,
    "ods": lambda: ods(ods_rows()),
    "parquet": lambda: parquet_file(),
}


def parquet_file() -> bytes:
    import io

    pa = pytest.importorskip("pyarrow", reason="pyarrow is not installed: NOT tested here with damaged Parquet")
    from pyarrow import parquet

    columns = {name: pa.array([value] * 50).dictionary_encode() for name, value in zip(*ROWS, strict=True)}
    made = io.BytesIO()
    parquet.write_table(pa.table(columns), made)
    return made.getvalue()


def check_damaged(kind: str, count: int, seed: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Load so many files that were damaged; each is read as far as it goes, or refused with a sentence."""
    temporary = folder / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    whole, refused = KINDS[kind](), 0
    with closing(Database(folder / "storemon.db")) as database:
        for number, data in enumerate(hostile_files.damaged(whole, count, seed)):
            file = folder / f"{number}.{kind}"
            file.write_bytes(data)
            result = load(database, file)
            refused += result.failed
            for summary in result.files:
                assert summary.error == "" or "Traceback" not in summary.error
                assert len(summary.error) < 1_000
            assert list(temporary.iterdir()) == []
    assert 0 < refused <= count


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_read_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, seed: int
) -> None:
    check_damaged(kind, 20, seed, tmp_path, monkeypatch)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_damaged_files_are_read_or_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    check_damaged(kind, 500, 99, tmp_path, monkeypatch)


def test_a_load_that_is_given_up_leaves_no_process(tmp_path: Path) -> None:
    file = tmp_path / "long.xlsx"
    file.write_bytes(xlsx(sheet_xml(cells_xml((ROWS[0], *[ROWS[1]] * 20_000)))))
    given_up, before = RuntimeError("given up"), children(os.getpid())

    def progress(name: str, more: int) -> None:
        raise given_up

    with closing(Database(tmp_path / "storemon.db")) as database, pytest.raises(RuntimeError, match="given up"):
        load(database, file, progress=progress)
    assert set(children(os.getpid())) <= set(before)


@pytest.mark.parametrize("program", ["/nonexistent/python", "/bin/true"])
def test_where_no_process_can_be_started_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    """As inside another program, or out of a zip."""
    file = tmp_path / "polls.xlsx"
    file.write_bytes(xlsx())
    monkeypatch.setattr(sys, "executable", program)
    with closing(Database(tmp_path / "storemon.db")) as database:
        (summary,) = load(database, file).files
    assert "cannot be started here" in summary.error
    assert "save it as CSV" in summary.error


def test_the_sheets_of_one_workbook_share_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred sheets must not take a hundred times as long as one may."""
    take = workbooks.ReadingTime.take
    # On a machine on which looking for sheets takes so long, and reading one.
    monkeypatch.setattr(workbooks.ReadingTime, "take", lambda time, seconds: take(time, 50))
    file = tmp_path / "sheets.xlsx"
    file.write_bytes(xlsx(names=("a", "b", "c", "d", "e", "f")))
    with closing(Database(tmp_path / "storemon.db")) as database:
        errors = [summary.error for summary in load(database, file).files]
    assert errors[:3] == [""] * 3
    assert ["it takes more than 180 s to read; save it as CSV" in error for error in errors[3:]] == [True] * 3
