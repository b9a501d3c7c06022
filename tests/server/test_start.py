"""How a start goes: what it imports, without what it works too, what a double click means, whose licences it tells."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, STOREMON, environment, storemon

from storemon_flask import __main__, version
from storemon_flask.settings import Settings

FRAMES = ("pandas", "xlsxwriter", "openpyxl")
HEAVY = (
    *(
        "numpy",
        "flask",
        "sqlite_utils",
        "sqlite3",
        "marshmallow",
        "apispec",
        "waitress",
        "prometheus_client",
        "filelock",
    ),
    *("asyncio", *FRAMES),
)
NAMES = sorted(
    re.split(r"[<>=]", line)[0]
    for line in (ROOT / "requirements.txt").read_text("utf-8").splitlines()
    if line and not line.startswith("#")
)


def python(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_and_version_import_nothing_heavy(option: str) -> None:
    program = f"""
import sys
from storemon_flask import __main__
sys.argv = ["storemon", {option!r}]
try:
    __main__.main()
except SystemExit as left:
    assert not left.code
print([name for name in {HEAVY!r} if name in sys.modules])
"""
    assert python(program).splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "command", ["info", "check", "loads", "rejects", "stores", "report", "backup copy.db", "export exported"]
)
def test_commands_on_what_is_loaded_import_neither_frames_nor_flask(
    command: str, small_fleet: Path, settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STOREMON_HOME", str(settings.home))
    words = [str(tmp_path / word) if word in ("copy.db", "exported") else word for word in command.split()]
    program = f"""
import sys
from storemon_flask import __main__
sys.argv = ["storemon", *{words!r}]
try:
    __main__.main()
except SystemExit as left:
    assert not left.code
print([name for name in {("flask", "sqlite_utils", *FRAMES)!r} if name in sys.modules])
"""
    assert python(program).splitlines()[-1] == "[]"


def test_neither_making_a_database_nor_serving_it_imports_sqlite_utils_and_what_it_imports(tmp_path: Path) -> None:
    program = f"""
import sys
from storemon_flask import create_app, settings
app = create_app(settings.load({{"STOREMON_HOME": sys.argv[1]}}))
app.extensions["storemon"].database.prepare()
client = app.test_client()
assert client.get("/healthz").json == {{"status": "ok"}}
for page in ("/", "/reports", "/data", "/docs", "/openapi.json", "/static/app.css"):
    with client.get(page) as answer:
        assert answer.status_code == 200, page
print([name for name in {("sqlite_utils", *FRAMES)!r} if name in sys.modules])
"""
    assert [python(program, tmp_path) for _ in range(2)] == ["[]\n"] * 2


def test_everything_imports_and_locks_without_what_only_unix_has(tmp_path: Path) -> None:
    program = """
import importlib, pkgutil, sys, warnings
for name in ("fcntl", "resource", "pwd", "grp", "termios"):
    sys.modules[name] = None
warnings.simplefilter("ignore")
import storemon_flask
for module in pkgutil.walk_packages(storemon_flask.__path__, "storemon_flask."):
    importlib.import_module(module.name)
from storemon_flask import create_app, settings
from storemon_flask.errors import DatabaseError
from storemon_flask.database.files import server_lock
app = create_app(settings.load({"STOREMON_HOME": sys.argv[1]}))
runner = app.extensions["storemon"]
runner.database.prepare()
with server_lock(runner.settings.database):
    try:
        with server_lock(runner.settings.database):
            print("two servers")
    except DatabaseError as error:
        print("refused" if "another storemon server" in error.message else error.message)
print(app.test_client().get("/healthz").status_code)
"""
    assert python(program, tmp_path) == "refused\n200\n"


class Stream:
    """A standard stream that is a terminal, or is not."""

    def __init__(self, terminal: bool) -> None:
        self.isatty = lambda: terminal


@pytest.mark.parametrize(
    ("frozen", "terminals", "said", "meant"),
    [
        (True, (False, False, False), [], ["serve", "--open"]),
        (True, (False, True, True), [], []),
        (True, (False, False, True), [], []),
        (True, (False, False, False), ["info"], ["info"]),
        (False, (False, False, False), [], []),
    ],
)
def test_alone_without_a_terminal_the_single_file_serves(
    monkeypatch: pytest.MonkeyPatch, frozen: bool, terminals: tuple[bool, ...], said: list[str], meant: list[str]
) -> None:
    monkeypatch.setattr(sys, "frozen", frozen, raising=False)
    monkeypatch.setattr(sys, "argv", ["storemon", *said])
    for name, terminal in zip(("stdin", "stdout", "stderr"), terminals, strict=True):
        monkeypatch.setattr(sys, name, Stream(terminal))
    assert __main__._arguments() == meant


def test_alone_the_installed_command_shows_help_with_examples(tmp_path: Path) -> None:
    done = subprocess.run(STOREMON, env=environment(tmp_path), capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 2
    assert "storemon report -o report.csv" in done.stdout + done.stderr


def test_info_tells_the_licences_of_all_it_runs_on(tmp_path: Path) -> None:
    done = storemon(tmp_path, "info", "--licenses")
    assert done.returncode == 0, done.stderr
    titles = re.findall(r"^={80}\n(\S+) [0-9]\S* \(.+\)\n={80}\n(.*)", done.stdout, re.MULTILINE)
    told = {re.sub(r"[-_.]+", "-", name).lower() for name, _ in titles}
    assert set(NAMES) <= told
    assert {"werkzeug", "jinja2", "itsdangerous", "pluggy"} <= told
    assert "pip" not in told
    assert done.stdout.startswith("storemon\nMIT License")
    assert "brings no text" not in done.stdout
    # What is compiled into a wheel is listed by its maker.
    assert re.search(r"^- calamine \S+ \(MIT\)$", done.stdout, re.MULTILINE)


def test_info_tells_which_program_it_is(tmp_path: Path) -> None:
    line = next(line for line in storemon(tmp_path, "info").stdout.splitlines() if line.startswith("program"))
    assert line.endswith(f"the Python package in {ROOT / 'storemon_flask'}")
    assert version.build() == ""


def test_nothing_imports_pandas() -> None:
    """The single file leaves pandas out."""
    using = [
        str(path.relative_to(ROOT / "storemon_flask"))
        for path in (ROOT / "storemon_flask").rglob("*.py")
        if re.search(r"^\s*(import|from) pandas\b", path.read_text("utf-8"), re.MULTILINE)
    ]
    assert using == []


def test_the_build_pins_every_package_that_storemon_asks_for() -> None:
    lines = (ROOT / "binary" / "constraints.txt").read_text("utf-8").splitlines()[1:]
    assert all(re.fullmatch(r"[a-z0-9-]+==[0-9][0-9a-z.]*", line) for line in lines)
    assert {*NAMES, "pyinstaller"} <= {line.partition("==")[0] for line in lines}
