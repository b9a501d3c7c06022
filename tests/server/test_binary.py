"""The single file, built here: in a root with libc, zlib and nothing else, beside the installed package; its signals;
an old database.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import Server, environment, http, storemon, wait_until
from delivery_helpers import Sink
from delivery_helpers import sink as sink
from hostile_files import cells_xml, sheet_xml, xlsx

from storemon_flask.version import VERSION

# These tests build the same file, so they run in one process.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("binary")]
NOBODY = 65534
CLONE_NEWNS, CLONE_NEWNET = 0x00020000, 0x40000000
# All that the file takes from the machine: libc, and the zlib with which it unpacks itself.
LOADER = "ld-linux-x86-64.so.2"
LIBC = ("libz.so.1", LOADER, "libc.so.6", "libm.so.6", "libdl.so.2", "libpthread.so.0", "librt.so.1", "libutil.so.1")
LARGEST_MB = 33


@pytest.fixture(scope="module")
def feeds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A made fleet: 300 stores, two weeks of polls with gaps and repeats, hours, zones; a few bad rows."""
    folder = tmp_path_factory.mktemp("feeds")
    made = np.random.default_rng(8)
    zones = ("America/New_York", "America/Denver", "Asia/Kolkata", "Europe/London")
    polls, hours, names = ["store_id,timestamp_utc,status"], ["store_id,day,start_time_local,end_time_local"], []
    for store in range(300):
        names.append(f"s{store},{zones[store % 4]}")
        hours += [
            f"s{store},{day},{7 + store % 4:02}:00,{('23:59:59', '02:00')[store % 2]}" for day in range(store % 8)
        ]
        for minute in np.sort(made.integers(0, 14 * 1440, 200)).tolist():
            status = "active" if made.random() < 0.8 else "inactive"
            day, rest = divmod(minute, 1440)
            polls.append(f"s{store},2024-11-{day + 1:02} {rest // 60:02}:{rest % 60:02}:00.000000 UTC,{status}")
    polls += ["s1,2024-11-40 00:00:00 UTC,active", "s2,2024-11-02 00:00:00 UTC,perhaps"]
    (folder / "polls.csv").write_text("\n".join(polls) + "\n")
    (folder / "hours.csv").write_text("\n".join(hours) + "\n")
    (folder / "zones.csv").write_text("\n".join(["store_id,timezone_str", *names]) + "\n")
    return folder


@pytest.fixture
def bare(single_file: Path, feeds: Path, tmp_path: Path) -> Path:
    """A folder to be a root: the file, libc, and an empty /work that its user may write."""
    if os.geteuid() != 0 or not shutil.which("chroot"):
        pytest.skip("a bare root needs root and chroot: NOT tested here that the file runs without anything else")
    root = tmp_path / "root"
    for folder in ("lib64", "lib/x86_64-linux-gnu", "work/feeds", "work/tmp"):
        (root / folder).mkdir(parents=True)
    for name in LIBC:
        source = Path("/lib/x86_64-linux-gnu", name)
        if not source.exists():
            pytest.skip(f"{source} is not there: NOT tested here that the file runs without anything else")
        shutil.copy(source, root / "lib/x86_64-linux-gnu" / name)
    shutil.copy(root / "lib/x86_64-linux-gnu" / LOADER, root / "lib64" / LOADER)
    shutil.copy(single_file, root / "storemon")
    for one in feeds.iterdir():
        shutil.copy(one, root / "work" / "feeds")
    for folder in (root / "work", root / "work/tmp", root / "work/feeds"):
        os.chown(folder, NOBODY, NOBODY)
    for parent in (root, *root.parents):
        if parent.is_relative_to(tmp_path.parent.parent):
            parent.chmod(0o755)
    return root


def enclosed(root: Path, body: Callable[[], None]) -> None:
    """Run the body where there is no network but a loopback of its own, and the root cannot be written but for /work."""
    failed: list[BaseException] = []

    def inside() -> None:
        try:
            # Of this thread only, and of what it starts.
            if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS | CLONE_NEWNET):
                pytest.skip("this machine lets nobody have a network of his own: NOT tested in a bare root")
            _loopback_up()
            work = root / "work"
            for command in (
                ["--make-rprivate", "/"],
                ["--bind", root, root],
                ["--bind", work, root / "work"],
                ["-o", "remount,bind,ro", root],
            ):
                subprocess.run(["mount", *command], check=True)
            body()
        except BaseException as error:
            failed.append(error)

    thread = threading.Thread(target=inside)
    thread.start()
    thread.join()
    if failed:
        raise failed[0]


def _loopback_up() -> None:
    import fcntl
    import socket
    import struct

    up, set_flags = 1, 0x8914
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, set_flags, struct.pack("16sH14x", b"lo", up))


def inside_command(root: Path, *arguments: str) -> list[str]:
    return ["chroot", f"--userspec={NOBODY}:{NOBODY}", str(root), "/storemon", *arguments]


def inside_environment(root: Path) -> dict[str, str]:
    return environment(root, STOREMON_HOME="/work", TMPDIR="/work/tmp")


def run(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        inside_command(root, *arguments),
        env=inside_environment(root),
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def run_file(single_file: Path, home: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [single_file, *arguments],
        env=environment(home, **variables),
        cwd=home,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def test_in_a_bare_root_it_gives_the_bytes_of_the_installed_package(bare: Path, feeds: Path, tmp_path: Path) -> None:
    installed = tmp_path / "installed"
    installed.mkdir()
    assert storemon(installed, "load-data", str(feeds)).returncode == 0
    expected = storemon(installed, "report").stdout.encode()
    assert len(expected.splitlines()) == 301

    def body() -> None:
        assert run(bare, "--version").startswith(f"storemon {VERSION} (")
        assert "and 190 more stores" in run(bare, "demo")
        assert "2" in run(bare, "load-data", "/work/feeds")
        command = inside_command(bare, "serve", "--port", "0")
        variables = {"STOREMON_HOME": "/work", "TMPDIR": "/work/tmp"}
        log = tmp_path / "server"
        first = Server(log, command, **variables)
        report_id = first.trigger()
        assert first.wait_for(report_id).body == expected
        other = first.trigger()
        os.killpg(first.process.pid, signal.SIGKILL)
        first.end()
        second = Server(log, command, **variables)
        assert second.get(f"/get_report?report_id={report_id}").body == expected
        assert second.wait_for(other).body == expected
        assert second.get("/docs").status == 200
        assert second.end() == 0
        with pytest.raises(OSError, match="Read-only"):
            (bare / "new").write_text("")

    enclosed(bare, body)


@pytest.fixture
def start(single_file: Path, tmp_path: Path) -> Iterator[Callable[[], Server]]:
    """Starts the file as a server that unpacks itself into `unpacked`."""
    started: list[Server] = []
    (tmp_path / "unpacked").mkdir()

    def one() -> Server:
        command = [str(single_file), "serve", "--port", "0"]
        started.append(Server(tmp_path / "home", command, TMPDIR=str(tmp_path / "unpacked")))
        return started[-1]

    yield one
    for server in started:
        server.end(signal.SIGKILL)


@pytest.mark.parametrize("to_all", [False, True], ids=["to the process", "to all its processes"])
@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_cleanly_and_leaves_no_folder(
    start: Callable[[], Server], tmp_path: Path, signum: signal.Signals, to_all: bool
) -> None:
    server = start()
    assert len(list((tmp_path / "unpacked").iterdir())) == 1
    if to_all:
        os.killpg(server.process.pid, signum)
        assert server.process.wait(30) == 0
    else:
        assert server.end(signum) == 0
    assert list((tmp_path / "unpacked").iterdir()) == []
    assert server.log.read_text().count("stopping: ") == 1
    assert "Traceback" not in server.log.read_text()
    assert not (tmp_path / "home/instance/storemon.db.server-pid").exists()


def test_kill_9_of_the_process_that_was_started_ends_all_of_it(start: Callable[[], Server], tmp_path: Path) -> None:
    server = start()
    server.process.kill()
    server.process.wait()
    wait_until(lambda: not list((tmp_path / "unpacked").iterdir()), "the folder to go")
    assert start().get("/healthz").json == {"status": "ok"}


def test_a_second_start_names_the_first(start: Callable[[], Server], single_file: Path) -> None:
    home = start().home
    done = run_file(single_file, home, "serve", "--port", "0")
    assert done.returncode == 1
    assert re.fullmatch(r"Error: another storemon server \(process \d+\) serves .+; stop it first, .+\n", done.stderr)


@pytest.mark.parametrize(
    ("arguments", "code"),
    [(["info"], 1), (["report"], 1), (["nonsense"], 2), (["--help"], 0), (["info", "--licenses"], 0)],
)
def test_exit_codes_are_those_of_the_installed_package(
    single_file: Path, tmp_path: Path, arguments: list[str], code: int
) -> None:
    done = run_file(single_file, tmp_path, *arguments)
    assert (done.returncode, storemon(tmp_path, *arguments).returncode) == (code, code)


def test_it_tells_what_it_is_and_whose_parts_it_has(single_file: Path, tmp_path: Path) -> None:
    info, licenses = (run_file(single_file, tmp_path, *words).stdout for words in (["info"], ["info", "--licenses"]))
    assert f"the single file {single_file} (build " in info
    assert re.search(rf"^home +{re.escape(str(tmp_path))}$", info, re.MULTILINE)
    for name in ("Flask", "numpy", "python-calamine", "tzdata", "waitress", "pyinstaller", "Python", "libsqlite3"):
        assert re.search(rf"^={{80}}\n{name}\b", licenses, re.MULTILINE), name
    assert not re.search(r"^={80}\n(pip|pandas)\b", licenses, re.MULTILINE)
    assert re.search(r"^- quick-xml \S+ \(MIT\)$", licenses, re.MULTILINE)


def test_it_reads_workbooks_in_its_own_folder(single_file: Path, tmp_path: Path) -> None:
    """The process that reads them shares what is unpacked, and ends with a sentence when it takes too much."""
    (tmp_path / "polls.xlsx").write_bytes(xlsx())
    (tmp_path / "far.xlsx").write_bytes(
        xlsx(sheet_xml(f'{cells_xml()}<row r="1048576"><c r="XFD1048576"><v>1</v></c></row>'))
    )
    (tmp_path / "polls.parquet").write_bytes(b"PAR1....PAR1")
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    done = run_file(single_file, tmp_path, "load-data", "polls.xlsx", "far.xlsx", "polls.parquet", TMPDIR=str(unpacked))
    assert done.returncode == 1
    assert re.search(r"^polls\.xlsx/Polls +polls +1 +1 +0 +0 +0 +0$", done.stdout, re.MULTILINE), done.stdout
    assert "far.xlsx: it takes more than" in done.stderr
    assert "polls.parquet: it is a Parquet file, which the single file does not read" in done.stderr
    assert list(unpacked.iterdir()) == []
    assert run_file(single_file, tmp_path, "--read-table").returncode == 2


def test_it_sends_through_apprise(single_file: Path, tmp_path: Path, sink: Sink) -> None:
    url = sink.url.replace("http", "json") + "/tokentokentoken"
    unpacked = tmp_path / "unpacked"
    unpacked.mkdir()
    added = run_file(single_file, tmp_path, "channels", "add", "ops", "--apprise", url, TMPDIR=str(unpacked))
    assert added.returncode == 0, added.stderr
    assert "tokentoken" not in added.stdout + added.stderr
    tested = run_file(single_file, tmp_path, "channels", "test", "ops", TMPDIR=str(unpacked))
    assert tested.returncode == 0, tested.stdout + tested.stderr
    (call,) = sink.calls
    assert "This is a test of the channel." in json.loads(call.body)["message"]
    assert list(unpacked.iterdir()) == []
    assert run_file(single_file, tmp_path, "--send-through-apprise").returncode == 2


def test_it_is_small(single_file: Path) -> None:
    assert single_file.stat().st_size < LARGEST_MB * 1_000_000


def test_double_clicked_it_serves(single_file: Path, tmp_path: Path) -> None:
    """No terminal on any stream, no argument."""
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(
            [single_file],
            env={**environment(tmp_path, STOREMON_PORT="0"), "BROWSER": "true"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        url = wait_until(lambda: re.search(r"http://\S+", (tmp_path / "log").read_text()), "the server")[0]
        assert http(url + "/healthz").json == {"status": "ok"}
    finally:
        process.terminate()
        assert process.wait(30) == 0
