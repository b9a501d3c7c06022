"""The command line: settings, and commands in processes of their own."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_helpers import NOON, REPORT, Done, Run, database, line
from cli_helpers import example as example
from cli_helpers import home as home
from cli_helpers import run as run
from ingest_helpers import POLLS, csv, environment, put, query, storemon

from storemon_flask import settings
from storemon_flask.errors import SettingsError
from storemon_flask.feeds import values
from storemon_flask.version import VERSION

BAD_SETTINGS = {
    "STOREMON_DATABASE": [" ", "a\0b"],
    "STOREMON_REPORTS_DIR": [" ", "a\0b"],
    "STOREMON_HOST": [" ", "local host"],
    "STOREMON_PORT": ["-1", "65536", "http", "80.5"],
    "STOREMON_REPORT_WORKERS": ["0", "65", "two", "1.5"],
    "STOREMON_HTTP_THREADS": ["0", "257", "many"],
    "STOREMON_MAX_BODY_MB": ["0", "1000001", "1.5", "1 GB"],
    "STOREMON_TRUSTED_HOSTS": [" ", "a,,b", "a b", "http://a", "a:8000", "::g", "*.a", "-a", ".", "a,*"],
    "STOREMON_TRUSTED_PROXY": [" ", "*", "10.0.0.1/8", "10.0.0.0/33", "proxy.example", "127.0.0.1,", "127.0.0.1:80"],
    "STOREMON_REACH_HOURS": ["0", "169", "nan", "inf", "-24", "a day"],
    "STOREMON_MAX_GAP_MINUTES": ["0", "10081", "nan", "2h"],
    "STOREMON_MAX_CLOCK_SKEW_MINUTES": ["-1", "1441", "nan", "5m"],
    "STOREMON_MAX_REPORT_ROWS": ["0", "1e6", "1000000001"],
    "STOREMON_KEEP_POLLS_DAYS": ["-1", "1.5", "100001", "a year"],
    "STOREMON_KEEP_REPORTS_DAYS": ["-1", "1.5", "36501", "a year"],
    "STOREMON_MAX_REPORTS_MB": ["-1", "1.5", "1000000001", "1 GB"],
    "STOREMON_CONNECTION_TIMEOUT_SECONDS": ["0", "1.5", "3601", "a minute"],
    "STOREMON_MIN_FREE_MB": ["-1", "1.5", "1000000001", "1 GB"],
    "STOREMON_LOG_FORMAT": ["xml", "JSON", " "],
    "STOREMON_DEFAULT_TIMEZONE": ["CST", "America/Gotham", "../UTC"],
}


def test_every_setting_has_wrong_values_to_be_tried() -> None:
    # A secret is not repeated in the sentence; tests/database/test_keys.py has its wrong values.
    assert set(BAD_SETTINGS) == {setting.name for setting in settings.SETTINGS if not setting.secret}


@pytest.mark.parametrize(("name", "text"), [(name, text) for name, texts in BAD_SETTINGS.items() for text in texts])
def test_a_wrong_setting_is_named_with_its_value_and_what_is_allowed(home: Path, name: str, text: str) -> None:
    allowed = next(setting.allowed for setting in settings.SETTINGS if setting.name == name)
    with pytest.raises(SettingsError) as bad:
        settings.load({"STOREMON_HOME": str(home), name: text})
    assert bad.value.message == f"{name} is {text!r}; it must be {allowed}"


@pytest.mark.parametrize("command", ["load-data", "report", "rejects", "info", "serve"])
def test_a_wrong_setting_stops_every_command_before_it_does_anything(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    monkeypatch.setenv("STOREMON_PORT", "eighty")
    done = run(command)
    assert (done.code, done.out) == (1, "")
    assert done.err == "Error: STOREMON_PORT is 'eighty'; it must be a whole number from 0 (any free port) to 65535\n"
    assert list(home.iterdir()) == []


def test_help_and_version_work_whatever_the_settings(run: Run, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STOREMON_PORT", "eighty")
    assert run("--version") == Done(0, f"storemon {VERSION}\n", "")
    assert "load-data" in run("--help").out
    assert "--as-of" in run("report", "--help").out


def test_a_gap_longer_than_twice_the_reach_is_refused(home: Path) -> None:
    values_ = {"STOREMON_HOME": str(home), "STOREMON_REACH_HOURS": "1", "STOREMON_MAX_GAP_MINUTES": "120"}
    assert settings.load(values_).max_gap_us == 120 * 60_000_000
    with pytest.raises(SettingsError) as bad:
        settings.load(values_ | {"STOREMON_MAX_GAP_MINUTES": "121"})
    assert bad.value.message == (
        "STOREMON_MAX_GAP_MINUTES is 121; it must be at most twice STOREMON_REACH_HOURS, that is 120 minutes"
    )


def test_the_environment_goes_before_the_dotenv_file_and_that_before_the_default(home: Path) -> None:
    put(home / ".env", "STOREMON_PORT=1234\nSTOREMON_REACH_HOURS='12'\n")
    found = settings.load({"STOREMON_HOME": str(home), "STOREMON_PORT": "4321"})
    assert (found.port, found.reach_us, found.host) == (4321, 12 * 3_600_000_000, "127.0.0.1")
    assert found.database == home / "instance" / "storemon.db"
    assert found.with_options(port=99, host=None).port == 99
    absolute = settings.load({"STOREMON_HOME": str(home), "STOREMON_DATABASE": "/elsewhere/x.db"})
    assert absolute.database == Path("/elsewhere/x.db")


def test_a_wrong_value_in_the_dotenv_file_is_named_too(run: Run, home: Path) -> None:
    put(home / ".env", "STOREMON_REACH_HOURS=forever\n")
    done = run("report")
    assert done.code == 1
    assert "STOREMON_REACH_HOURS is 'forever'; it must be a number of hours from 0.01 to 168" in done.err
    put(home / ".env", b"STOREMON_REACH_HOURS=\xff\xfe\n")
    undecodable = run("report")
    assert undecodable.code == 1
    assert f"{home / '.env'} cannot be read" in undecodable.err


def test_a_misspelt_setting_is_said_and_the_nearest_is_named(home: Path) -> None:
    put(home / ".env", "STOREMON_PROT=1234\nOTHER=1\n")
    environ = {"STOREMON_HOME": str(home), "STOREMON_PORT": "1", "STOREMON_NOTHING_LIKE_IT": "y", "PATH": "/bin"}
    assert settings.unknown(home, environ) == [
        "STOREMON_NOTHING_LIKE_IT is no setting",
        "STOREMON_PROT is no setting; did you mean STOREMON_PORT?",
    ]
    told = [line for line in storemon(home, "info").stdout.splitlines() if line.startswith("warning")]
    assert [line.split(maxsplit=1)[1] for line in told] == ["STOREMON_PROT is no setting; did you mean STOREMON_PORT?"]


def test_the_allowed_clock_skew_decides_about_polls_of_the_future(
    run: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = put(home / "a.csv", csv(POLLS, "s,2999-01-01 00:00:00,active", "s,2023-01-22 10:00:00,active"))
    monkeypatch.setenv("STOREMON_MAX_CLOCK_SKEW_MINUTES", "1440")
    done = run("load-data", path)
    assert line(done, str(path)) == ["polls", "2", "1", "0", "0", "0", "1"]
    assert f"    1 rejected: {values.TIMESTAMP_FUTURE}\n" in done.out


def test_the_commands_work_as_a_module_from_load_to_report(home: Path, example: Path) -> None:
    loaded = storemon(home, "load-data")
    assert (loaded.returncode, loaded.stderr) == (0, "")
    done = storemon(home, "report", "--as-of", NOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, REPORT, "as of 2024-10-14T12:00:00.000000Z: 1 stores\n")


def test_flask_has_the_same_commands(home: Path, example: Path) -> None:
    def flask(*arguments: str, **more: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            [sys.executable, "-m", "flask", "--app", "storemon_flask", *arguments],
            env=environment(home, **more),
            cwd=home,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    loaded = flask("load-data")
    assert loaded.returncode == 0
    assert "polls.csv  polls         2    2        0          0         0         0" in loaded.stdout
    reported = flask("report", "--as-of", NOON)
    assert (reported.returncode, reported.stdout) == (0, REPORT)
    failed = flask("load-data", "missing.csv")
    assert failed.returncode == 1
    assert "missing.csv does not exist" in failed.stderr
    wrong = flask("report", STOREMON_PORT="eighty")
    assert wrong.returncode != 0
    assert "STOREMON_PORT is 'eighty'; it must be a whole number" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("stores", [3, 5_000])
@pytest.mark.parametrize("command", ["report", "rejects"])
def test_a_reader_that_has_seen_enough_gets_no_traceback(run: Run, home: Path, command: str, stores: int) -> None:
    rows = [f"store-{n},2023-01-22 10:00:00,active" for n in range(stores)]
    run("load-data", put(home / "a.csv", csv(POLLS, *rows, *(f"{row}ish" for row in rows))))
    reading, writing = os.pipe()
    # Nobody will ever read: the first write of the command fails, as after `| head` has left.
    os.close(reading)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "storemon_flask", command],
            env=environment(home),
            stdout=writing,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
            check=False,
        )
    finally:
        os.close(writing)
    for word in ("Traceback", "Exception", "BrokenPipe", "Broken pipe"):
        assert word not in done.stderr
    assert done.returncode in (0, 1)


# Quotes make every block go row by row: seconds of work for the interrupt to fall into.
_SLOW = b"".join(b'"s%d","2023-01-22 11:00:00.%06d UTC",active\n' % (n % 5, n) for n in range(100_000)) * 8


def _interrupted(home: Path, *paths: Path) -> tuple[int, str, list[str]]:
    """Exit code, standard output and the lines on the terminal of a load that gets Ctrl-C while it reads `big.csv`."""
    terminal, screen = pty.openpty()
    shown = b""
    with subprocess.Popen(
        [sys.executable, "-m", "storemon_flask", "load-data", *map(str, paths)],
        env=environment(home),
        stdout=subprocess.PIPE,
        stderr=screen,
        # A shell that runs the tests in the background has them, and so this process, ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    ) as process:
        os.close(screen)
        try:
            while b"big.csv" not in shown:
                shown += os.read(terminal, 4096)
            process.send_signal(signal.SIGINT)
            # Linux ends a terminal nobody writes to any more with an error, not with an end of file.
            with contextlib.suppress(OSError):
                while more := os.read(terminal, 4096):
                    shown += more
        finally:
            os.close(terminal)
        out, _ = process.communicate(timeout=60)
    return process.returncode, out.decode(), shown.decode().replace("\r", "\n").split("\n")


def test_an_interrupted_load_says_that_nothing_changed_and_nothing_has(run: Run, home: Path) -> None:
    run("load-data", put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active")))
    before = query(database(home), "SELECT * FROM poll")
    path = put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW)
    code, out, lines = _interrupted(home, path)
    assert (code, out) == (130, "")
    assert "interrupted; nothing changed" in lines
    assert query(database(home), "SELECT * FROM poll") == before
    assert query(database(home), "SELECT count(*) FROM load") == [(1,)]


def test_an_interrupted_load_names_the_files_that_were_in_before(home: Path) -> None:
    first = put(home / "a.csv", csv(POLLS, "s,2023-01-22 10:00:00,active"))
    path = put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW)
    code, _, lines = _interrupted(home, first, path)
    assert code == 130
    assert f"interrupted; loaded before: {first}; nothing of the other files was" in lines
    assert query(database(home), "SELECT store_id FROM poll") == [("s",)]


def test_the_progress_bar_is_for_terminals_only(run: Run, home: Path) -> None:
    done = run("load-data", put(home / "big.csv", f"{POLLS}\n".encode() + _SLOW[: len(_SLOW) // 8]))
    assert (done.code, done.err) == (0, "")
