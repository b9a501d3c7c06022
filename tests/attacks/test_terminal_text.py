"""Texts of strangers in everything that a command can show on a terminal: none of them steers it or hides in it."""

import re
import shutil
import sqlite3
import sys
import unicodedata
import zipfile
from contextlib import closing
from pathlib import Path

import pytest
from cli_helpers import coloured_text, terminal_bytes
from conftest import PATIENCE_S, ROOT, STOREMON, environment, storemon

TITLE = "\x1b]0;owned\x07"
LINK = "\x1b]8;;mailto:evil@example\x1b\\here"
# In the first 200 characters of a rejected row, and short enough for the name of a file.
EVIL = f"{TITLE}\x1b[2J\x1b[35mEVIL\x9b31m\x9d\x9c\x7f\x08\r\x0b\x0c\u202ek\u2066\u200b\u200d\u2028\u2029\u0085\ufeff\u00ad\U000e0041"
EVIL_LINES = f"{EVIL}\nall is well\n{LINK}"
NAME = "\u202eEVIL\u2066\u200b\ufeff\u2028"
POLLS, HOURS, ZONES, NAMES = (
    "store_id,timestamp_utc,status",
    "store_id,dayOfWeek,start_time_local,end_time_local",
    "store_id,timezone_str",
    "store_id,name,group",
)
OWN = re.compile(r"\x1b\[(?:0|3[123]|9[0])m|\x1b\[\?25[lh]|\r")


@pytest.fixture(scope="module")
def first(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with hostile text wherever it can get in, also by another program."""
    home = tmp_path_factory.mktemp("home") / f"home{EVIL}"
    folder = home / f"feeds{EVIL}"
    folder.mkdir(parents=True)
    polls = "".join(
        f"good,2024-10-14 {hour:02d}:00:00,{'inactive' if hour == 10 else 'active'}\n" for hour in range(4, 12)
    )
    (folder / f"polls{EVIL}\n.csv").write_text(
        f'{POLLS}\n{polls}good,2024-10-14 09:00:00,inactive\n"{EVIL_LINES}",2024-10-14 09:00:00,active\n'
        f'good,"{EVIL}",active\ngood,2024-10-14 09:00:00,"{EVIL}"\n',
        newline="\n",
    )
    (folder / "names.csv").write_text(f"{NAMES}\ngood,{NAME},{NAME}\nother,{EVIL},x\n", newline="\n")
    (folder / "zones.csv").write_text(f'{ZONES}\ngood,UTC\nbad,"{EVIL_LINES}"\n', newline="\n")
    (folder / "hours.csv").write_text(f'{HOURS}\ngood,0,09:00,17:00\ngood,"{EVIL}",09:00,17:00\n', newline="\n")
    (folder / f"none{EVIL}.csv").write_text(f'a,"{EVIL_LINES}"\n', newline="\n")
    with open(str(folder).encode() + b"/\xff\x9b31m.csv", "wb") as stream:
        stream.write(f"{POLLS}\n{polls}".encode())
    with zipfile.ZipFile(folder / "z.zip", "w") as archive:
        archive.writestr(f"{EVIL}.csv", f"{ZONES}\nother,{EVIL}\n")
        archive.writestr(f"{EVIL}.txt", EVIL)
    storemon(home, "load-data", str(folder))
    for label in ("one", "two"):
        storemon(home, "keys", "add", "--scope", "read", "--label", label)
    with closing(sqlite3.connect(home / "instance" / "storemon.db")) as connection, connection:
        connection.execute("UPDATE api_key SET label = ?", (EVIL_LINES,))
    for name, cell in (("before", "1.00"), ("after", "2.00")):
        (home / f"{name}{EVIL}.csv").write_text(
            f'store_id,period,uptime_last_hour\n"{EVIL_LINES}","{EVIL}",{cell}\n', newline="\n"
        )
    assert storemon(home, "backup", str(home / f"copy{EVIL}.db")).returncode == 0
    (home / "reports").mkdir()
    (home / "reports" / f"report_{EVIL}.csv").write_text("x")
    (home / f"other{EVIL}.db").write_bytes(b"x" * 5000)
    return home


COMMANDS: dict[str, tuple[int, list[str]]] = {
    "load": (1, ["load-data", "{home}/feeds{evil}"]),
    "load what is not there": (1, ["load-data", "{home}/nothing{lines}"]),
    "load with a wrong option": (2, ["load-data", "--days", "{lines}"]),
    "rejects": (0, ["rejects"]),
    "rejects of one load": (0, ["rejects", "--load", "1"]),
    "rejects of none": (2, ["rejects", "--load", "{lines}"]),
    "loads": (0, ["loads"]),
    "report": (0, ["report", "--columns", "full"]),
    "report by day": (0, ["report", "--by", "day", "--window", "2024-10-14..2024-10-15", "--totals"]),
    "report into a file": (0, ["report", "-o", "{home}/out{lines}.csv"]),
    "report into a folder": (1, ["report", "-o", "{home}/feeds{evil}"]),
    "report of a store": (1, ["report", "--store", "{lines}"]),
    "report of a group": (1, ["report", "--group", "{lines}"]),
    "report of a zone": (1, ["report", "--zone", "{lines}"]),
    "report of a window": (1, ["report", "--window", "{lines}"]),
    "report by a unit": (1, ["report", "--by", "{lines}"]),
    "report by a method": (1, ["report", "--method", "{lines}"]),
    "report as of nothing": (2, ["report", "--as-of", "{lines}"]),
    "report with columns": (2, ["report", "--columns", "{lines}"]),
    "outages": (0, ["outages"]),
    "outages as CSV": (0, ["outages", "-o", "-"]),
    "outages into a file": (0, ["outages", "-o", "{home}/outages{lines}.csv"]),
    "outages of a store": (1, ["outages", "--store", "{lines}"]),
    "diff": (0, ["diff", "{home}/before{evil}.csv", "{home}/after{evil}.csv"]),
    "diff of nothing": (1, ["diff", "{lines}", "{home}/after{evil}.csv"]),
    "diff of no reports": (1, ["diff", "{home}/other{evil}.db", "{home}/after{evil}.csv"]),
    "stores": (0, ["stores"]),
    "stores with a text": (0, ["stores", "--text", "{lines}"]),
    "stores of a group": (0, ["stores", "--group", "{lines}"]),
    "stores by status": (2, ["stores", "--status", "{lines}"]),
    "stores in order": (2, ["stores", "--sort", "{lines}"]),
    "store": (0, ["store", "good"]),
    "no store": (1, ["store", "{lines}"]),
    "info": (0, ["info"]),
    "licences": (0, ["info", "--licenses"]),
    "keys": (0, ["keys", "list"]),
    "a key": (1, ["keys", "add", "--scope", "read", "--label", "{lines}"]),
    "a scope": (2, ["keys", "add", "--scope", "{lines}"]),
    "revoke": (1, ["keys", "revoke", "{lines}"]),
    "backup": (0, ["backup", "{home}/new{lines}.db"]),
    "backup over something": (1, ["backup", "{home}/other{evil}.db"]),
    "backup into nowhere": (1, ["backup", "{home}/nowhere{evil}/x.db"]),
    "restore what is none": (1, ["restore", "{home}/other{evil}.db"]),
    "restore": (0, ["restore", "{home}/copy{evil}.db"]),
    "check": (0, ["check"]),
    "prune": (0, ["prune", "--before", "2024-10-14T05:00:00"]),
    "prune before nothing": (2, ["prune", "--before", "{lines}"]),
    "export": (0, ["export", "{home}/exported{lines}"]),
    "export into a file": (2, ["export", "{home}/other{evil}.db"]),
    "serve on a host": (1, ["serve", "--port", "0", "--host", "host{evil}"]),
    "serve on a port": (2, ["serve", "--port", "{lines}"]),
    "no option": (2, ["stores", "--{lines}"]),
    "no command": (2, ["{lines}"]),
    "too much": (2, ["stores", "{lines}"]),
}
CSV = ("rejects", "rejects of one load")
# What asks at a terminal.
ASKING = ("restore", "prune")


def shown(home: Path, name: str, program: list[str] = STOREMON) -> str:
    code, arguments = COMMANDS[name]
    written = terminal_bytes(
        home,
        *(part.format(home=home, evil=EVIL, lines=EVIL_LINES) for part in arguments),
        both=True,
        code=code,
        typed=b"y\n" if name in ASKING else b"",
        program=program,
        **{f"STOREMON_{EVIL}": "1"},
    )
    return coloured_text(written)


def hidden_in(text: str) -> set[str]:
    """The characters of the text that a terminal would obey or nobody would see, but for storemon's own."""
    return {
        one
        for one in OWN.sub("", text)
        if one not in "\n\t" and unicodedata.category(one) in ("Cc", "Cf", "Cs", "Zl", "Zp")
    }


@pytest.mark.slow
@pytest.mark.parametrize("fourth", range(4))
def test_no_command_shows_what_steers_a_terminal(first: Path, tmp_path: Path, fourth: int) -> None:
    seen = 0
    for name in list(COMMANDS)[fourth::4]:
        home = tmp_path / name / first.name
        shutil.copytree(first, home, symlinks=True)
        text = shown(home, name)
        assert hidden_in(text) == set(), (name, text)
        assert "Traceback" not in text, (name, text)
        # No text of a stranger is a line of its own; a cell of CSV may have several.
        assert name in CSV or "all is well\n" not in text.replace("\nall is well\n", "\n", name == "check"), (
            name,
            text,
        )
        seen += "EVIL" in text
    assert seen > 7


@pytest.mark.slow
def test_the_same_holds_below_flask(first: Path, tmp_path: Path) -> None:
    program = [sys.executable, "-m", "flask", "--app", "storemon_flask"]
    for name in ("load", "rejects", "loads", "stores", "info", "keys", "no store", "report as of nothing", "no option"):
        home = tmp_path / name / first.name
        shutil.copytree(first, home, symlinks=True)
        text = shown(home, name, program)
        assert hidden_in(text) == set(), (name, text)
        assert "EVIL" in text, (name, text)


@pytest.mark.slow
@pytest.mark.parametrize(
    "variables",
    [
        {"PYTHONIOENCODING": "latin-1"},
        {"PYTHONIOENCODING": "cp1252"},
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
        {"PYTHONUNBUFFERED": ""},
    ],
    ids=str,
)
def test_no_encoding_lets_it_through(tmp_path: Path, variables: dict[str, str]) -> None:
    feed = tmp_path / "feed.csv"
    # In UTF-8 the last of its bytes is one that begins a sequence of a terminal with 8 bits.
    feed.write_text(f'{POLLS}\ngood,2024-10-14 09:00:00,"\u041b31m\u041d0;{EVIL}"\n', newline="\n")
    for command in (["load-data", "feed.csv"], ["rejects"], ["loads"], ["store", f"\u041b{EVIL}"]):
        code = 1 if command[0] == "store" else 0
        written = terminal_bytes(tmp_path, *command, both=True, code=code, **variables)
        text = written.decode(variables.get("PYTHONIOENCODING", "utf-8")).replace("\r\n", "\n")
        assert hidden_in(text) == set(), (command, text)
    assert "\\x1b]0;owned" in text


@pytest.mark.slow
def test_what_is_piped_is_as_it_was(first: Path) -> None:
    rejected = storemon(first, "rejects").stdout
    assert all(one in rejected for one in (TITLE, "\x9b31m", "\u202e", LINK))


@pytest.mark.slow
def test_requests_of_strangers_in_the_log_on_a_terminal(tmp_path: Path) -> None:
    import os
    import pty
    import socket
    import subprocess

    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [*STOREMON, "serve", "--port", "0"],
        env=environment(tmp_path, PYTHONPATH=str(ROOT)),
        stdin=subprocess.DEVNULL,
        stdout=theirs,
        stderr=theirs,
        cwd=tmp_path,
    )
    os.close(theirs)
    written = b""
    try:
        while b"http://" not in written or b"\n" not in written.split(b"http://")[1]:
            written += os.read(ours, 65_536)
        port = int(re.findall(rb"http://127.0.0.1:(\d+)", written)[0])
        evil = EVIL.encode().replace(b"\r", b"").replace(b"\x0b", b"").replace(b"\x0c", b"")
        quoted = "".join(f"%{byte:02X}" for byte in EVIL_LINES.encode()).encode()
        for line, host in ((b"/" + quoted, b"localhost"), (b"/" + evil.replace(b" ", b""), b"localhost"), (b"/", evil)):
            for method in (b"GET", b"DELETE", b"POST"):
                with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S) as peer:
                    peer.sendall(
                        method
                        + b" "
                        + line
                        + b" HTTP/1.1\r\nHost: "
                        + host
                        + b"\r\nX-Request-Id: "
                        + evil
                        + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                    )
                    while peer.recv(65_536):
                        pass
    finally:
        process.terminate()
    while True:
        try:
            part = os.read(ours, 65_536)
        except OSError:
            break
        written += part
    os.close(ours)
    assert process.wait(PATIENCE_S) == 0
    text = coloured_text(written)
    assert hidden_in(text) == set(), text
    assert all(re.match(r"20\d\d-|storemon serves| {4}|$", line) for line in text.split("\n")), text
