"""What is said at the start of a server, and by `storemon info`, where strangers are let in without a key."""

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, STOREMON, Server, environment, http, storemon, wait_until

from storemon_flask import settings as settings_
from storemon_flask.database import keys
from storemon_flask.database.connections import Database
from storemon_flask.database.readiness import start_warnings
from storemon_flask.settings import Settings

NOW = 1_728_907_200_000_000
KEY = "correct-horse:battery"
END = (
    "): everybody who can reach this server can read and change everything; set STOREMON_API_KEY, or run "
    "`storemon keys add --scope admin`"
)
PROXY_END = (
    "): put one in front (docs/deploy.md), for senders that trickle and readers that stall are its job, and set "
    "STOREMON_TRUSTED_PROXY to its address; on the same machine let the server listen on 127.0.0.1"
)
PROXY_START = "other machines reach this server without a reverse proxy ("
START = "no key is set, and other machines are let in ("


def load(settings: Settings, **environ: str) -> Settings:
    return settings_.load({"STOREMON_HOME": str(settings.home), **environ})


FOREIGN = [
    {"STOREMON_TRUSTED_HOSTS": "*"},
    {"STOREMON_TRUSTED_HOSTS": "shop.example"},
    {"STOREMON_TRUSTED_HOSTS": "localhost,.shop.example"},
    {"STOREMON_TRUSTED_HOSTS": "127.0.0.1,10.0.0.5"},
    {"STOREMON_TRUSTED_HOSTS": "[fe80::1]"},
    {"STOREMON_TRUSTED_HOSTS": "localhost.shop.example"},
    {"STOREMON_TRUSTED_PROXY": "127.0.0.1/32"},
    {"STOREMON_HOST": "0.0.0.0"},
    {"STOREMON_HOST": "::"},
    {"STOREMON_HOST": "*"},
    {"STOREMON_HOST": "shop.example"},
    {"STOREMON_HOST": "::ffff:10.0.0.5"},
    {"STOREMON_TRUSTED_HOSTS": "*", "STOREMON_TRUSTED_PROXY": "10.0.0.0/8", "STOREMON_HOST": "10.0.0.1"},
]


@pytest.mark.parametrize("environ", FOREIGN, ids=str)
def test_letting_other_machines_in_without_a_key_is_said(
    settings: Settings, database: Database, environ: dict[str, str]
) -> None:
    shown = ", ".join(f"{name} is {value}" for name, value in environ.items())
    foreign = load(settings, **environ)
    # A trusted proxy of another machine is one that stands in front.
    direct = "STOREMON_HOST" in environ and "STOREMON_TRUSTED_PROXY" not in environ
    proxy = [f"{PROXY_START}STOREMON_HOST is {environ['STOREMON_HOST']}{PROXY_END}"] if direct else []
    assert start_warnings(foreign, database) == [START + shown + END, *proxy]
    assert not database.exists()
    # What `serve` says by itself about the address it listens on.
    others = [name for name in environ if name != "STOREMON_HOST"]
    assert len(start_warnings(foreign, database, host_is_judged=True)) == (1 if others else 0)
    assert start_warnings(load(settings, STOREMON_API_KEY=KEY, **environ), database) == proxy
    prefix = keys.add(database, "read", "", NOW)
    assert start_warnings(foreign, database) == proxy
    # Nobody is let in by a key that was revoked, nor without one.
    keys.revoke(database, prefix, NOW)
    assert start_warnings(foreign, database) == proxy


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"STOREMON_TRUSTED_HOSTS": "localhost,127.0.0.1,[::1],a.localhost,127.8.9.10"},
        {"STOREMON_HOST": "::1"},
        {"STOREMON_HOST": "LOCALHOST"},
        {"STOREMON_HOST": "::ffff:127.0.0.1"},
    ],
    ids=str,
)
def test_this_machine_is_no_stranger(settings: Settings, database: Database, environ: dict[str, str]) -> None:
    assert start_warnings(load(settings, **environ), database) == []


@pytest.mark.parametrize(
    ("trusted", "is_said"),
    [
        ("none", True),
        ("127.0.0.1", True),
        ("127.0.0.0/8,::1", True),
        ("10.0.0.5", False),
        ("127.0.0.1,10.0.0.0/8", False),
    ],
)
def test_a_server_that_other_machines_reach_directly_says_that_a_proxy_belongs_in_front(
    settings: Settings, database: Database, trusted: str, is_said: bool
) -> None:
    keyed = load(settings, STOREMON_API_KEY=KEY, STOREMON_HOST="10.1.2.3", STOREMON_TRUSTED_PROXY=trusted)
    sentence = f"{PROXY_START}STOREMON_HOST is 10.1.2.3{PROXY_END}"
    assert start_warnings(keyed, database) == ([sentence] if is_said else [])
    assert start_warnings(keyed, database, host_is_judged=True) == []


def test_info_and_serve_say_that_a_proxy_belongs_in_front(serve: Callable[..., Server], settings: Settings) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "info", STOREMON_HOST="0.0.0.0", STOREMON_API_KEY=KEY)
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("warning ")]
    assert lines == [f"{PROXY_START}STOREMON_HOST is 0.0.0.0{PROXY_END}"]
    command = [*STOREMON, "serve", "--port", "0", "--host"]
    line = f"WARNING storemon.server: {PROXY_START}it listens on 0.0.0.0{PROXY_END}\n"
    direct = serve([*command, "0.0.0.0"], STOREMON_API_KEY=KEY)
    assert direct.log.read_text().count(line) == direct.log.read_text().count("WARNING") == 1
    direct.end()
    direct.log.unlink()
    # The option counts, whatever the setting says.
    behind = serve([*command, "127.0.0.1"], STOREMON_API_KEY=KEY, STOREMON_HOST="0.0.0.0")
    assert "WARNING" not in behind.log.read_text()
    behind.end()
    behind = serve([*command, "0.0.0.0"], STOREMON_API_KEY=KEY, STOREMON_TRUSTED_PROXY="10.0.0.5")
    assert "WARNING" not in behind.log.read_text()


def test_info_says_it(settings: Settings) -> None:
    settings.home.mkdir()
    done = storemon(settings.home, "info", STOREMON_TRUSTED_PROXY="127.0.0.1")
    lines = [line.split(maxsplit=1)[1] for line in done.stdout.splitlines() if line.startswith("warning ")]
    assert lines == [f"{START}STOREMON_TRUSTED_PROXY is 127.0.0.1/32{END}"]


def test_serve_says_it_once_before_it_serves(serve: Callable[..., Server], settings: Settings) -> None:
    server = serve(STOREMON_TRUSTED_HOSTS="shop.example", STOREMON_PROT="1")
    assert server.get("/healthz", Host="shop.example").status == 200
    assert server.get("/api/v1/stores", Host="shop.example").status == 200
    log = server.log.read_text()
    assert log.count(f"WARNING storemon.server: {START}STOREMON_TRUSTED_HOSTS is shop.example{END}\n") == 1
    assert log.count("STOREMON_PROT is no setting; did you mean STOREMON_PORT?") == 1
    assert log.count("WARNING") == 2


def test_revoking_the_last_key_does_not_open_a_running_server(
    serve: Callable[..., Server], settings: Settings, database: Database
) -> None:
    server = serve(STOREMON_TRUSTED_HOSTS="*")
    assert server.get("/api/v1/stores").status == 200
    key = keys.add(database, "admin", "", NOW)
    assert server.get("/api/v1/stores").status == 401
    keys.revoke(database, key, NOW)
    assert server.get("/api/v1/stores").status == 401
    assert server.get("/api/v1/stores", Authorization=f"Bearer {key}").status == 401
    database.close()
    for file in settings.database.parent.glob("storemon.db*"):
        file.unlink(missing_ok=True)
    assert server.get("/api/v1/stores").status == 401


SERVERS = {
    "the factory": ["-m", "waitress", "--call", "--listen=127.0.0.1:0", "storemon_flask:create_app"],
    "wsgi.py": ["-m", "waitress", "--listen=127.0.0.1:0", "wsgi:app"],
    "flask run": ["-m", "flask", "--app", "storemon_flask", "run", "--port", "0"],
}


@pytest.mark.parametrize("name", SERVERS)
def test_other_servers_say_it_too(tmp_path: Path, name: str) -> None:
    variables = {"STOREMON_TRUSTED_HOSTS": "*", "PYTHONPATH": str(ROOT)}
    log = tmp_path / "log"
    with (
        log.open("wb") as written,
        subprocess.Popen(
            [sys.executable, *SERVERS[name]],
            env=environment(tmp_path, **variables),
            cwd=tmp_path,
            stdout=written,
            stderr=written,
        ) as process,
    ):
        try:

            def address() -> str | None:
                assert process.poll() is None, log.read_text()
                found = re.search(r"http://127\.0\.0\.1:\d+(?=\s)", log.read_text())
                return found and found[0]

            if name == "wsgi.py":
                wait_until(lambda: START in log.read_text(), "the warning")
            url = wait_until(address, "the server's address")
            for _ in range(2):
                assert http(f"{url}/healthz").status == 200
        finally:
            process.terminate()
    assert log.read_text().count(f"{START}STOREMON_TRUSTED_HOSTS is *{END}") == 1


def test_a_command_below_flask_says_nothing(settings: Settings) -> None:
    settings.home.mkdir()
    done = subprocess.run(
        [sys.executable, "-m", "flask", "--app", "storemon_flask", "keys", "add", "--scope", "read"],
        env=environment(settings.home, STOREMON_TRUSTED_HOSTS="*"),
        cwd=settings.home,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stderr == "Keep it now: it is not shown again. Send it as `Authorization: Bearer KEY`.\n"
