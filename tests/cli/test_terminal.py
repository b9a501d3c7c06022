"""What commands print fits a terminal, survives its encoding and a reader who leaves."""

import json
import os
import pty
import re
import subprocess
import sys
import threading
import tty
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from cli_helpers import Run, coloured_text, database, on_terminal, terminal_bytes
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import STOREMON, environment, storemon
from load_helpers import HOURS, POLLS, ZONES, csv, put

from storemon_flask.cli import demo, terminal

UUID = "8139926242460185114-aaaa-bbbb-cccccc"
LONG = "store-" + "x" * 180 + "-end"
WIDE = "東京駅前の店舗とその別館の店" * 4
NAMES = "store_id,name,group"
LATIN = {"PYTHONIOENCODING": "latin-1"}
PLAIN_C = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
ENCODINGS = pytest.mark.parametrize(
    "variables",
    [
        pytest.param(LATIN, id="latin-1"),
        pytest.param({"PYTHONIOENCODING": "cp1252"}, id="cp1252", marks=pytest.mark.slow),
        pytest.param({"PYTHONIOENCODING": "ascii"}, id="ascii", marks=pytest.mark.slow),
        pytest.param(PLAIN_C, id="C", marks=pytest.mark.slow),
    ],
)
COMMANDS = [
    ["load-data", "more"],
    ["rejects"],
    ["loads"],
    ["report", "--columns", "full"],
    ["report", "-o", "-"],
    ["outages"],
    ["outages", "-o", "-"],
    ["diff", "before-東京.csv", "after-東京.csv"],
    ["stores"],
    ["store", WIDE],
    ["store", LONG],
    ["info"],
    ["info", "--licenses"],
    ["keys", "add", "--scope", "read", "--label", WIDE],
    ["keys", "list"],
    ["check"],
    ["backup", "東京.db"],
    ["prune", "--before", "2023-01-01", "--dry-run"],
    ["export", "東京"],
]
# CSV and licences are not laid out.
TABLES = [command for command in COMMANDS if command[0] not in ("report", "rejects", "backup", "prune", "export")]
TABLES = [command for command in TABLES if command[1:] not in (["-o", "-"], ["--licenses"])]


@pytest.fixture
def fleet(run: Run, home: Path) -> Path:
    """Stores with ids and names as hard on a terminal as they may be; the home."""
    ids = (UUID, LONG, WIDE, "short")
    polls = [
        f"{store_id},2024-10-14 {hour:02d}:{minute:02d}:00,{'inactive' if hour in (9, 10) else 'active'}"
        for store_id in ids
        for hour in range(4, 12)
        for minute in (0, 30)
    ]
    put(home / "data" / f"polls-{'y' * 90}.csv", csv(POLLS, *polls, f"{WIDE},yesterday,active"))
    put(home / "data" / "zones.csv", csv(ZONES, f"{WIDE},Australia/Adelaide", f"{LONG},Asia/Tokyoo"))
    names = (f"{store_id},{name},{WIDE}" for store_id, name in zip(ids, (WIDE, LONG, "", WIDE), strict=True))
    put(home / "data" / "名前.csv", csv(NAMES, *names))
    assert run("load-data").code == 0
    assert run("keys", "add", "--scope", "read", "--label", WIDE).code == 0
    for at, name in (("2024-10-14T11:00:00Z", "before"), ("2024-10-14T08:00:00Z", "after")):
        assert run("report", "--as-of", at, "--by", "day", "-o", f"{name}-東京.csv").code == 0
    put(home / "more" / "名前.csv", csv(HOURS, f"{WIDE},0,09:00,08:00", f"{LONG},9,09:00,17:00"))
    return home


@ENCODINGS
def test_no_command_dies_of_an_encoding(fleet: Path, variables: dict[str, str]) -> None:
    for command in COMMANDS:
        done = subprocess.run(
            [*STOREMON, *command], env=environment(fleet, **variables), cwd=fleet, capture_output=True, check=False
        )
        # Where arguments are ASCII, no store has such an id and no label such characters.
        code = 1 if variables == PLAIN_C and WIDE in command else 0
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), (command, done)


def test_what_the_terminal_lacks_is_replaced_and_csv_stays_utf_8(fleet: Path) -> None:
    def output(*command: str) -> bytes:
        done = subprocess.run(
            [*STOREMON, *command], env=environment(fleet, **LATIN), cwd=fleet, capture_output=True, check=True
        )
        return done.stdout

    assert b"?" * len(WIDE) in output("stores")
    assert WIDE.encode() in output("report")
    assert output("report", "-o", "-") == output("report")
    assert WIDE.encode() in output("rejects")
    assert output("outages", "-o", "-").startswith(b"store_id,")
    assert not (fleet / "-").exists()


@pytest.mark.slow
@ENCODINGS
def test_the_same_holds_below_flask(fleet: Path, variables: dict[str, str]) -> None:
    flask = [sys.executable, "-m", "flask", "--app", "storemon_flask"]
    for command in (["stores"], ["loads"], ["outages"], ["store", WIDE], ["keys", "list"], ["info", "--licenses"]):
        done = subprocess.run(
            [*flask, *command], env=environment(fleet, **variables), cwd=fleet, capture_output=True, check=False
        )
        # Where arguments are ASCII, no store has such an id and no label such characters.
        code = 1 if variables == PLAIN_C and WIDE in command else 0
        assert (done.returncode, b"Traceback" in done.stderr) == (code, False), (command, done)


@pytest.mark.parametrize("program", [STOREMON, [sys.executable, "-m", "flask", "--app", "storemon_flask"]])
@pytest.mark.parametrize("unbuffered", ["", pytest.param("1", marks=pytest.mark.slow)])
def test_a_command_whose_reader_has_left_ends_as_it_would_have(
    fleet: Path, program: list[str], unbuffered: str
) -> None:
    for command in (["stores"], ["loads"], ["report"], ["rejects"], ["outages"], ["info"], ["keys", "list"], ["check"]):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [*program, *command],
                env=environment(fleet, PYTHONUNBUFFERED=unbuffered),
                cwd=fleet,
                stdout=writing,
                stderr=subprocess.PIPE,
                check=False,
            )
        finally:
            os.close(writing)
        assert done.returncode == 0, (command, done)
        for word in (b"Traceback", b"Exception", b"roken"):
            assert word not in done.stderr, (command, done)


def test_a_reader_who_has_left_both_streams_changes_no_exit_code(fleet: Path) -> None:
    for command, code in (("stores", 0), ("store nobody", 1), ("stores --sort nothing", 2), ("load-data missing", 1)):
        reading, writing = os.pipe()
        os.close(reading)
        try:
            done = subprocess.run(
                [*STOREMON, *command.split()],
                env=environment(fleet),
                cwd=fleet,
                stdout=writing,
                stderr=writing,
                check=False,
            )
        finally:
            os.close(writing)
        assert done.returncode == code, command


@pytest.mark.parametrize("width", [80, *(pytest.param(width, marks=pytest.mark.slow) for width in (60, 120))])
def test_no_table_is_wider_than_its_terminal(fleet: Path, width: int) -> None:
    for command in TABLES:
        shown = on_terminal(fleet, *command, width=width)
        # A picture of half hours needs its 48 cells and their day; a list of stores has ids of 36 columns.
        most = max(width, {"store": 80, "stores": 74}.get(command[0], 0))
        wide = [line for line in shown.splitlines() if terminal.columns(line) > most]
        # A key is one word, and so is an id that a note names: they stay whole.
        assert [line for line in wide if " " in line.strip(" -")] == [], command


def test_a_pipe_gets_every_cell_whole(fleet: Path) -> None:
    assert f"polls-{'y' * 90}.csv" in storemon(fleet, "loads").stdout
    assert LONG in storemon(fleet, "stores").stdout
    listed = storemon(fleet, "keys", "list").stdout.splitlines()
    assert listed[-1].endswith(WIDE)
    assert storemon(fleet, "loads", COLUMNS="60").stdout == storemon(fleet, "loads").stdout


def test_an_id_of_36_characters_is_whole_in_every_table(fleet: Path) -> None:
    assert UUID in on_terminal(fleet, "stores")
    assert UUID in on_terminal(fleet, "diff", "before-東京.csv", "after-東京.csv")


def test_the_rows_of_a_table_that_does_not_fit_name_their_cells() -> None:
    rows = [["file", "feed", "rows"], ["a-long-file.csv", "polls", "1,234"], ["b.csv", "", "5"]]
    assert terminal.table(rows, 2) == [
        "file             feed    rows",
        "a-long-file.csv  polls  1,234",
        "b.csv                       5",
    ]
    assert terminal.table(rows, 2, width=24, least={0: 8}) == [
        "file        feed    rows",
        "a-lo..e.csv  polls  1,234".replace("a-lo..e.csv ", "a-lo...csv "),
        "b.csv                  5",
    ]
    assert terminal.table(rows, 2, width=20, least={0: 15}) == [
        "file",
        "a-long-file.csv\n    feed polls\n    rows 1,234",
        "b.csv  rows 5",
    ]


@pytest.mark.parametrize(
    ("text", "width"),
    [("abc", 3), ("東京", 4), ("e\N{COMBINING ACUTE ACCENT}", 1), ("a\N{ZERO WIDTH SPACE}b", 2), ("ｱ", 1), ("", 0)],
)
def test_columns_of_a_text(text: str, width: int) -> None:
    assert terminal.columns(text) == width


@pytest.mark.parametrize(
    ("text", "most", "shown"),
    [
        ("abcdefgh", 8, "abcdefgh"),
        ("abcdefghi", 8, "abc..ghi"),
        ("abcdefghi", 7, "abc..hi"),
        ("東京駅前", 7, "東..前"),
        ("", 4, ""),
    ],
)
def test_the_middle_is_cut_out(text: str, most: int, shown: str) -> None:
    assert terminal.cut_middle(text, most) == shown
    assert terminal.columns(shown) <= most


def test_control_characters_of_a_file_name_reach_no_terminal(run: Run, home: Path) -> None:
    put(home / "feeds" / "a\x1b[31m\nb.csv", csv(POLLS, "s,2024-10-14 10:00:00,active"))
    assert r"a\x1b[31m\nb.csv" in run("load-data", home / "feeds").out
    assert r"a\x1b[31m\nb.csv" in run("loads").out


EVIL = "\x1b]0;owned\x07\x1b[31mEVIL\x9b2J\x7f\x08\u202e\u2066\u200b\u2028\ufeff"
SHOWN = r"\x1b]0;owned\x07\x1b[31mEVIL\x9b2J\x7f\x08\u202e\u2066\u200b\u2028\ufeff"


@pytest.fixture
def hostile(home: Path) -> Path:
    """A home with one file, whose name and rejected row would steer a terminal."""
    put(home / "data" / f"a{EVIL}\n.csv", csv(POLLS, "s,2024-10-14 10:00:00,active", f'"{EVIL}",now,"up\rand\tdown"'))
    return home


def test_no_text_of_a_stranger_steers_a_terminal(hostile: Path) -> None:
    name = f"a{SHOWN}\\n.csv"

    def shown(*command: str, **options: Any) -> str:
        text = coloured_text(terminal_bytes(hostile, *command, both=True, width=200, **options))
        assert set(filter(str.isascii, text)) <= {"\n", "\t", *map(chr, range(32, 127))}, text
        assert text.replace("\t", "").replace("\n", "").isprintable(), text
        return text

    assert name in shown("load-data")
    assert name in shown("loads")
    assert f'{SHOWN}"",now,""up\\rand\tdown"""' in shown("rejects").splitlines()[-1]
    assert f"{SHOWN}\\nx does not exist" in shown("load-data", f"{EVIL}\nx", code=1)
    assert SHOWN in shown(f"{EVIL}", code=2)
    assert f"STOREMON_{SHOWN} is no setting" in shown("info", **{f"STOREMON_{EVIL}": "1"})


def test_a_question_at_a_terminal_shows_names_as_everything_else(hostile: Path) -> None:
    file = hostile / f"{EVIL}.db"
    storemon(hostile, "load-data")
    assert storemon(hostile, "backup", str(file)).returncode == 0
    text = coloured_text(terminal_bytes(hostile, "restore", str(file), both=True, typed=b"n\n", code=130))
    assert f"{hostile}/{SHOWN}.db has 1 store, 1 poll. Put it in the place of" in text
    assert set(filter(str.isascii, text)) <= {"\n", "\r", *map(chr, range(32, 127))}, text


def test_what_is_piped_is_not_changed(hostile: Path) -> None:
    storemon(hostile, "load-data")
    assert EVIL in storemon(hostile, "rejects").stdout
    assert storemon(hostile, "rejects", PYTHONIOENCODING="latin-1").stdout == storemon(hostile, "rejects").stdout


def test_colours_and_bars_are_the_only_signs_on_a_terminal(hostile: Path) -> None:
    rows = "".join(f"{n % 9},2024-10-{1 + n // 86_400:02d} 00:00:00.{n:06d},active\n" for n in range(60_000))
    put(hostile / "data" / f"{EVIL}.csv", f"{POLLS}\n{rows}")
    text = coloured_text(terminal_bytes(hostile, "load-data", both=True))
    assert "\r\x1b[?25lloading" in text
    assert "\x1b[?25h\n" in text
    assert set(re.findall(r"\x1b..", text)) == {"\x1b[?"}


@pytest.mark.parametrize("encoding", ["utf-8", "latin-1", "cp1252", "ascii", "gbk"])
def test_bytes_cut_anywhere_are_the_same_on_a_terminal(encoding: str) -> None:
    text = f"a{EVIL}b 中 ü\n"
    data = text.encode("utf-8" if encoding == "ascii" else encoding, "replace")
    seen = set()
    for size in (1, 2, 3, len(data)):
        ours, theirs = pty.openpty()
        tty.setraw(theirs)
        writer = terminal._TerminalWriter(theirs, encoding)
        for at in range(0, len(data), size):
            assert writer.write(data[at : at + size]) == len(data[at : at + size])
        written = b""
        while not written.endswith(b"\n"):
            written += os.read(ours, 10_000)
        seen.add(written.decode(encoding))
        os.close(theirs)
        os.close(ours)
    (shown,) = seen
    assert shown.startswith(r"a\x1b]0;owned\x07\x1b[31mEVIL")
    assert {unicodedata.category(one) for one in shown if one != "\n"}.isdisjoint({"Cc", "Cf", "Cs", "Zl", "Zp"})


def test_a_terminal_that_takes_nothing_now_is_waited_for() -> None:
    ours, theirs = pty.openpty()
    tty.setraw(theirs)
    os.set_blocking(theirs, False)
    writer = terminal._TerminalWriter(theirs, "utf-8")
    data = b"0123456789abcdef" * 20_000
    thread = threading.Thread(target=writer.write, args=(data,))
    thread.start()
    seen = b""
    while len(seen) < len(data):
        seen += os.read(ours, 10_000)
    thread.join()
    assert seen == data
    os.close(theirs)
    os.close(ours)


def test_a_file_name_that_is_no_text_is_loaded_and_shown(home: Path) -> None:
    name = os.fsencode(home) + b"/\xff.csv"
    with open(name, "wb") as stream:
        stream.write(csv(POLLS, "s,2024-10-14 10:00:00,active"))
    done = storemon(home, "load-data", str(home))
    assert (done.returncode, "Traceback" in done.stderr) == (0, False), done
    assert "\N{REPLACEMENT CHARACTER}.csv" in done.stdout
    assert "\N{REPLACEMENT CHARACTER}.csv" in storemon(home, "loads").stdout
    assert database(home).is_file()


def test_a_bar_fits_beside_long_names(home: Path) -> None:
    rows = "".join(f"{WIDE},2024-10-{1 + n // 86_400:02d} 00:00:00.{n:06d},active\n" for n in range(30_000))
    put(home / f"{'z' * 60}{WIDE}.csv", f"{POLLS}\n{rows}")
    put(home / f"{'z' * 90}.csv", f"{POLLS}\n{rows}")
    shown = on_terminal(home, "load-data", ".", both=True)
    bars = [line for part in shown.split("\n") for line in part.split("\r") if "[" in line]
    assert len(bars) > 2
    assert max(map(terminal.columns, bars)) <= 80
    assert json.dumps(shown).count("100%") >= 1


def test_the_demo_fits_80_columns(home: Path) -> None:
    shown = on_terminal(home, "demo", both=True)
    lines = [part for line in shown.splitlines() for part in line.split("\r")]
    # A path is one word.
    assert [line for line in lines if terminal.columns(line) > 80 and " " in line.strip()] == []
    assert any("[####" in line for line in lines)


def test_the_demo_breaks_a_command_that_does_not_fit(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = home / ("x" * 60)
    put(folder / "storemon", "")
    monkeypatch.chdir(home.parent)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    program, setting = f"{home.name}/{folder.name}/storemon", f"STOREMON_HOME={home.name}"
    monkeypatch.setattr(demo, "terminal_width", lambda: None)
    assert demo._command(home, "rejects", indent=5) == f"{setting} {program} rejects"
    monkeypatch.setattr(demo, "terminal_width", lambda: 80)
    assert demo._command(home, "rejects", indent=5) == f"{setting} \\\n       {program} rejects"
