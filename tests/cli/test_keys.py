"""`storemon keys` as a person types it, and a server that asks for what it made."""

import re
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Server, http, storemon

from storemon_flask.settings import Settings

Serve = Callable[..., Server]
INSTANT = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z"


@pytest.fixture
def home(settings: Settings) -> Path:
    settings.home.mkdir()
    return settings.home


def add(home: Path, *arguments: str) -> str:
    done = storemon(home, "keys", "add", *arguments)
    assert done.returncode == 0, done.stderr
    assert done.stderr == "Keep it now: it is not shown again. Send it as `Authorization: Bearer KEY`.\n"
    # Nothing else on standard output: KEY=$(storemon keys add ...) works.
    assert re.fullmatch(r"sm_[0-9a-f]{56}\n", done.stdout)
    return done.stdout.strip()


def test_a_key_from_its_making_to_its_end(serve: Serve, home: Path) -> None:
    server = serve()
    path = "/get_report?report_id=x"
    assert server.get(path).status == 404
    reader = add(home, "--scope", "read", "--label", "the wall, upstairs")
    admin = add(home, "--scope", "admin")
    # The running server asks for a key from now on.
    assert server.get(path).status == 401
    assert server.get("/healthz").status == 200
    basic = b64encode(f"anybody:{admin}".encode()).decode()
    assert server.get(path, Authorization=f"Bearer {reader}").status == 404
    assert server.get(path, Authorization=f"Basic {basic}").status == 404

    listed = storemon(home, "keys", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    head, first, second = listed.stdout.splitlines()
    assert head == "prefix       scope  created                      revoked  label"
    assert re.fullmatch(rf"{reader[:11]}  read   {INSTANT}  no       the wall, upstairs", first)
    assert re.fullmatch(rf"{admin[:11]}  admin  {INSTANT}  no", second)

    revoked = storemon(home, "keys", "revoke", reader[:11])
    assert (revoked.returncode, revoked.stderr) == (0, "")
    assert re.fullmatch(rf"{reader[:11]} is revoked since {INSTANT}\n", revoked.stdout)
    assert server.get(path, Authorization=f"Bearer {reader}").status == 401
    assert server.get(path, Authorization=f"Bearer {admin}").status == 404
    again = storemon(home, "keys", "revoke", reader[:11])
    assert (again.returncode, again.stdout) == (0, revoked.stdout)

    last = storemon(home, "keys", "revoke", admin)
    assert last.stderr == (
        "No key is left: every call but /healthz, /readyz and push addresses is refused until `storemon keys add` "
        "makes one.\n"
    )
    assert server.get(path, Authorization=f"Bearer {admin}").status == 401
    head, first, second = storemon(home, "keys", "list").stdout.splitlines()
    assert len(re.findall(INSTANT, first)) == len(re.findall(INSTANT, second)) == 2
    assert server.end() == 0
    for key in (reader, admin):
        for file in (file for file in home.rglob("*") if file.is_file()):
            assert key.encode() not in file.read_bytes(), file
            assert key[11:].encode() not in file.read_bytes(), file


def test_the_key_of_the_environment_is_shown_nowhere(serve: Serve, home: Path) -> None:
    key = "correct-horse:battery"
    server = serve(STOREMON_API_KEY=key)
    assert server.get("/nothing").status == 401
    wrong = server.get("/nothing", Authorization=f"Bearer {key}x")
    assert wrong.status == 401
    right = server.get("/nothing", Authorization=f"Bearer {key}")
    assert right.status == 404
    assert http(server.url + "/trigger_report", "POST", b"", Authorization=f"Bearer {key}").status == 409
    add(home, "--scope", "read")
    listed = storemon(home, "keys", "list", STOREMON_API_KEY=key)
    info = storemon(home, "info", STOREMON_API_KEY=key)
    assert listed.stderr == "STOREMON_API_KEY is set too; it has scope admin.\n"
    assert re.search(r"^STOREMON_API_KEY +set, not shown$", info.stdout, re.MULTILINE)
    server.end()
    said = [listed.stdout, listed.stderr, info.stdout, info.stderr, server.log.read_text(), server.first_line]
    assert not [text for text in [*said, str(wrong), str(right)] if key in text]


def test_a_key_too_short_stops_the_start_and_is_not_repeated(home: Path) -> None:
    done = storemon(home, "serve", "--port", "0", STOREMON_API_KEY="hunter2")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: STOREMON_API_KEY has 7 characters that are not shown; "
        "it must be 16 to 1000 printable ASCII characters without blanks, or none\n"
    )
    assert list(home.iterdir()) == []


@pytest.mark.parametrize("command", [["keys", "list"], ["keys", "revoke", "sm_00000000"]])
def test_without_a_database_none_is_made(home: Path, command: list[str]) -> None:
    done = storemon(home, *command)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"Error: there is no database at {home / 'instance' / 'storemon.db'}; ")
    assert list(home.iterdir()) == []


def test_an_unknown_prefix_is_a_sentence(home: Path) -> None:
    add(home, "--scope", "read")
    done = storemon(home, "keys", "revoke", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: there is no key sm_nobody; `storemon keys list` shows the prefixes of all\n"


@pytest.mark.parametrize(
    "arguments",
    [
        ["add"],
        ["add", "--scope", "root"],
        ["add", "--scope", "read", "extra"],
        ["revoke"],
        ["show"],
        ["list", "--keys"],
    ],
)
def test_wrong_usage_exits_with_two_and_makes_nothing(home: Path, arguments: list[str]) -> None:
    done = storemon(home, "keys", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert "Error: " in done.stderr
    assert list(home.iterdir()) == []


def test_a_label_with_a_line_end_is_refused(home: Path) -> None:
    done = storemon(home, "keys", "add", "--scope", "read", "--label", "a\nb")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: a label is one line of at most 100 printable characters\n"
