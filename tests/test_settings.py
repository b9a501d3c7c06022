"""The settings, from the environment and `.env`; commands in processes of their own."""

import contextlib
import os
import pty
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest
from cli_helpers import NOON, REPORT, Done, Run, database, line
from cli_helpers import example as example
from cli_helpers import home as home
from cli_helpers import run as run
from conftest import ROOT, STOREMON, environment, storemon
from load_helpers import POLLS, csv, put, query

from storemon_flask import settings
from storemon_flask.errors import SettingsError
from storemon_flask.feeds import schema
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
    "STOREMON_UNDO_DAYS": ["-1", "1.5", "36501", "a month"],
    "STOREMON_UNDO_PERCENT": ["-1", "1.5", "51", "10 %"],
    "STOREMON_KEEP_POLLS_DAYS": ["-1", "1.5", "100001", "a year"],
    "STOREMON_KEEP_REPORTS_DAYS": ["-1", "1.5", "36501", "a year"],
    "STOREMON_MAX_REPORTS_MB": ["-1", "1.5", "1000000001", "1 GB"],
    "STOREMON_CONNECTION_TIMEOUT_SECONDS": ["0", "1.5", "3601", "a minute"],
    "STOREMON_PUBLIC_URL": ["storemon.example", "ftp://storemon.example", "https://", "https://a b", "http://a:port"],
    "STOREMON_MAIL_FROM": ["storemon", "@example.com", "storemon@", "a b@example.com"],
    "STOREMON_ALERT_GROUP_SECONDS": ["-1", "1.5", "3601", "a minute"],
    "STOREMON_ALERT_INTERVAL_SECONDS": ["-1", "1.5", "86401", "5 minutes"],
    "STOREMON_ALERT_MIN_POLLS": ["0", "1.5", "101", "two"],
    "STOREMON_ALERT_MIN_MINUTES": ["-1", "1441", "nan", "10m"],
    "STOREMON_ALERT_CLOSING_MINUTES": ["-1", "721", "nan", "30m"],
    "STOREMON_MIN_FREE_MB": ["-1", "1.5", "1000000001", "1 GB"],
    "STOREMON_LOG_FORMAT": ["xml", "JSON", " "],
    "STOREMON_DAYPARTS": [
        " ",
        "lunch",
        "lunch 11-15",
        "all 5:00-25:00",
        "all 5:60-5:60",
        "=1 5:00-5:00",
        "all 5:00-5:00,",
    ],
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


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("lunch 11:00-15:00, dinner 16:00-11:00", "“lunch 11:00-15:00” does not end where “dinner 16:00-11:00” begins"),
        ("a 00:00-12:00, b 11:00-24:00", "“a 00:00-12:00” does not end where “b 11:00-00:00” begins"),
        ("a 05:00-22:00", "“a 05:00-22:00” does not end where “a 05:00-22:00” begins"),
        ("a 05:00-05:00, b 05:00-05:00", "“a 05:00-05:00” is a whole day, and there are other parts"),
        ("a 05:00-12:00, a 12:00-05:00", "it names 'a' twice"),
        (",".join(f"p{hour} {hour}:00-{hour + 1}:00" for hour in range(24)), "it has 24 parts"),
    ],
)
def test_dayparts_that_do_not_cover_the_day_once_are_refused_with_the_reason(
    home: Path, text: str, reason: str
) -> None:
    with pytest.raises(SettingsError) as bad:
        settings.load({"STOREMON_HOME": str(home), "STOREMON_DAYPARTS": text})
    assert bad.value.message.startswith(f"STOREMON_DAYPARTS is {text!r}: {reason}; it must be 1 to 12 names with times")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Late 22:00-5:00,brunch & more 5:00 - 22:00", "brunch & more 05:00-22:00, Late 22:00-05:00"),
        ("morning 0:00-12:00, afternoon 12:00-24:00", "morning 00:00-12:00, afternoon 12:00-00:00"),
        ("business day 04:00-04:00", "business day 04:00-04:00"),
    ],
)
def test_dayparts_are_read_in_any_order_and_shown_by_their_starts(home: Path, text: str, shown: str) -> None:
    read = settings.load({"STOREMON_HOME": str(home), "STOREMON_DAYPARTS": text}).dayparts
    assert ", ".join(map(str, read)) == shown


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
    assert f"    1 rejected: {schema.TIMESTAMP_FUTURE}\n" in done.out


def test_the_commands_work_as_a_module_from_load_to_report(home: Path, example: Path) -> None:
    loaded = storemon(home, "load-data")
    assert (loaded.returncode, loaded.stderr) == (0, "")
    done = storemon(home, "report", "--as-of", NOON)
    assert (done.returncode, done.stdout, done.stderr) == (0, REPORT, "as of 2024-10-14T12:00:00.000000Z: 1 store\n")


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


SECRET = "correct-horse:battery"
UNREADABLE = (
    "this line cannot be read; it must be NAME=value. A value in "
    "quotes ends with the same quote, on the same line, with nothing "
    "but a comment (# ...) after it"
)
ALLOWED = "16 to 1000 printable ASCII characters without blanks, or none"


def load(home: Path, **environ: str) -> settings.Settings:
    return settings.load({"STOREMON_HOME": str(home), **environ})


def refusal(home: Path, text: str | bytes, **environ: str) -> str:
    """Why the settings are refused with that `.env`; fails when the secret is in the traceback."""
    put(home / ".env", text)
    with pytest.raises(SettingsError) as bad:
        load(home, **environ)
    assert "horse" not in "".join(traceback.format_exception(bad.value))
    return bad.value.message.removeprefix(f"{home / '.env'}, ")


READABLE = {
    "plain": f"STOREMON_API_KEY={SECRET}",
    "last line with its end": f"# a comment\n\nSTOREMON_API_KEY={SECRET}\n",
    "carriage returns": f"STOREMON_PORT=1\r\nSTOREMON_API_KEY={SECRET}\r\n",
    "byte order mark": f"\ufeffSTOREMON_API_KEY={SECRET}\n",
    "export": f"export STOREMON_API_KEY={SECRET}\n",
    "blanks around": f"  STOREMON_API_KEY  =  {SECRET}  \n",
    "comment behind": f"STOREMON_API_KEY={SECRET} # ours\n",
    "single quotes": f"STOREMON_API_KEY='{SECRET}'\n",
    "double quotes and a comment": f'STOREMON_API_KEY="{SECRET}" # ours\n',
    "a variable": f"BATTERY={SECRET}\nSTOREMON_API_KEY=${{BATTERY}}\n",
    "a default": f"STOREMON_API_KEY=${{NOT_SET:-{SECRET}}}\n",
    "the value of another program on two lines": f'PEM="a\nb"\nSTOREMON_API_KEY={SECRET}\n',
    "another program's names": f"a.b-c=1\nA=\nA=\nSTOREMON_API_KEY={SECRET}\n",
}


@pytest.mark.parametrize("name", READABLE)
def test_a_line_that_can_be_read_gives_the_key(home: Path, name: str) -> None:
    put(home / ".env", READABLE[name])
    assert load(home).api_key == settings.Secret(SECRET)


def test_quotes_keep_what_is_written_and_escapes_stand_for_signs(home: Path) -> None:
    put(home / ".env", 'STOREMON_API_KEY="a quote \\" is no blank#"'.replace(" ", "_"))
    assert load(home).api_key.value == 'a_quote_"_is_no_blank#'
    put(home / ".env", "STOREMON_REPORTS_DIR='with blanks # and a sign'\n")
    assert load(home).reports_dir == home / "with blanks # and a sign"


LINES = {
    "no value": "STOREMON_API_KEY",
    "no value, exported": "export STOREMON_API_KEY",
    "no value, and a comment": "STOREMON_API_KEY # later",
    "double quote open": f'STOREMON_API_KEY="{SECRET}',
    "single quote open": f"STOREMON_API_KEY='{SECRET}",
    "quote of another kind": f"STOREMON_API_KEY=\"{SECRET}'",
    "quote escaped": f'STOREMON_API_KEY="{SECRET}\\"',
    "quote open before another setting's": f'STOREMON_API_KEY="{SECRET}\nSTOREMON_HOST="',
    "quote of another name open, over the key": f'NAME="a\nSTOREMON_API_KEY={SECRET}\nB="',
    "two values": f"STOREMON_API_KEY='{SECRET}' 'more'",
    "text behind a quote": f'STOREMON_API_KEY="{SECRET}"more',
    "a colon": f"STOREMON_API_KEY: {SECRET}",
    "a colon without a blank": f"STOREMON_API_KEY:{SECRET}",
    "a colon, and signs of equality at the end": f"STOREMON_API_KEY:{SECRET}==",
    "another word before": f"set STOREMON_API_KEY={SECRET}",
    "another shell": f"$env:STOREMON_API_KEY={SECRET}",
    "a list": f"- STOREMON_API_KEY={SECRET}",
    "quotes around the name": f'"STOREMON_API_KEY"={SECRET}',
    "an invisible sign before the name": f"\u200bSTOREMON_API_KEY={SECRET}",
    "full-width letters": f"\uff33TOREMON_API_KEY={SECRET}",
    "no name": f"={SECRET}",
    "a value alone": SECRET,
    "another program's line": "SOMETHING",
    "another program's quote": 'SOMETHING="',
}


@pytest.mark.parametrize("name", LINES)
def test_a_line_that_cannot_be_read_stops_the_start_and_is_named_by_its_number(home: Path, name: str) -> None:
    for before, number in (("", 1), ("\n\n# a comment\r\n\n", 5), ("A='x\ny'\n\n", 4)):
        for after in ("", "\n", f"\nOTHER={SECRET}\n"):
            assert refusal(home, before + LINES[name] + after) == f"line {number}: {UNREADABLE}"


EMPTY = [
    "STOREMON_API_KEY=",
    "STOREMON_API_KEY=''",
    'STOREMON_API_KEY=""',
    "STOREMON_API_KEY =   ",
    "STOREMON_API_KEY=${NOT_SET:-}",
]


@pytest.mark.parametrize("line", EMPTY)
def test_an_empty_key_is_no_way_to_say_that_there_is_none(home: Path, line: str) -> None:
    assert refusal(home, f"A=1\n{line}\n") == f"line 2: STOREMON_API_KEY is empty; it must be {ALLOWED}"


@pytest.mark.parametrize("text", ["", " ", "None", "NONE", "null", "false", "none ", f"{SECRET}\r", "0"])
def test_only_none_says_none(home: Path, text: str) -> None:
    with pytest.raises(SettingsError) as bad:
        load(home, STOREMON_API_KEY=text)
    shown = f"has {len(text)} characters that are not shown" if text else "is empty"
    assert bad.value.message == f"STOREMON_API_KEY {shown}; it must be {ALLOWED}"
    put(home / ".env", f"STOREMON_API_KEY={SECRET}\n")
    assert not load(home, STOREMON_API_KEY="none").api_key


def test_nothing_is_the_default_of_no_setting(home: Path) -> None:
    for setting in settings.SETTINGS:
        with pytest.raises(SettingsError) as bad:
            load(home, **{setting.name: ""})
        assert bad.value.message == f"{setting.name} is empty; it must be {setting.allowed}"
        assert refusal(home, f"{setting.name}=\n") == f"line 1: {bad.value.message}"
        (home / ".env").unlink()
    with pytest.raises(SettingsError, match="STOREMON_HOME is empty; it must be a path, or not be set"):
        settings.load({"STOREMON_HOME": ""})


def test_a_wrong_value_is_named_with_its_line(home: Path) -> None:
    assert refusal(home, "\nSTOREMON_PORT=eighty\n") == (
        "line 2: STOREMON_PORT is 'eighty'; it must be a whole number from 0 (any free port) to 65535"
    )


def test_a_name_that_is_there_twice_is_refused_whatever_its_values(home: Path) -> None:
    for second in (f"STOREMON_API_KEY={SECRET}", "STOREMON_API_KEY=none", "export STOREMON_API_KEY='x'"):
        assert refusal(home, f"STOREMON_API_KEY={SECRET}\n\n{second}\n") == (
            f"line 3: STOREMON_API_KEY is there twice ({home / '.env'}, line 1); remove one of the lines"
        )


def test_a_variable_that_is_not_set_leaves_no_half_a_key(home: Path) -> None:
    said = (
        "line 1: the value of STOREMON_API_KEY names a variable "
        "(${...}) that is not set; set it, or write the value itself"
    )
    assert refusal(home, f"STOREMON_API_KEY={SECRET}${{MORE}}\n") == said
    assert load(home, MORE="more").api_key.value == f"{SECRET}more"


MISSPELT = [
    "STOREMON_APIKEY",
    "STOREMON_API_KEYS",
    "STOREMON_KEY",
    "STOREMON_API_KEY_FILE",
    "STOREMON_API_TOKEN",
    "STOREMON_MASTER_PASSWORD",
    "storemon_api_key",
    "Storemon_Api_Key",
    "STORE_MON_API_KEY",
    "STORMON_API_KEY",
    "STOREMAN_API_KEY",
    f"STOREMON_API_KEY{'a1b2' * 8}",
]


@pytest.mark.parametrize("name", MISSPELT)
def test_a_name_that_looks_like_the_keys_stops_the_start_where_no_key_is_set(home: Path, name: str) -> None:
    rest = (
        "and STOREMON_API_KEY is not set; if that is what you mean, write its name so "
        "(STOREMON_API_KEY=none says that there is no key)"
    )
    with pytest.raises(SettingsError) as bad:
        load(home, **{name: SECRET})
    assert bad.value.message == f"{name} is no setting, {rest}"
    # What a name is may be a piece of the key: it is not repeated.
    assert refusal(home, f"\n{name}={SECRET}\n") == f"line 2: the name is no setting, {rest}"
    for key in (SECRET, "none"):
        assert str(load(home, STOREMON_API_KEY=key).api_key) == str(settings.Secret("" if key == "none" else key))
    sentences = settings.unknown(home, {"STOREMON_API_KEY": SECRET})
    assert sentences == [f"{home / '.env'}, line 2: the name is no setting; did you mean STOREMON_API_KEY?"]


@pytest.mark.parametrize(
    "name",
    ["API_KEY", "STORE_API_KEY", "STOREMON_PROT", "STORAGE_KEY", "STRIPE_API_KEY", "STOREMON_NOTHING"],
)
def test_names_of_other_things_stop_nothing(home: Path, name: str) -> None:
    assert not load(home, **{name: "anything"}).api_key


def test_small_letters_are_no_setting_and_are_said(home: Path) -> None:
    put(home / ".env", "storemon_port=1234\nSTOREMON_HOME=/elsewhere\n")
    assert settings.unknown(home, {"Storemon_Host": "x"}) == [
        "Storemon_Host is no setting; did you mean STOREMON_HOST?",
        "storemon_port is no setting; did you mean STOREMON_PORT?",
        f"{home / '.env'}, line 2: STOREMON_HOME says where .env is, so it counts in the environment only",
    ]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (f"STOREMON_API_KEY={SECRET}\n".encode("utf-16"), "line 1 is not UTF-8 text"),
        (f"STOREMON_API_KEY={SECRET}\n".encode("utf-16-le"), "line 1 is not UTF-8 text"),
        (f"STOREMON_API_KEY={SECRET}\n".encode("utf-32-be"), "line 1 is not UTF-8 text"),
        (b"A=1\n# K\xe4se\nSTOREMON_PORT=1\n", "line 2 is not UTF-8 text"),
        (f"A=1\x0bSTOREMON_API_KEY={SECRET}\n".encode(), "line 1 is not UTF-8 text"),
        (f"A=1\nB=2\u2028STOREMON_API_KEY={SECRET}\n".encode(), "line 2 is not UTF-8 text"),
    ],
)
def test_what_is_no_utf_8_text_is_refused(home: Path, data: bytes, reason: str) -> None:
    assert refusal(home, data) == (
        f"{home / '.env'} cannot be read: {reason}; it must be a "
        f"UTF-8 text file of lines NAME=value that this user may read, "
        "or not be there"
    )


def test_what_is_no_file_is_refused_and_no_file_is_none(home: Path) -> None:
    path = home / ".env"

    def reason() -> str:
        with pytest.raises(SettingsError) as bad:
            load(home)
        return bad.value.message.removeprefix(f"{path} cannot be read: ").split(";")[0]

    assert not load(home).api_key
    path.mkdir()
    assert reason() == "it is no file"
    path.rmdir()
    path.symlink_to(home / "nowhere")
    assert reason() == "it is a link to a file that does not exist"
    path.unlink()
    path.symlink_to(path)
    assert reason() == os.strerror(40)
    path.unlink()
    # Opening it would wait for somebody who writes.
    os.mkfifo(path)
    assert reason() == "it is no file"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_refused(home: Path) -> None:
    put(home / ".env", f"STOREMON_API_KEY={SECRET}\n").chmod(0)
    with pytest.raises(SettingsError, match="cannot be read: Permission denied; it must be"):
        load(home)


PROGRAMS = {
    "storemon": [*STOREMON, "info"],
    "serve": [*STOREMON, "serve", "--port", "0"],
    "flask": [sys.executable, "-m", "flask", "--app", "storemon_flask", "info"],
    "wsgi.py": [sys.executable, str(ROOT / "wsgi.py")],
    "import wsgi": [sys.executable, "-c", "import wsgi"],
}


@pytest.mark.parametrize("program", PROGRAMS)
@pytest.mark.parametrize("line", ["STOREMON_API_KEY=", f'STOREMON_API_KEY="{SECRET}'])
def test_every_program_stops_at_the_same_line(home: Path, program: str, line: str) -> None:
    import subprocess

    put(home / ".env", f"A=1\n{line}\n")
    done = subprocess.run(
        PROGRAMS[program],
        env=environment(home, PYTHONPATH=str(ROOT)),
        cwd=home,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    # Flask reads the file of the working folder itself and hands the empty value on.
    where = "" if program == "flask" and line.endswith("=") else f"{home / '.env'}, line 2: "
    said = f"STOREMON_API_KEY is empty; it must be {ALLOWED}" if line.endswith("=") else UNREADABLE
    assert done.returncode not in (0, None)
    assert f"{where}{said}\n" in done.stderr
    assert "horse" not in done.stdout + done.stderr
    assert [file.name for file in home.iterdir()] == [".env"]


def test_no_sentence_of_a_command_repeats_the_key(run: Run, home: Path) -> None:
    put(home / ".env", f"STOREMON_API_KEY:{SECRET}==\n")
    done = run("info")
    assert (done.code, done.out, done.err) == (1, "", f"Error: {home / '.env'}, line 1: {UNREADABLE}\n")
    json = storemon(home, "serve", STOREMON_LOG_FORMAT="json")
    assert (json.returncode, json.stdout) == (1, "")
    assert json.stderr.startswith("{")
    assert "horse" not in json.stderr


def test_a_dotenv_file_that_nobody_reads_is_said(home: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    environ = {"STOREMON_HOME": str(other)}
    assert settings.unknown(other, environ) == []
    put(home / ".env", "DATABASE_URL=x\n")
    assert settings.unknown(other, environ) == []
    put(home / ".env", f"STOREMON_API_KEY={SECRET}\n")
    said = f"{home / '.env'} is not read; STOREMON_HOME says that settings are in {other / '.env'}"
    assert settings.unknown(other, environ) == [said]
    assert settings.unknown(home, {}) == []
    (other / ".env").symlink_to(home / ".env")
    assert settings.unknown(other, environ) == []
