"""`storemon demo`: the main job on sample data, through the real commands and the real server."""

import csv
import io
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import click

from storemon_flask.characters import count_text
from storemon_flask.cli.command import command, get_settings
from storemon_flask.cli.terminal import below, progress_bar, table, terminal_width
from storemon_flask.errors import DataError, StoremonError

_ROWS_SHOWN: Final = 10
_PATIENCE_S: Final = 120.0


@command("demo")
@click.option("--keep-serving", is_flag=True, help="Leave the server running until Ctrl-C.")
@click.pass_context
def demo(ctx: click.Context, keep_serving: bool) -> None:
    """Load the sample data, serve, trigger a report over HTTP, wait for it and print its first rows; then show
    what alerts would have sent.

    Everything happens in a home of its own, instance/demo/: invented stores never mix with yours.

    \b
    Example:
      storemon demo
    """
    # Its commands, which inherit this, and the log of its server keep what they create to this user.
    os.umask(0o077)
    home = get_settings(ctx).home / "instance" / "demo"
    sample = _sample()
    _say(f"1. Loading the sample data of {sample} into {home}")
    environ = _fresh_home(home)
    # Some rows of the sample are bad on purpose; the summary says which.
    subprocess.run([*_storemon(), "load-data", str(sample)], env=environ, check=True)
    click.echo(f"   To list the rejected rows:\n     {_command(home, 'rejects', indent=5)}")
    with _server(environ) as url:
        click.echo(f"\n2. curl -X POST {url}/trigger_report")
        triggered = json.loads(_get(url + "/trigger_report", data=b"")[0])
        click.echo(f"   {json.dumps(triggered)}")
        if not keep_serving:
            click.echo("   (this server ends with the demo)")
        where = f"{url}/get_report?report_id={triggered['report_id']}"
        click.echo(f"\n3. curl \\\n  '{where}'")
        text = _wait_for(where)
        file = home / "reports" / f"report_{triggered['report_id']}.csv"
        _print_rows(text)
        click.echo("")
        _say(f"The whole report: {_shown(file)}")
        arguments = ["alerts", "preview", "--days", "1"]
        click.echo(
            f"\n4. What alerts would have sent on its last day:\n   {_command(home, ' '.join(arguments), indent=3)}\n"
        )
        # Standard error would say only how old the sample is. A pipe takes it also where there is no /dev/null.
        subprocess.run([*_storemon(), *arguments], env=environ, check=True, stderr=subprocess.PIPE)
        click.echo("")
        if not keep_serving:
            click.echo(f"To look at its pages:\n  {_command(home, 'serve --open', indent=2)}")
        else:
            # Whoever reads the line may answer it with a signal at once.
            try:
                click.echo(f"Still serving {url}  (Ctrl-C stops)")
                while True:
                    # Not longer: a signal that comes just before the system sleeps is seen only when it wakes.
                    time.sleep(1)
            except KeyboardInterrupt:
                click.echo("")


def _shown(path: Path) -> str:
    """Return the path relative to the working directory where it lies below it, quoted for a shell where it must be."""
    return shlex.quote(str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path))


def _command(home: Path, arguments: str, indent: int) -> str:
    """Return what to type for a command on the demo's home: one line, or two where it would not fit the terminal."""
    setting, program = f"STOREMON_HOME={_shown(home)}", f"{_program()} {arguments}"
    width = terminal_width()
    fits = width is None or indent + len(f"{setting} {program}") <= width
    return f"{setting} {program}" if fits else f"{setting} \\\n{' ' * (indent + 2)}{program}"


def _program() -> str:
    """Return what to type for `storemon`, also where it is not on the path."""
    if getattr(sys, "frozen", False):
        return _shown(Path(sys.executable))
    script = Path(sys.executable).with_name("storemon")
    return _shown(script) if script.is_file() else f"{_shown(Path(sys.executable))} -m storemon_flask"


def _say(sentence: str) -> None:
    for line in below(sentence, indent=""):
        click.echo(line)


def _sample() -> Path:
    """Return the folder of the sample data: in the package, however it was installed."""
    folder = Path(__file__).resolve().parent.parent / "sample"
    if folder.is_dir():
        return folder
    raise DataError(f"the sample data are not in {folder}; install storemon again")


def _fresh_home(home: Path) -> dict[str, str]:
    """Empty the home; return an environment that makes the commands use it, and none of the user's settings."""
    try:
        if home.exists():
            shutil.rmtree(home)
        home.mkdir(parents=True)
    except OSError as error:
        raise StoremonError(
            f"{home} cannot be made anew: {error.strerror or error}; is another demo running?"
        ) from None
    environ = {name: value for name, value in os.environ.items() if not name.startswith("STOREMON_")}
    return {**environ, "STOREMON_HOME": str(home)}


def _storemon() -> list[str]:
    return [sys.executable] if getattr(sys, "frozen", False) else [sys.executable, "-m", "storemon_flask"]


@contextmanager
def _server(environ: dict[str, str]) -> Iterator[str]:
    """Run the real server on a free port and give its address."""
    log = Path(environ["STOREMON_HOME"]) / "server.log"
    with log.open("w") as stream:
        process = subprocess.Popen(
            [*_storemon(), "serve", "--port", "0"], env=environ, stdout=subprocess.PIPE, stderr=stream, text=True
        )
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        url = next((word for word in line.split() if word.startswith("http://")), None)
        if url is None:
            process.wait(10)
            raise StoremonError(f"the server did not start: {log.read_text().strip()}")
        yield url
    finally:
        signal.signal(signal.SIGTERM, before)
        process.terminate()
        process.communicate(timeout=30)


def _get(url: str, data: bytes | None = None) -> tuple[str, str]:
    """Return (body, X-Report-Status) of an answer; `StoremonError` with the server's own message for an error."""
    import urllib.error
    import urllib.request

    try:
        # A proxy, where one is set, does not know this machine's own servers.
        direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with direct.open(urllib.request.Request(url, data=data), timeout=30) as answer:
            return answer.read().decode(), answer.headers.get("X-Report-Status", "")
    except urllib.error.HTTPError as error:
        raise StoremonError(f"{url} answered {error.code}: {error.read().decode('utf-8', 'replace').strip()}") from None
    except OSError as error:
        raise StoremonError(f"{url} does not answer: {error}") from None


def _wait_for(url: str) -> str:
    """Show progress, and return the CSV once it is there. `StoremonError` when the report failed or never comes."""
    with progress_bar(100, "   computing") as bar:
        end = time.monotonic() + _PATIENCE_S
        while time.monotonic() < end:
            # Not longer, since the bar shows how far it is. A report that failed is an error.
            body, status = _get(url + "&wait=0.2")
            if status == "Complete":
                bar.update(100 - bar.pos)
                return body
            bar.update(int(100 * json.loads(body)["progress"]) - bar.pos)
    raise StoremonError(f"no report came within {_PATIENCE_S:.0f} s; see the server's log")


def _print_rows(text: str) -> None:
    rows = list(csv.reader(io.StringIO(text)))
    click.echo("")
    units = ["", *("min" if name.endswith("hour") else "h" for name in rows[0][1:])]
    short = [name.replace("_last", "").replace("_", " ") for name in rows[0]]
    width = terminal_width()
    shown = [short, units, *rows[1 : _ROWS_SHOWN + 1]]
    for line in table(shown, text_columns=1, width=width and width - 3, least={0: 12}):
        click.echo("   " + line)
    click.echo(f"   ... and {count_text(len(rows) - 1 - _ROWS_SHOWN, 'more store')}")
